//! Variables that refer to each other in a circle.

use super::expand::references;
use super::scope::{Definition, Scope};
use std::collections::HashMap;

/// The circles among a scope's variables, each as the names in it. A variable that refers to itself alone is no
/// circle. Order and names are those of Ruby's `TSort`, which GitLab's message shows.
pub fn circles<'a>(scope: &Scope<'a>) -> Vec<Vec<&'a str>> {
    let mut search = Search { scope, numbers: HashMap::new(), stack: Vec::new(), found: Vec::new() };
    for definition in scope.definitions() {
        if definition.variable.may_refer() && !search.numbers.contains_key(&key(definition)) {
            search.visit(definition);
        }
    }
    search.found
}

fn key(definition: Definition<'_>) -> (&str, usize) {
    (definition.name, definition.layer)
}

/// Tarjan's strongly connected components.
struct Search<'s, 'a> {
    scope: &'s Scope<'a>,
    /// In order of the visits; none once the component is complete.
    numbers: HashMap<(&'a str, usize), Option<usize>>,
    stack: Vec<(&'a str, usize)>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Search<'_, 'a> {
    /// Returns the lowest number that can be reached. As deep as a chain of references is long.
    fn visit(&mut self, definition: Definition<'a>) -> usize {
        let number = self.numbers.len();
        let mut lowest = number;
        self.numbers.insert(key(definition), Some(number));
        let place = self.stack.len();
        self.stack.push(key(definition));
        for other in references(&definition.variable.value) {
            for next in self.scope.all(other).collect::<Vec<_>>() {
                lowest = match self.numbers.get(&key(next)) {
                    Some(seen) => lowest.min(seen.unwrap_or(lowest)),
                    None if next.variable.may_refer() => lowest.min(self.visit(next)),
                    None => lowest,
                };
            }
        }
        if lowest == number {
            let component = self.stack.split_off(place);
            self.numbers.extend(component.iter().map(|key| (*key, None)));
            if component.len() > 1 {
                self.found.push(component.into_iter().map(|(name, _)| name).collect());
            }
        }
        lowest
    }
}
