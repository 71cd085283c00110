//! What commands say and end with, as a table.

use crate::tree::{Said, Tree};

const GOOD: &str = "
stages: [build, test]
compile:
  stage: build
  script: [make]
unit:
  stage: test
  needs: [compile]
  image: host
  script: [make test]
gone:
  rules: [{if: '$CI_COMMIT_TAG'}]
  script: [make dist]
by-hand:
  when: manual
  script: [make clean]
";

/// Arguments, exit code, texts that are said.
type Row<'a> = (&'a [&'a str], i32, &'a [&'a str]);

#[track_caller]
fn check(tree: &Tree, rows: &[Row<'_>]) {
    for (arguments, code, texts) in rows {
        let said = tree.run(arguments);
        assert_eq!(said.code, *code, "{arguments:?}: {said}");
        for text in *texts {
            assert!(said.contains(text), "{arguments:?}: `{text}` is not in {said}");
        }
        quiet_about_itself(arguments, &said);
    }
}

/// No error may look like one of ours instead of the user's.
#[track_caller]
fn quiet_about_itself(arguments: &[&str], said: &Said) {
    for text in ["panicked", "RUST_BACKTRACE", "Os {"] {
        assert!(!said.contains(text), "{arguments:?}: {said}");
    }
}

#[test]
fn commands_end_with_the_documented_codes() {
    let tree = Tree::pipeline(GOOD);
    check(
        &tree,
        &[
            (&["plan"], 0, &["3 jobs", "compile", "needs compile", "image host", "manual"]),
            (&["plan", "--format", "json"], 0, &["\"compile\""]),
            (&["plan", "--ref", "v1", "--tag"], 0, &["gone", "tag v1"]),
            (&["lint"], 0, &[".gitlab-ci.yml is valid: 4 jobs"]),
            (&["lint", "--format", "json"], 0, &["\"valid\": true"]),
            (&["run", "compil"], 2, &["`compil`", "compile"]),
            (&["run", "gone"], 2, &["`gone`"]),
            (&["run", "--manual", "nobody"], 2, &["`nobody`"]),
            (&["run", "-j", "0"], 2, &["0"]),
            (&["run", "--executor", "ship"], 2, &["ship", "sandbox", "shell"]),
            (&["run", "--changed", "a", "--no-changes"], 2, &["--no-changes"]),
            (&["plan", "--changes-since", "nowhere"], 2, &["nowhere", "--changed PATH"]),
            (&["plan", "-C", "/"], 2, &["git repository", "git init"]),
            (&["plan", "-C", "/no/such/directory"], 2, &["/no/such/directory"]),
            (&["plan", "--file", "absent.yml"], 1, &["absent.yml"]),
            (&["frobnicate"], 2, &["frobnicate"]),
            (&[], 2, &["Usage"]),
            (&["--help"], 0, &["Exit codes", "130"]),
            (&["--version"], 0, &["ci "]),
            (&["expression", "--variable", "A=1", "$A == '1'"], 0, &["true"]),
            (&["expression", "$A == '1'"], 1, &["false"]),
            (&["expression", "$A =="], 2, &["not valid"]),
            (&["glob", "**/*.rs", "src/main.rs"], 0, &["true"]),
            (&["glob", "*.rs", "src/main.rs"], 1, &["false"]),
            (&["completions", "bash"], 0, &["complete"]),
        ],
    );
}

#[test]
fn without_a_repository_or_a_commit_the_first_step_is_said() {
    let tree = Tree::bare();
    tree.write(".gitlab-ci.yml", GOOD);
    for command in ["run", "plan", "lint"] {
        check(&tree, &[(&[command], 2, &["git repository", "git init"])]);
    }
    tree.git(&["init", "-q", "-b", "main"]);
    for command in ["run", "plan", "lint"] {
        check(&tree, &[(&[command], 2, &["no commit yet", "commit once"])]);
    }
}

#[test]
fn a_repository_without_a_pipeline_is_told_which_file_is_missing() {
    let tree = Tree::with(&[("README", "hello")]);
    for command in ["run", "plan", "lint"] {
        check(&tree, &[(&[command], 1, &[".gitlab-ci.yml"])]);
    }
}

#[test]
fn a_subdirectory_is_as_good_as_the_top() {
    let tree = Tree::with(&[(".gitlab-ci.yml", "job: {script: [cat deep/file]}"), ("deep/file", "found\n")]);
    check(
        &tree,
        &[(&["run", "-C", "deep"], 0, &["job | found"]), (&["-C", "deep", "run"], 0, &["job | found"])],
    );
}

#[test]
fn mistakes_are_shown_with_file_line_and_column_all_at_once() {
    let rows: [(&str, &[&str]); 7] = [
        ("job:\n  script: [make\n", &[".gitlab-ci.yml:"]),
        ("job:\n\tscript: make\n", &[".gitlab-ci.yml:2:"]),
        ("job:\n  script: make\n  needs: [absent]\n", &[".gitlab-ci.yml:3:", "absent"]),
        ("job:\n  script: make\n  stage: biuld\n", &[".gitlab-ci.yml:3:", "biuld"]),
        ("include: lib/absent.yml\njob: {script: make}\n", &[".gitlab-ci.yml:1:", "lib/absent.yml"]),
        ("include: lib.yml\n", &["lib.yml:3:"]),
        ("[]\n", &[".gitlab-ci.yml:1:1"]),
    ];
    for (yaml, texts) in rows {
        let tree =
            Tree::with(&[(".gitlab-ci.yml", yaml), ("lib.yml", "job:\n  script: [make]\n  when: [x]\n")]);
        for command in ["lint", "plan", "run"] {
            check(&tree, &[(&[command], 1, texts)]);
        }
        let said = tree.run(&["lint", "--format", "json"]);
        let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(document["valid"], false);
        assert!(tree.newest_run().is_none(), "an invalid pipeline starts nothing");
    }
}

#[test]
fn a_pipeline_that_nothing_is_in_says_so() {
    let tree = Tree::pipeline("job: {script: [make], rules: [{if: '$NEVER'}]}\n");
    for command in ["plan", "run"] {
        check(&tree, &[(&[command], 1, &["ci plan --why"])]);
    }
    check(&tree, &[(&["lint"], 0, &["valid"])]);
}

#[test]
fn doctor_says_what_works_here() {
    let tree = Tree::bare();
    check(&tree, &[(&["doctor"], 0, &["containers", "disk", "GiB free"]), (&["doctor", "x"], 2, &["'x'"])]);
    let said = tree.run(&["doctor", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["name"].is_string() && check["found"].is_string()), "{said}");
    assert_eq!(checks[0]["name"], "containers");
}

#[test]
fn debug_needs_a_job_and_a_terminal() {
    let tree = Tree::pipeline(GOOD);
    check(
        &tree,
        &[
            (&["run", "--debug", "absent"], 2, &["`--debug absent`", "ci plan"]),
            (&["run", "--debug", "unit"], 2, &["needs a terminal"]),
            (&["run", "--debug", "unit", "--executor", "shell"], 2, &["needs a terminal"]),
        ],
    );
}

#[test]
fn settings_choose_the_image_and_the_limits() {
    let tree = Tree::pipeline("job: {script: [echo never]}\n");
    tree.write(".ci/settings.yml", "image: 127.0.0.1:1/absent:1\n");
    check(&tree, &[(&["run"], 1, &["127.0.0.1:1/absent:1", "image_pull_failure"])]);
    tree.write(".ci/settings.yml", "limits: {memory: tiny}\n");
    check(&tree, &[(&["run"], 2, &["settings.yml", "such as `512m`"])]);
}
