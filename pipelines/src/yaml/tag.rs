//! Tags, as Psych understands them under GitLab's safe loader: `!reference`, the core types, and Ruby classes,
//! which are refused.

use super::scalar;
use super::{Text, Value};
use saphyr_parser::Tag;
use std::sync::Arc;

/// Why a tagged value can't be loaded: the text of Psych's error.
pub(super) type Refusal = String;

/// The whole tag, with the shorthand of the core schema written out.
pub(super) fn full(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

/// A scalar with an optional tag. `quoted`: any style but plain.
pub(super) fn scalar(text: &str, quoted: bool, tag: Option<&str>) -> Result<Value, Refusal> {
    let string = |text: &str, symbol| Value::String(Text { text: Arc::from(text), symbol });
    let resolve = |text: &str| scalar::resolve(text).map_err(|refused| unspecified(refused.0));
    match tag {
        None if quoted => Ok(string(text, false)),
        None => resolve(text),
        Some("!str" | "!ruby/string" | "tag:yaml.org,2002:str") => Ok(string(text, false)),
        Some("!float" | "tag:yaml.org,2002:float") => match resolve(text)? {
            Value::Integer(i) => Ok(Value::Float(i as f64)),
            float @ Value::Float(_) => Ok(float),
            _ => Err(format!("invalid value for Float(): {text:?}")),
        },
        Some("!binary" | "tag:yaml.org,2002:binary") => decode_base64(text)
            .map(|text| string(&text, false))
            .ok_or_else(|| "invalid `!binary` value".to_owned()),
        Some(tag) if tag.starts_with("!ruby/sym") => Ok(string(text, true)),
        Some("!ruby/class" | "!ruby/module") => Err(unspecified(text)),
        Some("!ruby/regexp") => Err(unspecified("Regexp")),
        Some("!ruby/range") => Err(unspecified("Range")),
        Some(
            tag @ ("!ruby/object:BigDecimal"
            | "!ruby/object:DateTime"
            | "!ruby/object:Complex"
            | "!ruby/object:Rational"),
        ) => Err(unspecified(&tag["!ruby/object:".len()..])),
        Some("!reference") => Err(format!("!reference {} is not valid", super::inspect::quote(text))),
        Some(_) => resolve(text),
    }
}

/// Is a collection with this tag one of Ruby's classes? `mapping`: else a sequence.
pub(super) fn collection(tag: Option<&str>, mapping: bool) -> Result<(), Refusal> {
    let Some(tag) = tag else { return Ok(()) };
    let class = |prefix: &str| tag.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':'));
    let refused = if mapping {
        match tag {
            "!ruby/object" => Some("Object"),
            "!ruby/struct" => Some("Struct"),
            "!ruby/exception" => Some("Exception"),
            "!ruby/range" => Some("Range"),
            "!set" | "tag:yaml.org,2002:set" => Some("Psych::Set"),
            _ => ["!ruby/object", "!ruby/struct", "!ruby/exception", "!ruby/hash", "!ruby/array", "!map"]
                .iter()
                .find_map(|prefix| class(prefix)),
        }
    } else {
        class("!seq").or_else(|| class("!ruby/array"))
    };
    refused.map_or(Ok(()), |class| Err(unspecified(class)))
}

fn unspecified(class: &str) -> Refusal {
    format!("Tried to load unspecified class: {class}")
}

/// Text of a base64 value; line breaks inside are allowed. None: not base64, or not text.
fn decode_base64(text: &str) -> Option<String> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        bits = (bits << 6) | digit(c)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_tags() {
        let string = |text: &str| Ok(Value::String(Text { text: Arc::from(text), symbol: false }));
        let core = |name: &str| format!("tag:yaml.org,2002:{name}");
        assert_eq!(scalar("123", false, Some(&core("str"))), string("123"));
        assert_eq!(scalar("5", true, Some(&core("int"))), Ok(Value::Integer(5)));
        assert_eq!(scalar("5", true, None), string("5"));
        assert_eq!(scalar("x", false, Some("!foo")), string("x"));
        assert_eq!(scalar("3", false, Some(&core("float"))), Ok(Value::Float(3.0)));
        assert_eq!(scalar("aGk=", false, Some(&core("binary"))), string("hi"));
        assert_eq!(
            scalar("foo", false, Some("!reference")),
            Err("!reference \"foo\" is not valid".to_owned())
        );
    }

    #[test]
    fn ruby_classes_are_refused() {
        let unspecified = |class: &str| Err(format!("Tried to load unspecified class: {class}"));
        assert_eq!(collection(Some("!ruby/object:Object"), true), unspecified("Object"));
        assert_eq!(collection(Some("!ruby/object"), true), unspecified("Object"));
        assert_eq!(collection(Some("!ruby/array:Foo"), false), unspecified("Foo"));
        assert_eq!(collection(Some("!foo"), true), Ok(()));
        assert_eq!(scalar("Kernel", false, Some("!ruby/class")), Err(unspecified("Kernel").unwrap_err()));
    }
}
