//! `variables` at the root, in jobs, in rules and in services.

use super::check::{Entry, Findings, Path};
use super::ruby;
use super::types::VariableConfig;
use crate::diagnostic::Diagnostic;
use crate::yaml::{self, Key, Node, Value};
use indexmap::IndexMap;

/// Keys of the long form at the root.
pub(super) const ROOT_KEYS: [&str; 4] = ["value", "description", "expand", "options"];
/// Keys of the long form in a job.
pub(super) const JOB_KEYS: [&str; 2] = ["value", "expand"];

/// A map of variables. `keys`: those of the long form; none when only scalars are allowed.
pub(super) fn variables(
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    keys: &[&str],
) -> IndexMap<String, VariableConfig> {
    let Some(map) = node.as_mapping() else {
        Entry::new(node, path, findings).hash();
        return IndexMap::new();
    };
    let mut all = IndexMap::with_capacity(map.len());
    for (key, entry) in map.iter() {
        let name = key.to_string();
        let at = path.child(&name);
        let mut check = Entry::new(&entry.node, &at, findings);
        if matches!(key, Key::Other(_)) {
            check.fail_at("wrong-type", "key", "must be an alphanumeric string", entry.key_span);
        }
        let variable = variable(&mut check, keys);
        all.insert(name, variable);
    }
    all
}

fn variable(entry: &mut Entry<'_, '_, '_>, keys: &[&str]) -> VariableConfig {
    let node = entry.node;
    let scalar = VariableConfig { value: yaml::text(node), raw: false, span: node.span };
    match &node.value {
        Value::Null | Value::Mapping(_) => long_form(entry, keys),
        Value::Sequence(_) | Value::Reference(_) => {
            let text = "variable definition must be either a string or a hash";
            entry.report(Diagnostic::error("wrong-type", text).at(node.span, ""));
            scalar
        }
        _ => scalar,
    }
}

fn long_form(entry: &mut Entry<'_, '_, '_>, keys: &[&str]) -> VariableConfig {
    let node = entry.node;
    let value = entry.field("value");
    let scalar = |n: &Node| !matches!(n.value, Value::Sequence(_) | Value::Mapping(_) | Value::Reference(_));
    let alphanumeric = |n: &Node| matches!(n.value, Value::String(_) | Value::Integer(_));
    check(entry, "value", scalar, "must be a scalar");
    check(entry, "description", alphanumeric, "must be an alphanumeric string");
    check(entry, "expand", ruby::is_boolean, "should be a boolean value");
    check(entry, "options", ruby::is_texts, "should be an array of strings");
    if keys.is_empty() {
        entry.fail("wrong-type", "config", "must be a string");
    } else {
        let names = node.as_mapping().into_iter().flat_map(|m| m.iter().map(|(k, _)| k.to_string()));
        let extra: Vec<String> = names.filter(|k| !keys.contains(&k.as_str())).collect();
        if !extra.is_empty() {
            entry.fail("unknown-key", "config", format!("uses invalid data keys: {}", extra.join(", ")));
        }
    }
    if entry.field("options").is_some_and(|options| !ruby::is_blank(options) && !includes(options, value)) {
        entry.fail("bad-value", "config", "value must be present in options");
    }
    let raw = entry.field("expand").is_some_and(|n| matches!(n.value, Value::Bool(false)));
    let span = value.map_or(node.span, |n| n.span);
    VariableConfig { value: value.map(yaml::text).unwrap_or_default(), raw, span }
}

/// Attributes of the long form are called `config value` and so on in messages.
fn check(entry: &mut Entry<'_, '_, '_>, key: &str, ok: impl Fn(&Node) -> bool, message: &str) {
    if let Some(value) = entry.field(key).filter(|n| !ok(n)) {
        entry.fail_at("wrong-type", &format!("config_{key}"), message, value.span);
    }
}

/// Ruby's `include?` of a list, a text or a map.
fn includes(options: &Node, value: Option<&Node>) -> bool {
    match &options.value {
        Value::Sequence(items) => items.iter().any(|n| Some(&n.value) == value.map(|v| &v.value)),
        Value::String(t) => value.and_then(Node::as_str).is_some_and(|v| t.text.contains(v)),
        _ => false,
    }
}
