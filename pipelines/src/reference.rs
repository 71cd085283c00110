//! `!reference [job, keyword, ...]`: replaced by what stands there, after all includes and `extends`.

use crate::diagnostic::Diagnostic;
use crate::yaml::{self, Mapping, Node, Value};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::Arc;

/// Nesting of references; GitLab has no limit of its own but the stack.
const MAX_DEPTH: usize = 200;
/// Values in a fully resolved configuration: references of references multiply like aliases. Long texts count as
/// several.
const MAX_VALUES: u64 = 2_000_000;
/// Bytes of text that count as a value.
const TEXT_BYTES: usize = 64;

/// Resolves all references of a configuration. Targets are looked up in the unresolved configuration and then
/// resolved themselves; a list that refers to a list becomes a list in a list.
///
/// # Errors
/// The first reference, in the order of the configuration, that has no valid path, finds nothing (null and
/// `false` count as nothing) or contains itself.
pub fn resolve(root: &Node) -> Result<Node, Diagnostic> {
    let Some(mapping) = root.as_mapping() else { return Ok(root.clone()) };
    let mut resolver = Resolver::new(mapping, None);
    Ok(resolver.node(root)?.node)
}

/// Resolves what can be resolved; references that are wrong stay, and each is told of once.
pub(crate) fn resolve_all(root: &Node) -> (Node, Vec<Diagnostic>) {
    let Some(mapping) = root.as_mapping() else { return (root.clone(), Vec::new()) };
    let mut resolver = Resolver::new(mapping, Some(Vec::new()));
    let resolved = resolver.node(root);
    let mut errors = resolver.errors.unwrap_or_default();
    match resolved {
        Ok(resolved) => (resolved.node, errors),
        Err(error) => {
            errors.push(error);
            (root.clone(), errors)
        }
    }
}

/// A resolved value. `changed`: does it differ from what was there?
#[derive(Clone)]
struct Resolved {
    node: Node,
    changed: bool,
    /// Values in it, itself included.
    values: u64,
}

struct Resolver<'a> {
    root: &'a Mapping,
    /// Values in collections that have no references, by their addresses: jobs share what they inherit. All are
    /// part of the root, so they stay where they are.
    plain: HashMap<usize, u64, RandomState>,
    done: HashMap<Vec<Arc<str>>, Resolved>,
    /// References that are being resolved, outermost first.
    path: Vec<(Vec<Arc<str>>, Node)>,
    /// Where errors go that are to end nothing; none: the first ends everything.
    errors: Option<Vec<Diagnostic>>,
}

impl<'a> Resolver<'a> {
    fn new(root: &'a Mapping, errors: Option<Vec<Diagnostic>>) -> Resolver<'a> {
        Resolver { root, plain: HashMap::default(), done: HashMap::new(), path: Vec::new(), errors }
    }

    fn node(&mut self, node: &Node) -> Result<Resolved, Diagnostic> {
        if let Some(&values) = address(node).and_then(|address| self.plain.get(&address)) {
            return Ok(Resolved { node: node.clone(), changed: false, values });
        }
        match &node.value {
            Value::Reference(path) => self.tolerated(node, path),
            Value::Sequence(items) => {
                let mut new: Vec<Node> = Vec::new();
                let mut values = 1u64;
                for (i, item) in items.iter().enumerate() {
                    let item = self.node(item)?;
                    values = self.count(node, values, item.values)?;
                    if item.changed && new.is_empty() {
                        new.extend_from_slice(&items[..i]);
                        new.push(item.node);
                    } else if !new.is_empty() {
                        new.push(item.node);
                    }
                }
                if new.is_empty() {
                    return Ok(self.same(node, values));
                }
                Ok(Resolved {
                    node: Node::new(Value::Sequence(Arc::new(new)), node.span),
                    changed: true,
                    values,
                })
            }
            Value::Mapping(mapping) => {
                let mut new: Option<Mapping> = None;
                let mut values = 1u64;
                for (key, entry) in mapping.iter() {
                    let resolved = self.node(&entry.node)?;
                    values = self.count(node, values, resolved.values)?;
                    if resolved.changed {
                        let copy = new.get_or_insert_with(|| (**mapping).clone());
                        if let Some(entry) = copy.entries.get_mut(key) {
                            entry.node = resolved.node;
                        }
                    }
                }
                Ok(match new {
                    None => self.same(node, values),
                    Some(new) => {
                        let node = Node::new(Value::Mapping(Arc::new(new)), node.span);
                        Resolved { node, changed: true, values }
                    }
                })
            }
            Value::String(text) => Ok(self.same(node, 1 + (text.text.len() / TEXT_BYTES) as u64)),
            _ => Ok(self.same(node, 1)),
        }
    }

    fn same(&mut self, node: &Node, values: u64) -> Resolved {
        // where errors are collected, a reference that is wrong changes nothing
        if self.errors.is_none()
            && let Some(address) = address(node)
        {
            self.plain.insert(address, values);
        }
        Resolved { node: node.clone(), changed: false, values }
    }

    fn tolerated(&mut self, node: &Node, path: &[Node]) -> Result<Resolved, Diagnostic> {
        let open = self.path.len();
        match (self.reference(node, path), &mut self.errors) {
            (Err(error), Some(errors)) => {
                self.path.truncate(open);
                if !errors.contains(&error) {
                    errors.push(error);
                }
                Ok(Resolved { node: node.clone(), changed: false, values: 1 })
            }
            (result, _) => result,
        }
    }

    fn reference(&mut self, node: &Node, path: &[Node]) -> Result<Resolved, Diagnostic> {
        let shown = yaml::inspect(node);
        let error = |text: &str| Diagnostic::error("reference", format!("{shown} {text}")).at(node.span, "");
        let names: Option<Vec<Arc<str>>> = path.iter().map(name).collect();
        let Some(names) = names.filter(|names| !names.is_empty()) else {
            return Err(error("is not valid").help("write `!reference [job, keyword]`, with texts only"));
        };
        if let Some(done) = self.done.get(&names) {
            return Ok(done.clone());
        }
        if let Some(begin) = self.path.iter().position(|(open, _)| *open == names) {
            let chain = self.path[begin + 1..].iter();
            let start = error("is part of a circular chain");
            return Err(chain.fold(start, |d, (_, node)| d.at(node.span, "through this one")));
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(
                error("is nested too deeply").help("at most 200 references may lead into one another")
            );
        }
        let missing =
            || error("could not be found").help("the path must lead to a value that is not null or `false`");
        let target = self.find(&names).ok_or_else(missing)?.clone();
        self.path.push((names.clone(), node.clone()));
        let resolved = self.node(&target)?;
        self.path.pop();
        if matches!(resolved.node.value, Value::Null | Value::Bool(false)) {
            return Err(missing());
        }
        let resolved = Resolved { changed: true, ..resolved };
        self.done.insert(names, resolved.clone());
        Ok(resolved)
    }

    fn find(&self, names: &[Arc<str>]) -> Option<&Node> {
        let (first, rest) = names.split_first()?;
        rest.iter().try_fold(self.root.get(first)?, |node, name| node.as_mapping()?.get(name))
    }

    fn count(&self, at: &Node, values: u64, more: u64) -> Result<u64, Diagnostic> {
        let sum = values.saturating_add(more);
        if sum > MAX_VALUES {
            return Err(Diagnostic::error("reference", "The parsed YAML is too big")
                .at(at.span, "")
                .help("references or `extends` multiply here: there are more than two million values, or 128 MB of text"));
        }
        Ok(sum)
    }
}

/// Of a collection.
fn address(node: &Node) -> Option<usize> {
    match &node.value {
        Value::Sequence(items) => Some(Arc::as_ptr(items).addr()),
        Value::Mapping(mapping) => Some(Arc::as_ptr(mapping).addr()),
        _ => None,
    }
}

/// Only texts lead somewhere; symbols are none for GitLab.
fn name(node: &Node) -> Option<Arc<str>> {
    match &node.value {
        Value::String(text) if !text.symbol => Some(text.text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceMap;

    fn shown(text: &str) -> String {
        let mut sources = SourceMap::new();
        let file = sources.add("x.yml", text, None);
        match resolve(&yaml::parse(text, file, &mut Vec::new()).unwrap()[0]) {
            Ok(root) => yaml::inspect(root.as_mapping().unwrap().get("j").unwrap()),
            Err(error) => error.message,
        }
    }

    #[test]
    fn references_are_replaced_not_spliced() {
        let cases = [
            (".s: {s: [1, 2]}\nj: [0, !reference [.s, s], 3]", "[0, [1, 2], 3]"),
            (".s: {s: x}\nj: !reference [.s]", "{:s=>\"x\"}"),
            (".s: {s: {A: a}}\nj: {s: {Z: !reference [.s, s, A]}}", "{:s=>{:Z=>\"a\"}}"),
            (".a: {s: [!reference [.b, s]]}\n.b: {s: b}\nj: [!reference [.a, s]]", "[[\"b\"]]"),
            ("j: [a]", "[\"a\"]"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn wrong_references_say_which() {
        let cases = [
            ("j: !reference [.s, a]", "!reference [\".s\", \"a\"] could not be found"),
            (".s: {i: false}\nj: !reference [.s, i]", "!reference [\".s\", \"i\"] could not be found"),
            (".s: {i: }\nj: !reference [.s, i]", "!reference [\".s\", \"i\"] could not be found"),
            (
                ".s: {s: [a]}\nj: !reference [.s, s, '0']",
                "!reference [\".s\", \"s\", \"0\"] could not be found",
            ),
            (
                ".s: !reference [.t]\n.t: {a: b}\nj: !reference [.s, a]",
                "!reference [\".s\", \"a\"] could not be found",
            ),
            ("j: [!reference []]", "!reference [] is not valid"),
            ("j: [!reference [1, 2]]", "!reference [1, 2] is not valid"),
            ("j: [!reference [j]]", "!reference [\"j\"] is part of a circular chain"),
            ("a: !reference [b]\nb: !reference [a]\nj: x", "!reference [\"b\"] is part of a circular chain"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let chain: String = (1..10_000).map(|i| format!(".s{i}: [!reference [.s{}]]\n", i + 1)).collect();
        assert!(shown(&format!("{chain}.s10000: x\nj: x")).ends_with("is nested too deeply"));
        let mut wide = ".s0: [x]\n".to_owned();
        for i in 1..60 {
            let items = vec![format!("!reference [.s{}]", i - 1); 9].join(", ");
            wide.push_str(&format!(".s{i}: [{items}]\n"));
        }
        assert_eq!(shown(&format!("{wide}j: x")), "The parsed YAML is too big");
    }
}
