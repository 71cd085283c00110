//! The pipelines below `tests/cases/`: each directory is a project, `case.yml` says what is run and expected.
//! Every case runs in the sandbox and in the shell executor, unless it says otherwise.

use crate::tree::{Said, Tree, said};
use pipelines::event::{Event, EventKind};
use pipelines::status::Status;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Only in this executor.
    executor: Option<String>,
    /// One after the other, with the same state.
    runs: Vec<Expectation>,
}

/// One `ci run`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    #[serde(default)]
    args: Vec<String>,
    /// Environment of `ci` itself.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files that are changed before, and not committed.
    #[serde(default)]
    write: BTreeMap<String, String>,
    code: i32,
    /// Texts on standard output or standard error.
    #[serde(default)]
    says: Vec<String>,
    /// The last status of every job.
    jobs: Option<BTreeMap<String, String>>,
    #[serde(default)]
    attempts: BTreeMap<String, u32>,
    /// Jobs in the order in which they began.
    began: Option<Vec<String>>,
    /// Jobs of which no two ran at once.
    #[serde(default)]
    apart: Vec<String>,
    /// Lines of a job's log.
    #[serde(default)]
    log: BTreeMap<String, Vec<String>>,
    /// What a job's log must not contain.
    #[serde(default)]
    log_without: BTreeMap<String, Vec<String>>,
    /// Texts that are neither printed nor in any file of the state.
    #[serde(default)]
    nowhere: Vec<String>,
}

#[test]
fn pipelines_run_as_their_cases_say() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut waiting = Vec::new();
    for entry in fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(path.join("case.yml")).unwrap();
        let case: Case = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let executors = case.executor.map_or(vec!["sandbox".into(), "shell".into()], |only| vec![only]);
        waiting.extend(executors.into_iter().map(|executor| (path.clone(), executor)));
    }
    let (waiting, wrong) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((path, executor)) = waiting.lock().unwrap().pop() else { break };
                    let found = check_case(&path, &executor);
                    wrong.lock().unwrap().extend(found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} differences:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

fn check_case(path: &Path, executor: &str) -> Vec<String> {
    let tree = Tree::bare();
    copy(path, &tree.dir());
    fs::remove_file(tree.dir().join("case.yml")).unwrap();
    tree.commit();
    let case: Case = serde_yaml::from_str(&fs::read_to_string(path.join("case.yml")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for (run, number) in case.runs.iter().zip(1..) {
        let before = tree.newest_run();
        run.write.iter().for_each(|(path, text)| tree.write(path, text));
        let mut arguments = vec!["run", "--executor", executor];
        arguments.extend(run.args.iter().map(String::as_str));
        let said = said(tree.ci(&arguments).envs(&run.env));
        let mut found = check_output(run, &said, &tree);
        if tree.newest_run() != before {
            found.extend(check_events(run, &tree.events(), &tree));
        } else if run.jobs.is_some() {
            found.push("nothing was run".into());
        }
        if !found.is_empty() {
            let name = path.file_name().unwrap().display();
            wrong.push(format!("== {name} ({executor}), run {number}\n{}\n{said}", found.join("\n")));
        }
    }
    wrong
}

fn check_output(run: &Expectation, said: &Said, tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    if said.code != run.code {
        wrong.push(format!("exit code {} instead of {}", said.code, run.code));
    }
    wrong.extend(run.says.iter().filter(|text| !said.contains(text)).map(|text| format!("not said: {text}")));
    for text in &run.nowhere {
        if said.contains(text) {
            wrong.push(format!("said: {text}"));
        }
        wrong.extend(tree.files_with(text).iter().map(|file| format!("`{text}` is in {}", file.display())));
    }
    wrong
}

fn check_events(run: &Expectation, events: &[Event], tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut statuses = BTreeMap::new();
    let (mut attempts, mut began, mut running) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
    for event in events {
        let EventKind::JobStatus { job, status, attempt, allowed_to_fail, .. } = &event.kind else {
            continue;
        };
        let allowed = if *allowed_to_fail { ", allowed" } else { "" };
        let word = serde_json::to_value(status).unwrap();
        statuses.insert(job.clone(), format!("{}{allowed}", word.as_str().unwrap()));
        attempts.insert(job.clone(), *attempt);
        if *status == Status::Running {
            began.push(job.clone());
            running.insert(job.clone());
        } else {
            running.remove(job);
        }
        if run.apart.iter().filter(|job| running.contains(*job)).count() > 1 {
            wrong.push(format!("ran at once: {running:?}"));
        }
    }
    if run.jobs.as_ref().is_some_and(|expected| *expected != statuses) {
        wrong.push(format!("jobs ended as {statuses:?}"));
    }
    if run.began.as_ref().is_some_and(|expected| *expected != began) {
        wrong.push(format!("jobs began as {began:?}"));
    }
    for (job, expected) in &run.attempts {
        if attempts.get(job) != Some(expected) {
            wrong.push(format!("`{job}` was tried {:?} times", attempts.get(job)));
        }
    }
    wrong.extend(check_logs(run, tree));
    wrong
}

fn check_logs(run: &Expectation, tree: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    for (job, lines) in &run.log {
        let log = tree.log(job);
        let missing = lines.iter().filter(|line| !log.lines().any(|got| got == line.as_str()));
        wrong.extend(missing.map(|line| format!("no line `{line}` in the log of `{job}`:\n{log}")));
    }
    for (job, texts) in &run.log_without {
        let log = tree.log(job);
        let there = texts.iter().filter(|text| log.contains(text.as_str()));
        wrong.extend(there.map(|text| format!("`{text}` is in the log of `{job}`:\n{log}")));
    }
    wrong
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
