//! Hidden jobs that nothing uses.

use super::Subject;
use crate::diagnostic::Diagnostic;
use crate::source::Span;
use crate::yaml::{self, Node};
use regex::Regex;
use std::collections::HashSet;
use std::sync::LazyLock;

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"!reference\s*[\[-]\s*["']?([^\],"'\s]+)"#).expect("the pattern is a constant")
});
static ANCHOR: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)(?:^|[\s:\[,-])&([^\s,\[\]{}]+)").expect("the pattern is a constant"));

/// Hidden jobs that no `extends`, `!reference` or alias names.
pub(super) fn unused(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let Some(root) = subject.root.as_mapping() else { return Vec::new() };
    let mut used: HashSet<String> = HashSet::new();
    for (_, entry) in root.iter() {
        let extends = entry.node.as_mapping().and_then(|map| map.get("extends"));
        match extends.map(|node| (node, node.as_sequence())) {
            Some((_, Some(items))) => used.extend(items.iter().map(yaml::text)),
            Some((node, None)) => drop(used.insert(yaml::text(node))),
            None => {}
        }
    }
    // references and anchors are gone from the tree
    for (_, file) in subject.sources.files().filter(|(_, file)| file.text.contains("!reference")) {
        used.extend(REFERENCE.captures_iter(&file.text).map(|captures| captures[1].to_owned()));
    }
    let hidden = root.iter().filter(|(key, _)| key.to_string().starts_with('.'));
    let unused = hidden.filter(|(key, entry)| {
        !used.contains(&key.to_string()) && !has_alias(subject, entry.key_span, &entry.node)
    });
    unused
        .map(|(key, entry)| {
            Diagnostic::hint("unused-hidden-job", format!("hidden job `{key}` is not used"))
                .at(entry.key_span, "no `extends`, `!reference` or alias names it")
                .help("remove it; or, if it was to run, remove the dot from its name")
        })
        .collect()
}

/// Is an anchor of the job used anywhere in its file?
fn has_alias(subject: &Subject<'_>, key: Span, node: &Node) -> bool {
    let text = &subject.sources.file(key.file).text;
    let end = if node.span.file == key.file { node.span.end } else { key.end };
    let Some(own) = text.get(key.start as usize..(end as usize).min(text.len())) else { return false };
    own.contains('&')
        && ANCHOR.captures_iter(own).any(|captures| {
            let alias = format!("*{}", &captures[1]);
            text.match_indices(&alias).any(|(at, _)| {
                let after = text[at + alias.len()..].chars().next();
                after.is_none_or(|c| c.is_whitespace() || ",]}:".contains(c))
            })
        })
}
