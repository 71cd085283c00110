//! Deep merge, and `extends` which is made of it.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::source::Span;
use crate::yaml::{self, Entry, Key, Mapping, Node, Value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Ancestors that a job may have.
const MAX_ANCESTORS: usize = 10;

/// Merges `over` into `base`: mappings key by key, everything else is replaced. Keys keep the place of their first
/// appearance.
pub fn deep_merge(base: &mut Mapping, over: &Mapping) {
    for (key, entry) in over.iter() {
        let Some(old) = base.entries.get_mut(key) else {
            base.entries.insert(key.clone(), entry.clone());
            continue;
        };
        match (&mut old.node.value, &entry.node.value) {
            (Value::Mapping(below), Value::Mapping(above)) => {
                if !Arc::ptr_eq(below, above) {
                    deep_merge(Arc::make_mut(below), above);
                }
                old.node.span = entry.node.span;
                old.key_span = entry.key_span;
            }
            _ => *old = entry.clone(),
        }
    }
}

/// Resolves `extends` in all mappings of the root. The keyword itself stays.
///
/// # Errors
/// The first parent that does not exist or is no mapping, a cycle, or more than ten ancestors.
pub fn extend(root: &Node) -> Result<Node, Diagnostic> {
    let Some(mapping) = root.as_mapping() else { return Ok(root.clone()) };
    if !mapping.iter().any(|(_, entry)| is_extensible(&entry.node)) {
        return Ok(root.clone());
    }
    let mut extender =
        Extender { root: mapping, done: HashMap::new(), path: Vec::new(), on_path: HashSet::new() };
    let mut merged = mapping.clone();
    for (key, entry) in &mut merged.entries {
        if is_extensible(&entry.node) {
            entry.node = extender.resolve(key, entry.key_span)?.0;
        }
    }
    Ok(Node::new(Value::Mapping(Arc::new(merged)), root.span))
}

fn is_extensible(node: &Node) -> bool {
    node.as_mapping().is_some_and(|mapping| mapping.get("extends").is_some())
}

struct Extender<'a> {
    root: &'a Mapping,
    /// Resolved values, with the number of levels under each (1: its parents extend nothing).
    done: HashMap<Key, (Node, usize)>,
    /// The descendants of what is being resolved.
    path: Vec<Key>,
    on_path: HashSet<Key>,
}

impl Extender<'_> {
    /// The merged value of an extensible entry and its levels. `from`: the place that asked for it.
    fn resolve(&mut self, key: &Key, from: Span) -> Result<(Node, usize), Diagnostic> {
        let Some(entry) = self.root.entries.get(key) else { return Ok((Node::new(Value::Null, from), 0)) };
        if !is_extensible(&entry.node) {
            return Ok((entry.node.clone(), 0));
        }
        if let Some((node, levels)) = self.done.get(key) {
            if self.path.len() + levels > MAX_ANCESTORS + 1 {
                return Err(self.too_deep(key, self.path.len()));
            }
            return Ok((node.clone(), *levels));
        }
        let parents = parents(&entry.node);
        self.check(key, &parents)?;
        if self.path.len() > MAX_ANCESTORS {
            return Err(too_deep(key, entry));
        }
        if self.on_path.contains(key) {
            let message = format!("{key}: circular dependency detected in `extends`");
            return Err(Diagnostic::error("extends", message)
                .at_opt(parents.first().map(|parent| parent.1), "")
                .at(from, "asked for again here"));
        }
        self.path.push(key.clone());
        self.on_path.insert(key.clone());
        let mut merged = Mapping::default();
        let mut levels = 0;
        for (parent, span) in &parents {
            let (node, below) = self.resolve(parent, *span)?;
            levels = levels.max(below);
            if let Some(mapping) = node.as_mapping() {
                deep_merge(&mut merged, mapping);
            }
        }
        self.path.pop();
        self.on_path.remove(key);
        if let Some(own) = entry.node.as_mapping() {
            deep_merge(&mut merged, own);
        }
        let node = Node::new(Value::Mapping(Arc::new(merged)), entry.node.span);
        self.done.insert(key.clone(), (node.clone(), levels + 1));
        Ok((node, levels + 1))
    }

    fn check(&self, key: &Key, parents: &[(Key, Span)]) -> Result<(), Diagnostic> {
        let failed = |text: &str, is_bad: &dyn Fn(&Key) -> bool| -> Option<Diagnostic> {
            let bad: Vec<_> = parents.iter().filter(|(parent, _)| is_bad(parent)).collect();
            let first = bad.first()?.0.to_string();
            let names: Vec<_> = bad.iter().map(|(parent, _)| parent.to_string()).collect();
            let message = format!("{key}: {text} in `extends` ({})", names.join(", "));
            let diagnostic = bad.iter().fold(Diagnostic::error("extends", message), |d, bad| d.at(bad.1, ""));
            let known = self.root.iter().map(|(known, _)| known).filter(|known| *known != key);
            let known: Vec<String> = known.map(Key::to_string).collect();
            let near = did_you_mean(&first, known.iter().map(String::as_str));
            Some(match near.filter(|_| text.starts_with("unknown")) {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic,
            })
        };
        let unknown = failed("unknown keys", &|parent| !self.root.entries.contains_key(parent));
        let invalid = || failed("invalid base hashes", &|p| self.root.entries[p].node.as_mapping().is_none());
        unknown.or_else(invalid).map_or(Ok(()), Err)
    }

    /// Finds the first entry, in the order of resolution, whose ancestors are too many.
    fn too_deep(&self, key: &Key, ancestors: usize) -> Diagnostic {
        let entry = &self.root.entries[key];
        if ancestors > MAX_ANCESTORS {
            return too_deep(key, entry);
        }
        let levels = |parent: &Key| self.done.get(parent).map_or(0, |done| done.1);
        let next = parents(&entry.node)
            .into_iter()
            .find(|(parent, _)| ancestors + 1 + levels(parent) > MAX_ANCESTORS + 1 && levels(parent) > 0);
        match next {
            Some((parent, _)) => self.too_deep(&parent, ancestors + 1),
            None => too_deep(key, entry),
        }
    }
}

fn too_deep(key: &Key, entry: &Entry) -> Diagnostic {
    let span =
        entry.node.as_mapping().and_then(|m| m.entry("extends")).map_or(entry.key_span, |e| e.node.span);
    Diagnostic::error("extends", format!("{key}: nesting too deep in `extends`"))
        .at(span, "")
        .help("a job may have ten ancestors at most")
}

/// Names in `extends`, with their places. Whatever is no text is taken as Ruby's `to_s` prints it.
fn parents(node: &Node) -> Vec<(Key, Span)> {
    let Some(extends) = node.as_mapping().and_then(|mapping| mapping.get("extends")) else {
        return Vec::new();
    };
    let name = |node: &Node| (Key::String(Arc::from(yaml::text(node))), node.span);
    match &extends.value {
        Value::Null => Vec::new(),
        Value::Sequence(items) => items.iter().map(name).collect(),
        _ => vec![name(extends)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceMap;

    fn extended(text: &str) -> Result<Node, Diagnostic> {
        let mut sources = SourceMap::new();
        let file = sources.add("x.yml", text, None);
        extend(&yaml::parse(text, file, &mut Vec::new()).unwrap()[0])
    }

    fn shown(text: &str, key: &str) -> String {
        match extended(text) {
            Ok(root) => yaml::inspect(root.as_mapping().unwrap().get(key).unwrap()),
            Err(error) => error.message,
        }
    }

    #[test]
    fn maps_merge_and_the_rest_is_replaced() {
        let cases = [
            (
                ".a: {t: [1, 2], v: {A: a, B: b}}\nj: {extends: .a, t: [3], v: {B: c}}",
                "{:t=>[3], :v=>{:A=>\"a\", :B=>\"c\"}, :extends=>\".a\"}",
            ),
            (".a: {i: x}\nj: {extends: .a, i: }", "{:i=>nil, :extends=>\".a\"}"),
            (".a: {i: x}\nj: {extends: .a, i: {n: x}}", "{:i=>{:n=>\"x\"}, :extends=>\".a\"}"),
            (
                ".r: {v: {A: r, B: r}}\n.l: {extends: .r, v: {A: l}}\n.m: {extends: .r, v: {B: m}}\nj: {extends: [.l, .m]}",
                "{:v=>{:A=>\"r\", :B=>\"m\"}, :extends=>[\".l\", \".m\"]}",
            ),
            ("j: {extends: [], s: x}", "{:extends=>[], :s=>\"x\"}"),
            (
                "j: {extends: .z}\n.z: {extends: .y, i: z}\n.y: {t: y, i: y}",
                "{:t=>\"y\", :i=>\"z\", :extends=>\".z\"}",
            ),
            (
                ".a: {r: !reference [x, y]}\nj: {extends: .a}",
                "{:r=>!reference [\"x\", \"y\"], :extends=>\".a\"}",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text, "j"), expected, "{text}");
        }
    }

    #[test]
    fn wrong_parents_are_named() {
        let cases = [
            ("a: {extends: .nope}", "a: unknown keys in `extends` (.nope)"),
            ("a: {extends: [1, .x]}", "a: unknown keys in `extends` (1, .x)"),
            (".y: [x]\na: {extends: .y}", "a: invalid base hashes in `extends` (.y)"),
            ("a: {extends: a}", "a: circular dependency detected in `extends`"),
            (
                ".a: {extends: .b}\n.b: {extends: .a}\nc: {extends: .a}",
                ".a: circular dependency detected in `extends`",
            ),
            (
                "c: {extends: .a}\n.a: {extends: .b}\n.b: {extends: .a}",
                ".a: circular dependency detected in `extends`",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text, "a"), expected, "{text}");
        }
        let error = extended("deploy: {}\na: {extends: deply}").unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean `deploy`?"));
    }

    fn chain(length: usize, reversed: bool) -> String {
        let mut lines: Vec<_> = (1..length).map(|i| format!(".l{i}: {{extends: .l{}}}", i - 1)).collect();
        lines.insert(0, ".l0: {s: base}".to_owned());
        if reversed {
            lines.reverse();
        }
        format!("{}\nj: {{extends: .l{}}}", lines.join("\n"), length - 1)
    }

    #[test]
    fn ten_ancestors_are_the_limit() {
        assert_eq!(shown(&chain(11, false), "j"), "{:s=>\"base\", :extends=>\".l10\"}");
        assert_eq!(shown(&chain(12, false), "j"), ".l1: nesting too deep in `extends`");
        assert_eq!(shown(&chain(12, true), "j"), ".l1: nesting too deep in `extends`");
        assert_eq!(shown(&chain(10_000, true), "j"), ".l9988: nesting too deep in `extends`");
    }

    #[test]
    fn wide_diamonds_are_resolved_once() {
        let mut text = ".l0: {s: base}\n".to_owned();
        for i in 1..=10 {
            let parents = vec![format!(".l{}", i - 1); 20].join(", ");
            text.push_str(&format!(".l{i}: {{extends: [{parents}]}}\n"));
        }
        text.push_str("j: {extends: .l10}");
        assert!(shown(&text, "j").starts_with("{:s=>\"base\""));
    }
}
