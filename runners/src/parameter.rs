//! POSIX parameter expansion for `artifacts:paths`, `exclude`, `name` and `cache:paths`: `$X`, `${X}`,
//! `${X:-w}`, `${X-w}`, `${X:+w}`, `${X+w}`, `${X:=w}`, `${X:?w}`, `${#X}`, `${X%p}`, `${X%%p}`, `${X#p}`,
//! `${X##p}`. Nothing is run: command substitution stays as it is written. `\$` is a dollar sign.

use crate::glob::matches_text;

/// Nested words deeper than this are refused.
const MAX_DEPTH: usize = 50;

/// Expands `text`; a variable that `lookup` does not know counts as unset.
///
/// # Errors
/// A brace that is not closed, an operator that POSIX has not, `${X:?word}` with `X` unset.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    word(text, lookup, 0)
}

fn word(text: &str, lookup: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!("`{text}` nests too deeply"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\$") {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let close = closing(after).ok_or_else(|| format!("`{text}` has a `${{` without `}}`"))?;
            out.push_str(&braced(&after[..close], lookup, depth)?);
            rest = &after[close + 1..];
        } else {
            let name = name_length(&rest[1..]);
            if rest.starts_with('$') && name > 0 {
                out.push_str(&lookup(&rest[1..=name]).unwrap_or_default());
            } else {
                out.push_str(&rest[..1]);
            }
            rest = &rest[1 + name * usize::from(rest.starts_with('$'))..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the `}` is that belongs to a `${` just before `text`.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 1,
            b'$' if bytes.get(i + 1) == Some(&b'{') => {
                depth += 1;
                i += 1;
            }
            b'}' if depth == 0 => return Some(i),
            b'}' => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    None
}

fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

fn braced(inner: &str, lookup: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, String> {
    if let Some(name) =
        inner.strip_prefix('#').filter(|name| !name.is_empty() && name_length(name) == name.len())
    {
        return Ok(lookup(name).unwrap_or_default().chars().count().to_string());
    }
    let length = name_length(inner);
    if length == 0 {
        return Err(format!("`${{{inner}}}` names no variable"));
    }
    let (name, operation) = inner.split_at(length);
    let value = lookup(name);
    if operation.is_empty() {
        return Ok(value.unwrap_or_default());
    }
    let expanded = |from: usize| word(&operation[from..], lookup, depth + 1);
    let (null_counts, from) = if operation.starts_with(':') { (true, 2) } else { (false, 1) };
    let usable = value.clone().filter(|value| !(null_counts && value.is_empty()));
    match operation.as_bytes().get(from - 1) {
        Some(b'-' | b'=') => usable.map_or_else(|| expanded(from), Ok),
        Some(b'+') => {
            if usable.is_some() {
                expanded(from)
            } else {
                Ok(String::new())
            }
        }
        Some(b'?') => usable.map_or_else(|| Err(format!("`{name}`: {}", expanded(from)?)), Ok),
        Some(side @ (b'%' | b'#')) if !null_counts => {
            let longest = operation.as_bytes().get(1) == Some(side);
            let pattern = expanded(1 + usize::from(longest))?;
            Ok(strip(&value.unwrap_or_default(), &pattern, *side == b'%', longest))
        }
        _ => Err(format!("`${{{inner}}}` is not a POSIX parameter expansion")),
    }
}

/// Removes the shortest or longest prefix (or suffix) that matches.
fn strip(value: &str, pattern: &str, suffix: bool, longest: bool) -> String {
    let mut cuts: Vec<usize> = value.char_indices().map(|(at, _)| at).chain([value.len()]).collect();
    // the cut that leaves the longest match comes first for `%%` as it is, for `##` reversed
    if suffix != longest {
        cuts.reverse();
    }
    let cut = cuts.into_iter().find(|cut| {
        let candidate = if suffix { &value[*cut..] } else { &value[..*cut] };
        matches_text(pattern.as_bytes(), candidate.as_bytes())
    });
    match cut {
        Some(cut) if suffix => value[..cut].to_owned(),
        Some(cut) => value[cut..].to_owned(),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".into()),
            "PATHY" => Some("one/two/three.tar.gz".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn posix_forms_expand_as_a_shell_does() {
        let table = [
            ("$A/b", "alpha/b"),
            ("${A}b", "alphab"),
            ("$UNSET.", "."),
            ("${UNSET:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${UNSET:-${A}/y}", "alpha/y"),
            ("${A:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${UNSET=z}", "z"),
            ("${#A}", "5"),
            ("${PATHY%.*}", "one/two/three.tar"),
            ("${PATHY%%.*}", "one/two/three"),
            ("${PATHY#*/}", "two/three.tar.gz"),
            ("${PATHY##*/}", "three.tar.gz"),
            ("${A%nomatch}", "alpha"),
            ("\\$A", "$A"),
            ("a\\*b", "a\\*b"),
            ("100$", "100$"),
            ("$1", "$1"),
            ("$(date)", "$(date)"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, &lookup).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_a_shell_refuses_is_an_error() {
        for text in ["${A", "${}", "${A/x/y}", "${UNSET:?gone}", "${1x}"] {
            assert!(expand(text, &lookup).is_err(), "{text}");
        }
        let deep = "${U:-".repeat(1000) + &"}".repeat(1000);
        assert!(expand(&deep, &lookup).is_err());
    }
}
