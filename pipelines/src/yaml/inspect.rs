//! Values as Ruby prints them: GitLab's messages and interpolated texts contain such forms.

use super::{Key, Node, Value};
use std::fmt::Write;

/// The value as Ruby's `to_s` gives it: null is empty, texts are themselves, collections as [`inspect`] shows them.
pub fn text(node: &Node) -> String {
    match &node.value {
        Value::Null => String::new(),
        Value::String(text) => text.text.to_string(),
        _ => inspect(node),
    }
}

/// The value as Ruby's `inspect` gives it: `["a", 1]`, `{:key=>nil}`.
pub fn inspect(node: &Node) -> String {
    let mut out = String::new();
    write_node(&mut out, node);
    out
}

fn write_node(out: &mut String, node: &Node) {
    match &node.value {
        Value::Null => out.push_str("nil"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Integer(i) => write!(out, "{i}").expect("writing to a text can't fail"),
        Value::Float(f) => out.push_str(&float(*f)),
        Value::String(text) if text.symbol => out.push_str(&symbol(&text.text)),
        Value::String(text) => out.push_str(&quote(&text.text)),
        Value::Sequence(items) => write_list(out, items),
        Value::Reference(items) => {
            out.push_str("!reference ");
            write_list(out, items);
        }
        Value::Mapping(mapping) => {
            out.push('{');
            for (i, (key, entry)) in mapping.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                match key {
                    Key::String(name) => out.push_str(&symbol(name)),
                    Key::Integer(_) => write!(out, "{key}").expect("writing to a text can't fail"),
                    Key::Other(name) => out.push_str(if name.is_empty() { "nil" } else { name }),
                }
                out.push_str("=>");
                write_node(out, &entry.node);
            }
            out.push('}');
        }
    }
}

fn write_list(out: &mut String, items: &[Node]) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write_node(out, item);
    }
    out.push(']');
}

fn symbol(name: &str) -> String {
    let mut chars = name.chars();
    let simple = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_');
    if simple { format!(":{name}") } else { format!(":{}", quote(name)) }
}

/// A text in double quotes, with Ruby's escapes.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '#' if matches!(chars.peek(), Some('{' | '$' | '@')) => out.push_str("\\#"),
            c if c.is_ascii_control() => {
                write!(out, "\\x{:02X}", c as u32).expect("writing to a text can't fail")
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Ruby's shortest form: fixed between 1e-4 and 1e16, else scientific with a two-digit exponent.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() };
    }
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}{point}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_ruby_prints_them() {
        let cases = [
            (1.0, "1.0"),
            (3.1, "3.1"),
            (0.0001, "0.0001"),
            (0.00001, "1.0e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1.0e+16"),
            (-1.5e300, "-1.5e+300"),
            (0.0, "0.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn texts_are_escaped_as_ruby_does() {
        assert_eq!(quote("a\"b\\\n#{x} # é"), r##""a\"b\\\n\#{x} # é""##);
    }
}
