//! `rules` of jobs and of the workflow.

use super::auto_cancel::auto_cancel;
use super::check::{Entry, Findings, Path, Syntax, flatten, texts};
use super::needs::{self, NeedKind};
use super::types::{Changes, Exists, Rule};
use super::{job, ruby, variables};
use crate::plan::AllowFailure;
use crate::yaml::{self, Node, Value};
use indexmap::IndexMap;
use std::sync::Arc;

/// Longest `start_in`: a week.
pub(super) const START_IN_LIMIT: f64 = 604_800.0;
const PATHS_TOO_MANY: &str = "has too many entries (maximum 50)";

/// What a rule may say, by where it stands.
pub(super) struct Dialect {
    when: &'static [&'static str],
    keys: &'static [&'static str],
}

/// Rules of a job.
pub(super) const JOB: Dialect = Dialect {
    when: &["on_success", "on_failure", "always", "never", "manual", "delayed"],
    keys: &[
        "if",
        "changes",
        "exists",
        "when",
        "start_in",
        "allow_failure",
        "variables",
        "needs",
        "interruptible",
    ],
};

/// Rules of the workflow; some keys are accepted there and mean nothing.
pub(super) const WORKFLOW: Dialect = Dialect {
    when: &["always", "never"],
    keys: &[
        "if",
        "changes",
        "exists",
        "when",
        "start_in",
        "allow_failure",
        "variables",
        "needs",
        "auto_cancel",
    ],
};

/// A list of rules, nested lists flattened.
pub(super) fn rules(
    node: &Node,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
    dialect: &Dialect,
) -> Vec<Rule> {
    let mut entry = Entry::new(node, path, findings);
    entry.present("config");
    entry.is("config", |n| n.as_sequence().is_some(), "should be an array");
    if !entry.valid {
        return Vec::new();
    }
    let mut flat = Vec::new();
    flatten(node, &mut flat);
    let at = path.child("rule");
    flat.into_iter().map(|n| rule(n, &at, findings, dialect)).collect()
}

/// Is the last rule nothing but a `when` other than `never`? GitLab warns about such jobs.
pub(super) fn ends_in_bare_when(node: &Node) -> bool {
    let mut flat = Vec::new();
    flatten(node, &mut flat);
    let Some(map) = flat.last().and_then(|n| n.as_mapping()) else { return false };
    let mut keys = map.iter().filter(|(_, e)| !e.node.is_null());
    let only = keys.next().filter(|(key, _)| key.to_string() == "when");
    only.is_some_and(|(_, e)| e.node.as_str() != Some("never")) && keys.next().is_none()
}

fn rule(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>, dialect: &Dialect) -> Rule {
    let mark = findings.mark();
    let mut entry = Entry::new(node, path, findings);
    check(&mut entry, dialect);
    let mut rule = Rule {
        span: node.span,
        condition: entry.field("if").and_then(Node::as_str).map(Arc::from),
        changes: None,
        exists: None,
        when: entry.field("when").and_then(Node::as_str).and_then(job::moment),
        start_in: entry.text("start_in"),
        allow_failure: entry.field("allow_failure").map(|n| AllowFailure::Static(is_true(n))),
        variables: IndexMap::new(),
        needs: None,
        interruptible: entry.field("interruptible").map(is_true),
        auto_cancel: None,
    };
    let before = entry.findings.look_on(entry.valid, node.span, mark);
    rule.changes = entry.field("changes").map(|n| changes(n, &path.child("changes"), entry.findings));
    rule.exists = entry.field("exists").map(|n| exists(n, &path.child("exists"), entry.findings));
    if let Some(n) = entry.field("variables") {
        rule.variables = variables::variables(n, &path.child("variables"), entry.findings, &[]);
    }
    if let Some(n) = entry.field("needs") {
        rule.needs = Some(needs::needs(n, &path.child("needs"), entry.findings, &[NeedKind::Job]).direct());
    }
    rule.auto_cancel =
        entry.field("auto_cancel").map(|n| auto_cancel(n, &path.child("auto_cancel"), entry.findings));
    entry.findings.look_back(&before);
    rule
}

fn check(entry: &mut Entry<'_, '_, '_>, dialect: &Dialect) {
    entry.present("config");
    entry.hash();
    if entry.field("when").and_then(Node::as_str) == Some("delayed") {
        entry.present("start_in");
        entry.duration("start_in", START_IN_LIMIT);
    } else if entry.has("start_in") {
        entry.fail("conflict", "config", "contains disallowed keys: start_in");
    }
    condition(entry, "if");
    entry.boolean("allow_failure");
    entry.boolean("interruptible");
    if let Some(when) = entry.field("when") {
        let text = yaml::text(when);
        if !dialect.when.contains(&text.as_str()) {
            entry.fail("bad-value", "when", format!("unknown value: {text}"));
        }
    }
    entry.allowed_keys(dialect.keys);
}

/// A condition has the syntax of one; what is wrong with it goes into the help.
fn condition(entry: &mut Entry<'_, '_, '_>, key: &str) {
    let Some(node) = entry.field(key) else { return };
    let text = node.as_str().filter(|_| ruby::is_string(node));
    let problem = match text.map(|text| entry.findings.mistake(Syntax::Expression, text)) {
        Some(None) => return,
        Some(Some(e)) => e.to_string(),
        None => "a condition is a text".to_owned(),
    };
    let text = format!("{} {key} invalid expression syntax", entry.path).to_lowercase();
    entry.report(crate::diagnostic::Diagnostic::error("bad-expression", text).at(node.span, problem));
}

fn is_true(node: &Node) -> bool {
    matches!(node.value, Value::Bool(true))
}

fn changes(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Changes {
    let mut entry = Entry::new(node, path, findings);
    if node.as_sequence().is_some() {
        entry.strings("config");
        entry.at_most("config", 50, PATHS_TOO_MANY);
        return Changes { paths: texts(node), compare_to: None };
    }
    if node.as_mapping().is_none() {
        entry.unsupported("should be an array or a hash");
        return Changes { paths: Vec::new(), compare_to: None };
    }
    entry.allowed_keys(&["paths", "compare_to"]);
    entry.required_keys(&["paths"]);
    match entry.field("paths") {
        Some(_) => {
            entry.strings("paths");
            entry.at_most("paths", 50, PATHS_TOO_MANY);
        }
        None => {
            entry.fail("wrong-type", "paths", "should be an array of strings");
            entry.fail("too-long", "paths", PATHS_TOO_MANY);
        }
    }
    entry.string("compare_to");
    Changes {
        paths: entry.field("paths").map(texts).unwrap_or_default(),
        compare_to: entry.text("compare_to"),
    }
}

fn exists(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Exists {
    let mut entry = Entry::new(node, path, findings);
    if ruby::is_string(node) || node.as_sequence().is_some() {
        if node.as_sequence().is_some() {
            entry.strings("config");
            entry.at_most("config", 50, PATHS_TOO_MANY);
        }
        return Exists { paths: texts(node), project: None, reference: None };
    }
    if node.as_mapping().is_none() {
        entry.unsupported("should be a string, an array of strings, or a hash");
        return Exists { paths: Vec::new(), project: None, reference: None };
    }
    entry.allowed_keys(&["paths", "project", "ref"]);
    entry.required_keys(&["paths"]);
    if entry.field("ref").is_some() {
        entry.required_keys(&["project"]);
    }
    entry.strings("paths");
    entry.at_most("paths", 50, PATHS_TOO_MANY);
    entry.string("project");
    entry.string("ref");
    Exists {
        paths: entry.field("paths").map(texts).unwrap_or_default(),
        project: entry.text("project"),
        reference: entry.text("ref"),
    }
}
