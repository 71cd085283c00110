//! What `ci run` shows, chooses and leaves.

use crate::tree::{Tree, until};
use std::fs;
use std::process::Stdio;

const YAML: &str = "
stages: [build, test, deploy]
compile:
  stage: build
  script: [echo compiling, mkdir out, echo made > out/file]
  artifacts: {paths: [out/]}
docs:
  stage: build
  script: [echo documenting]
unit:
  stage: test
  needs: [compile]
  script: [cat out/file, echo before, test -e fixed, echo after]
flaky:
  stage: test
  needs: [docs]
  allow_failure: true
  script: [exit 4]
ship:
  stage: deploy
  script: [cat out/file]
by-hand:
  stage: deploy
  when: manual
  script: [echo by hand]
";

#[test]
fn quiet_tells_failures_and_the_end_only() {
    let tree = Tree::pipeline(YAML);
    let said = tree.run(&["run", "-q", "docs"]).ended(0);
    assert!(said.stdout.starts_with("pipeline success after ") && said.stdout.lines().count() == 1, "{said}");
    let said = tree.run(&["run", "--quiet"]).ended(1).says(&["  > $ test -e fixed", "pipeline failed"]);
    said.never_says(&["compiling", "documenting", "critical path", "logs and artifacts"]);
}

#[test]
fn the_end_says_where_the_time_went_and_which_command_failed() {
    let tree = Tree::pipeline(YAML);
    let said = tree.run(&["run"]).ended(1);
    said.says(&[
        "\ncritical path  ",
        "compile",
        "\nslowest",
        "unit: failed (exit code 1)\n  > $ test -e fixed\n",
    ]);
}

#[test]
fn stages_and_the_way_to_a_job_are_chosen() {
    let tree = Tree::pipeline(YAML);
    let rows: [(&[&str], i32, &str); 7] = [
        (&["--stage", "build"], 0, "compile docs"),
        (&["--stage", "build", "--stage", "deploy"], 0, "by-hand compile docs ship"),
        (&["--stage", "deploy", "compile"], 0, "by-hand compile ship"),
        (&["--until", "unit"], 0, "compile docs unit"),
        (&["unit", "--needs"], 0, "compile unit"),
        (&["--stage", "tset"], 2, ""),
        (&["--until", "unti"], 2, ""),
    ];
    for (arguments, code, expected) in rows {
        let arguments = [&["run", "--dry-run", "--format", "json"], arguments].concat();
        let said = tree.run(&arguments).ended(code);
        if code == 0 {
            let plan = said.json();
            let mut jobs: Vec<&str> =
                plan["jobs"].as_array().unwrap().iter().map(|j| j["name"].as_str().unwrap()).collect();
            jobs.sort_unstable();
            assert_eq!(jobs.join(" "), expected, "{arguments:?}");
        } else {
            said.says(&["did you mean"]);
        }
    }
    assert!(tree.newest_run().is_none(), "--dry-run runs nothing");
    tree.run(&["run", "--dry-run"]).ended(0).says(&["6 jobs", "by-hand", "manual", "nothing was run"]);
}

#[test]
fn junit_has_a_case_for_each_job() {
    let tree = Tree::pipeline(YAML);
    let file = tree.dir().join("report.xml");
    tree.run(&["run", "--junit", "report.xml"]).ended(1);
    let text = fs::read_to_string(&file).unwrap();
    for part in [
        "tests=\"6\" skipped=\"3\" failures=\"1\" errors=\"0\"",
        "<testsuite name=\"build\" tests=\"2\"",
        "<testcase name=\"compile\" classname=\"build\"",
        "<failure message=\"failed (exit code 1)\" type=\"script_failure\">$ test -e fixed",
        "<skipped message=\"failed (exit code 4, allowed)\"",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    tree.run(&["run", "docs", "--junit", "no/such/directory/x.xml"])
        .ended(2)
        .says(&["JUnit", "no/such/directory"]);
}

#[test]
fn annotations_point_at_the_job_in_the_file() {
    let tree = Tree::pipeline(YAML);
    let said = tree.run(&["run", "-q", "--annotations", "github"]).ended(1);
    said.says(&[
        "\n::error file=.gitlab-ci.yml,line=10,title=unit failed (exit code 1)::failed (exit code 1)%0A$ test -e fixed\n",
        "\n::warning file=.gitlab-ci.yml,line=14,title=flaky failed",
    ]);
    tree.run(&["run", "--annotations", "github", "--format", "json"]).ended(2).says(&["--junit FILE"]);
    tree.run(&["run", "-q"]).ended(1).never_says(&["::error"]);
}

#[test]
fn watching_runs_again_what_a_change_concerns() {
    let yaml = "
always: {script: [echo always]}
rust: {script: [echo rust], rules: [{changes: ['src/*']}]}
docs: {script: [echo docs], rules: [{changes: ['docs/*']}]}
";
    let tree = Tree::with(&[(".gitlab-ci.yml", yaml), (".gitignore", "ignored\n"), ("src/a", "1")]);
    let log = tree.dir().join("ignored");
    let out = fs::File::create(&log).unwrap();
    let err = out.try_clone().unwrap();
    let mut ci =
        tree.ci(&["run", "--watch"]).stdout(Stdio::from(out)).stderr(Stdio::from(err)).spawn().unwrap();
    let text = || fs::read_to_string(&log).unwrap_or_default();
    let waits = |times: usize| {
        until(&format!("it waits for the {times}. time"), || {
            assert!(!text().contains("error"), "{}", text());
            text().matches("waiting for changes").count() == times
        });
    };
    waits(1);
    assert!(text().contains("3 jobs in"), "a branch without a base has everything changed: {}", text());
    tree.write("src/a", "2");
    waits(2);
    let second = text().split("waiting for changes").nth(1).unwrap().to_owned();
    assert!(second.contains("changed: src/a\n") && second.contains("rust   | rust"), "{second}");
    assert!(second.contains("always | always") && !second.contains("docs"), "{second}");
    // a directory that was not there before
    tree.write("docs/b", "1");
    waits(3);
    let third = text().split("waiting for changes").nth(2).unwrap().to_owned();
    assert!(third.contains("changed: docs/b\n") && third.contains("docs   | docs"), "{third}");
    assert!(!third.contains("rust"), "{third}");
    let pid = rustix::process::Pid::from_child(&ci);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(ci.wait().unwrap().code(), Some(130));
}

#[test]
fn completions_know_the_names_of_the_project() {
    let tree = Tree::pipeline(
        "a job: {script: [x]}\n'$(touch hacked)': {script: [x]}\nother: {stage: deploy, script: [x]}\n",
    );
    tree.run(&["run", "-q", "--dry-run"]).ended(0);
    for (shell, text) in [("bash", "ci names"), ("zsh", ":JOB:_ci_jobs"), ("fish", "ci names stages")] {
        tree.run(&["completions", shell]).ended(0).says(&[text]);
    }
    let script = tree.run(&["completions", "bash"]).ended(0).stdout;
    tree.write("complete.sh", &script);
    let program = "
        . ./complete.sh
        try() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _ci_with_names; printf '%s;' \"${COMPREPLY[@]}\"; echo; }
        try ci run ''; try ci run a; try ci run --stage d; try ci plan --why o; try ci run --docto";
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_ci")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = std::process::Command::new("bash")
        .args(["-c", program])
        .current_dir(tree.dir())
        .env("PATH", path)
        .env("SLIPWAY_HOME", tree.home())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "a\\ job;\\$\\(touch\\ hacked\\);other;\na\\ job;\ndeploy;\nother;\n;\n");
    assert!(!tree.dir().join("hacked").exists(), "names are not run");
}

#[test]
fn every_command_has_a_manual_page() {
    let tree = Tree::bare();
    tree.run(&["man", "pages/man1"]).ended(0);
    let page = |name: &str| fs::read_to_string(tree.dir().join("pages/man1").join(name)).unwrap();
    assert!(page("ci.1").contains("ci\\-run(1)") && page("ci-run.1").contains("after_script"));
    assert!(!tree.dir().join("pages/man1/ci-names.1").exists(), "what only scripts call has none");
}
