//! `artifacts` and its `reports`.

use super::check::{Entry, Findings, Path, texts};
use super::{job, ruby};
use crate::plan::Artifacts;
use crate::yaml::{self, Node, Value};
use indexmap::IndexMap;
use serde_json::Value as Json;

const KEYS: [&str; 10] = [
    "name",
    "untracked",
    "paths",
    "reports",
    "when",
    "expire_in",
    "expose_as",
    "exclude",
    "public",
    "access",
];
const MOMENTS: [&str; 3] = ["on_success", "on_failure", "always"];
const ACCESS: [&str; 4] = ["none", "developer", "all", "maintainer"];
const REPORTS: [&str; 27] = [
    "junit",
    "codequality",
    "sast",
    "secret_detection",
    "dependency_scanning",
    "container_scanning",
    "dast",
    "performance",
    "browser_performance",
    "load_performance",
    "license_scanning",
    "metrics",
    "lsif",
    "dotenv",
    "terraform",
    "accessibility",
    "coverage_fuzzing",
    "api_fuzzing",
    "cluster_image_scanning",
    "requirements",
    "requirements_v2",
    "coverage_report",
    "cyclonedx",
    "annotations",
    "repository_xray",
    "sarif",
    "dependency_scanning_sbom",
];

/// `artifacts`.
pub(super) fn artifacts(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Artifacts {
    let mark = findings.mark();
    let mut entry = Entry::new(node, path, findings);
    check(&mut entry);
    let before = entry.findings.look_on(entry.valid, node.span, mark);
    let reports = entry.field("reports").map(|n| reports(n, &path.child("reports"), entry.findings));
    entry.findings.look_back(&before);
    if !entry.valid {
        return Artifacts::default();
    }
    let other = ["name", "expose_as", "public", "access"];
    Artifacts {
        paths: entry.field("paths").map(texts),
        exclude: entry.field("exclude").map(texts),
        untracked: entry.field("untracked").map(|n| matches!(n.value, Value::Bool(true))),
        when: entry.field("when").and_then(Node::as_str).and_then(job::moment),
        expire_in: entry.text("expire_in"),
        reports,
        other: other.iter().filter_map(|k| entry.field(k).map(|n| ((*k).to_owned(), n.to_json()))).collect(),
    }
}

fn check(entry: &mut Entry<'_, '_, '_>) {
    entry.hash();
    entry.allowed_keys(&KEYS);
    let exposed = entry.field("expose_as");
    if exposed.is_some() {
        entry.present("paths");
    }
    entry.exclusive_keys(&["access", "public"]);
    entry.string("name");
    entry.boolean("public");
    entry.boolean("untracked");
    entry.strings("paths");
    if let Some(exposed) = exposed {
        let star = entry.field("paths").filter(|n| ruby::is_texts(n)).map(texts);
        if star.is_some_and(|paths| paths.iter().any(|p| p.contains('*'))) {
            entry.fail("bad-value", "paths", "can't contain '*' when used with 'expose_as'");
        }
        entry.string("expose_as");
        entry.at_most("expose_as", 100, "is too long (maximum is 100 characters)");
        if !is_label(&yaml::text(exposed)) {
            let message = "can contain only letters, digits, '-', '_' and spaces";
            entry.fail("bad-value", "expose_as", message);
        }
    }
    entry.strings("exclude");
    entry.hash_attribute("reports");
    entry.string("when");
    entry.one_of("when", &MOMENTS, "should be one of: on_success, on_failure, always");
    entry.expiry("expire_in");
    entry.string("access");
    entry.one_of("access", &ACCESS, "should be one of: none, developer, all, maintainer");
}

fn is_label(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.starts_with(word) && text.chars().all(|c| word(c) || c == '-' || c == ' ')
}

fn reports(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> IndexMap<String, Json> {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&REPORTS);
    for kind in REPORTS.iter().filter(|k| **k != "coverage_report") {
        entry.strings_or_string(kind);
    }
    if !entry.valid {
        return IndexMap::new();
    }
    let mut all = IndexMap::new();
    for (key, item) in node.as_mapping().into_iter().flat_map(|m| m.iter()).filter(|(_, e)| !e.node.is_null())
    {
        let kind = key.to_string();
        let value = if kind == "coverage_report" {
            coverage_report(&item.node, &path.child("coverage_report"), entry.findings);
            item.node.to_json()
        } else {
            Json::from(texts(&item.node))
        };
        all.insert(kind, value);
    }
    all
}

fn coverage_report(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) {
    let mut entry = Entry::new(node, path, findings);
    entry.hash();
    entry.allowed_keys(&["coverage_format", "path"]);
    entry.present("coverage_format");
    let message = "must be one of supported formats: cobertura, jacoco.";
    match entry.field("coverage_format") {
        Some(_) => entry.one_of("coverage_format", &["cobertura", "jacoco"], message),
        None => entry.fail("bad-value", "coverage_format", message),
    }
    entry.present("path");
    entry.required_string("path");
}
