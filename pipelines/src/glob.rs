//! The globs of `changes` and `exists`: Ruby's `File.fnmatch?` with `PATHNAME | DOTMATCH | EXTGLOB`, as GitLab
//! calls it. `*`, `?` and `[a-z]` stay inside a path segment, `**/` is any number of directories (none, too),
//! `{a,b}` is one of several texts. Matching takes time linear in pattern times path.

/// A pattern with more brace alternatives than this is not tried: it matches everything, like GitLab's
/// own answer to too many comparisons.
const MOST_ALTERNATIVES: usize = 10_000;

/// The same for the bytes of all texts on the way there.
const MOST_BYTES: usize = 16 << 20;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    alternatives: Vec<Vec<Segment>>,
    everything: bool,
}

/// What stands between two slashes of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**` before a slash.
    Directories,
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Star,
    Any,
    Char(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// An unclosed `[`.
    Nothing,
}

/// Does the pattern match the whole path? Compile a [`Pattern`] to ask more than once.
pub fn matches(pattern: &str, path: &str) -> bool {
    Pattern::new(pattern).matches(path)
}

impl Pattern {
    /// Compiles a pattern; every text is one (an unbalanced `{` matches nothing, as in Ruby).
    pub fn new(pattern: &str) -> Pattern {
        let mut expanded = Vec::new();
        let fits = expand_braces(pattern.to_owned(), &mut expanded);
        let mut alternatives: Vec<_> = expanded.iter().map(|text| segments(text)).collect();
        alternatives.dedup();
        Pattern { alternatives, everything: !fits }
    }

    /// Does it match the whole path?
    pub fn matches(&self, path: &str) -> bool {
        if self.everything {
            return true;
        }
        let path: Vec<Vec<char>> = path.split('/').map(|segment| segment.chars().collect()).collect();
        self.alternatives.iter().any(|segments| matches_path(segments, &path))
    }
}

/// Pushes all texts that the braces stand for; false when they are too many.
fn expand_braces(text: String, out: &mut Vec<String>) -> bool {
    let mut bytes = text.len();
    let mut waiting = vec![text];
    while let Some(text) = waiting.pop() {
        match first_braces(&text) {
            Braces::None => out.push(text),
            Braces::Open => {}
            Braces::Group(open, close) => {
                for part in parts(&text[open + 1..close]) {
                    bytes += open + part.len() + text.len() - close;
                    if bytes > MOST_BYTES {
                        return false;
                    }
                    waiting.push(format!("{}{part}{}", &text[..open], &text[close + 1..]));
                }
            }
        }
        if out.len() + waiting.len() > MOST_ALTERNATIVES {
            return false;
        }
    }
    true
}

enum Braces {
    None,
    /// Never closed.
    Open,
    /// Byte offsets of the braces.
    Group(usize, usize),
}

fn first_braces(text: &str) -> Braces {
    let (mut open, mut depth) = (None, 0usize);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, open) {
            ('{', _) => {
                open = open.or(Some(at));
                depth += 1;
            }
            ('}', Some(start)) => {
                depth -= 1;
                if depth == 0 {
                    return Braces::Group(start, at);
                }
            }
            ('\\', _) => drop(chars.next()),
            _ => {}
        }
    }
    if open.is_some() { Braces::Open } else { Braces::None }
}

/// The inside of braces at its outer commas.
fn parts(inside: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '\\' => drop(chars.next()),
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&inside[start..]);
    parts
}

/// A pattern without braces at its slashes. A class may swallow slashes; an escaped slash still separates.
fn segments(pattern: &str) -> Vec<Segment> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut segments, mut tokens) = (Vec::new(), Vec::new());
    let (mut at, mut begin) = (0, true);
    while at < chars.len() {
        if begin && chars[at..].starts_with(&['*', '*', '/']) {
            if segments.last() != Some(&Segment::Directories) {
                segments.push(Segment::Directories);
            }
            at += 3;
            continue;
        }
        begin = false;
        let escaped = chars[at] == '\\' && at + 1 < chars.len();
        at += usize::from(escaped);
        match chars[at] {
            '/' => {
                segments.push(Segment::Tokens(std::mem::take(&mut tokens)));
                begin = true;
            }
            c if escaped => tokens.push(Token::Char(c)),
            '*' if tokens.last() == Some(&Token::Star) => {}
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => match class(&chars[at + 1..]) {
                Some((class, length)) => {
                    tokens.push(class);
                    at += length;
                }
                None => tokens.push(Token::Nothing),
            },
            c => tokens.push(Token::Char(c)),
        }
        at += 1;
    }
    segments.push(Segment::Tokens(tokens));
    segments
}

/// A class after its `[`: the token and the number of characters up to and with the `]`.
fn class(chars: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(chars.first(), Some('!' | '^'));
    let mut at = usize::from(negated);
    let mut ranges = Vec::new();
    let unescaped = |at: usize| if chars.get(at) == Some(&'\\') { at + 1 } else { at };
    loop {
        if *chars.get(at)? == ']' {
            return Some((Token::Class { negated, ranges }, at + 1));
        }
        at = unescaped(at);
        let low = *chars.get(at)?;
        at += 1;
        let mut high = low;
        if chars.get(at) == Some(&'-') && chars.get(at + 1).is_some_and(|c| *c != ']') {
            at = unescaped(at + 1);
            high = *chars.get(at)?;
            at += 1;
        }
        // both ends count even when the range is empty
        ranges.extend([(low, high), (low, low), (high, high)]);
    }
}

/// Segments against segments; after a mismatch the last `**/` takes one more directory.
fn matches_path(pattern: &[Segment], path: &[Vec<char>]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&Segment::Directories) {
            p += 1;
            retry = Some((p, s));
            continue;
        }
        let both_end = p == pattern.len() && s == path.len();
        let step = match (pattern.get(p), path.get(s)) {
            (Some(Segment::Tokens(tokens)), Some(text)) => matches_segment(tokens, text),
            _ => false,
        };
        if both_end {
            return true;
        }
        if step {
            (p, s) = (p + 1, s + 1);
            continue;
        }
        match retry {
            Some((after, start)) if start + 1 < path.len() => {
                retry = Some((after, start + 1));
                (p, s) = (after, start + 1);
            }
            _ => return false,
        }
    }
}

fn matches_segment(tokens: &[Token], text: &[char]) -> bool {
    let (mut t, mut c) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match tokens.get(t) {
            Some(Token::Star) => {
                t += 1;
                retry = Some((t, c));
                continue;
            }
            None if c == text.len() => return true,
            Some(token) if text.get(c).is_some_and(|c| token.takes(*c)) => {
                (t, c) = (t + 1, c + 1);
                continue;
            }
            _ => {}
        }
        match retry {
            Some((after, start)) if start < text.len() => {
                retry = Some((after, start + 1));
                (t, c) = (after, start + 1);
            }
            _ => return false,
        }
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Token::Any => true,
            Token::Char(own) => *own == c,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(l, h)| (*l..=*h).contains(&c)) != *negated
            }
            Token::Star | Token::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_ruby() {
        let table = [
            ("*", ".a", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "README.md", true),
            ("docs/**", "docs/a/b", false),
            ("docs/**/*", "docs/a/b", true),
            ("a/**/b", "a/b", true),
            ("a/**/**/b", "a/x/y/b", true),
            ("**/", "a/", true),
            ("**/", "a", false),
            ("{a,{b,c}d}", "cd", true),
            ("src/{a,b/**}/*.rs", "src/b/c/x.rs", true),
            ("{a", "{a", false),
            ("a}", "a}", true),
            ("{}", "", true),
            ("{\\,,a}", ",", true),
            ("[a-c]x", "bx", true),
            ("[!a]", "b", true),
            ("[^a]", "a", false),
            ("[]a]", "a", false),
            ("[a-", "a", false),
            ("[[:alpha:]]", ":]", true),
            ("a[/]b", "a/b", false),
            ("\\*", "*", true),
            ("a\\", "a\\", true),
            ("ä?", "äö", true),
            ("", "", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn hostile_patterns_end_soon() {
        let path = format!("{}c", "a/".repeat(2000));
        assert!(!matches(&format!("{}b", "**/*a*".repeat(200)), &path));
        assert!(!matches(&format!("{}b", "*a".repeat(500)), &"a".repeat(5000)));
        assert!(matches(&"{a,b}".repeat(40), "anything"), "too many alternatives count as a match");
        assert!(matches(&("x".repeat(10_000) + &"{a,b}".repeat(13)), "anything"), "and so do too long ones");
        assert!(!matches(&"{".repeat(10_000), "x"));
    }

    /// The definition, tried out in every way.
    fn naive(pattern: &[char], path: &[char], begin: bool) -> bool {
        if begin && pattern.starts_with(&['*', '*', '/']) {
            let later = |at: usize| path[at] == '/' && naive(pattern, &path[at + 1..], true);
            return naive(&pattern[3..], path, true) || (0..path.len()).any(later);
        }
        let inside = path.first().is_some_and(|c| *c != '/');
        match pattern.first() {
            None => path.is_empty(),
            Some('*') => naive(&pattern[1..], path, false) || inside && naive(pattern, &path[1..], false),
            Some('?') => inside && naive(&pattern[1..], &path[1..], false),
            Some(c) => path.first() == Some(c) && naive(&pattern[1..], &path[1..], *c == '/'),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "([ab?/]|[*]|[*][*]/){0,8}", path in "[ab/]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &path), naive(&chars(&pattern), &chars(&path), true));
        }

        #[test]
        fn no_text_panics(pattern in "[ab*?/{},!\\[\\]\\\\ü^-]{0,16}", path in "[ab/ü]{0,8}") {
            matches(&pattern, &path);
        }
    }
}
