//! Programs without a sandbox, below the supervisor.

use std::process::Stdio;

use runners::sandbox::{Command, ExitStatus, Process, Streams};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::job::{eventually, first_line, runs, sandbox, unique_sleep};

async fn start(script: &str) -> Process {
    let command = Command {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
        cwd: "/".into(),
    };
    sandbox().start_plain(command, Streams::piped()).await.unwrap()
}

/// Leaves a process behind in a session of its own, whose parent is gone.
fn escaping(sleep: &str) -> String {
    format!("setsid sh -c 'setsid sleep {sleep} >/dev/null 2>&1 & sleep 0' & ")
}

#[tokio::test]
async fn exit_codes_and_signals_come_out_as_they_are() {
    for (script, expected) in [
        ("exit 3", ExitStatus::Code(3)),
        ("kill -TERM $$", ExitStatus::Signal(15)),
        ("(exit 1) & wait; exit 0", ExitStatus::Code(0)),
    ] {
        assert_eq!(start(script).await.wait().await.unwrap(), expected, "{script}");
    }
}

#[tokio::test]
async fn what_left_its_session_ends_with_the_program() {
    let sleep = unique_sleep();
    let mut process = start(&format!("{} sleep 0.1; exit 4", escaping(&sleep))).await;
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(4));
    assert!(!runs(&sleep));
}

#[tokio::test]
async fn terminate_reaches_all_and_kill_ends_all() {
    let sleep = unique_sleep();
    let script = format!(
        "trap 'echo parent; exit 7' TERM; {} echo ready; while :; do sleep 0.05; done",
        escaping(&sleep)
    );
    let mut process = start(&script).await;
    first_line(&mut process).await;
    process.terminate();
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(7));
    assert!(!runs(&sleep));

    let mut process = start(&format!("trap '' TERM; {} echo ready; sleep {sleep}", escaping(&sleep))).await;
    first_line(&mut process).await;
    process.kill();
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Signal(9));
    assert!(!runs(&sleep));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error() {
    let command = Command { argv: vec!["/no/such".to_owned()], env: Vec::new(), cwd: "/".into() };
    let error = sandbox().start_plain(command, Streams::piped()).await.unwrap_err();
    assert!(error.to_string().contains("executing `/no/such`"), "{error}");
}

#[tokio::test]
async fn killing_the_parent_with_sigkill_leaves_no_process() {
    let sleep = unique_sleep();
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plain::parent_to_be_killed", "--ignored", "--nocapture"])
        .env("SLEEP", &sleep)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().unwrap() != "ready" {}
    eventually(|| runs(&sleep)).await;
    parent.kill().await.unwrap();
    eventually(|| !runs(&sleep)).await;
}

#[tokio::test]
#[ignore = "run by killing_the_parent_with_sigkill_leaves_no_process"]
async fn parent_to_be_killed() {
    let sleep = std::env::var("SLEEP").unwrap();
    let mut process = start(&format!("trap '' TERM; {} echo; sleep {sleep}", escaping(&sleep))).await;
    first_line(&mut process).await;
    println!("ready");
    process.wait().await.unwrap();
}
