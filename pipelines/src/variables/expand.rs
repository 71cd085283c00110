//! Replacing references in one text.

use std::ops::Range;

/// What becomes of a reference to a variable that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It vanishes.
    Remove,
    /// It stays as written.
    Keep,
}

/// What stands at a `$` or a `%`.
struct Found<'t> {
    /// Bytes of the text.
    range: Range<usize>,
    /// None: a pair.
    name: Option<&'t str>,
}

/// The references of a text from the left. `pairs`: in the value of a variable, `$$` and `%%` are pairs, and what
/// follows them is no reference.
fn find(text: &str, pairs: bool) -> impl Iterator<Item = Found<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(start) = text[at..].find(['$', '%']).map(|found| at + found) {
            match reference(&text[start..], pairs) {
                Some((length, name)) => {
                    at = start + length;
                    return Some(Found { range: start..at, name });
                }
                None => at = start + 1,
            }
        }
        None
    })
}

/// The reference or pair that a text begins with, and its length.
fn reference(text: &str, pairs: bool) -> Option<(usize, Option<&str>)> {
    let (sign, rest) = text.split_at(1);
    if pairs && rest.starts_with(sign) {
        return Some((2, None));
    }
    let (before, after) = match (sign, rest.starts_with('{')) {
        ("%", _) => (0, "%"),
        (_, true) => (1, "}"),
        (_, false) => (0, ""),
    };
    let name = name(&rest[before..])?;
    let end = 1 + before + name.len();
    text[end..].starts_with(after).then_some((end + after.len(), Some(name)))
}

/// The name that a text begins with.
fn name(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    Some(&text[..end]).filter(|name| name.starts_with(|c: char| !c.is_ascii_digit()))
}

/// Replaces `$X`, `${X}` and `%X%` as GitLab's server does, once: what is inserted is not looked at again.
pub fn expand(text: &str, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    replace(text, false, unknown, lookup)
}

/// As [`expand`], for the value of a variable: `$$` and `%%` stay as written.
pub(super) fn expand_value(text: &str, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    replace(text, true, unknown, lookup)
}

fn replace(text: &str, pairs: bool, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = 0;
    for Found { range, name } in find(text, pairs) {
        out.push_str(&text[rest..range.start]);
        rest = range.end;
        match (name.and_then(lookup), name.is_some() && unknown == Unknown::Remove) {
            (Some(value), _) => out.push_str(&value),
            (None, true) => {}
            (None, false) => out.push_str(&text[range]),
        }
    }
    out.push_str(&text[rest..]);
    out
}

/// Names that the value of a variable refers to, with repetitions.
pub fn references(value: &str) -> impl Iterator<Item = &str> {
    find(value, true).filter_map(|found| found.name)
}

/// Replaces `$X` and `${X}` as the runner does (Go's `os.Expand`): one pass, unknown names vanish, `$$` becomes `$`.
pub fn expand_shell(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let (name, length) = shell_name(&rest[at + 1..]);
        match name {
            // the runner's mapping knows `$` as itself
            Some("$") => out.push('$'),
            Some(name) => out.push_str(&lookup(name).unwrap_or_default()),
            None if length == 0 => out.push('$'),
            None => {} // bad syntax such as `${}` vanishes
        }
        rest = &rest[at + 1 + length..];
    }
    out.push_str(rest);
    out
}

/// The name after a `$` and how many bytes it takes with its braces.
fn shell_name(text: &str) -> (Option<&str>, usize) {
    let special = |c: char| matches!(c, '*' | '#' | '$' | '@' | '!' | '?' | '-') || c.is_ascii_digit();
    let Some(first) = text.chars().next() else { return (None, 0) };
    if first == '{' {
        let inner = &text[1..];
        if inner.starts_with(special) && inner[1..].starts_with('}') {
            return (Some(&inner[..1]), 3);
        }
        return match inner.find('}') {
            Some(0) => (None, 2),
            Some(end) => (Some(&inner[..end]), end + 2),
            None => (None, 1),
        };
    }
    if special(first) {
        return (Some(&text[..1]), 1);
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if length == 0 { (None, 0) } else { (Some(&text[..length]), length) }
}
