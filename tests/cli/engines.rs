//! Runs in containers of Docker and Podman, as people start and end them. Needs root; says so and passes for others.

use crate::debug::{YAML, looks_around};
use crate::engine::Daemon;
use crate::registry::Registry;
use crate::stopping::{POLITE, STUBBORN, Waiting};
use crate::tree::until;
use pipelines::status::Status;
use rustix::process::Signal;
use std::thread;

struct Place {
    executor: &'static str,
    registry: Registry,
    daemon: Daemon,
}

impl Place {
    fn of(executor: &'static str, daemon: Daemon) -> Place {
        Place { executor, registry: Registry::with(&["tiny"]), daemon }
    }

    fn environment(&self) -> [(&str, &str); 1] {
        [(if self.executor == "podman" { "CONTAINER_HOST" } else { "DOCKER_HOST" }, &self.daemon.address)]
    }

    fn yaml(&self, yaml: &str) -> String {
        format!("default: {{image: \"{}\"}}\n{yaml}", self.registry.image("tiny"))
    }

    fn start(&self, yaml: &str) -> Waiting {
        Waiting::start_with(self.executor, &self.yaml(yaml), &self.environment())
    }

    fn one_interrupt_lets_after_script_run(&self) {
        let mut run = self.start(POLITE);
        run.signal(Signal::INT);
        assert_eq!(run.ended(), Some(130));
        let log = run.tree.log("job");
        assert!(run.log_has("cleaned up") && run.log_has("after, canceled"), "{log}");
        assert_eq!(run.status(), Some(Status::Canceled));
        assert!(!run.left(), "its processes are gone");
    }

    fn a_second_interrupt_kills(&self) {
        let mut run = self.start(STUBBORN);
        run.interrupt_twice();
        assert_eq!(run.ended(), Some(130));
        assert!(!run.log_has("after"), "{}", run.tree.log("job"));
        assert!(!run.left(), "its processes are gone");
    }

    /// Nobody is there any more to end what a killed `ci` had: the engine goes on, until the next run looks.
    fn the_next_run_sweeps_what_a_killed_one_left(&self) {
        let mut run = self.start(STUBBORN);
        run.signal(Signal::KILL);
        assert_eq!(run.ended(), None);
        run.tree.write(".gitlab-ci.yml", &self.yaml("job: {script: [echo again]}\n"));
        let mut ci = run.tree.ci(&["run", "--executor", self.executor]);
        let said = crate::said::said(ci.envs(self.environment()));
        assert_eq!(said.code, 0, "{said}");
        assert!(run.log_has("again"));
        until("the dead run's processes are gone", || !run.left());
    }

    fn holds(&self) {
        thread::scope(|scope| {
            scope.spawn(|| self.one_interrupt_lets_after_script_run());
            scope.spawn(|| self.a_second_interrupt_kills());
            scope.spawn(|| self.the_next_run_sweeps_what_a_killed_one_left());
            scope.spawn(|| looks_around(&self.yaml(YAML), self.executor, &self.environment()));
        });
        let left = self.daemon.left();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

#[allow(clippy::print_stderr, reason = "who runs the tests should see what was not tested")]
fn may_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can start an engine");
    }
    root
}

#[test]
fn nothing_is_left_of_runs_in_docker() {
    if may_run() {
        Place::of("docker", Daemon::docker()).holds();
    }
}

#[test]
fn nothing_is_left_of_runs_in_podman() {
    if may_run() {
        Place::of("podman", Daemon::podman()).holds();
    }
}
