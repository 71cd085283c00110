//! What can still be checked when an `extends` is wrong.

use crate::diagnostic::Diagnostic;
use crate::merge;
use crate::reference;
use crate::source::Span;
use crate::yaml::{Entry, Key, Mapping, Node, Value};
use std::sync::Arc;

/// Each costs a merge of everything.
const MOST_MISTAKES: usize = 50;

/// The merged configuration with every `extends` that is wrong taken out; none when something else is wrong, too.
/// What is wrong with all but the first is pushed to `findings`, as beyond what GitLab says.
pub(super) fn without_bad_extends(merged: &Node, findings: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut root = merged.as_mapping()?.clone();
    for attempt in 0..MOST_MISTAKES {
        let error = match merge::extend(&Node::new(Value::Mapping(Arc::new(root.clone())), merged.span)) {
            Ok(extended) => return reference::resolve(&extended).ok(),
            Err(error) => error,
        };
        let span = error.labels.first()?.0;
        // the first one is what loading ended with
        if attempt > 0 {
            findings.push(Diagnostic { gitlab: false, ..error });
        }
        let (key, entry) = root.entries.iter_mut().find(|(_, entry)| extends_at(entry, span))?;
        take_out(key, entry);
    }
    None
}

fn extends_at(entry: &Entry, span: Span) -> bool {
    let extends = entry.node.as_mapping().and_then(|mapping| mapping.get("extends"));
    let covers = |outer: Span| outer.file == span.file && outer.start <= span.start && span.end <= outer.end;
    let items = |node: &Node| node.as_sequence().is_some_and(|all| all.iter().any(|item| covers(item.span)));
    extends.is_some_and(|node| covers(node.span) || items(node))
}

/// What the job would have inherited is not known: a script stands in for it, so that its absence is not reported.
fn take_out(key: &Key, entry: &mut Entry) {
    let span = entry.node.span;
    let Value::Mapping(map) = &mut entry.node.value else { return };
    let map: &mut Mapping = Arc::make_mut(map);
    map.entries.shift_remove(&Key::from("extends"));
    let works = ["script", "run", "trigger"].iter().any(|keyword| map.get(keyword).is_some());
    if !works && !key.to_string().starts_with('.') {
        let script = Entry { key_span: entry.key_span, node: Node::string("true", span) };
        map.entries.insert(Key::from("script"), script);
    }
}
