//! Downstream pipelines, of this project and of others, through the binary on the shell executor.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Project {
        let project = Project { dir: tempfile::tempdir().unwrap() };
        project.git(&["init", "-q", "-b", "main"]);
        for (name, text) in files {
            std::fs::write(project.root().join(name), text).unwrap();
        }
        project.git(&["add", "-A"]);
        project.git(&["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one"]);
        project
    }

    /// Another project beside this one, on the branch `main`.
    fn beside(&self, name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(dir.join(".ci")).unwrap();
        git_in(&dir, &["init", "-q", "-b", "main"]);
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
        git_in(&dir, &["add", "-A"]);
        git_in(&dir, &["commit", "-qm", "one"]);
        dir
    }

    fn settings(&self, text: &str) {
        std::fs::create_dir_all(self.root().join(".ci")).unwrap();
        std::fs::write(self.root().join(".ci/settings.yml"), text).unwrap();
    }

    fn root(&self) -> std::path::PathBuf {
        let root = self.dir.path().join("project");
        std::fs::create_dir_all(&root).unwrap();
        root
    }

    fn git(&self, args: &[&str]) {
        assert!(Command::new("git").args(args).current_dir(self.root()).status().unwrap().success());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ci"));
        command.args(args).current_dir(self.root());
        command.env("SLIPWAY_HOME", self.dir.path().join("home")).env("NO_COLOR", "1");
        command
    }

    fn ci(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// `name=status ...` as the jobs ended, sorted by name, and the exit code.
    fn ends(&self, args: &[&str]) -> (String, i32) {
        let output = self.ci(&[&["run", "--executor", "shell", "--format", "json"], args].concat());
        let mut ends = std::collections::BTreeMap::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let event: Json = serde_json::from_str(line).unwrap();
            if event["event"] == "job_status" {
                ends.insert(
                    event["job"].as_str().unwrap().to_owned(),
                    event["status"].as_str().unwrap().to_owned(),
                );
            }
        }
        let ends: Vec<String> = ends.into_iter().map(|(job, status)| format!("{job}={status}")).collect();
        (ends.join(" "), output.status.code().unwrap())
    }

    fn logs(&self, dir: &Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                text.push_str(&self.logs(&path));
            } else if path.ends_with("job.log") {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            }
        }
        text
    }
}

fn git_in(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(args).current_dir(dir);
    assert!(git.status().unwrap().success());
}

#[test]
fn variables_and_artifacts_reach_child_and_grandchild() {
    let root = "
stages: [build, child]
variables: {GLOBAL: g, OVER: yaml}
gen:
  stage: build
  script:
    - 'printf \"spec:\\n  inputs: {word: {}}\\n---\\ndyn:\\n  script: [\\\"echo dyn $[[ inputs.word ]]\\\"]\\n\" > gen.yml'
    - echo VERSION=1.2 > build.env
  artifacts: {paths: [gen.yml], reports: {dotenv: build.env}}
kid:
  stage: child
  variables: {X: \"x-$VERSION\", PARENT: $CI_PIPELINE_ID}
  trigger: {include: child.yml, strategy: depend, forward: {pipeline_variables: false}}
dyn:
  stage: child
  trigger: {include: [{artifact: gen.yml, job: gen, inputs: {word: W}}], strategy: mirror}
";
    let root = root.replace("$[[ inputs.word ]]", "\\$[[ inputs.word ]]");
    let child = "
use:
  needs: [{pipeline: $PARENT, job: gen}]
  script: [test -f gen.yml, 'echo [$GLOBAL $OVER $X $VERSION $ASKED] $CI_PIPELINE_SOURCE']
grand: {trigger: {include: grand.yml, strategy: depend}}
";
    let files =
        [(".gitlab-ci.yml", root.as_str()), ("child.yml", child), ("grand.yml", "g: {script: 'echo [$X]'}")];
    let project = Project::new(&files);
    // one slot: a trigger job that waits for its pipeline must not keep it from running
    let (ends, code) = project.ends(&["-j", "1", "--variable", "OVER=asked", "--variable", "ASKED=yes"]);
    let all = "dyn=success dyn > dyn=success gen=success kid=success kid > grand=success \
               kid > grand > g=success kid > use=success";
    assert_eq!((ends.as_str(), code), (all, 0));
    let logs = project.logs(&project.dir.path().join("home"));
    assert!(logs.contains("\ndyn W\n"), "{logs}");
    // the YAML's value of OVER, not the one that was asked for: pipeline variables are not forwarded
    assert!(logs.contains("\n[g yaml x-1.2 1.2 ] parent_pipeline\n"), "{logs}");
    assert!(logs.contains("\n[]\n"), "{logs}");
}

#[test]
fn strategies_decide_what_a_childs_end_means() {
    let table = [
        ("", "bad: {script: exit 1}", "kid=success kid > bad=failed", 0),
        (", strategy: depend", "bad: {script: exit 1}", "kid=failed kid > bad=failed", 1),
        (", strategy: mirror", "bad: {script: exit 1}", "kid=failed kid > bad=failed", 1),
        (
            ", strategy: depend",
            "m: {script: echo, when: manual, allow_failure: false}",
            "kid=manual kid > m=manual",
            1,
        ),
        (", strategy: mirror", "m: {script: echo, when: manual}", "kid=skipped kid > m=manual", 0),
        (", strategy: depend", "m: {script: echo, when: manual}", "kid=failed kid > m=manual", 1),
        (", strategy: depend", "nothing: {}", "kid=failed", 1),
        ("", "no: {script: echo, rules: [{if: $NO}]}", "kid=failed", 1),
    ];
    for (strategy, child, expected, code) in table {
        let root = format!("kid: {{trigger: {{include: child.yml{strategy}}}}}");
        let project = Project::new(&[(".gitlab-ci.yml", &root), ("child.yml", child)]);
        assert_eq!(project.ends(&[]), (expected.to_owned(), code), "{strategy} {child}");
    }
}

#[test]
fn a_manual_job_of_a_child_is_played_by_its_whole_name() {
    let root = "kid: {trigger: {include: child.yml, strategy: depend}}";
    let child = "m: {script: echo, when: manual, allow_failure: false}\nn: {script: echo, needs: [m]}";
    let project = Project::new(&[(".gitlab-ci.yml", root), ("child.yml", child)]);
    let all = "kid=success kid > m=success kid > n=success".to_owned();
    assert_eq!(project.ends(&["--manual", "kid > m"]), (all, 0));
    assert_eq!(project.ends(&["--manual", "kid > n"]), ("kid=failed".to_owned(), 1));
}

#[test]
fn what_was_not_run_is_never_a_success() {
    let table = [
        ("a: {trigger: group/other}", "a=failed"),
        ("a: {trigger: {project: group/other, strategy: depend}}", "a=failed"),
        ("a: {needs: {pipeline: group/other}}", "a=failed"),
        (
            "a: {trigger: {include: [{artifact: x.yml, job: b}]}}\nb: {stage: build, script: echo}",
            "a=failed b=success",
        ),
    ];
    for (root, expected) in table {
        let project = Project::new(&[(".gitlab-ci.yml", root)]);
        assert_eq!(project.ends(&[]), (expected.to_owned(), 1), "{root}");
    }
}

#[test]
fn the_report_tells_coverage_and_why_a_child_is_not_created() {
    let root = "
t: {stage: build, script: 'echo Lines 71.5%; echo end', coverage: '/Lines (\\d+\\.\\d+)%/'}
kid: {trigger: {include: child.yml}}
";
    let project = Project::new(&[(".gitlab-ci.yml", root), ("child.yml", "x: {scrip: echo}")]);
    let output = project.ci(&["run", "--executor", "shell"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("(coverage 71.5 %)"), "{text}");
    assert!(text.contains("jobs x config should implement the script:, run:, or trigger: keyword"), "{text}");
    assert!(text.contains("child.yml:1:"), "{text}");
}

#[test]
fn a_manual_job_that_is_named_is_played() {
    let project = Project::new(&[(".gitlab-ci.yml", "m: {script: echo, when: manual}\nn: {script: echo}")]);
    assert_eq!(project.ends(&["m"]), ("m=success".to_owned(), 0));
    assert_eq!(project.ends(&[]), ("m=manual n=success".to_owned(), 0));
}

#[test]
fn simulated_sources_have_their_variables() {
    let root = "
show:
  rules: [{if: '$CI_PIPELINE_SOURCE'}]
  variables:
    SEEN: $CI_PIPELINE_SOURCE|$CI_COMMIT_BRANCH|$CI_COMMIT_TAG|$CI_MERGE_REQUEST_TARGET_BRANCH_NAME|$CI_COMMIT_BEFORE_SHA|$CI_MERGE_REQUEST_DIFF_BASE_SHA$AND
    AND: '|$CI_PIPELINE_TRIGGERED|$CI_UPSTREAM_PIPELINE_ID'
  script: echo
";
    let project = Project::new(&[(".gitlab-ci.yml", root)]);
    let commit = |what| {
        project.git(&[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "commit",
            "-qm",
            what,
            "--allow-empty",
        ])
    };
    let head = || {
        let out =
            Command::new("git").args(["rev-parse", "HEAD"]).current_dir(project.root()).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    let base = head();
    project.git(&["tag", "v1"]);
    project.git(&["checkout", "-q", "-b", "feature"]);
    commit("two");
    commit("three");
    let zeros = "0".repeat(40);
    let table: [(&[&str], String); 7] = [
        (&["--source", "merge_request_event"], format!("merge_request_event|||main|{zeros}|{base}||")),
        (&["--source", "schedule"], format!("schedule|feature|||{zeros}|||")),
        (&["--ref", "v1", "--tag"], format!("push||v1||{zeros}|||")),
        (&["--source", "web"], format!("web|feature|||{zeros}|||")),
        (&["--source", "api"], format!("api|feature|||{zeros}|||")),
        (&["--source", "trigger"], format!("trigger|feature|||{zeros}||true|")),
        (&["--source", "pipeline"], format!("pipeline|feature|||{zeros}|||1")),
    ];
    for (args, expected) in table {
        let output = project.ci(&[&["plan", "--format", "json"], args].concat());
        let plan: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(plan["jobs"][0]["variables"]["SEEN"], Json::from(expected), "{args:?} {plan}");
    }
    assert_eq!(project.ci(&["plan", "--source", "pusch"]).status.code(), Some(2));
    // what changed is known for pushes of branches and for merge requests, otherwise `changes` holds
    let changes =
        "j: {script: echo, rules: [{changes: [other]}]}\nk: {script: echo, rules: [{when: always}]}";
    std::fs::write(project.root().join(".gitlab-ci.yml"), changes).unwrap();
    project.git(&["add", "-A"]);
    commit("four");
    for (args, jobs) in [
        (&["--source", "push"][..], 1),
        (&["--source", "merge_request_event"], 1),
        (&["--source", "schedule"], 2),
        (&["--source", "web"], 2),
        (&["--ref", "v1", "--tag"], 2),
        (&["--source", "api", "--no-changes"], 1),
    ] {
        let output = project.ci(&[&["plan", "--format", "json"], args].concat());
        let plan: Json = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(plan["jobs"].as_array().unwrap().len(), jobs, "{args:?} {plan}");
    }
}

/// Reads lines until one has the text; all of them.
fn until(out: &mut impl BufRead, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let before = all.len();
        out.read_line(&mut all).unwrap();
        assert!(all.len() > before, "no `{text}` in {all}");
    }
    all
}

#[test]
fn a_resource_group_holds_between_two_runs_and_their_children() {
    let root = "kid: {trigger: {include: child.yml, strategy: depend}}";
    let child =
        "deploy: {resource_group: prod, script: ['echo begun', 'until test -e $GO; do sleep 0.05; done']}";
    let project = Project::new(&[(".gitlab-ci.yml", root), ("child.yml", child)]);
    let go = project.dir.path().join("go");
    let variables = format!("GO: {}\n", go.display());
    std::fs::create_dir_all(project.root().join(".ci")).unwrap();
    std::fs::write(project.root().join(".ci/variables.yml"), variables).unwrap();
    let start = || {
        let mut run = project.command(&["run", "--executor", "shell"]);
        let mut run = run.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(run.stdout.take().unwrap());
        (run, out)
    };
    let (mut first, mut first_out) = start();
    until(&mut first_out, "| begun");
    let (mut second, mut second_out) = start();
    let text = until(&mut second_out, "waits for resource group `prod`");
    assert!(!text.contains("| begun"), "{text}");
    std::fs::write(&go, "").unwrap();
    until(&mut first_out, "pipeline success");
    until(&mut second_out, "pipeline success");
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
}

const OTHER: &str = "
spec: {inputs: {word: {default: none}, count: {type: number, default: 1}}}
---
include: [{project: group/shared, file: shared.yml}]
show:
  script:
    - 'echo [$CI_PROJECT_PATH $CI_PIPELINE_SOURCE $CI_COMMIT_REF_NAME $GIVEN $KEPT $LOCAL $[[ inputs.word ]] $[[ inputs.count ]]]'
    - 'echo [$CI_UPSTREAM_PIPELINE_ID] $(cat who.txt)'
pushed: {script: exit 1, rules: [{if: $CI_PIPELINE_SOURCE == \"push\"}]}
changed: {script: echo, rules: [{changes: [no/such/file]}]}
";

#[test]
fn a_pipeline_of_another_project_has_its_own_files_settings_and_variables() {
    let root = "
variables: {GIVEN: yaml}
go:
  variables: {KEPT: $CI_PROJECT_PATH}
  trigger: {project: $GROUP/other, branch: work, strategy: depend, inputs: {word: w, count: 7}}
";
    let project = Project::new(&[(".gitlab-ci.yml", root)]);
    let who = ("who.txt", "committed");
    let other = project.beside("other", &[(".gitlab-ci.yml", OTHER), who]);
    std::fs::write(other.join(".ci/variables.yml"), "LOCAL: of-other\nGIVEN: lower").unwrap();
    std::fs::write(other.join(".ci/settings.yml"), "sources: {group/shared: ../../shared}").unwrap();
    std::fs::write(other.join("who.txt"), "not committed").unwrap();
    git_in(&other, &["branch", "work"]);
    project.beside("shared", &[("shared.yml", "shared: {script: echo}")]);
    // ignored by git, as settings of one person often are
    project.settings("sources: {group/other: ../../other}");
    std::fs::write(project.root().join(".git/info/exclude"), ".ci/\n").unwrap();
    let (ends, code) = project.ends(&["--variable", "GROUP=group", "--project", "group/this"]);
    let all = "go=success go > group/other > changed=success go > group/other > shared=success \
               go > group/other > show=success";
    assert_eq!((ends.as_str(), code), (all, 0));
    let logs = project.logs(&project.dir.path().join("home"));
    assert!(logs.contains("\n[group/other pipeline work yaml group/this of-other w 7]\n"), "{logs}");
    assert!(logs.contains("\n[1] committed\n"), "{logs}");
}

#[test]
fn a_project_behind_a_url_runs_its_default_branch_and_nothing_of_its_local_settings() {
    let root = "go: {trigger: {project: group/other, strategy: depend}}";
    let other = "show: {script: 'echo [$CI_COMMIT_BRANCH $CI_DEFAULT_BRANCH $LOCAL]'}";
    let project = Project::new(&[(".gitlab-ci.yml", root)]);
    let files = [(".gitlab-ci.yml", other), (".ci/variables.yml", "LOCAL: {cmd: echo ran}")];
    let dir = project.beside("other", &files);
    git_in(&dir, &["branch", "-m", "trunk"]);
    project.settings(&format!("sources: {{group/*: 'file://{}/*'}}", project.dir.path().display()));
    let both = "go=success go > group/other > show=success".to_owned();
    assert_eq!(project.ends(&[]), (both.clone(), 0));
    let logs = project.logs(&project.dir.path().join("home"));
    assert!(logs.contains("\n[trunk trunk ]\n"), "{logs}");
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(project.ends(&["--offline"]), (both, 0), "what was fetched is enough");
}

#[test]
fn what_keeps_another_projects_pipeline_from_being_created_is_said() {
    let table: [(&str, &str, &str); 6] = [
        ("group/gone", "sources: {}", "`sources: {group/gone: https://HOST/group/gone.git}`"),
        ("group/other, branch: nosuch", "", "`group/other` at `nosuch`: the project has no such ref"),
        ("group/plain", "", "is no git repository, and a pipeline is for a commit; run `git init`"),
        ("group/broken", "", "jobs x config should implement the script:, run:, or trigger: keyword"),
        ("group/other, inputs: {no: 1}", "", "Given inputs not defined in the `spec` section"),
        ("group/circle", "", "the pipelines trigger each other in a circle"),
    ];
    for (trigger, settings, expected) in table {
        let root = format!("go: {{trigger: {{project: {trigger}, strategy: depend}}}}");
        let project = Project::new(&[(".gitlab-ci.yml", &root)]);
        project.beside("other", &[(".gitlab-ci.yml", "x: {script: echo}")]);
        project.beside("broken", &[(".gitlab-ci.yml", "x: {scrip: echo}")]);
        let again = "go: {trigger: {project: group/circle, strategy: depend}}";
        project.beside("circle", &[(".gitlab-ci.yml", again)]);
        std::fs::create_dir_all(project.dir.path().join("plain")).unwrap();
        project.settings(if settings.is_empty() { "sources: {group/*: ../../*}" } else { settings });
        let output = project.ci(&["run", "--executor", "shell"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(expected), "{trigger}: {text}");
        assert_eq!(output.status.code(), Some(1), "{trigger}");
    }
}

#[test]
fn a_child_pipeline_includes_from_where_the_project_does() {
    let root = "kid: {trigger: {include: child.yml, strategy: depend}}";
    let child = "include: [{project: group/shared, file: shared.yml}]";
    let project = Project::new(&[(".gitlab-ci.yml", root), ("child.yml", child)]);
    project.beside("shared", &[("shared.yml", "shared: {script: 'echo $CI_UPSTREAM_PIPELINE_ID'}")]);
    project.settings("sources: {group/shared: ../../shared}");
    std::fs::write(project.root().join(".git/info/exclude"), ".ci/\n").unwrap();
    assert_eq!(project.ends(&[]), ("kid=success kid > shared=success".to_owned(), 0));
}

#[test]
fn a_manual_job_of_another_project_is_played_by_its_whole_name() {
    let root = "go: {trigger: {project: group/other, strategy: depend}}";
    let project = Project::new(&[(".gitlab-ci.yml", root)]);
    project.beside("other", &[(".gitlab-ci.yml", "m: {script: echo, when: manual, allow_failure: false}")]);
    project.settings("sources: {group/other: ../../other}");
    let played = "go=success go > group/other > m=success".to_owned();
    assert_eq!(project.ends(&["--manual", "go > group/other > m"]), (played, 0));
    assert_eq!(project.ends(&[]), ("go=manual go > group/other > m=manual".to_owned(), 1));
}

#[test]
fn the_mode_of_a_resource_group_decides_who_is_next() {
    for (mode, order) in
        [("oldest_first", ["first", "second", "third"]), ("newest_first", ["first", "third", "second"])]
    {
        let root = "deploy: {resource_group: prod, script: ['echo $WHO >> $LIST', 'until test -e $GO; do sleep 0.05; done']}";
        let project = Project::new(&[(".gitlab-ci.yml", root)]);
        let (go, list) = (project.dir.path().join("go"), project.dir.path().join("list"));
        project.settings(&format!("resource_groups: {{prod: {mode}}}"));
        let start = |who: &str| {
            let mut run =
                project.command(&["run", "--executor", "shell", "--variable", &format!("WHO={who}")]);
            run.args(["--variable", &format!("LIST={}", list.display())]);
            run.args(["--variable", &format!("GO={}", go.display())]);
            let mut run = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let out = BufReader::new(run.stdout.take().unwrap());
            (run, out)
        };
        let (mut first, mut first_out) = start("first");
        while !list.exists() {
            std::thread::yield_now();
        }
        let waiting: Vec<_> = ["second", "third"]
            .map(|who| {
                let (run, mut out) = start(who);
                until(&mut out, "waits for resource group `prod`");
                (run, out)
            })
            .into();
        std::fs::write(&go, "").unwrap();
        until(&mut first_out, "pipeline success");
        assert!(first.wait().unwrap().success());
        for (mut run, mut out) in waiting {
            until(&mut out, "pipeline success");
            assert!(run.wait().unwrap().success());
        }
        let listed = std::fs::read_to_string(&list).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), order, "{mode}");
    }
}
