//! All variables that one job can see, in layers, and their values with references replaced.

use super::expand::{Unknown, expand_value};
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

    /// Can the value refer to other variables?
    pub(super) fn may_refer(&self) -> bool {
        !self.raw && self.value.contains(['$', '%'])
    }
}

/// Variables of one origin.
pub type Layer = IndexMap<String, Variable>;

/// Where a variable is defined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition<'a> {
    pub(super) layer: usize,
    pub(super) name: &'a str,
    pub(super) variable: &'a Variable,
}

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
        self.find(name, self.layers.len()).map(|d| d.variable)
    }

    /// The unexpanded value: what expressions compare.
    pub fn value(&self, name: &str) -> Option<String> {
        self.get(name).map(|v| v.value.clone())
    }

    /// The value with all references replaced, recursively; those to nothing vanish. A variable that refers to
    /// itself means the definition in a layer below.
    pub fn expanded(&self, name: &str) -> Option<String> {
        self.expanded_below(name, self.layers.len()).map(|value| value.to_string())
    }

    /// The value as a runner gets it: references to what is unknown here, to raw values with a `$` and to files are
    /// left to the runner, which knows more and does not look into what it inserts.
    pub fn for_runner(&self, name: &str) -> Option<String> {
        self.find(name, self.layers.len()).map(|definition| self.runner_value(definition, &mut Vec::new()))
    }

    /// All names with their winning variables, the lowest layer first.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Variable)> {
        let wins = |d: &Definition<'a>| self.layers[d.layer + 1..].iter().all(|l| !l.contains_key(d.name));
        self.definitions().filter(wins).map(|d| (d.name, d.variable))
    }

    /// Every definition, the shadowed ones too, the lowest layer first.
    pub(super) fn definitions(&self) -> impl Iterator<Item = Definition<'a>> {
        self.layers.iter().enumerate().flat_map(|(layer, variables)| {
            variables.iter().map(move |(name, variable)| Definition { layer, name, variable })
        })
    }

    /// The definitions of one name, the lowest layer first.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = Definition<'a>> {
        self.layers.iter().enumerate().filter_map(move |(layer, variables)| {
            let (name, variable) = variables.get_key_value(name)?;
            Some(Definition { layer, name, variable })
        })
    }

    /// The winner among the layers below `top`.
    fn find(&self, name: &str, top: usize) -> Option<Definition<'a>> {
        self.layers[..top].iter().enumerate().rev().find_map(|(layer, variables)| {
            let (name, variable) = variables.get_key_value(name)?;
            Some(Definition { layer, name, variable })
        })
    }

    /// Where to look for what a definition refers to.
    fn top_for(&self, from: Definition<'a>, other: &str) -> usize {
        if other == from.name { from.layer } else { self.layers.len() }
    }

    fn expanded_below(&self, name: &str, top: usize) -> Option<Rc<str>> {
        let found = self.find(name, top)?;
        if !found.variable.may_refer() {
            return Some(Rc::from(found.variable.value.as_str()));
        }
        let key = (found.name, found.layer);
        if let Some(done) = self.expanded.borrow().get(&key) {
            return Some(done.clone());
        }
        // in a circle, the value as written stands in: the pipeline is refused for it anyway
        self.expanded.borrow_mut().insert(key, Rc::from(found.variable.value.as_str()));
        let value = expand_value(&found.variable.value, Unknown::Remove, &|other| {
            self.expanded_below(other, self.top_for(found, other)).map(|value| value.to_string())
        });
        let value: Rc<str> = Rc::from(value);
        self.expanded.borrow_mut().insert(key, value.clone());
        Some(value)
    }

    fn runner_value(&self, from: Definition<'a>, path: &mut Vec<(&'a str, usize)>) -> String {
        let key = (from.name, from.layer);
        if !from.variable.may_refer() || path.contains(&key) {
            return from.variable.value.clone();
        }
        path.push(key);
        let inner = RefCell::new(path);
        let value = expand_value(&from.variable.value, Unknown::Keep, &|other| {
            let found = self.find(other, self.top_for(from, other))?;
            let opaque = found.variable.file || found.variable.raw && found.variable.value.contains('$');
            // the runner could not tell a lower definition of the same name
            if opaque && other != from.name {
                return None;
            }
            Some(self.runner_value(found, &mut inner.borrow_mut()))
        });
        inner.into_inner().pop();
        value
    }
}
