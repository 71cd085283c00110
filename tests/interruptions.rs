//! `ci deploy`, its connection or the target's sshd end at every step in turn: the next `ci deploy` ends right.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use support::project::Project;
use support::target::{Begun, Said, Target, signal};

const STATE: &str = "urf_store:info().";

/// A target that runs 0.1.0, and the project at 0.2.0.
fn running(settings: &str) -> (Target, Project) {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    project.checkout("0.2.0");
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    let text = format!("environments: {{dev: {{{settings}}}}}\n");
    std::fs::write(project.path().join(".ci/deploy.yml"), text).unwrap();
    (target, project)
}

/// Begins a deployment, lets `end` do harm when `step` is done, and demands that the next one puts all right.
#[track_caller]
fn survives(
    target: &mut Target,
    project: &Project,
    step: &str,
    end: impl FnOnce(&mut Target, &Begun),
) -> Said {
    let mut ci = target.begin(project.path(), &["deploy", "dev"]);
    ci.until(step);
    end(target, &ci);
    let first = ci.end();
    let second = target.ci(project.path(), &["deploy", "dev"], &[]);
    assert_eq!(
        second.code, 0,
        "interrupted after `{step}`:\n{}{}\nthen\n{}{}",
        first.stderr, first.stdout, second.stderr, second.stdout
    );
    target
        .ci(project.path(), &["release", "status", "dev"], &[])
        .ended(0)
        .says(&["`0.2.0` running\n", "0.2.0 permanent"]);
    let left = litter(target);
    assert!(left.is_empty(), "after `{step}`, {left:?} in spite of\n{}{}", second.stderr, second.stdout);
    second
}

/// What only a deployment that goes on has there.
fn litter(target: &Target) -> Vec<String> {
    let names = |directory: &str| {
        let entries = std::fs::read_dir(target.path(directory)).into_iter().flatten().map(Result::unwrap);
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut left = names("urf/.ci");
    left.extend(names("urf").into_iter().filter(|name| name.starts_with(".ci-")));
    left.extend(names("urf/releases").into_iter().filter(|name| name.contains(".tar.gz")));
    left.retain(|name| name != "cleared");
    left
}

/// Back to where [`running`] left it.
#[track_caller]
fn again(target: &Target) {
    assert!(target.script(&["downgrade", "0.1.0"]).status.success());
    assert!(target.script(&["uninstall", "0.2.0"]).status.success());
}

#[test]
fn the_deploying_process_is_killed_at_each_step_of_a_hot_upgrade() {
    let (mut target, project) = running("");
    let boot = target.boot();
    let steps = [
        "query again",
        "look at the node",
        "upload",
        "unpack 0.2.0",
        "install --no-permanent",
        "verify that `0.2.0` runs",
        "install 0.2.0",
    ];
    for step in steps {
        let second = survives(&mut target, &project, step, |_, ci| signal(ci.child.id()));
        if step == "install 0.2.0" {
            second.says(&["`0.2.0` runs there already", "releases/urf-0.2.0.tar.gz", "had left is removed"]);
        }
        assert_eq!(target.boot(), boot, "the node restarted after `{step}`");
        assert!(target.eval(STATE).starts_with("{v2, {state, 1, "), "after `{step}`");
        again(&target);
    }
}

#[test]
fn an_owner_who_is_silent_loses_the_lock_and_changes_nothing_any_more() {
    let (target, project) = running("");
    let boot = target.boot();
    let mut first = target.begin(project.path(), &["deploy", "dev"]);
    first.until("query again");
    let pid = rustix::process::Pid::from_child(&first.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    // as if its machine had vanished two minutes ago: the connection stands, nobody speaks
    let beat = target.path("urf/.ci-lock/beat");
    let spoke: i64 = std::fs::read_to_string(&beat).unwrap().trim().parse().unwrap();
    std::fs::write(&beat, format!("{}\n", spoke - 120)).unwrap();
    let second = target.ci(project.path(), &["deploy", "dev"], &[]);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    second.ended(0).says(&["took over the lock of ", "upgraded from 0.1.0 to 0.2.0"]);
    let first = first.end();
    assert_ne!(first.code, 0, "{}{}", first.stderr, first.stdout);
    assert!(first.stderr.contains("the lock is not ours any more"), "{}", first.stderr);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).starts_with("{v2, {state, 1, "));
    assert!(litter(&target).is_empty(), "{:?}", litter(&target));
}

#[test]
fn the_deploying_process_is_killed_at_each_step_of_a_restart() {
    let (mut target, project) = running("strategy: {prefer: restart}");
    for step in ["query again", "upload", "unpack beside", "stop `0.1.0`"] {
        survives(&mut target, &project, step, |_, ci| signal(ci.child.id()));
        target.ci(project.path(), &["rollback", "dev"], &[]).ended(0).says(&["0.1.0 runs again"]);
        target.ci(project.path(), &["env", "clear", "dev", "0.2.0", "--reason", "test"], &[]).ended(0);
    }
}

#[test]
fn the_connection_and_the_sshd_are_killed_at_the_steps_of_a_hot_upgrade() {
    let (mut target, project) = running("");
    let boot = target.boot();
    for step in ["query again", "upload", "unpack 0.2.0", "install --no-permanent"] {
        survives(&mut target, &project, step, |target, _| target.cut());
        again(&target);
        survives(&mut target, &project, step, |target, _| target.restart_sshd());
        again(&target);
    }
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
}
