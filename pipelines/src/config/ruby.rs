//! How Ruby sees a value: GitLab's messages and stringifications depend on it.

use crate::yaml::{Node, Value, text};

/// Rails' `blank?`: null, false, nothing but spaces, no items.
pub(super) fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::String(t) if t.symbol => t.text.is_empty(),
        Value::String(t) => t.text.trim().is_empty(),
        Value::Sequence(s) => s.is_empty(),
        Value::Mapping(m) => m.is_empty(),
        Value::Bool(true) | Value::Integer(_) | Value::Float(_) | Value::Reference(_) => false,
    }
}

/// A `String`, not a `Symbol`.
pub(super) fn is_string(node: &Node) -> bool {
    matches!(&node.value, Value::String(t) if !t.symbol)
}

/// A `String` or a `Symbol`.
pub(super) fn is_text(node: &Node) -> bool {
    matches!(&node.value, Value::String(_))
}

/// A boolean.
pub(super) fn is_boolean(node: &Node) -> bool {
    matches!(&node.value, Value::Bool(_))
}

/// A list of texts.
pub(super) fn is_texts(node: &Node) -> bool {
    node.as_sequence().is_some_and(|items| items.iter().all(is_text))
}

/// `length`, or the length of `to_s` for what has none.
pub(super) fn length(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(s) => s.len(),
        Value::Mapping(m) => m.len(),
        _ => text(node).chars().count(),
    }
}

/// Rails' `humanize` of an attribute, in lower case as all these messages are.
pub(super) fn humanize(attribute: &str) -> String {
    let text = attribute.replace(['_', '.'], " ");
    let text = text.trim_start();
    text.strip_suffix(" id").unwrap_or(text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn humanize_drops_underscores_and_a_trailing_id() {
        for (from, to) in
            [("exit_codes", "exit codes"), ("_Foo_bar", "foo bar"), ("build_id", "build"), ("a.b", "a b")]
        {
            assert_eq!(humanize(from), to);
        }
    }
}
