//! Variables that refer to each other in a circle.

use super::expand::references;
use super::scope::{Definition, Scope};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Steps from name to name that are looked at one by one.
const MOST_STEPS: usize = 64;

/// The circles among a scope's variables, each as the names in it. A variable that refers to itself alone is no
/// circle. Order and names are those of Ruby's `TSort`, which GitLab's message shows.
pub fn circles<'a>(scope: &Scope<'a>) -> Vec<Vec<&'a str>> {
    if !may_have_circles(scope) {
        return Vec::new();
    }
    let mut search = Search { scope, numbers: HashMap::default(), component: Vec::new(), found: Vec::new() };
    for definition in scope.definitions() {
        if definition.variable.may_refer() && !search.numbers.contains_key(&key(definition)) {
            search.run(definition);
        }
    }
    search.found
}

/// Does a chain of names come back to where it began? Few scopes have such, and the search takes much longer.
fn may_have_circles<'a>(scope: &Scope<'a>) -> bool {
    let referring: Vec<_> = scope.definitions().filter(|d| d.variable.may_refer()).collect();
    let mut times: HashMap<&str, usize, RandomState> = HashMap::default();
    for definition in &referring {
        *times.entry(definition.name).or_default() += 1;
    }
    let another = |from: &str, to: &str| match times.get(to) {
        Some(times) => from != to || *times > 1,
        None => false,
    };
    let steps = |d: &Definition<'a>| {
        let name = d.name;
        references(&d.variable.value).filter(move |to| another(name, to)).map(move |to| (name, to))
    };
    let mut steps: Vec<(&str, &str)> = referring.iter().flat_map(steps).collect();
    // what leads nowhere is on no circle; long lists are left to the search, which looks at each but once
    while !steps.is_empty() && steps.len() <= MOST_STEPS {
        let before = steps.len();
        let from: Vec<&str> = steps.iter().map(|(from, _)| *from).collect();
        steps.retain(|(_, to)| from.contains(to));
        if steps.len() == before {
            return true;
        }
    }
    !steps.is_empty()
}

fn key(definition: Definition<'_>) -> (&str, usize) {
    (definition.name, definition.layer)
}

/// Tarjan's strongly connected components, without recursion: chains of references may be long.
struct Search<'s, 'a> {
    scope: &'s Scope<'a>,
    /// In order of the visits; none once the component is complete.
    numbers: HashMap<(&'a str, usize), Option<usize>, RandomState>,
    component: Vec<(&'a str, usize)>,
    found: Vec<Vec<&'a str>>,
}

/// A definition that is being visited.
struct Visit<'a> {
    number: usize,
    /// The lowest number that can be reached.
    lowest: usize,
    /// Where its component begins.
    place: usize,
    /// Definitions referred to, the next one last.
    next: Vec<Definition<'a>>,
}

impl<'a> Search<'_, 'a> {
    fn run(&mut self, start: Definition<'a>) {
        let mut visits = vec![self.begin(start)];
        while let Some(visit) = visits.last_mut() {
            if let Some(next) = visit.next.pop() {
                match self.numbers.get(&key(next)) {
                    Some(seen) => visit.lowest = visit.lowest.min(seen.unwrap_or(visit.lowest)),
                    None if next.variable.may_refer() => {
                        let begun = self.begin(next);
                        visits.push(begun);
                    }
                    None => {}
                }
                continue;
            }
            let lowest = visit.lowest;
            if lowest == visit.number {
                self.complete(visit.place);
            }
            visits.pop();
            if let Some(above) = visits.last_mut() {
                above.lowest = above.lowest.min(lowest);
            }
        }
    }

    fn begin(&mut self, definition: Definition<'a>) -> Visit<'a> {
        let number = self.numbers.len();
        self.numbers.insert(key(definition), Some(number));
        let place = self.component.len();
        self.component.push(key(definition));
        let mut next: Vec<_> =
            references(&definition.variable.value).flat_map(|name| self.scope.all(name)).collect();
        next.reverse();
        Visit { number, lowest: number, place, next }
    }

    fn complete(&mut self, place: usize) {
        let component = self.component.split_off(place);
        self.numbers.extend(component.iter().map(|key| (*key, None)));
        if component.len() > 1 {
            self.found.push(component.into_iter().map(|(name, _)| name).collect());
        }
    }
}
