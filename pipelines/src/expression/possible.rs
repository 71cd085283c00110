//! Can an expression hold at all?

use super::Expression;
use super::lexer::{Operand, Operator};
use super::tree::Step;

/// Combinations of values that are tried before giving up.
const MOST_TRIALS: usize = 20_000;

impl Expression {
    /// Is there any choice of values for the variables with which the expression holds? Also true where that can't
    /// be told cheaply: with patterns, inputs or many variables.
    pub fn can_hold(&self) -> bool {
        let open = |step: &Step| {
            matches!(
                step,
                Step::Apply(Operator::Match | Operator::NoMatch)
                    | Step::Push(Operand::Pattern(_) | Operand::Input(_))
            )
        };
        if self.steps.iter().any(open) {
            return true;
        }
        let names = self.variables();
        // values are only compared: with the texts at hand, with each other, and with nothing
        let values = self.values(names.len());
        let trials = values.len().checked_pow(names.len() as u32).filter(|n| *n <= MOST_TRIALS);
        let Some(trials) = trials else { return true };
        (0..trials).any(|trial| {
            self.holds(&|name| {
                let position = names.iter().position(|n| *n == name)?;
                values[trial / values.len().pow(position as u32) % values.len()].clone()
            })
        })
    }

    /// Absent, empty, each text of the expression, and for each variable a text that is like no other.
    fn values(&self, variables: usize) -> Vec<Option<String>> {
        let mut values = vec![None, Some(String::new())];
        values.extend(self.steps.iter().filter_map(|step| match step {
            Step::Push(Operand::Text(text)) => Some(Some(text.clone())),
            Step::Push(Operand::Bool(value)) => Some(Some(value.to_string())),
            _ => None,
        }));
        values.extend((0..variables).map(|i| Some(format!("\u{1}{i}"))));
        values.sort();
        values.dedup();
        values
    }
}

#[cfg(test)]
mod tests {
    use crate::expression::parse;

    #[test]
    fn contradictions_are_found_and_nothing_else() {
        let table = [
            ("'a' == 'b'", false),
            ("null", false),
            ("'' == null", false),
            ("$A == 'x' && $A == 'y'", false),
            ("$A == 'x' && $A != 'x'", false),
            ("$A && $A == null", false),
            ("$A == $B && $A == 'x' && $B == 'y'", false),
            ("$A == 'x' || $A == 'y'", true),
            ("$A == 'x' && $B == 'y'", true),
            ("$A != $B && $A != $C && $B != $C && $A && $B && $C", true),
            ("$A == ''", true),
            ("$A == 'true' && $A", true),
            ("$A =~ /xy/ && $A !~ /xy/", true),
            ("'a' == 'a'", true),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap().can_hold(), expected, "{text}");
        }
    }
}
