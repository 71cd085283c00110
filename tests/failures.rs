//! How upgrades fail, produced for real: each is refused before anything is sent, or ends with the old version
//! serving; and the next deployment of what was mended works.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::path::PathBuf;
use std::process::Command;
use support::project::Project;
use support::target::{Target, run};

const STATE: &str = "urf_store:info().";

/// What becomes of the node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    /// It did not notice.
    Untouched,
    /// It restarted into the old version.
    Restarted,
}

struct Failure {
    name: &'static str,
    /// File, what stands there, what takes its place.
    change: (&'static str, &'static str, &'static str),
    codes: &'static [i32],
    says: &'static [&'static str],
    node: Node,
}

const CONVERT: &str = "    {ok, #state{count = Count, since = urf_util:now_s()}};";
const UPDATE: &str = "{update, urf_store, {advanced, []}, [urf_util]}]}],\n [";

/// Rows of the table of failure modes that a project can make.
const FAILURES: &[Failure] = &[
    Failure {
        name: "code_change returns an error",
        change: ("src/urf_store.erl", CONVERT, "    {error, {not_convertible, Count}};"),
        codes: &[4],
        says: &["not_convertible", "`0.1.0` serves again"],
        node: Node::Restarted,
    },
    Failure {
        name: "code_change takes longer than release_handler waits",
        change: ("src/urf_store.erl", CONVERT, "    timer:sleep(8000), {ok, #state{count = Count}};"),
        codes: &[4],
        says: &["timeout", "`0.1.0` serves again"],
        node: Node::Restarted,
    },
    Failure {
        name: "the virtual machine ends in code_change",
        change: ("src/urf_store.erl", CONVERT, "    erlang:halt(Count + 7), {ok, #state{count = Count}};"),
        codes: &[4],
        says: &["`0.1.0` serves again"],
        node: Node::Restarted,
    },
    Failure {
        name: "an apply after the point of no return fails",
        change: (
            "ebin/urf.appup",
            UPDATE,
            "{update, urf_store, {advanced, []}, [urf_util]}, {apply, {erlang, error, [hook_failed]}}]}],\n [",
        ),
        codes: &[4],
        says: &["hook_failed", "`0.1.0` serves again"],
        node: Node::Restarted,
    },
    Failure {
        name: "a process is loaded without code_change",
        change: ("ebin/urf.appup", UPDATE, "{load_module, urf_store}]}],\n ["),
        codes: &[3],
        says: &["urf_store"],
        node: Node::Untouched,
    },
    Failure {
        name: "a changed module is forgotten",
        change: (
            "ebin/urf.appup",
            "{add_module, urf_util},\n    {update, urf_store, {advanced, []}, [urf_util]}]}],",
            "{add_module, urf_util}]}],",
        ),
        codes: &[3],
        says: &["urf_store"],
        node: Node::Untouched,
    },
    Failure {
        name: "sys.config does not parse",
        change: ("config/sys.config", "]}].", "]}}."),
        codes: &[1, 3],
        says: &["sys.config"],
        node: Node::Untouched,
    },
    Failure {
        name: "the cookie changes",
        change: ("config/vm.args", "urf_cookie", "another_cookie"),
        codes: &[3],
        says: &["cookie"],
        node: Node::Untouched,
    },
    Failure {
        name: "an emulator restart that a release of relx does not survive",
        change: ("ebin/urf.appup", UPDATE, "restart_new_emulator]}],\n ["),
        codes: &[3],
        says: &["emulator"],
        node: Node::Untouched,
    },
];

/// Writes `.ci/deploy.yml`; `settings` are those of the environment.
fn settings(project: &Project, settings: &str) {
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    let text = format!("environments: {{dev: {{{settings}}}}}\n");
    std::fs::write(project.path().join(".ci/deploy.yml"), text).unwrap();
}

#[test]
fn every_failure_ends_with_the_old_version_serving() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    settings(&project, "strategy: {allow: [hot]}");
    for failure in FAILURES {
        let Failure { name, change: (file, from, to), codes, says, node } = failure;
        target.eval("urf_store:incr().");
        let (boot, state) = (target.boot(), target.eval(STATE));
        project.checkout("0.2.0");
        project.replace(file, from, to);
        let said = target.ci(project.path(), &["deploy", "dev"], &[]);
        assert!(codes.contains(&said.code), "{name}: {}\n{}{}", said.code, said.stderr, said.stdout);
        said.says(says);
        let untouched = target.boot() == boot;
        assert_eq!(untouched, *node == Node::Untouched, "{name}");
        let expected = if untouched { state.as_str() } else { "{v1, {state, 0}}" };
        assert_eq!(target.eval(STATE), expected, "{name}");
        assert!(!target.path("urf/releases/0.2.0").exists(), "{name}: something was left");
        assert!(!target.path("urf/.ci-lock").exists(), "{name}: the lock was left");
        target.ci(project.path(), &["env", "clear", "dev", "0.2.0", "--reason", "mended"], &[]).ended(0);
    }
    target.eval("urf_store:incr().");
    let boot = target.boot();
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["the same as before"]);
    assert_eq!(target.boot(), boot, "the node restarted");
}

#[test]
fn a_state_of_the_wrong_shape_is_seen_by_a_check_and_taken_back() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    settings(&project, "health: [{eval: 'urf_store:get() > 0', within: 1s}]");
    let boot = target.boot();
    project.checkout("0.2.0");
    project.replace("src/urf_store.erl", CONVERT, "    {ok, Count};");
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(4)
        .says(&["did not become true", "`0.1.0` serves again"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).starts_with("{v1, "));
}

#[test]
fn a_child_that_nobody_starts_is_seen_and_taken_back() {
    let (target, project) = (Target::start(), Project::at("0.2.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    let boot = target.boot();
    project.checkout("0.3.0");
    let appup = project.path().join("ebin/urf.appup");
    let text = std::fs::read_to_string(&appup).unwrap();
    let start = "{apply, {supervisor, restart_child, [urf_sup, urf_clock]}}";
    assert!(text.contains(start), "{text}");
    std::fs::write(&appup, text.replace(&format!(",\n    {start}"), "").replace(&format!("{start},\n"), ""))
        .unwrap();
    let said = target.ci(project.path(), &["deploy", "dev"], &[]);
    assert!(matches!(said.code, 3 | 4), "{said:?}");
    said.says(&["urf_clock"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).starts_with("{v2, {state, 1, "));
}

#[test]
fn old_code_that_still_runs_is_waited_for_where_the_appup_says_so() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    project.replace("src/urf_store.erl", "-export([start_link/0,", "-export([hold/0, start_link/0,");
    project.replace("src/urf_store.erl", "init([]) ->", "hold() -> receive go_on -> ok end.\n\ninit([]) ->");
    project.git(&["commit", "-qam", "A process that stays in the code"]);
    project.git(&["tag", "-f", "v0.1.0"]);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    settings(&project, "strategy: {allow: [hot]}");
    target.eval("register(held, spawn(urf_store, hold, [])), urf_store:incr(), code:load_file(urf_store).");
    let boot = target.boot();
    let upgrade = || {
        project.checkout("0.2.0");
        let softly = "{update, urf_store, {advanced, []}, soft_purge, soft_purge, [urf_util]}]}],\n [";
        project.replace("ebin/urf.appup", UPDATE, softly);
        target.ci(project.path(), &["deploy", "dev"], &[])
    };
    upgrade().ended(3).says(&["still run the code before last", "`urf_store` <"]);
    assert!(!target.path("urf/releases/0.2.0").exists());
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
    target.eval("held ! go_on.");
    upgrade().ended(0).says(&["the same as before"]);
    assert_eq!(target.boot(), boot, "the node restarted");
}

#[test]
fn a_node_that_dies_while_it_is_watched_is_started_again_in_the_old_version() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    settings(&project, "soak: 60s, health: [{command: 'true'}]");
    project.checkout("0.2.0");
    let mut ci = target.begin(project.path(), &["deploy", "dev"]);
    ci.until("health:");
    target.kill_node();
    ci.end().ended(4).says(&["`0.1.0` serves again"]);
    assert_eq!(target.eval(STATE), "{v1, {state, 0}}");
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(0).says(&["`0.1.0` running\n"]);
}

/// Only root can mount a small disk.
#[test]
#[allow(clippy::print_stderr, reason = "who runs the tests should see what was not tested")]
fn a_disk_without_room_for_the_version_is_refused_before_anything_is_sent() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    let _disk = SmallDisk::at(target.release(), 100);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    let boot = target.boot();
    project.checkout("0.2.0");
    // nothing at all, and room for some files of a deployment, but not for the version
    for (leaves, says) in [(0, "0 KiB are free"), (100, "too little space")] {
        let script = format!("cat /dev/zero >full; truncate -s -{leaves}K full");
        let said = Command::new("sh").args(["-c", &script]).current_dir(target.release()).output().unwrap();
        assert!(String::from_utf8_lossy(&said.stderr).contains("No space left"), "{said:?}");
        target.ci(project.path(), &["deploy", "dev"], &[]).ended(3).says(&[says]);
    }
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
    assert!(!target.path("urf/releases/0.2.0").exists());
    std::fs::remove_file(target.path("urf/full")).unwrap();
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["the same as before"]);
    assert_eq!(target.boot(), boot, "the node restarted");
}

/// A file system of so many MiB in a directory of a target.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(directory: PathBuf, mebibytes: u32) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(&directory));
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
