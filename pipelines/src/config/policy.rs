//! `only` and `except`.

use super::check::{Entry, Findings, Path, Syntax, texts};
use super::ruby;
use super::types::Policy;
use crate::diagnostic::Diagnostic;
use crate::expression::Regexp;
use crate::yaml::{self, Node, Value};

const REFS: &str = "should be an array of strings or regular expressions using re2 syntax";

/// `only` or `except`, the list as a map with `refs`.
pub(super) fn policy(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Policy {
    let mut entry = Entry::new(node, path, findings);
    match &node.value {
        Value::Sequence(_) => {
            entry.is("config", is_refs, REFS);
            Policy { refs: Some(texts(node)), ..Policy::default() }
        }
        Value::Mapping(_) => long_form(&mut entry),
        _ => {
            entry.unsupported("has to be either an array of conditions or a hash");
            Policy::default()
        }
    }
}

fn long_form(entry: &mut Entry<'_, '_, '_>) -> Policy {
    entry.present("config");
    entry.allowed_keys(&["refs", "kubernetes", "variables", "changes"]);
    entry.is("refs", is_refs, REFS);
    if let Some(kubernetes) = entry.field("kubernetes") {
        let text = yaml::text(kubernetes);
        if text != "active" {
            entry.fail("bad-value", "kubernetes", format!("unknown value: {text}"));
        }
    }
    entry.strings("variables");
    for condition in entry.field("variables").and_then(Node::as_sequence).unwrap_or_default() {
        let mistake = condition.as_str().and_then(|text| entry.findings.mistake(Syntax::Expression, text));
        if let Some(problem) = mistake {
            let text = format!("{} variables invalid expression syntax", entry.path).to_lowercase();
            let diagnostic =
                Diagnostic::error("bad-expression", text).at(condition.span, problem.to_string());
            entry.report(diagnostic);
        }
    }
    entry.strings("changes");
    let list = |key| entry.field(key).map(texts);
    Policy {
        refs: list("refs"),
        variables: list("variables"),
        changes: list("changes"),
        kubernetes: entry.field("kubernetes").is_some(),
    }
}

fn is_refs(node: &Node) -> bool {
    let ok = |text: &str| !looks_like_regexp(text) || Regexp::literal(text).is_ok();
    let one = |n: &Node| ruby::is_string(n) && n.as_str().is_some_and(ok);
    node.as_sequence().is_some_and(|items| items.iter().all(one))
}

/// A line of the form `/.../flags`.
pub(super) fn looks_like_regexp(text: &str) -> bool {
    text.lines().any(|line| {
        let parts = line.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
        parts.is_some_and(|(_, flags)| flags.chars().all(|c| "ismU".contains(c)))
    })
}
