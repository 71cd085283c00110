//! Replacing references in one text.

use regex::{Captures, Regex};
use std::sync::LazyLock;

/// What becomes of a reference to a variable that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It vanishes.
    Remove,
    /// It stays as written.
    Keep,
}

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r"\$([a-zA-Z_][a-zA-Z0-9_]*)|\$\{([a-zA-Z_][a-zA-Z0-9_]*)\}|%([a-zA-Z_][a-zA-Z0-9_]*)%")
});

/// In the value of a variable, `$$` and `%%` are pairs: what follows them is no reference.
static REFERENCE_IN_VALUE: LazyLock<Regex> = LazyLock::new(|| {
    fixed(r"\$\$|%%|\$([a-zA-Z_][a-zA-Z0-9_]*)|\$\{([a-zA-Z_][a-zA-Z0-9_]*)\}|%([a-zA-Z_][a-zA-Z0-9_]*)%")
});

fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns of references are constants")
}

fn name<'t>(captures: &Captures<'t>) -> Option<&'t str> {
    captures.iter().skip(1).flatten().next().map(|m| m.as_str())
}

/// Replaces `$X`, `${X}` and `%X%` as GitLab's server does, once: what is inserted is not looked at again.
pub fn expand(text: &str, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    replace(&REFERENCE, text, unknown, lookup)
}

/// As [`expand`], for the value of a variable: `$$` and `%%` stay as written.
pub(super) fn expand_value(text: &str, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    replace(&REFERENCE_IN_VALUE, text, unknown, lookup)
}

fn replace(regex: &Regex, text: &str, unknown: Unknown, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    if !text.contains(['$', '%']) {
        return text.to_owned();
    }
    let replaced = regex.replace_all(text, |captures: &Captures<'_>| {
        let Some(name) = name(captures) else { return captures[0].to_owned() };
        lookup(name).unwrap_or_else(|| match unknown {
            Unknown::Remove => String::new(),
            Unknown::Keep => captures[0].to_owned(),
        })
    });
    replaced.into_owned()
}

/// Names that the value of a variable refers to, with repetitions.
pub fn references(value: &str) -> impl Iterator<Item = &str> {
    REFERENCE_IN_VALUE.captures_iter(value).filter_map(|captures| name(&captures))
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
