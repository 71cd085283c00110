//! Doublestar patterns, as `artifacts:paths` and `cache:paths` understand them: `*` and `?` stay within a path
//! component and match leading dots, `**` as a whole component is any number of directories, `[a-z]`, `[^a]`,
//! `{a,b}`, and `\` takes the next character literally. Names are bytes; `?` and classes take a whole character.

/// Alternatives that braces may multiply to; more than anybody writes by hand.
const MAX_ALTERNATIVES: usize = 1000;

/// A compiled pattern, relative to some directory.
#[derive(Clone, Debug)]
pub struct Pattern {
    alternatives: Vec<Vec<Vec<u8>>>,
}

impl Pattern {
    /// Compiles `text`. Empty components and `.` are dropped; a pattern that braces multiply beyond measure
    /// keeps its braces as literal text.
    pub fn new(text: &str) -> Pattern {
        let mut expanded = Vec::new();
        if !expand_braces(text.as_bytes(), &mut expanded) {
            expanded = vec![text.as_bytes().to_vec()];
        }
        Pattern { alternatives: expanded.iter().map(|alternative| components(alternative)).collect() }
    }

    /// Does the pattern match this whole path (components separated by `/`, no leading slash)?
    pub fn matches(&self, path: &[u8]) -> bool {
        let path = components(path);
        self.alternatives.iter().any(|pattern| match_components(pattern, &path))
    }

    /// For each alternative: the directory (components) where looking for matches may start, and how many
    /// levels below it matches can be (none: any depth).
    pub fn starts(&self) -> Vec<(Vec<Vec<u8>>, Option<usize>)> {
        self.alternatives
            .iter()
            .map(|pattern| {
                let literal = pattern.iter().take_while(|component| !has_meta(component)).count();
                let depth =
                    if pattern.iter().any(|c| c == b"**") { None } else { Some(pattern.len() - literal) };
                (pattern[..literal].to_vec(), depth)
            })
            .collect()
    }
}

/// Does one component, or any text without regard to slashes, match a shell pattern without braces?
pub fn matches_text(pattern: &[u8], text: &[u8]) -> bool {
    // where to go back to on a mismatch: after the last star, one character further in the text
    let mut retry: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        match match_one(&pattern[p..], &text[t..]) {
            Some((pattern_used, text_used)) => {
                p += pattern_used;
                t += text_used;
            }
            None => match retry {
                Some((after_star, from)) if from < text.len() => {
                    let next = from + char_len(&text[from..]);
                    retry = Some((after_star, next));
                    p = after_star;
                    t = next;
                }
                _ => return false,
            },
        }
    }
}

/// Matches one pattern element (not a star) against one character; how much of both it used.
fn match_one(pattern: &[u8], text: &[u8]) -> Option<(usize, usize)> {
    let first = *pattern.first()?;
    let length = if text.is_empty() { return None } else { char_len(text) };
    match first {
        b'?' => Some((1, length)),
        b'[' => match class(pattern, &text[..length]) {
            Some((used, true)) => Some((used, length)),
            Some((_, false)) => None,
            // an unclosed bracket is an ordinary character
            None => (text[0] == b'[').then_some((1, 1)),
        },
        b'\\' if pattern.len() > 1 => (pattern[1] == text[0]).then_some((2, 1)),
        other => (other == text[0]).then_some((1, 1)),
    }
}

/// A bracket expression: its length, and whether it holds the character. None: not closed.
fn class(pattern: &[u8], character: &[u8]) -> Option<(usize, bool)> {
    let wanted = code(character);
    let mut i = 1;
    let negated = matches!(pattern.get(i), Some(b'^' | b'!'));
    if negated {
        i += 1;
    }
    let mut found = false;
    let mut first = true;
    loop {
        match pattern.get(i)? {
            b']' if !first => return Some((i + 1, found != negated)),
            _ => {
                let (low, used) = class_char(&pattern[i..])?;
                i += used;
                let mut high = low;
                if pattern.get(i) == Some(&b'-') && !matches!(pattern.get(i + 1), Some(b']') | None) {
                    let (end, used) = class_char(&pattern[i + 1..])?;
                    high = end;
                    i += 1 + used;
                }
                found |= (low..=high).contains(&wanted);
            }
        }
        first = false;
    }
}

fn class_char(pattern: &[u8]) -> Option<(u32, usize)> {
    let escaped = usize::from(pattern.first() == Some(&b'\\') && pattern.len() > 1);
    let rest = &pattern[escaped..];
    if rest.is_empty() {
        return None;
    }
    let length = char_len(rest);
    Some((code(&rest[..length]), escaped + length))
}

fn code(character: &[u8]) -> u32 {
    std::str::from_utf8(character)
        .ok()
        .and_then(|text| text.chars().next())
        .map_or_else(|| character.first().copied().map_or(0, u32::from), u32::from)
}

/// Bytes of the first character; a byte that is no UTF-8 counts as one.
fn char_len(text: &[u8]) -> usize {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if length <= text.len() && std::str::from_utf8(&text[..length]).is_ok() { length } else { 1 }
}

fn has_meta(component: &[u8]) -> bool {
    component.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|c| !c.is_empty() && *c != b".").map(<[u8]>::to_vec).collect()
}

fn match_components(pattern: &[Vec<u8>], path: &[Vec<u8>]) -> bool {
    // reachable[i]: the pattern so far matches the first i components; no recursion, so `**/**/**` stays cheap
    let mut reachable = vec![false; path.len() + 1];
    reachable[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if part == b"**" {
            let mut seen = false;
            for (i, slot) in next.iter_mut().enumerate() {
                seen |= reachable[i];
                *slot = seen;
            }
        } else {
            for i in 0..path.len() {
                next[i + 1] = reachable[i] && matches_text(part, &path[i]);
            }
        }
        reachable = next;
    }
    reachable[path.len()]
}

/// Writes every alternative of the outermost-first brace expansion; false when there are too many.
fn expand_braces(text: &[u8], out: &mut Vec<Vec<u8>>) -> bool {
    let mut queue = vec![text.to_vec()];
    while let Some(item) = queue.pop() {
        match brace(&item) {
            None => out.push(item),
            Some((open, close, commas)) => {
                let mut from = open + 1;
                for end in commas.into_iter().chain([close]) {
                    queue.push([&item[..open], &item[from..end], &item[close + 1..]].concat());
                    from = end + 1;
                }
            }
        }
        if out.len() + queue.len() > MAX_ALTERNATIVES {
            return false;
        }
    }
    out.reverse();
    true
}

/// The first closed brace: where it opens and closes, and its own commas.
fn brace(text: &[u8]) -> Option<(usize, usize, Vec<usize>)> {
    let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut i = 0;
    let mut found: Option<(usize, usize, Vec<usize>)> = None;
    while i < text.len() {
        match text[i] {
            b'\\' => i += 1,
            b'{' => stack.push((i, Vec::new())),
            b',' => {
                if let Some((_, commas)) = stack.last_mut() {
                    commas.push(i);
                }
            }
            b'}' => {
                if let Some((open, commas)) = stack.pop() {
                    if found.as_ref().is_none_or(|(first, ..)| open < *first) {
                        found = Some((open, i, commas));
                    }
                    if stack.is_empty() {
                        return found;
                    }
                }
            }
            _ => {}
        }
        i += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doublestar_rules_hold() {
        let table = [
            ("*.log", "a.log", true),
            ("*.log", ".log", true),
            ("*.log", "d/a.log", false),
            ("**/*.log", "a.log", true),
            ("**/*.log", "x/y/a.log", true),
            ("dir/**", "dir", true),
            ("dir/**", "dir/a/b", true),
            ("dir/**/*", "dir", false),
            ("dir/**/b", "dir/b", true),
            ("a**", "a/b", false),
            ("a**", "abc", true),
            ("./dir//f", "dir/f", true),
            ("[a-c]?", "bz", true),
            ("[^a-c]?", "bz", false),
            ("[!a]", "b", true),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("?", "é", true),
            ("[é-ë]", "ê", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("{a,b/c}.txt", "b/c.txt", true),
            ("{a,{b,c}}d", "cd", true),
            ("{a,{b,c}}d", "ad", true),
            ("{a", "{a", true),
            ("a{}b", "ab", true),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("", "a", false),
            ("**", "a/b", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(Pattern::new(pattern).matches(path.as_bytes()), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn many_stars_and_braces_stay_cheap() {
        let stars = "**/".repeat(200) + "x";
        assert!(!Pattern::new(&stars).matches("a/".repeat(200).as_bytes()));
        assert!(!matches_text("*a".repeat(200).as_bytes(), "a".repeat(150).as_bytes()));
        assert!(Pattern::new(&"{a,b}".repeat(30)).alternatives.len() == 1);
    }
}
