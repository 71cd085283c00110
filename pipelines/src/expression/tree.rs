//! The expression as a value: parsed once, evaluated often.

use super::lexer::{Operand, Operator, Token, tokens};
use super::{Regexp, SyntaxError};
use std::borrow::Cow;

/// A parsed expression. Operators refer to what stands before them: reverse Polish order.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Push(Operand),
    Apply(Operator),
}

/// What a part of an expression is worth.
#[derive(Clone, Debug)]
enum Worth<'a> {
    Null,
    Bool(bool),
    Text(Cow<'a, str>),
    Pattern(&'a Regexp),
}

/// Parses the text of a rule's `if`.
///
/// # Errors
/// The text is empty, has an unknown token or a bad regular expression, or operands are missing or left over.
pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
    parse_tokens(text, false)
}

/// Parses the `if` of an input's rule, where `$[[ inputs.name ]]` is an operand as well.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_with_inputs(text: &str) -> Result<Expression, SyntaxError> {
    parse_tokens(text, true)
}

/// Shunting-yard as GitLab does it, which also accepts some texts that a grammar would refuse (`$A $B ==`).
fn parse_tokens(text: &str, inputs: bool) -> Result<Expression, SyntaxError> {
    let mut steps = Vec::new();
    let mut waiting: Vec<(usize, Option<Operator>)> = Vec::new(); // None: an open parenthesis
    for (at, token) in tokens(text, inputs)? {
        match token {
            Token::Value(operand) => steps.push(Step::Push(operand)),
            Token::Open => waiting.push((at, None)),
            Token::Close => loop {
                match waiting.pop() {
                    Some((_, Some(operator))) => steps.push(Step::Apply(operator)),
                    Some((_, None)) => break,
                    None => return Err(SyntaxError::new("`)` without `(`", Some(at))),
                }
            },
            Token::Operator(operator) => {
                while let Some(&(_, Some(before))) = waiting.last() {
                    if operator == Operator::Not || before.precedence() < operator.precedence() {
                        break;
                    }
                    steps.push(Step::Apply(before));
                    waiting.pop();
                }
                waiting.push((at, Some(operator)));
            }
        }
    }
    while let Some((at, operator)) = waiting.pop() {
        let Some(operator) = operator else { return Err(SyntaxError::new("`(` is never closed", Some(at))) };
        steps.push(Step::Apply(operator));
    }
    check_operands(&steps)?;
    Ok(Expression { steps })
}

/// Proves that every operator finds its operands and that one value remains: evaluation relies on it.
fn check_operands(steps: &[Step]) -> Result<(), SyntaxError> {
    let mut depth = 0usize;
    for step in steps {
        let takes = match step {
            Step::Push(_) => 0,
            Step::Apply(Operator::Not) => 1,
            Step::Apply(_) => 2,
        };
        depth = match depth.checked_sub(takes) {
            Some(left) => left + 1,
            None => return Err(SyntaxError::new("an operator lacks an operand", None)),
        };
    }
    match depth {
        0 => Err(SyntaxError::new("the expression is empty", None)),
        1 => Ok(()),
        _ => Err(SyntaxError::new("two operands have no operator between them", None)),
    }
}

impl Expression {
    /// Does the expression hold as a rule? `lookup` gives the unexpanded value of a defined variable.
    pub fn holds(&self, lookup: &dyn Fn(&str) -> Option<String>) -> bool {
        self.holds_with_inputs(lookup, &|_| None)
    }

    /// As [`Expression::holds`]; `input` gives the value of an input (texts, booleans; numbers count as text).
    pub fn holds_with_inputs(
        &self,
        lookup: &dyn Fn(&str) -> Option<String>,
        input: &dyn Fn(&str) -> Option<serde_json::Value>,
    ) -> bool {
        let mut stack: Vec<Worth<'_>> = Vec::new();
        for step in &self.steps {
            let worth = match step {
                Step::Push(operand) => operand_worth(operand, lookup, input),
                Step::Apply(Operator::Not) => Worth::Bool(!pop(&mut stack).is_present()),
                Step::Apply(operator) => {
                    let right = pop(&mut stack);
                    let left = pop(&mut stack);
                    apply(*operator, left, right)
                }
            };
            stack.push(worth);
        }
        pop(&mut stack).is_present()
    }

    /// Names of the variables, in the order of their first appearance.
    pub fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for step in &self.steps {
            if let Step::Push(Operand::Variable(name)) = step
                && !names.contains(&name.as_str())
            {
                names.push(name.as_str());
            }
        }
        names
    }
}

fn pop<'a>(stack: &mut Vec<Worth<'a>>) -> Worth<'a> {
    stack.pop().expect("the parser has counted the operands")
}

fn operand_worth<'a>(
    operand: &'a Operand,
    lookup: &dyn Fn(&str) -> Option<String>,
    input: &dyn Fn(&str) -> Option<serde_json::Value>,
) -> Worth<'a> {
    match operand {
        Operand::Variable(name) => lookup(name).map_or(Worth::Null, |v| Worth::Text(Cow::Owned(v))),
        Operand::Input(name) => match input(name) {
            None | Some(serde_json::Value::Null) => Worth::Null,
            Some(serde_json::Value::Bool(b)) => Worth::Bool(b),
            Some(serde_json::Value::String(s)) => Worth::Text(Cow::Owned(s)),
            Some(other) => Worth::Text(Cow::Owned(other.to_string())),
        },
        Operand::Text(text) => Worth::Text(Cow::Borrowed(text)),
        Operand::Pattern(regexp) => Worth::Pattern(regexp),
        Operand::Null => Worth::Null,
        Operand::Bool(b) => Worth::Bool(*b),
    }
}

fn apply<'a>(operator: Operator, left: Worth<'a>, right: Worth<'a>) -> Worth<'a> {
    match operator {
        Operator::And => {
            if left.is_truthy() {
                right
            } else {
                left
            }
        }
        Operator::Or => {
            if left.is_truthy() {
                left
            } else {
                right
            }
        }
        Operator::Equal => Worth::Bool(left.equals(&right)),
        Operator::NotEqual => Worth::Bool(!left.equals(&right)),
        Operator::Match => Worth::Bool(left.matches(&right)),
        Operator::NoMatch | Operator::Not => Worth::Bool(!left.matches(&right)),
    }
}

impl Worth<'_> {
    /// Ruby's truth: all but null and false.
    fn is_truthy(&self) -> bool {
        !matches!(self, Worth::Null | Worth::Bool(false))
    }

    /// Rails' presence: also no blank text.
    fn is_present(&self) -> bool {
        match self {
            Worth::Null => false,
            Worth::Bool(b) => *b,
            Worth::Text(text) => !text.trim().is_empty(),
            Worth::Pattern(_) => true,
        }
    }

    fn equals(&self, other: &Worth<'_>) -> bool {
        match (self, other) {
            (Worth::Null, Worth::Null) => true,
            (Worth::Bool(a), Worth::Bool(b)) => a == b,
            (Worth::Text(a), Worth::Text(b)) => a == b,
            (Worth::Bool(b), Worth::Text(t)) | (Worth::Text(t), Worth::Bool(b)) => t == &b.to_string(),
            (Worth::Pattern(a), Worth::Pattern(b)) => a.source() == b.source(),
            _ => false,
        }
    }

    fn matches(&self, pattern: &Worth<'_>) -> bool {
        let text = match self {
            Worth::Null => Cow::Borrowed(""),
            Worth::Bool(b) => Cow::Owned(b.to_string()),
            Worth::Text(text) => Cow::Borrowed(text.as_ref()),
            Worth::Pattern(regexp) => Cow::Borrowed(regexp.source()),
        };
        match pattern {
            Worth::Pattern(regexp) => regexp.is_match(&text),
            // a text that is no /pattern/ is searched for the left side, not the other way round
            Worth::Text(right) => match Regexp::literal(&right.replace("\\/", "/")) {
                Ok(regexp) => regexp.is_match(&text),
                Err(_) => right.contains(text.as_ref()),
            },
            Worth::Null | Worth::Bool(_) => false,
        }
    }
}
