//! Runs that are ended from outside: nothing may be left running, and nothing on disk for long.

use crate::tree::{Tree, command_lines, until};
use pipelines::event::EventKind;
use pipelines::status::Status;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const EXECUTORS: [&str; 2] = ["sandbox", "shell"];

/// A run whose job `job` has begun and waits. `{mark}` in the YAML is a number that no other process has.
pub(crate) struct Waiting {
    pub(crate) tree: Tree,
    ci: Child,
    mark: String,
}

impl Waiting {
    fn start(executor: &str, yaml: &str) -> Self {
        Self::start_with(executor, yaml, &[])
    }

    pub(crate) fn start_with(executor: &str, yaml: &str, environment: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark =
            format!("6{:06}{:02}", std::process::id() % 1_000_000, NEXT.fetch_add(1, Ordering::Relaxed));
        let tree = Tree::pipeline(&yaml.replace("{mark}", &mark));
        let mut ci = tree.ci(&["run", "--executor", executor]);
        ci.envs(environment.iter().copied());
        // a group of its own, as a shell gives every command: Ctrl-C reaches all of it
        let ci = ci.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let waiting = Self { tree, ci, mark };
        until("the job says that it is ready", || waiting.log_has("ready"));
        until("the job's process is there", || waiting.left());
        waiting
    }

    pub(crate) fn log_has(&self, line: &str) -> bool {
        self.tree.log("job").lines().any(|got| got == line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let ci = Pid::from_child(&self.ci);
        let sent =
            if signal == Signal::INT { kill_process_group(ci, signal) } else { kill_process(ci, signal) };
        sent.unwrap();
    }

    /// The second time when the first has been heard.
    pub(crate) fn interrupt_twice(&self) {
        self.signal(Signal::INT);
        until("the first one has been heard", || {
            let notice = |kind: &EventKind| matches!(kind, EventKind::Notice { job: None, .. });
            self.tree.events().iter().any(|event| notice(&event.kind))
        });
        self.signal(Signal::INT);
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.ci.wait().unwrap().code()
    }

    /// Is a process of the job still there?
    pub(crate) fn left(&self) -> bool {
        command_lines().iter().any(|line| line.contains(&self.mark))
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.tree.events().into_iter().rev().find_map(|event| match event.kind {
            EventKind::JobStatus { job, status, .. } if job == "job" => Some(status),
            _ => None,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.ci.kill();
        let _ = self.ci.wait();
    }
}

pub(crate) const POLITE: &str = "
job:
  script:
    - trap 'sleep 0.3; echo cleaned up; exit 1' TERM
    - sleep {mark} &
    - echo ready
    - wait
  after_script: ['echo \"after, $CI_JOB_STATUS\"']
next:
  stage: deploy
  script: [echo next]
";

#[test]
fn one_interrupt_cancels_and_lets_after_script_run() {
    for signal in [Signal::INT, Signal::TERM] {
        for executor in EXECUTORS {
            let mut run = Waiting::start(executor, POLITE);
            run.signal(signal);
            assert_eq!(run.ended(), Some(130), "{executor}");
            assert!(run.log_has("cleaned up"), "{executor}: {}", run.tree.log("job"));
            assert!(run.log_has("after, canceled"), "{executor}: {}", run.tree.log("job"));
            assert_eq!(run.status(), Some(Status::Canceled));
            until("the job's processes are gone", || !run.left());
            assert!(run.tree.log("next").is_empty());
        }
    }
}

pub(crate) const STUBBORN: &str = "
job:
  script:
    - trap '' TERM INT
    - sleep {mark} &
    - echo ready
    - while true; do wait; sleep 0.1; done
  after_script: [echo after]
";

#[test]
fn a_second_interrupt_kills_what_does_not_listen() {
    for executor in EXECUTORS {
        let mut run = Waiting::start(executor, STUBBORN);
        run.interrupt_twice();
        assert_eq!(run.ended(), Some(130), "{executor}");
        assert_eq!(run.status(), Some(Status::Canceled));
        assert!(!run.log_has("after"), "{executor}: {}", run.tree.log("job"));
        until("the job's processes are gone", || !run.left());
    }
}

#[test]
fn a_killed_ci_leaves_no_process_and_the_next_run_sweeps() {
    let mut run = Waiting::start("sandbox", POLITE);
    run.signal(Signal::KILL);
    assert_eq!(run.ended(), None);
    until("the job's processes are gone", || !run.left());
    let sandboxes = run.tree.home().join("sandboxes");
    let left =
        || fs::read_dir(&sandboxes).unwrap().flatten().filter(|e| e.file_name().to_str().unwrap() == "0");
    assert_eq!(left().count(), 1, "what the dead run had");
    run.tree.write(".gitlab-ci.yml", "job: {script: [echo again]}\n");
    assert_eq!(run.tree.run(&["run"]).code, 0);
    assert!(run.log_has("again"));
    assert_eq!(left().count(), 0);
    let trash = fs::read_dir(sandboxes.join(".trash")).map_or(0, Iterator::count);
    assert_eq!(trash, 0);
}

#[test]
fn a_killed_ci_leaves_no_process_of_the_shell_executor_even_in_sessions_of_their_own() {
    let yaml = "
job:
  script:
    - trap '' TERM
    - (setsid sh -c 'trap \"\" TERM; sleep {mark}' >/dev/null 2>&1 &)
    - echo ready
    - sleep 1000
";
    let mut run = Waiting::start("shell", yaml);
    run.signal(Signal::KILL);
    assert_eq!(run.ended(), None);
    until("the job's processes are gone", || !run.left());
}
