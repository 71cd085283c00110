//! Functions of interpolation blocks: `$[[ inputs.x | expand_vars | truncate(0,8) ]]`.

use super::interpolate::Scope;
use crate::variables::{self, Unknown};
use crate::yaml::{Node, Value};
use regex::Regex;
use std::sync::{Arc, LazyLock};

static TRUNCATE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^truncate\(\s*([0-9]+)\s*,\s*([0-9]+)\s*\)$").expect("the pattern is a constant")
});

/// A call, as written in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    ExpandVars,
    /// Offset and length in characters.
    Truncate(usize, usize),
    PosixEscape,
}

impl Function {
    /// None: there is no such function, or its arguments are wrong.
    pub(super) fn parse(text: &str) -> Option<Function> {
        match text {
            "expand_vars" => Some(Function::ExpandVars),
            "posix_escape" => Some(Function::PosixEscape),
            _ => {
                let captures = TRUNCATE.captures(text)?;
                let number = |i: usize| captures[i].parse().unwrap_or(usize::MAX);
                Some(Function::Truncate(number(1), number(2)))
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Function::ExpandVars => "expand_vars",
            Function::Truncate(..) => "truncate",
            Function::PosixEscape => "posix_escape",
        }
    }

    /// Applies the function to a text.
    ///
    /// # Errors
    /// The value is no text, or a masked variable would be expanded.
    pub(super) fn apply(self, value: &Node, scope: &Scope<'_>) -> Result<Node, String> {
        let name = self.name();
        let Value::String(text) = &value.value else {
            return Err(format!(
                "error in `{name}` function: invalid input type: {name} can only be used with string inputs"
            ));
        };
        let text = match self {
            Function::ExpandVars => {
                if variables::references(&text.text).any(|name| (scope.is_masked)(name)) {
                    return Err(format!(
                        "error in `{name}` function: variable expansion error: masked variables cannot be expanded"
                    ));
                }
                variables::expand(&text.text, Unknown::Keep, scope.lookup)
            }
            Function::Truncate(offset, length) => text.text.chars().skip(offset).take(length).collect(),
            Function::PosixEscape => escape(&text.text),
        };
        Ok(Node::string(Arc::<str>::from(text), value.span))
    }
}

/// As Ruby's `Shellwords.escape`.
fn escape(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("'\n'"),
            c if c.is_ascii_alphanumeric() || "_-.,:+/@".contains(c) => out.push(c),
            c => out.extend(['\\', c]),
        }
    }
    out
}
