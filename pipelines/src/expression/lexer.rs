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
// the last character before the closing slash may be a slash itself, but no backslash
static PATTERN: LazyLock<Regex> = LazyLock::new(|| fixed(r"^(/(?:[^/]|\\/)+[^\\]/[ismU]*)"));
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
    if rest.starts_with('/')
        && let Some((length, literal)) = found(&PATTERN)
    {
        let regexp = Regexp::literal(&literal.replace("\\/", "/")).map_err(|e| {
            SyntaxError::new(format!("invalid regular expression `{literal}`: {e}"), Some(at))
        })?;
        return Ok((length, Token::Value(Operand::Pattern(regexp))));
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
