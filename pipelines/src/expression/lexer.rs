//! Text to tokens.

use super::{Regexp, SyntaxError};
use regex::Regex;
use std::sync::LazyLock;

/// GitLab gives up at this many.
const TOO_MANY: usize = 100;

#[derive(Clone, Debug)]
pub(super) enum Token {
    Open,
    Close,
    Value(Operand),
    Operator(Operator),
}

/// A leaf of an expression.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Variable(String),
    Input(String),
    Text(String),
    Pattern(Regexp),
    Null,
    Bool(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Not,
    Equal,
    NotEqual,
    Match,
    NoMatch,
    And,
    Or,
}

impl Operator {
    /// Higher binds tighter.
    pub(super) fn precedence(self) -> u8 {
        match self {
            Operator::Not => 3,
            Operator::Equal | Operator::NotEqual | Operator::Match | Operator::NoMatch => 2,
            Operator::And => 1,
            Operator::Or => 0,
        }
    }
}

static INPUT: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\$\[\[\s*inputs\.([0-9A-Za-z_-]+)\s*\]\]"));
/// In the order in which they are tried.
static WORDS: [(&str, Token); 12] = [
    ("(", Token::Open),
    (")", Token::Close),
    ("null", Token::Value(Operand::Null)),
    ("true", Token::Value(Operand::Bool(true))),
    ("false", Token::Value(Operand::Bool(false))),
    ("==", Token::Operator(Operator::Equal)),
    ("=~", Token::Operator(Operator::Match)),
    ("!=", Token::Operator(Operator::NotEqual)),
    ("!~", Token::Operator(Operator::NoMatch)),
    ("&&", Token::Operator(Operator::And)),
    ("||", Token::Operator(Operator::Or)),
    ("!", Token::Operator(Operator::Not)),
];

fn fixed(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the lexer's patterns are constants")
}

/// The tokens with their byte offsets.
pub(super) fn tokens(text: &str, inputs: bool) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        // Ruby's `\s`
        let rest = text[at..].trim_start_matches([' ', '\t', '\r', '\n', '\x0b', '\x0c']);
        at = text.len() - rest.len();
        if rest.is_empty() {
            return Ok(tokens);
        }
        let (length, token) = token(rest, at, inputs)?;
        tokens.push((at, token));
        at += length;
        if tokens.len() == TOO_MANY {
            return Err(SyntaxError::new("too many tokens: fewer than 100 are allowed", Some(at)));
        }
    }
}

fn token(rest: &str, at: usize, inputs: bool) -> Result<(usize, Token), SyntaxError> {
    let found = |regex: &Regex| {
        let captures = regex.captures(rest)?;
        let group = captures.iter().skip(1).flatten().next()?.as_str().to_owned();
        Some((captures[0].len(), group))
    };
    if inputs
        && rest.starts_with("$[[")
        && let Some((length, name)) = found(&INPUT)
    {
        return Ok((length, Token::Value(Operand::Input(name))));
    }
    if let Some(name) = variable(rest) {
        return Ok((1 + name.len(), Token::Value(Operand::Variable(name.to_owned()))));
    }
    if let Some(text) = string(rest) {
        return Ok((2 + text.len(), Token::Value(Operand::Text(text.to_owned()))));
    }
    if let Some(literal) = pattern(rest) {
        let regexp = Regexp::literal(&literal.replace("\\/", "/")).map_err(|e| {
            SyntaxError::new(format!("invalid regular expression `{literal}`: {e}"), Some(at))
        })?;
        return Ok((literal.len(), Token::Value(Operand::Pattern(regexp))));
    }
    let Some((word, token)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) else {
        let word: String = rest.split_whitespace().next().unwrap_or_default().chars().take(40).collect();
        return Err(SyntaxError::new(format!("`{word}` is not part of the expression language"), Some(at)));
    };
    Ok((word.len(), token.clone()))
}

/// The name after a `$`.
fn variable(rest: &str) -> Option<&str> {
    let rest = rest.strip_prefix('$')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| !name.is_empty())
}

/// What stands between quotes, on one line.
fn string(rest: &str) -> Option<&str> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let end = rest[1..].find([quote, '\n'])?;
    rest[1 + end..].starts_with(quote).then(|| &rest[1..=end])
}

/// What Ruby finds with `/(?:[^/]|\\/)+[^\\]/[ismU]*`: slashes inside have a backslash. The last character before the
/// closing slash may be a slash itself, but no backslash.
fn pattern(rest: &str) -> Option<&str> {
    let bytes = rest.strip_prefix('/')?.as_bytes();
    let mut at = 0;
    // how many characters (`\/` is one), and whether the last one may stand before the closing slash
    let (mut count, mut plain) = (0, false);
    let end = loop {
        match &bytes[at..] {
            [b'\\', b'/', b'/', ..] => break at + 3,
            [b'\\', b'/', ..] => (at, count, plain) = (at + 2, count + 1, false),
            [b'/', b'/', ..] if count > 0 => break at + 2,
            [b'/', ..] if count > 1 && plain => break at + 1,
            [b'/', ..] | [] => return None,
            [byte, ..] => {
                let starts = (*byte as i8) >= -0x40;
                (at, count, plain) = (at + 1, count + usize::from(starts), *byte != b'\\');
            }
        }
    };
    let flags = bytes[end..].iter().take_while(|b| b"ismU".contains(b)).count();
    rest.get(..1 + end + flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn patterns_end_where_the_regular_expression_says(text in "/[/\\\\aé\nim]{0,9}") {
            let ruby = fixed(r"^/(?:[^/]|\\/)+[^\\]/[ismU]*");
            prop_assert_eq!(pattern(&text), ruby.find(&text).map(|found| found.as_str()));
        }

        #[test]
        fn texts_and_variables_end_where_the_regular_expressions_say(text in "[$\"'a_é0 \n]{0,9}") {
            let quoted = fixed(r#"^(?:"([^"\n]*)"|'([^'\n]*)')"#);
            prop_assert_eq!(string(&text).map(|text| text.len() + 2), quoted.find(&text).map(|found| found.len()));
            let name = fixed(r"^\$([0-9A-Za-z_]+)");
            prop_assert_eq!(variable(&text).map(|name| name.len() + 1), name.find(&text).map(|found| found.len()));
        }
    }
}
