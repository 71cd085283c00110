//! One `$[[ access | function | function ]]` block.

use super::function::Function;
use super::interpolate::Scope;
use crate::yaml::{Node, Value};
use regex::Regex;
use std::sync::LazyLock;

const MAX_FUNCTIONS: usize = 3;
const MAX_ACCESS_BYTES: usize = 1024;
const MAX_ACCESS_PARTS: usize = 5;

/// Group 1 is the content: two characters at least, on one line.
pub(super) static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\$\[\[\s*(\S.*?\S)\s*\]\]").expect("the pattern is a constant"));

/// The value of a block's content. None: a block of the matrix, which is resolved per job, later.
///
/// # Errors
/// GitLab's messages for the block.
pub(super) fn evaluate(content: &str, scope: &Scope<'_>) -> Result<Option<Node>, String> {
    let mut parts = content.split('|').map(str::trim);
    let access = parts.next().unwrap_or_default();
    if access.starts_with("matrix.") {
        return Ok(None);
    }
    let calls: Vec<&str> = parts.collect();
    if calls.len() > MAX_FUNCTIONS {
        return Err("too many functions in interpolation block".to_owned());
    }
    let mut value = find(access, scope)?;
    let mut functions = Vec::with_capacity(calls.len());
    for call in calls {
        functions.push(Function::parse(call).ok_or_else(|| {
            format!(
                "no function matching `{call}`: check that the function name, arguments, and types are correct"
            )
        })?);
    }
    for function in functions {
        value = function.apply(&value, scope)?;
    }
    Ok(Some(value))
}

fn find(access: &str, scope: &Scope<'_>) -> Result<Node, String> {
    if access.len() > MAX_ACCESS_BYTES {
        return Err("maximum interpolation expression size exceeded".to_owned());
    }
    let parts: Vec<&str> = access.split('.').collect();
    if parts.len() > MAX_ACCESS_PARTS {
        return Err("maximum interpolation nesting exceeded".to_owned());
    }
    let unknown = |part: &str| format!("unknown interpolation provided: `{part}` in `{access}`");
    let (root, names) = parts.split_first().map_or(("", &[][..]), |(root, names)| (*root, names));
    let values = match root {
        "inputs" => scope.inputs,
        "component" if !scope.component.is_empty() => scope.component,
        _ => return Err(unknown(root)),
    };
    let Some((name, rest)) = names.split_first() else {
        return Err("invalid interpolation access pattern".to_owned());
    };
    let value = values.get(*name).ok_or_else(|| unknown(name))?;
    match rest.first() {
        Some(part) => Err(unknown(part)),
        None if matches!(value.value, Value::Mapping(_)) => {
            Err("invalid interpolation access pattern".to_owned())
        }
        None => Ok(value.clone()),
    }
}
