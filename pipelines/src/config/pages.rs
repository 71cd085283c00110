//! `pages` and `publish`.

use super::check::{Entry, Findings, Path, field};
use super::ruby;
use crate::plan::Work;
use crate::yaml::{Node, Value};

/// Does the job publish a site: by its keyword, or by its name?
pub(super) fn is_pages(node: &Node, name: &str) -> bool {
    match field(node, "pages") {
        Some(pages) if matches!(pages.value, Value::Bool(false)) => false,
        Some(pages) if !ruby::is_blank(pages) => true,
        Some(_) | None => name == "pages",
    }
}

/// Checks both keywords, and makes an artifact of the published directory.
pub(super) fn publish(
    node: &Node,
    name: &str,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    work: &mut Work,
) {
    let pages = field(node, "pages");
    if let Some(pages) = pages {
        check(pages, &path.child("pages"), findings);
    }
    let top = field(node, "publish");
    if let Some(publish) = top {
        Entry::new(publish, &path.child("publish"), findings).required_string("config");
    }
    work.pages = pages.map(Node::to_json);
    work.publish = top.map(Node::to_json);
    if !is_pages(node, name) {
        return;
    }
    let inner = pages.and_then(|n| field(n, "publish"));
    let directory = inner.or(top).and_then(Node::as_str).unwrap_or("public");
    let paths = work.artifacts.get_or_insert_default().paths.get_or_insert_default();
    if !paths.iter().any(|p| p == directory) {
        paths.push(directory.to_owned());
    }
}

fn check(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    let known = |n: &Node| n.as_mapping().is_some() || ruby::is_boolean(n);
    entry.is("config", known, "should be a hash or a boolean value");
    entry.allowed_keys(&["path_prefix", "expire_in", "publish"]);
    entry.string("path_prefix");
    entry.expiry("expire_in");
    entry.string("publish");
}
