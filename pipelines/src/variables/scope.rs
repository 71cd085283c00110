//! All variables that one job can see, in layers, and their values with references replaced.

use super::expand::{Unknown, expand, expand_value, references};
use foldhash::fast::RandomState;
use indexmap::IndexMap;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
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
        write!(f, "{:?}", self.shown())
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

    /// The value as people may see it.
    pub fn shown(&self) -> &str {
        if self.masked || self.file { "[MASKED]" } else { &self.value }
    }

    /// Can the value refer to other variables?
    pub(super) fn may_refer(&self) -> bool {
        !self.raw && self.value.contains(['$', '%'])
    }
}

/// Variables of one origin.
pub type Layer = IndexMap<String, Variable, RandomState>;

/// Where a variable is defined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Definition<'a> {
    pub(super) layer: usize,
    pub(super) name: &'a str,
    pub(super) variable: &'a Variable,
}

/// What is inserted into one value, in bytes, before further references vanish: doubling variables end here.
const LONGEST: usize = 1 << 20;

/// For whom references are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reader {
    /// GitLab's server: all at once.
    Server,
    /// A runner, which replaces the rest.
    Runner,
}

/// A definition's name and layer identify it.
type Key<'a> = (&'a str, usize, Reader);

/// Indices of a layer's names that layers above it have as well.
fn shadowed(layer: &Layer, above: &[&Layer]) -> HashSet<usize> {
    let mut shadowed = HashSet::new();
    for other in above {
        if other.len() < layer.len() {
            shadowed.extend(other.keys().filter_map(|name| layer.get_index_of(name)));
        } else {
            let there = layer.keys().enumerate().filter(|(_, name)| other.contains_key(*name));
            shadowed.extend(there.map(|(index, _)| index));
        }
    }
    shadowed
}

/// Layers of variables, the highest precedence last. Layers are borrowed, so that jobs share them.
#[derive(Debug, Default)]
pub struct Scope<'a> {
    layers: Vec<&'a Layer>,
    expanded: RefCell<HashMap<Key<'a>, Rc<str>, RandomState>>,
}

impl<'a> Scope<'a> {
    /// A scope of these layers, the lowest first.
    pub fn new(mut layers: Vec<&'a Layer>) -> Scope<'a> {
        layers.retain(|layer| !layer.is_empty());
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
    /// itself means the definition in a layer below. In a circle, the values as written stand in.
    pub fn expanded(&self, name: &str) -> Option<String> {
        self.find(name, self.layers.len()).map(|definition| self.resolve(definition, Reader::Server))
    }

    /// Replaces the references in a text by expanded values.
    pub fn expand(&self, text: &str, unknown: Unknown) -> String {
        expand(text, unknown, &|name| self.expanded(name))
    }

    /// The value as a runner gets it: references to what is unknown here, to raw values with a `$` and to files are
    /// left to the runner, which knows more and does not look into what it inserts.
    pub fn for_runner(&self, name: &str) -> Option<String> {
        self.find(name, self.layers.len()).map(|definition| self.resolve(definition, Reader::Runner))
    }

    /// All names with their winning variables, the lowest layer first.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Variable)> {
        let layers = self.layers.iter().enumerate();
        layers.flat_map(|(at, layer)| {
            let shadowed = shadowed(layer, &self.layers[at + 1..]);
            let names = layer.iter().enumerate().filter(move |(index, _)| !shadowed.contains(index));
            names.map(|(_, (name, variable))| (name.as_str(), variable))
        })
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

    /// What a name means inside a definition.
    fn referred(&self, from: Definition<'a>, other: &str) -> Option<Definition<'a>> {
        self.find(other, if other == from.name { from.layer } else { self.layers.len() })
    }

    /// Works off a list instead of recursing: chains of references may be long.
    fn resolve(&self, wanted: Definition<'a>, reader: Reader) -> String {
        if !wanted.variable.may_refer() {
            return wanted.variable.value.clone();
        }
        let key = |d: Definition<'a>| (d.name, d.layer, reader);
        if let Some(known) = self.expanded.borrow().get(&key(wanted)) {
            return known.to_string();
        }
        let needed = self.unresolved(wanted, reader);
        if needed.is_empty() {
            let value = self.insert_values(wanted, reader);
            self.expanded.borrow_mut().insert(key(wanted), Rc::from(value.as_str()));
            return value;
        }
        let mut begun: HashSet<_, RandomState> = HashSet::default();
        begun.insert(key(wanted));
        let mut waiting = vec![(wanted, needed)];
        while let Some((definition, needed)) = waiting.last_mut() {
            match needed.pop() {
                Some(next) if begun.insert(key(next)) => waiting.push((next, self.unresolved(next, reader))),
                Some(_) => {}
                None => {
                    let value = self.insert_values(*definition, reader);
                    self.expanded.borrow_mut().insert(key(*definition), Rc::from(value));
                    waiting.pop();
                }
            }
        }
        self.known(wanted, reader).to_string()
    }

    /// The definitions that have to be expanded before this one.
    fn unresolved(&self, definition: Definition<'a>, reader: Reader) -> Vec<Definition<'a>> {
        let known = self.expanded.borrow();
        if known.contains_key(&(definition.name, definition.layer, reader)) {
            return Vec::new();
        }
        let others = references(&definition.variable.value).filter_map(|n| self.referred(definition, n));
        others.filter(|d| d.variable.may_refer() && !known.contains_key(&(d.name, d.layer, reader))).collect()
    }

    fn insert_values(&self, from: Definition<'a>, reader: Reader) -> String {
        let unknown = if reader == Reader::Server { Unknown::Remove } else { Unknown::Keep };
        let inserted = Cell::new(0);
        expand_value(&from.variable.value, unknown, &|other| {
            let found = self.referred(from, other)?;
            let opaque = found.variable.file || found.variable.raw && found.variable.value.contains('$');
            // the runner could not tell a lower definition of the same name
            if reader == Reader::Runner && opaque && other != from.name {
                return None;
            }
            let value = self.known(found, reader);
            inserted.set(inserted.get() + value.len());
            (inserted.get() <= LONGEST).then(|| value.to_string())
        })
    }

    fn known(&self, definition: Definition<'a>, reader: Reader) -> Rc<str> {
        let key = (definition.name, definition.layer, reader);
        let known = self.expanded.borrow().get(&key).cloned();
        known.unwrap_or_else(|| Rc::from(definition.variable.value.as_str()))
    }
}
