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

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\$([0-9A-Za-z_]+)"));
static INPUT: LazyLock<Regex> = LazyLock::new(|| fixed(r"^\$\[\[\s*inputs\.([0-9A-Za-z_-]+)\s*\]\]"));
static STRING: LazyLock<Regex> = LazyLock::new(|| fixed(r#"^(?:"([^"\n]*)"|'([^'\n]*)')"#));
// the last character before the closing slash may be a slash itself, but no backslash
static PATTERN: LazyLock<Regex> = LazyLock::new(|| fixed(r"^(/(?:[^/]|\\/)+[^\\]/[ismU]*)"));
static WORD: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^(?:(\()|(\))|(null)|(true)|(false)|(==)|(=~)|(!=)|(!~)|(&&)|(\|\|)|(!))"));

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
    if inputs && let Some((length, name)) = found(&INPUT) {
        return Ok((length, Token::Value(Operand::Input(name))));
    }
    if let Some((length, name)) = found(&VARIABLE) {
        return Ok((length, Token::Value(Operand::Variable(name))));
    }
    if let Some((length, value)) = found(&STRING) {
        return Ok((length, Token::Value(Operand::Text(value))));
    }
    if let Some((length, literal)) = found(&PATTERN) {
        let regexp = Regexp::literal(&literal.replace("\\/", "/")).map_err(|e| {
            SyntaxError::new(format!("invalid regular expression `{literal}`: {e}"), Some(at))
        })?;
        return Ok((length, Token::Value(Operand::Pattern(regexp))));
    }
    let Some((length, word)) = found(&WORD) else {
        let word: String = rest.split_whitespace().next().unwrap_or_default().chars().take(40).collect();
        return Err(SyntaxError::new(format!("`{word}` is not part of the expression language"), Some(at)));
    };
    let token = match word.as_str() {
        "(" => Token::Open,
        ")" => Token::Close,
        "null" => Token::Value(Operand::Null),
        "true" => Token::Value(Operand::Bool(true)),
        "false" => Token::Value(Operand::Bool(false)),
        "==" => Token::Operator(Operator::Equal),
        "!=" => Token::Operator(Operator::NotEqual),
        "=~" => Token::Operator(Operator::Match),
        "!~" => Token::Operator(Operator::NoMatch),
        "&&" => Token::Operator(Operator::And),
        "||" => Token::Operator(Operator::Or),
        _ => Token::Operator(Operator::Not),
    };
    Ok((length, token))
}
