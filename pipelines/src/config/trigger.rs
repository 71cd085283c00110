//! `trigger`: a pipeline of another project, or a child pipeline.

use super::check::{Entry, Findings, Path};
use super::ruby;
use crate::yaml::{Node, Value};
use serde_json::{Value as Json, json};

const INCLUDE_KEYS: [&str; 12] = [
    "local",
    "file",
    "remote",
    "template",
    "component",
    "artifact",
    "inputs",
    "job",
    "project",
    "ref",
    "rules",
    "integrity",
];

/// `trigger`, the short form as a map with `project`.
pub(super) fn trigger(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Json {
    let mut entry = Entry::new(node, path, findings);
    match &node.value {
        Value::String(t) if !t.symbol => {
            entry.present("config");
            json!({ "project": *t.text })
        }
        Value::Mapping(map) => {
            check(&mut entry);
            let given = map.iter().filter(|(_, e)| !e.node.is_null());
            Json::Object(given.map(|(key, e)| (key.to_string(), e.node.to_json())).collect())
        }
        _ => {
            entry.unsupported("has to be either a string or a hash");
            Json::Null
        }
    }
}

fn check(entry: &mut Entry<'_, '_, '_>) {
    let mark = entry.findings.mark();
    let child = entry.has("include");
    entry.present("config");
    if child {
        entry.allowed_keys(&["strategy", "include", "forward"]);
    } else {
        entry.allowed_keys(&["project", "branch", "strategy", "forward", "inputs"]);
        entry.required_string("project");
        entry.present("project");
        entry.string("branch");
    }
    entry.string("strategy");
    entry.one_of("strategy", &["depend", "mirror"], "should be depend or mirror");
    let path = entry.path;
    let before = entry.findings.look_on(entry.valid, entry.node.span, mark);
    if let Some(node) = entry.field("include") {
        check_includes(node, &path.child("include"), entry.findings);
    }
    if let Some(node) = entry.field("inputs") {
        Entry::new(node, &path.child("inputs"), entry.findings).hash();
    }
    if let Some(node) = entry.field("forward") {
        let at = path.child("forward");
        let mut forward = Entry::new(node, &at, entry.findings);
        forward.allowed_keys(&["yaml_variables", "pipeline_variables"]);
        forward.boolean("yaml_variables");
        forward.boolean("pipeline_variables");
    }
    entry.findings.look_back(&before);
}

fn check_includes(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.is("config", |n| ruby::is_string(n) || n.as_sequence().is_some(), "should be an array or a string");
    let items = node.as_sequence().unwrap_or_default();
    if items.len() > 3 {
        entry.fail("too-long", "config", "is too long (maximum is 3)");
    }
    if !entry.valid {
        return;
    }
    let at = path.child("include");
    for item in items {
        check_include(&mut Entry::new(item, &at, findings));
    }
}

fn check_include(entry: &mut Entry<'_, '_, '_>) {
    entry.is("config", |n| ruby::is_string(n) || n.as_mapping().is_some(), "should be a hash or a string");
    entry.allowed_keys(&INCLUDE_KEYS);
    let blank = |entry: &Entry<'_, '_, '_>, key| entry.field(key).is_none_or(ruby::is_blank);
    if entry.field("artifact").is_some() && blank(entry, "job") {
        entry.fail("missing-key", "config", "must specify the job where to fetch the artifact from");
    }
    if entry.field("project").is_some() && blank(entry, "file") {
        entry.fail("missing-key", "config", "must specify the file where to fetch the config from");
    }
}
