//! Checks of an `include` that brought nothing in. GitLab looks at the keyword's form only then: with files, the
//! keyword is gone before the configuration is checked.

use super::location::{SUBKEYS, is_present};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::{Key, Mapping, Node, Value};

const MORE_KEYS: [&str; 7] = ["file", "ref", "job", "rules", "inputs", "integrity", "cache"];

/// What is wrong with the entries.
pub(super) fn check(include: &Node) -> Vec<Diagnostic> {
    let items = match &include.value {
        Value::Sequence(items) => items.as_slice(),
        _ => std::slice::from_ref(include),
    };
    items
        .iter()
        .filter_map(|item| Some((item, item.as_mapping()?)))
        .flat_map(|(item, e)| entry(item, e))
        .collect()
}

fn entry(item: &Node, entry: &Mapping) -> Vec<Diagnostic> {
    let error =
        |message: String| Diagnostic::error("include-kind", format!("include:include config {message}"));
    let mut found = Vec::new();
    let known: Vec<&str> = SUBKEYS.into_iter().chain(MORE_KEYS).collect();
    let is_known = |key: &Key| matches!(key, Key::String(name) if known.contains(&&**name));
    let unknown: Vec<_> = entry.iter().filter(|(key, _)| !is_known(key)).collect();
    if let Some((key, first)) = unknown.first() {
        let names: Vec<_> = unknown.iter().map(|(key, _)| key.to_string().to_lowercase()).collect();
        let diagnostic = error(format!("contains unknown keys: {}", names.join(", "))).at(first.key_span, "");
        found.push(match did_you_mean(&key.to_string(), known.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None => diagnostic,
        });
    }
    let given = |key: &str| entry.get(key).is_some_and(is_present);
    if given("project") && !given("file") {
        found
            .push(error("must specify the file where to fetch the config from".to_owned()).at(item.span, ""));
    }
    found
}
