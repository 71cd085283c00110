//! Each hint: what brings it up, and what does not.

use super::{Subject, hints, is_allowed};
use crate::diagnostic::Diagnostic;
use crate::load::load;
use crate::request::{Commit, Elsewhere, FetchError, Fetched, Files, Request};
use crate::source::SourceMap;
use std::sync::Arc;

struct Text(Arc<str>);

impl Files for Text {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        Ok((path == ".gitlab-ci.yml").then(|| self.0.clone()))
    }

    fn paths(&self) -> &[String] {
        &[]
    }

    fn blob_id(&self, _: &str) -> Option<String> {
        None
    }

    fn fetch(&self, _: &Elsewhere) -> Result<Fetched, FetchError> {
        Err(FetchError::NoFile)
    }
}

fn found(text: &str) -> (Vec<Diagnostic>, SourceMap) {
    let request = Request {
        project: "group/project".into(),
        reference: "main".into(),
        default_branch: "main".into(),
        source: "push".into(),
        commit: Commit { sha: "1".repeat(40), ..Commit::default() },
        ..Request::default()
    };
    let files = Text(Arc::from(text));
    let loaded = load(&request, &files, ".gitlab-ci.yml");
    let root = loaded.root.expect("the configuration loads");
    let mut diagnostics = Vec::new();
    let config = crate::config::build(&root, &mut diagnostics);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{text}\n{diagnostics:?}");
    let subject =
        Subject { root: &root, config: &config, sources: &loaded.sources, request: &request, files: &files };
    hints(&subject, &mut diagnostics);
    (diagnostics, loaded.sources)
}

/// Codes with the lines that they point to.
fn codes(text: &str) -> Vec<String> {
    let (diagnostics, sources) = found(text);
    let line = |d: &Diagnostic| d.labels.first().map_or(0, |(span, _)| sources.position(*span).line);
    diagnostics.iter().map(|d| format!("{}:{}", d.code, line(d))).collect()
}

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(codes(text), *expected, "{text}");
    }
}

#[test]
fn hidden_jobs_are_used_by_extends_references_and_aliases() {
    check(&[
        (".a: {script: x}\nj: {script: y}\n", &["unused-hidden-job:1"]),
        (".a: {script: x}\nj: {extends: .a}\n", &[]),
        (".a: {script: x}\n.b: {extends: .a}\nj: {extends: [.b]}\n", &[]),
        (".a:\n  script: [x]\nj:\n  script:\n    - !reference [.a, script]\n", &[]),
        (".a: &a\n  script: [x]\nj:\n  <<: *a\n", &[]),
        (".a:\n  list: &list [x]\nj:\n  script: *list\n", &[]),
        (".a: &a\n  script: [x]\nj: {script: y}\n", &["unused-hidden-job:1"]),
    ]);
}

#[test]
fn jobs_never_run_when_no_rule_lets_them() {
    let workflow = "workflow: {rules: [{if: $CI_COMMIT_BRANCH}]}\n";
    let table: &[(&str, bool)] = &[
        ("[{when: never}]", true),
        ("[{if: $A, when: never}, {when: never}]", true),
        ("[{when: never}, {if: $A}]", true),
        ("[{if: '$A == \"x\" && $A == \"y\"'}]", true),
        ("[{if: '\"a\" == \"b\"'}]", true),
        ("[{if: $A, when: never}, {if: $B}]", false),
        ("[{if: '$A =~ /xy/ && $A !~ /xy/'}]", false),
        ("[{changes: [a], when: never}, {when: manual}]", false),
    ];
    for (rules, never) in table {
        let text = format!("{workflow}j:\n  script: x\n  rules: {rules}\nk: {{script: x}}\n");
        let codes = codes(&text);
        assert_eq!(codes.iter().any(|c| c == "job-never-runs:4"), *never, "{rules}: {codes:?}");
    }
}

#[test]
fn two_stars_at_the_end_are_one() {
    let workflow = "workflow: {rules: [{if: $CI_COMMIT_BRANCH}]}\n";
    let text = format!(
        "{workflow}j:\n  script: x\n  rules:\n    - changes: ['src/**', 'docs/**/*']\n    - changes:\n        paths:\n          - '**'\n    - exists: lib/**\nk: {{script: x}}\n"
    );
    assert_eq!(codes(&text), ["glob-direct-children:5", "glob-direct-children:8", "glob-direct-children:9"]);
    check(&[("j:\n  script: x\n  only: {changes: ['a/**']}\n", &["glob-direct-children:3"])]);
    check(&[("j:\n  script: x\n  artifacts: {paths: ['a/**']}\n", &[])]);
}

#[test]
fn images_use_variables_that_exist() {
    check(&[
        ("j: {script: x, image: 'node:$VERSION'}\n", &["undefined-variable-in-image:1"]),
        ("default:\n  image: node:$V\nj: {script: x}\nk: {script: x}\n", &["undefined-variable-in-image:2"]),
        ("j:\n  script: x\n  services: [{name: 'pg:${V}'}]\n", &["undefined-variable-in-image:3"]),
        ("variables: {V: 1}\nj: {script: x, image: 'node:$V'}\n", &[]),
        ("j: {script: x, image: 'node:$V', parallel: {matrix: [{V: [a, b]}]}}\n", &[]),
        ("j: {script: x, image: '$CI_REGISTRY_IMAGE/a:$CI_COMMIT_SHA'}\n", &[]),
        ("a: {script: x, artifacts: {reports: {dotenv: e}}}\nj: {script: x, image: 'node:$V'}\n", &[]),
    ]);
}

#[test]
fn pulled_caches_are_written_by_somebody() {
    let pull = "j: {script: x, cache: {key: a, paths: [p], policy: pull}}\n";
    check(&[(pull, &["cache-never-written:1"])]);
    for (writer, unwritten) in [
        ("{key: a, paths: [p]}", false),
        ("{key: b, paths: [p]}", true),
        ("{key: $CI_COMMIT_REF_SLUG, paths: [p]}", false),
        ("{key: {files: [a]}, paths: [p]}", true),
        ("{key: a, paths: [p], policy: $POLICY}", false),
    ] {
        let codes = codes(&format!("{pull}k: {{script: x, cache: {writer}}}\n"));
        assert_eq!(!codes.is_empty(), unwritten, "{writer}: {codes:?}");
    }
}

#[test]
fn artifacts_are_read_by_jobs_or_by_people() {
    let stages = "stages: [a, b]\n";
    let build = "j: {script: x, stage: a, artifacts: {paths: [p]}}\n";
    for (text, unread) in [
        (format!("{stages}{build}k: {{script: x, stage: b, needs: []}}\n"), true),
        (format!("{stages}{build}k: {{script: x, stage: b, dependencies: []}}\n"), true),
        (format!("{stages}{build}k: {{script: x, stage: b, needs: [{{job: j, artifacts: false}}]}}\n"), true),
        (format!("{stages}{build}k: {{script: x, stage: b, needs: [j]}}\n"), false),
        (format!("{stages}{build}k: {{script: x, stage: b}}\n"), false),
        (format!("{stages}{build}"), false),
        (
            format!(
                "{stages}{}k: {{script: x, stage: b, needs: []}}\n",
                build.replace("[p]", "[p], expose_as: p")
            ),
            false,
        ),
    ] {
        let codes = codes(&text);
        assert_eq!(codes.iter().any(|c| c == "artifact-never-read:2"), unread, "{text}: {codes:?}");
    }
}

#[test]
fn needs_that_repeat_the_stages() {
    let jobs = "stages: [a, b]\nj: {script: x, stage: a}\nk: {script: x, stage: a}\n";
    for (needs, repeats) in
        [("[j, k]", true), ("[j]", false), ("[]", false), ("[j, {job: k, artifacts: false}]", false)]
    {
        let codes = codes(&format!("{jobs}l:\n  script: x\n  stage: b\n  needs: {needs}\n"));
        assert_eq!(codes.iter().any(|c| c == "needs-repeats-stages:7"), repeats, "{needs}: {codes:?}");
    }
    let manual = jobs.replace("k: {", "k: {when: manual, ") + "l: {script: x, stage: b, needs: [j, k]}\n";
    assert_eq!(codes(&manual), Vec::<String>::new(), "stages don't wait for an optional manual job");
}

#[test]
fn two_pipelines_for_one_push() {
    let both = "j:\n  script: x\n  rules:\n    - if: $CI_PIPELINE_SOURCE == 'merge_request_event'\n    - if: $CI_COMMIT_BRANCH\n";
    let open = "workflow:\n  rules:\n    - if: $CI_PIPELINE_SOURCE == 'merge_request_event'\n    - if: $CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS\n      when: never\n    - if: $CI_COMMIT_BRANCH\n";
    check(&[(both, &["duplicate-pipelines:3"])]);
    assert_eq!(codes(&format!("{open}{both}")), Vec::<String>::new());
    check(&[("j: {script: x}\n", &[])]);
    // GitLab's own warning about the same is enough
    check(&[("j:\n  script: x\n  rules:\n    - when: always\n", &["duplicate-pipelines:4"])]);
}

#[test]
fn comments_allow_what_is_meant() {
    for (text, left) in [
        ("# ci-lint: allow unused-hidden-job\n.a: {script: x}\nj: {script: y}\n", 0),
        (".a: {script: x} # ci-lint: allow other, unused-hidden-job\nj: {script: y}\n", 0),
        ("# ci-lint: allow unused-hidden-job\n# for the team\n.a: {script: x}\nj: {script: y}\n", 0),
        ("# ci-lint: allow unused-hidden-job\n\n.a: {script: x}\nj: {script: y}\n", 1),
        ("# ci-lint: allow unused\n.a: {script: x}\nj: {script: y}\n", 1),
    ] {
        let (diagnostics, sources) = found(text);
        assert_eq!(diagnostics.iter().filter(|d| !is_allowed(d, &sources)).count(), left, "{text}");
    }
}
