//! All variables that one job can see, in layers, and their values with references replaced.

use super::expand::{Unknown, expand, references};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A variable with its unexpanded value.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Variable {
    /// The value.
    pub value: String,
    /// Never expand the value.
    pub raw: bool,
    /// Hide the value in logs.
    pub masked: bool,
    /// The job gets a file with the value.
    pub file: bool,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", if self.masked { "[MASKED]" } else { &self.value })
    }
}

impl Variable {
    /// A variable whose references are expanded.
    pub fn new(value: impl Into<String>) -> Variable {
        Variable { value: value.into(), ..Variable::default() }
    }

    /// A variable that is taken as it is.
    pub fn raw(value: impl Into<String>) -> Variable {
        Variable { raw: true, ..Variable::new(value) }
    }

    fn may_refer(&self) -> bool {
        !self.raw && self.value.contains(['$', '%'])
    }
}

/// Variables of one origin.
pub type Layer = IndexMap<String, Variable>;

/// Layers of variables, the highest precedence last. Layers are borrowed, so that jobs share them.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    layers: Vec<&'a Layer>,
    expanded: RefCell<HashMap<(&'a str, usize), Rc<str>>>,
}

impl<'a> Scope<'a> {
    /// A scope of these layers, the lowest first.
    pub fn new(layers: Vec<&'a Layer>) -> Scope<'a> {
        Scope { layers, expanded: RefCell::default() }
    }

    /// The variable that wins.
    pub fn get(&self, name: &str) -> Option<&'a Variable> {
        self.find(name, self.layers.len()).map(|(_, _, variable)| variable)
    }

    /// The unexpanded value: what expressions compare.
    pub fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|v| v.value.clone())
    }

    /// The value with all references replaced, recursively; those to nothing vanish.
    pub fn expanded(&self, name: &str) -> Option<String> {
        self.expanded_below(name, self.layers.len()).map(|value| value.to_string())
    }

    /// Replaces the references in a text by expanded values.
    pub fn expand(&self, text: &str, unknown: Unknown) -> String {
        expand(text, unknown, &|name| self.expanded(name))
    }

    /// The value as a runner gets it: references to unknown, raw and file variables are left to the runner, which
    /// knows more and does not look into what it inserts.
    pub fn for_runner(&self, name: &str) -> Option<String> {
        let (layer, _, variable) = self.find(name, self.layers.len())?;
        Some(self.runner_value(name, layer, variable, 0))
    }

    /// All names with their winning variables, in order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Variable)> {
        let top = self.layers.len();
        self.layers.iter().enumerate().flat_map(move |(index, layer)| {
            layer
                .iter()
                .filter(move |(name, _)| self.find(name, top).is_some_and(|(own, _, _)| own == index))
                .map(|(name, variable)| (name.as_str(), variable))
        })
    }

    /// Names of variables that refer to each other in a circle, circle by circle. A variable that refers to itself
    /// means the definition below its own and is none.
    pub fn circles(&self) -> Vec<Vec<&'a str>> {
        let mut search = Circles { scope: self, order: HashMap::new(), stack: Vec::new(), found: Vec::new() };
        for (name, variable) in self.iter() {
            if variable.may_refer() && !search.order.contains_key(name) {
                search.visit(name, variable);
            }
        }
        search.found
    }

    /// The winner among the layers below `top`.
    fn find(&self, name: &str, top: usize) -> Option<(usize, &'a str, &'a Variable)> {
        let layers = self.layers[..top].iter().enumerate().rev();
        layers
            .filter_map(|(index, layer)| layer.get_key_value(name).map(|(key, v)| (index, key.as_str(), v)))
            .next()
    }

    fn expanded_below(&self, name: &str, top: usize) -> Option<Rc<str>> {
        let (layer, key, variable) = self.find(name, top)?;
        if !variable.may_refer() {
            return Some(Rc::from(variable.value.as_str()));
        }
        if let Some(done) = self.expanded.borrow().get(&(key, layer)) {
            return Some(done.clone());
        }
        // in a circle, the unfinished value stands in: the pipeline is refused for it anyway
        self.expanded.borrow_mut().insert((key, layer), Rc::from(variable.value.as_str()));
        let value = expand(&variable.value, Unknown::Remove, &|other| {
            let top = if other == key { layer } else { self.layers.len() };
            self.expanded_below(other, top).map(|value| value.to_string())
        });
        let value: Rc<str> = Rc::from(value);
        self.expanded.borrow_mut().insert((key, layer), value.clone());
        Some(value)
    }

    fn runner_value(&self, name: &str, layer: usize, variable: &'a Variable, depth: usize) -> String {
        if !variable.may_refer() || depth > self.layers.len() + 100 {
            return variable.value.clone();
        }
        expand(&variable.value, Unknown::Keep, &|other| {
            let top = if other == name { layer } else { self.layers.len() };
            let (layer, key, found) = self.find(other, top)?;
            if found.raw || found.file {
                return (other == name).then(|| found.value.clone());
            }
            Some(self.runner_value(key, layer, found, depth + 1))
        })
    }
}

/// Tarjan's search for strongly connected components, in the order in which Ruby's `TSort` names them.
struct Circles<'s, 'a> {
    scope: &'s Scope<'a>,
    /// Name to its number, and to none once its component is complete.
    order: HashMap<&'a str, Option<usize>>,
    stack: Vec<&'a str>,
    found: Vec<Vec<&'a str>>,
}

impl<'a> Circles<'_, 'a> {
    /// Returns the lowest number that can be reached. As deep as a chain of references is long.
    fn visit(&mut self, name: &'a str, variable: &'a Variable) -> usize {
        let number = self.order.len();
        let mut lowest = number;
        self.order.insert(name, Some(number));
        let place = self.stack.len();
        self.stack.push(name);
        for other in references(&variable.value) {
            let Some((_, key, next)) = self.scope.find(other, self.scope.layers.len()) else { continue };
            match self.order.get(key) {
                Some(Some(seen)) => lowest = lowest.min(*seen),
                Some(None) => {}
                None if next.may_refer() => lowest = lowest.min(self.visit(key, next)),
                None => {}
            }
        }
        if lowest == number {
            let component = self.stack.split_off(place);
            for name in &component {
                self.order.insert(name, None);
            }
            if component.len() > 1 {
                self.found.push(component);
            }
        }
        lowest
    }
}
