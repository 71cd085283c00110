//! Regular expressions in RE2's syntax, run by the `regex` crate. The two agree on nearly everything; what differs
//! is rewritten: classes are ASCII in RE2, set operations and nested classes are not known to it, a lone `{` is
//! literal, and stacked repetitions are errors.

use super::SyntaxError;
use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

/// So many compiled expressions are kept; then all are forgotten.
const MOST_KEPT: usize = 1000;

thread_local! {
    /// By source and flags: checks, plans and hints ask for the same ones again and again, and compiling takes long.
    static KEPT: RefCell<HashMap<(String, String), Regex>> = RefCell::default();
}

/// A compiled RE2 expression.
#[derive(Clone, Debug)]
pub struct Regexp {
    source: String,
    regex: Regex,
}

impl Regexp {
    /// Compiles `source` without slashes, with flags out of `ismU`.
    ///
    /// # Errors
    /// RE2 would refuse it.
    pub fn new(source: &str, flags: &str) -> Result<Regexp, SyntaxError> {
        let key = (source.to_owned(), flags.to_owned());
        if let Some(regex) = KEPT.with_borrow(|kept| kept.get(&key).cloned()) {
            return Ok(Regexp { source: source.to_owned(), regex });
        }
        let regex = RegexBuilder::new(&rewrite(source)?)
            .case_insensitive(flags.contains('i'))
            .dot_matches_new_line(flags.contains('s'))
            .multi_line(flags.contains('m'))
            .swap_greed(flags.contains('U'))
            .build()
            .map_err(|e| SyntaxError::new(first_reason(&e), None))?;
        KEPT.with_borrow_mut(|kept| {
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(key, regex.clone());
        });
        Ok(Regexp { source: source.to_owned(), regex })
    }

    /// Compiles `/source/flags`.
    ///
    /// # Errors
    /// The text does not have that form, or RE2 would refuse the source.
    pub fn literal(text: &str) -> Result<Regexp, SyntaxError> {
        let (source, flags) = text
            .lines()
            .find_map(parts)
            .ok_or_else(|| SyntaxError::new("a pattern has the form `/expression/flags`", None))?;
        Regexp::new(source, flags)
    }

    /// Is there a match anywhere?
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The expression without slashes and flags.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// `/source/flags` taken apart.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (source, flags) = line.strip_prefix('/')?.rsplit_once('/')?;
    flags.chars().all(|c| "ismU".contains(c)).then_some((source, flags))
}

fn first_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().rev().find_map(|l| l.strip_prefix("error: ")).unwrap_or("it does not compile").to_owned()
}

/// RE2 text to `regex` text.
fn rewrite(source: &str) -> Result<String, SyntaxError> {
    let mut out = String::with_capacity(source.len() + 8);
    let mut chars = source.chars().peekable();
    let mut repeatable = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => repeatable = escape(&mut chars, &mut out)?,
            '[' => {
                class(&mut chars, &mut out)?;
                repeatable = true;
            }
            '*' | '+' | '?' => repetition(c.to_string(), &mut repeatable, &mut chars, &mut out)?,
            '{' => match counted(&chars) {
                Some(count) => {
                    let text: String = chars.by_ref().take(count).collect();
                    repetition(format!("{{{text}"), &mut repeatable, &mut chars, &mut out)?;
                }
                None => {
                    out.push_str("\\{");
                    repeatable = true;
                }
            },
            '}' => {
                out.push_str("\\}");
                repeatable = true;
            }
            _ => {
                out.push(c);
                repeatable = !matches!(c, '(' | '|');
                if c == '(' && chars.peek() == Some(&'?') {
                    out.extend(chars.next());
                }
            }
        }
    }
    Ok(out)
}

/// Copies a repetition with its `?`; RE2 refuses one that stands on nothing or on another repetition.
fn repetition(
    text: String,
    repeatable: &mut bool,
    chars: &mut Peekable<Chars<'_>>,
    out: &mut String,
) -> Result<(), SyntaxError> {
    if !*repeatable {
        return Err(SyntaxError::new(format!("nothing to repeat before `{text}`"), None));
    }
    let counts = text.trim_matches(['{', '}']).split(',');
    if counts.filter_map(|n| n.parse::<u64>().ok()).any(|n| n > 1000) {
        return Err(SyntaxError::new(format!("`{text}` repeats more than 1000 times"), None));
    }
    out.push_str(&text);
    if chars.peek() == Some(&'?') {
        out.extend(chars.next());
    }
    *repeatable = false;
    Ok(())
}

/// Length of `n}`, `n,}` or `n,m}` if that follows.
fn counted(chars: &Peekable<Chars<'_>>) -> Option<usize> {
    let text: String = chars.clone().take(24).take_while(|c| *c != '}').collect();
    let (low, high) = text.split_once(',').unwrap_or((&text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let closed = chars.clone().nth(text.len()) == Some('}');
    (closed && !low.is_empty() && digits(low) && digits(high)).then_some(text.len() + 1)
}

/// An escape outside a class. Says whether a repetition may follow.
fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<bool, SyntaxError> {
    let Some(c) = chars.next() else { return Err(SyntaxError::new("a backslash at the end", None)) };
    match c {
        'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
            let (set, negated) = ascii_class(c);
            out.push_str(&format!("[{}{set}]", if negated { "^" } else { "" }));
        }
        'b' | 'B' => out.push_str(if c == 'b' { "(?-u:\\b)" } else { "(?-u:\\B)" }),
        'Q' => quoted(chars, out),
        'C' => out.push_str("(?s:.)"),
        '<' | '>' => out.push(c),
        'u' | 'U' | 'Z' | 'G' | 'X' | 'h' | 'H' | 'R' | 'K' => {
            return Err(SyntaxError::new(format!("`\\{c}` is not known to RE2"), None));
        }
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    Ok(true)
}

fn quoted(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    let rest: String = chars.clone().collect();
    let text = rest.split("\\E").next().unwrap_or_default();
    out.push_str(&regex::escape(text));
    let skip = text.chars().count() + if text.len() < rest.len() { 2 } else { 0 };
    chars.by_ref().take(skip).for_each(drop);
}

/// The inside of an ASCII class, and whether the letter negates it.
fn ascii_class(letter: char) -> (&'static str, bool) {
    let set = match letter.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        _ => "\\t\\n\\f\\r ",
    };
    (set, letter.is_ascii_uppercase())
}

/// A bracket class after its `[`.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), SyntaxError> {
    out.push('[');
    if chars.peek() == Some(&'^') {
        out.extend(chars.next());
    }
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            ']' if first => out.push_str("\\]"),
            ']' => {
                out.push(']');
                return Ok(());
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '\\' => match chars.next() {
                Some(l @ ('d' | 'D' | 'w' | 'W' | 's' | 'S')) => {
                    let (set, negated) = ascii_class(l);
                    if negated { out.push_str(&format!("[^{set}]")) } else { out.push_str(set) }
                }
                Some(l @ ('<' | '>')) => out.push(l),
                Some(l) => out.extend(['\\', l]),
                None => break,
            },
            // nested classes and set operations of the `regex` crate
            '[' | '&' | '~' => out.extend(['\\', c]),
            _ => out.push(c),
        }
        first = false;
    }
    Err(SyntaxError::new("a `[` is never closed", None))
}
