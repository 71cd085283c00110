//! What can still be checked when an include, an `extends` or a `!reference` is wrong.

use crate::diagnostic::Diagnostic;
use crate::merge;
use crate::reference;
use crate::source::Span;
use crate::yaml::{Entry, Key, Mapping, Node, Value};
use std::sync::Arc;

/// Each costs a merge of everything.
const MOST_MISTAKES: usize = 50;

/// The merged configuration without `extends` and references that are wrong; they go to `findings`. None: it is too
/// far gone.
pub(super) fn sound_part(merged: &Node, findings: &mut Vec<Diagnostic>) -> Option<Node> {
    let extended = without_bad_extends(merged, findings)?;
    let (resolved, errors) = reference::resolve_all(&extended);
    findings.extend(errors);
    let root = resolved.as_mapping()?;
    let mut left = Mapping::default();
    for (key, entry) in root.iter() {
        let node = match &entry.node.value {
            Value::Mapping(job) => job_without_holes(key, job, entry),
            _ => without_holes(&entry.node)?,
        };
        left.entries.insert(key.clone(), Entry { key_span: entry.key_span, node });
    }
    Some(Node::new(Value::Mapping(Arc::new(left)), resolved.span))
}

fn without_bad_extends(merged: &Node, findings: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut root = merged.as_mapping()?.clone();
    for _ in 0..MOST_MISTAKES {
        let error = match merge::extend(&Node::new(Value::Mapping(Arc::new(root.clone())), merged.span)) {
            Ok(extended) => return Some(extended),
            Err(error) => error,
        };
        let span = error.labels.first()?.0;
        findings.push(error);
        let (key, entry) = root.entries.iter_mut().find(|(_, entry)| extends_at(entry, span))?;
        let Value::Mapping(map) = &mut entry.node.value else { return None };
        Arc::make_mut(map).entries.shift_remove(&Key::from("extends"));
        stand_in(key, entry);
    }
    None
}

fn extends_at(entry: &Entry, span: Span) -> bool {
    let extends = entry.node.as_mapping().and_then(|mapping| mapping.get("extends"));
    let covers = |outer: Span| outer.file == span.file && outer.start <= span.start && span.end <= outer.end;
    let items = |node: &Node| node.as_sequence().is_some_and(|all| all.iter().any(|item| covers(item.span)));
    extends.is_some_and(|node| covers(node.span) || items(node))
}

/// What the job would have is not known: a script stands in for it, so that its absence is not reported.
fn stand_in(key: &Key, entry: &mut Entry) {
    let span = entry.node.span;
    let Value::Mapping(map) = &mut entry.node.value else { return };
    let map: &mut Mapping = Arc::make_mut(map);
    let works = ["script", "run", "trigger"].iter().any(|keyword| map.get(keyword).is_some());
    if !works && !key.to_string().starts_with('.') {
        let script = Entry { key_span: entry.key_span, node: Node::string("true", span) };
        map.entries.insert(Key::from("script"), script);
    }
}

fn job_without_holes(key: &Key, job: &Mapping, entry: &Entry) -> Node {
    let mut left = Mapping::default();
    let mut holes = false;
    for (keyword, value) in job.iter() {
        let Some(node) = without_holes(&value.node) else {
            holes = true;
            continue;
        };
        // a list that is empty only because of its holes says nothing
        let emptied = |node: &Node| node.as_sequence().is_some_and(<[Node]>::is_empty);
        if emptied(&node) && !emptied(&value.node) {
            holes = true;
            continue;
        }
        left.entries.insert(keyword.clone(), Entry { key_span: value.key_span, node });
    }
    let node = Node::new(Value::Mapping(Arc::new(left)), entry.node.span);
    let mut entry = Entry { key_span: entry.key_span, node };
    if holes && !matches!(key.as_str(), Some("default" | "variables" | "workflow")) {
        stand_in(key, &mut entry);
    }
    entry.node
}

/// The node without the references that are left in it; none: it is one.
fn without_holes(node: &Node) -> Option<Node> {
    Some(match &node.value {
        Value::Reference(_) => return None,
        Value::Sequence(items) => {
            let left = items.iter().filter_map(without_holes).collect();
            Node::new(Value::Sequence(Arc::new(left)), node.span)
        }
        Value::Mapping(map) => {
            let mut left = Mapping::default();
            for (key, entry) in map.iter() {
                if let Some(node) = without_holes(&entry.node) {
                    left.entries.insert(key.clone(), Entry { key_span: entry.key_span, node });
                }
            }
            Node::new(Value::Mapping(Arc::new(left)), node.span)
        }
        _ => node.clone(),
    })
}
