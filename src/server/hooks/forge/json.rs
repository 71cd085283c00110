//! Looking into bodies: what is missing, or of another type, is empty.

use serde_json::Value;

/// The text at a path: `text(body, "/head/ref")`.
pub(super) fn text<'v>(body: &'v Value, pointer: &str) -> &'v str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The first text that is not empty.
pub(super) fn first<'v>(body: &'v Value, pointers: &[&str]) -> &'v str {
    pointers.iter().map(|pointer| text(body, pointer)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The number at a path; 0: there is none.
pub(super) fn number(body: &Value, pointer: &str) -> i64 {
    body.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// Yes, and not anything else.
pub(super) fn yes(body: &Value, pointer: &str) -> bool {
    body.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

/// The list at a path.
pub(super) fn list<'v>(body: &'v Value, pointer: &str) -> &'v [Value] {
    body.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The texts at a path of each element of a list.
pub(super) fn texts(body: &Value, pointer: &str, of_each: &str) -> Vec<String> {
    list(body, pointer).iter().map(|value| text(value, of_each).to_owned()).collect()
}

/// Are two ids there, and are they the same? Anything else counts as another repository: a fork.
pub(super) fn same(body: &Value, one: &str, other: &str) -> bool {
    match (body.pointer(one), body.pointer(other)) {
        (Some(one), Some(other)) => !one.is_null() && one == other,
        _ => false,
    }
}
