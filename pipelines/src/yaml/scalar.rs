//! Plain scalars, as Psych's `ScalarScanner` resolves them (YAML 1.1 with its own quirks).

use super::{Text, Value};
use regex::Regex;
use std::sync::{Arc, LazyLock};

/// A class that GitLab's safe loader refuses: `Date` or `Time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant")
}

static TIME: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^-?[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|\s+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:\s*(?:Z|[-+][0-9]{1,2}:?(?:[0-9]{2})?))?$",
    )
});
static DATE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^[0-9]{4}-(?:1[012]|0[0-9]|[0-9])-(?:[12][0-9]|3[01]|0[0-9]|[0-9])$"));
static SEXAGESIMAL: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}(\.[0-9_]*)?$"));
static FLOAT: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][-+][0-9]+)?$"));
static INTEGER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^[-+]?(?:0[_,]*[0-7][0-7_,]*|0|[1-9](?:[0-9]|,[0-9]|_[0-9])*|0b[_,]*[01][01_,]*|0x[_,]*[0-9a-fA-F][0-9a-fA-F_,]*)$",
    )
});

/// Resolves a plain (or non-specifically tagged) scalar.
///
/// # Errors
/// The text is a date or a timestamp.
pub(super) fn resolve(text: &str) -> Result<Value, Refused> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    if is_wordy(text) || text.contains('\n') {
        return Ok(word(text));
    }
    // compiling the patterns takes longer than reading a small file: first the characters that they can't do without
    if text.contains('-') {
        if text.contains(':') && TIME.is_match(text) {
            return Err(Refused("Time"));
        }
        if DATE.is_match(text) {
            return Err(Refused("Date"));
        }
    }
    Ok(match text.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" => Value::Float(f64::INFINITY),
        "-.inf" => Value::Float(f64::NEG_INFINITY),
        ".nan" => Value::Float(f64::NAN),
        _ => number(text).unwrap_or_else(|| symbol_or_text(text)),
    })
}

/// Psych's quick test for texts that can't be numbers: a word character first or second.
fn is_wordy(text: &str) -> bool {
    let wordy =
        |c: char| c.is_alphabetic() || c.is_ascii_whitespace() || r"_!@#$%^&*(){}<>|/\~;=".contains(c);
    let mut chars = text.chars();
    let first = chars.next().unwrap_or(' ');
    let excluded = first.is_ascii_digit() || matches!(first, '.' | ':' | '-');
    wordy(first) || (!excluded && chars.next().is_some_and(wordy))
}

fn word(text: &str) -> Value {
    match text.to_ascii_lowercase().as_str() {
        _ if text.len() > 5 => plain(text),
        "~" | "null" => Value::Null,
        "yes" | "true" | "on" => Value::Bool(true),
        "no" | "false" | "off" => Value::Bool(false),
        _ => plain(text),
    }
}

fn plain(text: &str) -> Value {
    Value::String(Text { text: Arc::from(text), symbol: false })
}

/// `:word` and `:"quoted words"` are Ruby symbols.
fn symbol_or_text(text: &str) -> Value {
    let Some(name) = text.strip_prefix(':').filter(|name| !name.is_empty()) else { return plain(text) };
    let unquoted = ['"', '\''].iter().find_map(|&q| name.strip_prefix(q)?.strip_suffix(q));
    Value::String(Text { text: Arc::from(unquoted.unwrap_or(name)), symbol: true })
}

fn number(text: &str) -> Option<Value> {
    if text.starts_with(':') {
        return None;
    }
    if text.contains(':')
        && let Some(captures) = SEXAGESIMAL.captures(text)
    {
        return Some(sexagesimal(text, captures.get(1).is_some()));
    }
    if text.contains('.') && FLOAT.is_match(text) {
        let digits = text.replace([',', '_'], "");
        return digits.parse().ok().map(Value::Float);
    }
    let decimal = text.bytes().all(|b| b.is_ascii_digit()) && !(text.len() > 1 && text.starts_with('0'));
    let possible = |b: u8| b.is_ascii_hexdigit() || b"+-_,x".contains(&b);
    (decimal || text.bytes().all(possible) && INTEGER.is_match(text)).then(|| integer(text))
}

/// Psych counts from hours even without seconds: `12:30` is 12 * 3600 + 30 * 60.
fn sexagesimal(text: &str, float: bool) -> Value {
    let parts = text.split(':').map(|part| part.replace('_', ""));
    let units = [3600.0, 60.0, 1.0];
    let sum: f64 = parts.zip(units).map(|(part, unit)| part.parse::<f64>().unwrap_or(0.0) * unit).sum();
    if float { Value::Float(sum) } else { Value::Integer(sum as i64) }
}

fn integer(text: &str) -> Value {
    let digits = text.replace([',', '_'], "");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'b', ..] => (&digits[2..], 2),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if let Ok(small) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        return Value::Integer(small);
    }
    match u128::from_str_radix(digits, radix) {
        Ok(big) => plain(&format!("{sign}{big}")),
        Err(_) if radix == 10 => plain(&format!("{sign}{digits}")),
        Err(_) => plain(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(text: &str) -> Value {
        Value::String(Text { text: Arc::from(text), symbol: true })
    }

    #[test]
    fn scalars_are_resolved_as_psych_does() {
        let cases = [
            ("", Value::Null),
            ("~", Value::Null),
            ("NULL", Value::Null),
            ("yes", Value::Bool(true)),
            ("On", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("FALSE", Value::Bool(false)),
            ("y", plain("y")),
            ("n", plain("n")),
            ("0777", Value::Integer(511)),
            ("08", plain("08")),
            ("0x1F", Value::Integer(31)),
            ("0b101", Value::Integer(5)),
            ("0o17", plain("0o17")),
            ("1_000", Value::Integer(1000)),
            ("1,000", Value::Integer(1000)),
            ("+12", Value::Integer(12)),
            ("-7", Value::Integer(-7)),
            ("0", Value::Integer(0)),
            ("-", plain("-")),
            ("12:34:56", Value::Integer(45296)),
            ("12:30", Value::Integer(45000)),
            ("1:2:3.5", Value::Float(3723.5)),
            ("12:99", plain("12:99")),
            ("3.10", Value::Float(3.1)),
            ("1.", Value::Float(1.0)),
            (".5", Value::Float(0.5)),
            (".", plain(".")),
            ("1e5", plain("1e5")),
            ("1.5e3", plain("1.5e3")),
            ("1.5e+3", Value::Float(1500.0)),
            (".inf", Value::Float(f64::INFINITY)),
            (":word", symbol("word")),
            (":\"two words\"", symbol("two words")),
            (":", plain(":")),
            ("1.2.3", plain("1.2.3")),
            ("node:18", plain("node:18")),
            ("9223372036854775808", plain("9223372036854775808")),
            ("0xFFFFFFFFFFFFFFFF", plain("18446744073709551615")),
            ("2024-01-01x", plain("2024-01-01x")),
        ];
        for (text, value) in cases {
            assert_eq!(resolve(text), Ok(value), "{text}");
        }
        assert!(matches!(resolve(".NaN"), Ok(Value::Float(f)) if f.is_nan()));
    }

    #[test]
    fn dates_and_times_are_refused() {
        for text in ["2024-01-01", "2024-1-1", "2024-02-31"] {
            assert_eq!(resolve(text), Err(Refused("Date")), "{text}");
        }
        for text in ["2024-01-01T10:00:00Z", "2024-01-01 10:00:00", "2024-01-01 1:00:00.5 +01:00"] {
            assert_eq!(resolve(text), Err(Refused("Time")), "{text}");
        }
    }
}
