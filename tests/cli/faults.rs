//! Jobs that behave badly: nothing of it may cost `ci` its memory, its log or its patience.

use crate::tree::{Tree, command_lines, until};
use pipelines::event::EventKind;
use pipelines::status::Status;
use std::fs;
use std::process::Stdio;

const EXECUTORS: [&str; 2] = ["sandbox", "shell"];

/// The most memory that `ci` itself has used at once, in KiB, and its exit code.
fn peak(tree: &Tree, executor: &str) -> (u64, Option<i32>) {
    let mut ci = tree.ci(&["run", "--executor", executor]);
    let mut ci = ci.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", ci.id());
    let mut most = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(peak.unwrap_or(0));
        if let Some(status) = ci.try_wait().unwrap() {
            return (most, status.code());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn neither_endless_logs_nor_endless_lines_cost_memory() {
    let yaml = |script: &str| format!("job:\n  script: ['{script}', echo the end]\n");
    for executor in EXECUTORS {
        let (usual, code) = peak(&Tree::pipeline(&yaml("echo short")), executor);
        assert_eq!(code, Some(0), "{executor}");
        for (what, script) in [
            ("200 MB of lines", "(yes this is one of very many lines || true) | head -c 200000000"),
            ("a line of 100 MB", "head -c 100000000 /dev/zero | tr \"\\\\0\" x"),
            ("binary noise", "head -c 50000000 /dev/urandom"),
        ] {
            let tree = Tree::pipeline(&yaml(script));
            let (most, code) = peak(&tree, executor);
            let log = fs::metadata(tree.newest_run().unwrap().join("jobs/job/1/job.log")).unwrap().len();
            assert_eq!(code, Some(0), "{what}, {executor}");
            assert!(tree.log("job").contains("exceeded limit of 4194304 bytes"), "{what}, {executor}");
            let text = tree.log("job");
            assert!(text.contains("bytes are left out)") && text.contains("the end\n"), "{what}, {executor}");
            assert!(text.contains("Job succeeded"), "{what}, {executor}");
            assert!((4 << 20..5 << 20).contains(&log), "{what}, {executor}: {log}");
            assert!(most < usual + 40_000, "{what}, {executor}: {most} KiB, usually {usual}");
        }
    }
}

#[test]
fn noise_that_is_no_text_harms_no_report() {
    // every byte, ends of lines and escapes among them, also broken UTF-8
    let script = "i=0; while [ $i -lt 256 ]; do printf \"\\\\$(printf %03o $i)\"; i=$((i + 1)); done; exit 3";
    for executor in EXECUTORS {
        let tree = Tree::pipeline(&format!("job:\n  script: ['{script}']\n"));
        let said = tree.run(&["run", "--executor", executor, "--junit", "report.xml"]);
        assert_eq!(said.code, 1, "{executor}: {said}");
        let log = fs::read(tree.newest_run().unwrap().join("jobs/job/1/job.log")).unwrap();
        assert!(
            log.windows(3).any(|bytes| bytes == [0xfd, 0xfe, 0xff]),
            "{executor}: the log is as it was said"
        );
        let report = fs::read_to_string(tree.dir().join("report.xml")).unwrap();
        assert!(!report.contains(|c: char| c.is_control() && !c.is_whitespace()), "{executor}: {report:?}");
    }
}

#[test]
fn a_job_that_ignores_being_asked_is_killed_at_its_timeout() {
    for executor in EXECUTORS {
        let mark = format!("1000.6{}{}", std::process::id(), executor.len());
        let tree = Tree::pipeline(&format!(
            "
job:
  timeout: 1 second
  variables: {{RUNNER_SCRIPT_TIMEOUT: 1s}}
  script: [\"trap '' TERM INT HUP\", 'while :; do sleep {mark}; done']
"
        ));
        let said = tree.run(&["run", "--executor", executor]);
        assert_eq!(said.code, 1, "{executor}: {said}");
        let failed = tree
            .events()
            .into_iter()
            .any(|event| matches!(event.kind, EventKind::JobStatus { status: Status::Failed, .. }));
        assert!(failed && tree.log("job").contains("execution took longer than"), "{executor}: {said}");
        until("its processes are gone", || !command_lines().iter().any(|line| line.contains(&mark)));
    }
}
