//! `ci lint` and `ci plan` as people and programs call them.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

use serde_json::Value as Json;
use std::path::Path;
use std::process::{Command, Output};

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Project {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project(directory);
        project.git(&["init", "-q", "-b", "main"]);
        project.git(&["add", "-A"]);
        project.git(&["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "x"]);
        project
    }

    fn git(&self, arguments: &[&str]) {
        assert!(Command::new("git").arg("-C").arg(self.0.path()).args(arguments).status().unwrap().success());
    }

    fn ci(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ci"));
        command.args(arguments).current_dir(self.0.path()).env("XDG_CONFIG_HOME", self.0.path().join("none"));
        command.output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Json {
        serde_json::from_slice(&self.ci(arguments).stdout).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const MISTAKES: &str = "\
include: ci/more.yml
stages: [build, test]
build:
  stage: build
  scirpt: y
  script: make
test:
  stage: tset
  extends: .bsae
lint:
  script: x
  stage: test
  needs: [biuld]
deploy:
  script: x
  when: sometimes
thing:
  image: y
";
const MORE: &str = "extra:\n  script: x\n  stage: test\n  tags: 5\n";

/// Code, file and line of each finding.
fn places(report: &Json) -> Vec<String> {
    let place = |d: &Json| {
        let word = |key: &str| d[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}:{}", word("code"), word("file"), d["line"])
    };
    report["diagnostics"].as_array().unwrap().iter().map(place).collect()
}

#[test]
fn all_mistakes_are_shown_at_once_with_their_lines() {
    let project = Project::new(&[(".gitlab-ci.yml", MISTAKES), ("ci/more.yml", MORE)]);
    let mut found = places(&project.json(&["lint", "--format", "json"]));
    found.sort();
    let expected = [
        "bad-value .gitlab-ci.yml:16",
        "extends .gitlab-ci.yml:9",
        "need-undefined .gitlab-ci.yml:13",
        "no-script .gitlab-ci.yml:17",
        "stage-undefined .gitlab-ci.yml:8",
        "unknown-key .gitlab-ci.yml:5",
        "wrong-type ci/more.yml:4",
    ];
    assert_eq!(found, expected);
    let plan = project.json(&["plan", "--format", "json"]);
    assert_eq!(
        plan["errors"],
        serde_json::json!(["test: unknown keys in `extends` (.bsae)"]),
        "GitLab stops there"
    );
    let output = project.ci(&["lint"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with(".gitlab-ci.yml is not valid: 7 errors, 0 warnings\n"));
}

#[test]
fn reports_for_programs_name_the_files() {
    let project = Project::new(&[(".gitlab-ci.yml", MISTAKES), ("ci/more.yml", MORE)]);
    let sarif = project.json(&["lint", "--format", "sarif"]);
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!((results.len(), &sarif["version"]), (7, &Json::from("2.1.0")));
    let issues = project.json(&["lint", "--format", "gitlab"]);
    let files: Vec<&Json> =
        issues.as_array().unwrap().iter().map(|issue| &issue["location"]["path"]).collect();
    assert!(files.contains(&&Json::from("ci/more.yml")) && files.len() == 7, "{files:?}");
}

#[test]
fn hints_are_allowed_by_comments_and_settings() {
    let hidden = ".a: {image: x}\n.b: {image: x} # ci-lint: allow unused-hidden-job\nj: {script: x}\n";
    let project = Project::new(&[(".gitlab-ci.yml", hidden)]);
    assert_eq!(places(&project.json(&["lint", "--format", "json"])), ["unused-hidden-job .gitlab-ci.yml:1"]);
    assert_eq!(project.json(&["plan", "--format", "json"])["warnings"], serde_json::json!([]));
    let settings = "lint: {allow: [unused-hidden-job]}\n";
    let project = Project::new(&[(".gitlab-ci.yml", hidden), (".ci/settings.yml", settings)]);
    assert_eq!(text(&project.ci(&["lint"]).stdout), ".gitlab-ci.yml is valid: 1 job\n");
}

#[test]
fn merged_configuration_makes_the_same_plan() {
    let root = "include: ci/more.yml\n.b: {image: 'x:1', variables: {A: \"yes\"}}\nj:\n  extends: .b\n  script:\n    - !reference [.s, script]\n    - |\n      a: b\n";
    let more = ".s: {script: ['echo \"x: y\"', '#']}\nk: {script: x, needs: [j], parallel: {matrix: [{V: ['1.10', 2]}]}}\n";
    let project = Project::new(&[(".gitlab-ci.yml", root), ("ci/more.yml", more)]);
    let plan = project.json(&["plan", "--format", "json", "--no-changes"]);
    assert_eq!(plan["jobs"].as_array().map(Vec::len), Some(3), "{plan}");
    let merged = project.ci(&["lint", "--merged"]).stdout;
    assert!(!text(&merged).contains("include") && !text(&merged).contains("extends"));
    std::fs::write(project.0.path().join(".gitlab-ci.yml"), merged).unwrap();
    assert_eq!(project.json(&["plan", "--format", "json", "--no-changes"]), plan);
}

#[test]
fn explanations_need_no_project() {
    let ci = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_ci")).args(arguments).current_dir("/").output().unwrap()
    };
    assert!(text(&ci(&["lint", "--explain", "glob-direct-children"]).stdout).contains("src/**/*"));
    assert!(text(&ci(&["lint", "--explain"]).stdout).lines().count() > 50);
    let unknown = ci(&["lint", "--explain", "duplicate-keys"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `duplicate-key`?"));
}

const RULES: &str = "\
build: {script: x}
deploy:
  script: x
  rules:
    - if: $CI_COMMIT_BRANCH == \"prod\"
    - changes: [src/*]
      exists: [nope]
      when: manual
release:
  script: x
  only: [tags]
";

#[test]
fn why_shows_the_values_that_were_compared() {
    let project = Project::new(&[(".gitlab-ci.yml", RULES)]);
    let deploy = text(&project.ci(&["plan", "--why", "deploy", "--changed", "src/a"]).stdout);
    for line in [
        "job `deploy` is not in the pipeline: none of its rules matches",
        "  rule 1 does not match  .gitlab-ci.yml:5",
        "        $CI_COMMIT_BRANCH = \"main\"",
        "    ✓ changes: src/*",
        "    ✗ exists: nope",
    ] {
        assert!(deploy.lines().any(|l| l == line), "{line}\n{deploy}");
    }
    let on_prod =
        text(&project.ci(&["plan", "--why", "deploy", "--variable", "CI_COMMIT_BRANCH=prod"]).stdout);
    assert!(on_prod.starts_with("job `deploy` is in the pipeline: rule 1 matches\n"), "{on_prod}");
    let release = project.json(&["plan", "--why", "release", "--format", "json"]);
    assert_eq!(
        (&release["jobs"][0]["included"], &release["jobs"][0]["because"]),
        (&Json::from(false), &Json::from("only"))
    );
    let unknown = project.ci(&["plan", "--why", "delpoy"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `deploy`?"));
}

#[test]
fn why_says_that_the_workflow_dropped_the_pipeline() {
    let workflow = "workflow:\n  rules:\n    - if: $CI_COMMIT_TAG\nj: {script: x}\n";
    let project = Project::new(&[(".gitlab-ci.yml", workflow)]);
    let output = text(&project.ci(&["plan", "--why", "j"]).stdout);
    assert!(
        output.contains("`workflow:rules` let none come into being")
            && output.contains("$CI_COMMIT_TAG is not defined"),
        "{output}"
    );
}

#[test]
fn drawings_go_to_standard_output_alone() {
    let project =
        Project::new(&[(".gitlab-ci.yml", "j: {script: x}\nj: {script: y}\nk: {script: x, needs: [j]}\n")]);
    let graph = project.ci(&["plan", "--graph"]);
    assert_eq!(text(&graph.stdout), "at once\n└─ j     test\n   └─ k  test\n");
    assert!(text(&graph.stderr).contains("duplicate-key"));
    assert!(text(&project.ci(&["plan", "--format", "dot"]).stdout).starts_with("digraph pipeline {\n"));
    assert!(text(&project.ci(&["plan", "--format", "mermaid"]).stdout).contains("  j0 --> j1\n"));
}
