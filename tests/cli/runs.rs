//! Runs that are over, and those under way: `ci runs`, `ci logs`, `ci run --failed`.

use crate::tree::{Tree, until};
use std::fs;
use std::process::Stdio;

const YAML: &str = "
stages: [build, test, deploy]
compile:
  stage: build
  script: [echo compiling, mkdir out, 'echo \"made in $CI_PIPELINE_ID\" > out/file']
  artifacts: {paths: [out/], reports: {dotenv: out/env}}
  after_script: ['true']
  before_script: [mkdir -p out, rmdir out]
unit:
  stage: test
  script: [cat out/file, test -e fixed]
  parallel: 2
ship:
  stage: deploy
  needs: [compile, unit]
  script: [cat out/file]
fine:
  stage: test
  needs: []
  script: [echo fine]
";

#[test]
fn a_run_of_what_failed_takes_the_rest_from_the_last_run() {
    let tree = Tree::pipeline(YAML);
    tree.run(&["run", "--failed"]).ended(2).says(&["no runs yet", "`ci run`"]);
    tree.run(&["run"]).ended(1);
    let said = tree.run(&["run", "--failed", "--dry-run"]).ended(0);
    said.says(&[
        "3 jobs",
        "unit 1/2",
        "ship",
        "what did not succeed in run 1 runs again; 2 jobs are taken from there",
    ]);
    tree.write("fixed", "");
    let said = tree.run(&["run", "--failed"]).ended(0);
    let said = said.says(&["3 jobs in 2 stages", "unit 1/2 | made in 1\n", "ship     | made in 1\n"]);
    said.never_says(&["compiling", "fine"]);
    tree.run(&["run", "--failed"]).ended(0).says(&["nothing failed in run 2"]);
    // what a run took from another is its own
    fs::remove_dir_all(tree.newest_run().unwrap().with_file_name("1")).unwrap();
    fs::remove_file(tree.dir().join("fixed")).unwrap();
    tree.run(&["run", "unit"]).ended(1);
    tree.run(&["run", "--failed", "unit"]).ended(2).says(&["--failed"]);
    tree.write(".gitlab-ci.yml", "other: {script: [echo other]}\n");
    let said = tree.run(&["run", "--failed"]).ended(2);
    said.says(&["what failed in run 3 is not in this pipeline: unit 1/2, unit 2/2"]);
}

#[test]
fn runs_are_listed_and_shown() {
    let tree = Tree::pipeline(YAML);
    tree.run(&["runs"]).ended(0).says(&["no runs yet"]);
    let first = tree.run(&["run", "-j", "1"]).ended(1);
    tree.write("new", "");
    tree.run(&["run", "fine"]).ended(0);
    let said = tree.run(&["runs"]).ended(0);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert!(lines[0].starts_with("run  when") && lines.len() == 3, "{said}");
    assert!(lines[1].starts_with("  2 ") && lines[1].contains("+  success "), "{said}");
    assert!(
        lines[2].starts_with("  1 ") && lines[2].contains("  main  ") && lines[2].contains("failed"),
        "{said}"
    );
    let json = tree.run(&["runs", "--format", "json"]).ended(0).json();
    assert_eq!((&json[0]["run"], &json[0]["uncommitted"]), (&2.into(), &true.into()));
    assert_eq!((&json[1]["status"], &json[1]["ref"]), (&"failed".into(), &"main".into()));
    let one = tree.run(&["runs", "1", "--format", "json"]).ended(0).json();
    assert_eq!(one["jobs"][1]["job"], "unit 1/2");
    assert_eq!(one["jobs"][1]["exit_code"], 1);
    let shown = tree.run(&["runs", "1"]).ended(0);
    let shown =
        shown.says(&["run 1: main at", "unit 1/2: failed", "  | made in 1\n", "  > $ test -e fixed\n"]);
    shown.never_says(&["unit 1/2 | "]);
    let again = tree.run(&["runs", "1", "--replay"]).ended(0);
    assert!(again.stdout.starts_with(&first.stdout), "{again}");
    tree.run(&["runs", "9"]).ended(2).says(&["no run 9", "the newest is 2"]);
    tree.run(&["runs", "--replay"]).ended(2);
}

#[test]
fn logs_fold_what_the_runner_says() {
    let tree = Tree::pipeline(YAML);
    tree.run(&["logs"]).ended(2).says(&["no runs yet"]);
    tree.run(&["run"]).ended(1);
    let failed = tree.run(&["logs"]).ended(0).says(&["── unit 1/2 ──", "── unit 2/2 ──", "$ test -e fixed"]);
    failed.never_says(&["compiling", "Using the"]);
    let one =
        tree.run(&["logs", "compile"]).ended(0).says(&["Preparing the place to run … ", "\ncompiling\n"]);
    assert!(!one.stdout.contains('\x1b') && !one.stdout.contains("section_"), "{one}");
    tree.run(&["logs", "compile", "--unfold"]).ended(0).says(&["Using the embedded executor"]);
    assert_eq!(tree.run(&["logs", "compile", "--raw"]).ended(0).stdout, tree.log("compile"));
    tree.run(&["logs", "unit"]).ended(0).says(&["── unit 1/2 ──", "── unit 2/2 ──"]);
    tree.run(&["logs", "unit 1/2", "--run", "1", "--attempt", "1"]).ended(0).says(&["made in 1"]);
    tree.run(&["logs", "unit 1/2", "--attempt", "2"]).ended(2).says(&["no attempt 2"]);
    tree.run(&["logs", "compil"]).ended(2).says(&["did you mean `compile`?"]);
    tree.run(&["logs", "ship"]).ended(2).says(&["skipped"]);
    tree.run(&["logs", "fine", "--service", "db"]).ended(2).says(&["`db`", "started no services"]);
    let services = tree.newest_run().unwrap().join("jobs/fine/1/services");
    fs::create_dir(&services).unwrap();
    fs::write(services.join("postgres.log"), "ready\n").unwrap();
    tree.run(&["logs", "fine", "--service", "db"]).ended(2).says(&["there are: postgres"]);
    assert_eq!(tree.run(&["logs", "fine", "--service", "postgres"]).ended(0).stdout, "ready\n");
    tree.run(&["run", "fine"]).ended(0);
    tree.run(&["logs"]).ended(0).says(&["\nfine\n"]).never_says(&["──"]);
}

#[test]
fn a_run_under_way_can_be_joined_and_a_killed_one_is_told() {
    let yaml = "job: {script: [echo begun, 'while ! test -e DIR/go; do sleep 0.05; done', echo ended]}\n";
    let tree = Tree::bare();
    tree.write(".gitlab-ci.yml", &yaml.replace("DIR", tree.dir().to_str().unwrap()));
    tree.commit();
    let start = || {
        let mut ci = tree.ci(&["run", "--executor", "shell"]);
        ci.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut ci = start();
    until("the job has begun", || tree.log("job").contains("\nbegun\n"));
    tree.run(&["runs"]).ended(0).says(&["running"]);
    tree.run(&["runs", "1"]).ended(0).says(&["job  test   running", "`ci logs --follow`"]);
    tree.run(&["run", "--failed"]).ended(2).says(&["run 1 is still running"]);
    let follow = |arguments: &[&str]| tree.ci(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let (job, run) = (follow(&["logs", "-f", "job"]), follow(&["logs", "-f"]));
    tree.write("go", "");
    let text =
        |child: std::process::Child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let (job, run) = (text(job), text(run));
    assert!(
        job.contains("\nbegun\n") && job.contains("\nended\n") && job.ends_with("Job succeeded\n"),
        "{job}"
    );
    assert!(
        run.starts_with("run 1: ") && run.contains("job | ended\n") && run.contains("pipeline success"),
        "{run}"
    );
    assert_eq!(ci.wait().unwrap().code(), Some(0));

    fs::remove_file(tree.dir().join("go")).unwrap();
    let mut ci = start();
    until("the second run is there", || tree.newest_run().is_some_and(|run| run.ends_with("2")));
    until("the job has begun again", || tree.log("job").contains("\nbegun\n"));
    ci.kill().unwrap();
    ci.wait().unwrap();
    tree.write("go", "");
    tree.run(&["runs"]).ended(0).says(&["lost"]);
    tree.run(&["runs", "2"]).ended(0).says(&["its `ci` was killed"]);
    tree.run(&["run", "--failed", "--dry-run"]).ended(0).says(&["did not succeed in run 2"]);
}
