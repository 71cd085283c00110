//! A configuration with several mistakes shows them all, in whatever part of the work GitLab would have stopped;
//! what GitLab says stays what it says.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use pipelines::config;
use pipelines::diagnostic::Diagnostic;
use pipelines::load::load;
use pipelines::request::{Elsewhere, FetchError, Fetched, Files, Request};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Memory(BTreeMap<&'static str, &'static str>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        Ok(self.0.get(path).map(|text| Arc::from(*text)))
    }
    fn paths(&self) -> &[String] {
        &[]
    }
    fn blob_id(&self, _: &str) -> Option<String> {
        None
    }
    fn fetch(&self, _: &Elsewhere) -> Result<Fetched, FetchError> {
        Err(FetchError::NoProject)
    }
}

/// What is found with the first file as the root file: in order of lines for people, and what GitLab says.
fn found(files: &[(&'static str, &'static str)]) -> (Vec<String>, Vec<String>) {
    let memory = Memory(files.iter().copied().collect());
    let mut loaded = load(&Request::default(), &memory, files[0].0);
    let mut all = std::mem::take(&mut loaded.diagnostics);
    if let Some(root) = &loaded.root {
        config::build(root, &mut all);
    }
    if let Some(partial) = &loaded.partial {
        all.extend(config::further(partial));
    }
    all.retain(Diagnostic::is_error);
    let line = |d: &Diagnostic| {
        let span = d.labels.first().unwrap_or_else(|| panic!("no place: {d:?}")).0;
        let file = loaded.sources.file(span.file);
        format!("{}:{} {}", file.name, file.text[..span.start as usize].matches('\n').count() + 1, d.code)
    };
    let gitlab = all.iter().filter(|d| d.gitlab).map(|d| d.message.clone()).collect();
    (all.iter().map(line).collect(), gitlab)
}

/// Files, the first being the root; what people see; what GitLab says.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        &[(
            "in one job",
            "j:\n  script: x\n  imag: y\n  stage: nowhere\n  artifacts: {paths: x}\n  retry: 7\n  rules: [{if: '$A =='}]\n",
        )],
        &[
            "in one job:3 unknown-key",
            "in one job:7 bad-expression",
            "in one job:6 bad-value",
            "in one job:5 wrong-type",
            "in one job:4 stage-undefined",
        ],
        &["jobs:j config contains unknown keys: imag"],
    ),
    (
        &[(
            "kinds",
            "default: {retry: 3}\na: {script: x, extends: .no}\nb: {script: !reference [.no, script]}\n\
             c: {script: x, needs: [z]}\nd: {script: x, whn: manual, timeout: never}\n",
        )],
        &[
            "kinds:2 extends",
            "kinds:3 reference",
            "kinds:1 bad-value",
            "kinds:5 unknown-key",
            "kinds:5 bad-duration",
            "kinds:4 need-undefined",
        ],
        &["a: unknown keys in `extends` (.no)"],
    ),
    (
        &[
            (
                "includes",
                "include: [no.yml, bad.yml, more.yml]\nj: {script: x, extends: .there, stage: there, coverage: 5}\n\
                 k: {image: x}\n",
            ),
            ("bad.yml", "a: [1\n"),
            ("more.yml", "include: [gone.yml]\nm:\n  script: x\n  tags: y\n"),
        ],
        &[
            "more.yml:1 include-file",
            "includes:1 include-file",
            "bad.yml:2 yaml-syntax",
            "more.yml:4 wrong-type",
            "includes:2 bad-regexp",
        ],
        &["Local file `gone.yml` does not exist!"],
    ),
    (
        &[(
            "references",
            "a: {script: [!reference [.x, y], z], stage: deplyo}\nb: {script: x, tags: !reference [.t]}\n\
             c: {script: !reference [c, script]}\nd: {script: x, cache: {key: a/b, polcy: push}}\n",
        )],
        &[
            "references:1 reference",
            "references:2 reference",
            "references:3 reference",
            "references:4 unknown-key",
            "references:4 bad-value",
            "references:1 stage-undefined",
        ],
        &["!reference [\".x\", \"y\"] could not be found"],
    ),
    (
        &[(
            "trigger jobs and workflow",
            "workflow: {nme: x, rules: [{when: manual}]}\nt: {script: x, trigger: {include: [{file: a}, 5]}}\n\
             u: {trigger: {project: a/b, strateg: depend, forward: {x: true}}, image: y, needs: [nobody]}\n",
        )],
        &[
            "trigger jobs and workflow:1 unknown-key",
            "trigger jobs and workflow:1 bad-value",
            "trigger jobs and workflow:2 unknown-key",
            "trigger jobs and workflow:2 conflict",
            "trigger jobs and workflow:3 unknown-key",
            "trigger jobs and workflow:3 unknown-key",
            "trigger jobs and workflow:3 unknown-key",
            "trigger jobs and workflow:3 missing-key",
            "trigger jobs and workflow:3 need-undefined",
        ],
        &[],
    ),
];

#[test]
fn all_mistakes_are_shown_and_gitlabs_are_told_apart() {
    for (files, seen, gitlab) in CASES {
        let (lines, messages) = found(files);
        assert_eq!(lines, *seen, "{}\n{messages:#?}", files[0].0);
        if !gitlab.is_empty() {
            assert_eq!(messages, *gitlab, "{}", files[0].0);
        }
    }
}

#[test]
fn what_is_missing_only_because_an_include_failed_is_not_reported() {
    let root = "include: gone.yml\nstages: !reference [.stages]\na: {extends: .base, needs: [b], stage: far}\n\
                c: {variables: {A: b}}\nd: {script: !reference [.x, script], environment: {name: e, on_stop: stop}}\n";
    let (lines, messages) = found(&[("root", root)]);
    assert_eq!(lines, ["root:1 include-file"], "{messages:?}");
}
