//! The conditions of `rules:if` and `only:variables`: `$A == "x" && $B =~ /^v\d/`.
//!
//! The grammar is GitLab's, its oddities included: values are text, null, booleans or patterns; `&&` and `||`
//! return an operand with Ruby's truthiness (an empty text is true there), and only the final result is tested
//! for being present.

mod lexer;
mod pattern;
mod possible;
mod tree;

pub use pattern::Regexp;
pub use tree::{Expression, parse, parse_with_inputs};

/// Why a text is not an expression, or not a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Byte offset in the text, where one is at fault.
    pub at: Option<usize>,
}

impl SyntaxError {
    fn new(message: impl Into<String>, at: Option<usize>) -> SyntaxError {
        SyntaxError { message: message.into(), at }
    }
}

#[cfg(test)]
mod tests;
