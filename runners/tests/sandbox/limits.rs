//! Limits of memory, processes and processor time.

use runners::sandbox::{ExitStatus, Limits, Streams};
use tokio::io::AsyncReadExt as _;

use crate::job::{Job, is_root};

/// Runs a script in these limits: how it ended, what it wrote, whether memory ran out; none: they can't be set here.
async fn within(limits: Limits, script: &str) -> Option<(ExitStatus, String, bool)> {
    let mut job = Job::new();
    job.spec.limits = limits;
    let mut process = job.sandbox.start(&job.spec, Job::command(script), Streams::piped()).await.unwrap();
    let noted = process.notes().join("; ");
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)).unwrap();
    let status = process.wait().await.unwrap();
    let killed = process.out_of_memory();
    job.finish().await;
    if !noted.is_empty() {
        assert!(noted.contains("limit"), "{noted}");
        return None;
    }
    Some((status, out + &err, killed))
}

#[tokio::test]
async fn a_job_beyond_its_memory_is_killed_and_that_is_known() {
    let limits = Limits { memory: Some(32 << 20), ..Limits::default() };
    let greedy = "head -c 200000000 /dev/zero | tail";
    let Some((status, text, killed)) = within(limits, greedy).await else { return };
    assert!(killed, "{status:?} {text}");
    assert_ne!(status, ExitStatus::Code(0));
    let (status, text, killed) =
        within(limits, "head -c 2000000 /dev/zero | tail -c1 | wc -c").await.unwrap();
    assert_eq!((status, text.as_str(), killed), (ExitStatus::Code(0), "1\n", false));
}

/// It forks as a bomb does, but 127 shells are the end of it: should the limit fail, it must not take the machine
/// with it.
#[tokio::test]
async fn a_fork_bomb_goes_off_within_its_sandbox() {
    let bomb = "bomb() { [ $1 = 0 ] && exec sleep 1; bomb $(($1 - 1)) & bomb $(($1 - 1)) & wait; }; bomb 6";
    let limits = Limits { pids: Some(30), ..Limits::default() };
    match within(limits, bomb).await {
        Some((_, text, killed)) => assert!(!killed && text.to_lowercase().contains("fork"), "{text}"),
        None => assert!(!is_root(), "as root there are control groups on the machines that tests run on"),
    }
    let job = Job::new();
    assert_eq!(job.output("echo calm").await, "calm\n");
    job.finish().await;
}

/// Not a real bomb: should the limit fail, it must not take the machine with it.
#[tokio::test]
async fn more_processes_than_allowed_cannot_be_started() {
    let limits = Limits { pids: Some(40), ..Limits::default() };
    let many = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i + 1)); done; echo all";
    match within(limits, many).await {
        Some((_, text, killed)) => assert!(!killed && !text.contains("all"), "{text}"),
        None => assert!(!is_root(), "as root there are control groups on the machines that tests run on"),
    }
}

#[tokio::test]
async fn limits_that_hold_are_seen_in_the_groups() {
    let limits = Limits { memory: Some(64 << 20), cpus: Some(0.5), pids: Some(77) };
    let Some((status, text, _)) = within(limits, "cat /proc/self/cgroup").await else { return };
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    let left = std::process::Command::new("find")
        .args(["/sys/fs/cgroup", "-maxdepth", "4", "-name", &format!("slipway-{}*", std::process::id())])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}
