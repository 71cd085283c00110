//! `script`, `before_script`, `after_script`, `hooks`.

use super::check::{Entry, Findings, Path, field, flatten, is_nested};
use super::ruby;
use crate::plan::Hooks;
use crate::yaml::Node;

/// Commands: a text, or texts in lists up to ten deep; flat afterwards.
pub(super) fn commands(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    if !ruby::is_text(node) && !is_nested(node, 10, &ruby::is_text) {
        let message = "should be a string or a nested array of strings up to 10 levels deep";
        let mut entry = Entry::new(node, path, findings);
        match culprit(node) {
            Some(item) => entry.fail_at("wrong-type", "config", message, item.span),
            None => entry.fail("wrong-type", "config", message),
        }
    }
    let mut flat = Vec::new();
    flatten(node, &mut flat);
    flat.into_iter().filter_map(Node::as_str).map(str::to_owned).collect()
}

/// The first item that is no text: `- echo foo: bar` is a map, and hard to see.
fn culprit(node: &Node) -> Option<&Node> {
    let mut flat = Vec::new();
    flatten(node, &mut flat);
    flat.into_iter().find(|n| !ruby::is_text(n))
}

/// `hooks`.
pub(super) fn hooks(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Hooks {
    const KEY: &str = "pre_get_sources_script";
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&[KEY]);
    let script = field(node, KEY).filter(|_| entry.valid);
    let script = script.map(|n| commands(n, &path.child(KEY), findings));
    Hooks { pre_get_sources_script: script.unwrap_or_default() }
}
