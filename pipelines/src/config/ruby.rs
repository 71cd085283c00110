//! How Ruby sees a value: GitLab's messages and stringifications depend on it.

use crate::yaml::{Key, Node, Value};

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

/// `to_s`.
pub(super) fn to_s(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Integer(i) => i.to_string(),
        Value::Float(f) => float(*f),
        Value::String(t) => t.text.to_string(),
        Value::Sequence(_) | Value::Mapping(_) | Value::Reference(_) => inspect(node),
    }
}

/// `inspect`, as Ruby 3.3 prints it.
pub(super) fn inspect(node: &Node) -> String {
    match &node.value {
        Value::Null => "nil".to_owned(),
        Value::String(t) if t.symbol => format!(":{}", t.text),
        Value::String(t) => format!("{:?}", t.text),
        Value::Sequence(items) | Value::Reference(items) => {
            format!("[{}]", items.iter().map(inspect).collect::<Vec<_>>().join(", "))
        }
        Value::Mapping(map) => {
            let pair = |(key, entry): (&Key, &crate::yaml::Entry)| match key {
                Key::String(k) => format!(":{k}=>{}", inspect(&entry.node)),
                Key::Integer(_) | Key::Other(_) => format!("{key}=>{}", inspect(&entry.node)),
            };
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        _ => to_s(node),
    }
}

/// `length`, or the length of `to_s` for what has none.
pub(super) fn length(node: &Node) -> usize {
    match &node.value {
        Value::Sequence(s) => s.len(),
        Value::Mapping(m) => m.len(),
        _ => to_s(node).chars().count(),
    }
}

/// `Float#to_s`.
fn float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if f == 0.0 || (1e-4..1e16).contains(&f.abs()) {
        return format!("{f:?}");
    }
    let text = format!("{f:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa =
        if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
    format!("{mantissa}e{sign}{digits:0>2}")
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
    fn floats_print_as_in_ruby() {
        for (f, text) in
            [(1.5, "1.5"), (2.0, "2.0"), (1e16, "1.0e+16"), (1e20, "1.0e+20"), (1.5e-7, "1.5e-07"), (0.0001, "0.0001")]
        {
            assert_eq!(float(f), text);
        }
    }

    #[test]
    fn humanize_drops_underscores_and_a_trailing_id() {
        for (from, to) in [("exit_codes", "exit codes"), ("_Foo_bar", "foo bar"), ("build_id", "build"), ("a.b", "a b")] {
            assert_eq!(humanize(from), to);
        }
    }
}
