//! Deployments against a real sshd and real Erlang/OTP, through the binary.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use support::project::Project;
use support::target::{Target, until};

const STATE: &str = "urf_store:info().";

/// A target that runs 0.1.0 with a state worth keeping.
fn running() -> (Target, Project) {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&[
        "nothing installed",
        "fresh install",
        "installed and running",
    ]);
    target.eval("urf_store:incr().");
    target.eval("urf_store:incr().");
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");
    (target, project)
}

/// Fails to deploy 0.2.0, and demands that the node did not notice.
#[track_caller]
fn fails(target: &Target, project: &Project, variables: &[(&str, &str)], code: i32, says: &[&str]) {
    let boot = target.boot();
    target.ci(project.path(), &["deploy", "dev"], variables).ended(code).says(says).says(&["help: "]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");
    assert!(!target.path("urf/.ci-lock").exists(), "the lock was left");
    assert!(!target.path("urf/.ci").exists(), "something was left of the attempt");
}

#[test]
fn fresh_then_nothing_then_a_hot_upgrade_in_the_same_process() {
    let (target, project) = running();
    let boot = target.boot();
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["nothing to do"]);
    target.ci(project.path(), &["deploy", "dev"], &[("OLD_VSN", "0.1.0")]).ended(0).says(&["nothing to do"]);
    project.checkout("0.2.0");
    target
        .ci(project.path(), &["deploy", "dev", "--plan"], &[])
        .ended(0)
        .says(&["would be deployed", "hot upgrade"]);
    assert!(!target.path("urf/releases/0.2.0").exists());

    let said = target.ci(project.path(), &["deploy", "dev", "--format", "json"], &[]).ended(0);
    let report = said.json();
    assert_eq!(report["outcome"], "done", "{report}");
    let only = &report["targets"][0];
    assert_eq!(only["decision"]["strategy"]["kind"], "hot");
    assert_eq!(only["pid"], only["pid_before"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    let state = target.eval(STATE);
    assert!(state.starts_with("{v2, {state, 2, "), "{state}");
    assert!(!target.path("urf/releases/urf-0.2.0.tar.gz").exists());
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(0).says(&[
        "`0.2.0` running",
        "0.2.0 permanent",
        "0.1.0 old",
    ]);

    // the other of the two ways: the version is given, the target is asked only under the lock
    project.checkout("0.3.0");
    target
        .ci(project.path(), &["deploy", "dev"], &[("OLD_VSN", "0.2.0")])
        .ended(0)
        .says(&["target was not asked"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).starts_with("{v3, "));
    target.ci(project.path(), &["release", "version"], &[]).ended(0).says(&["0.3.0"]);
    project.checkout("0.1.0");
    target.ci(project.path(), &["deploy", "dev", "--plan"], &[]).ended(0).says(&["older than `0.3.0`"]);

    // what was upgraded hot also boots: stopped, the installed version is what is said to be there
    assert!(target.script(&["stop"]).status.success());
    target
        .ci(project.path(), &["release", "status", "dev"], &[])
        .ended(0)
        .says(&["`0.3.0` installed, not running"]);
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(0)
        .says(&["no process of it runs", "installed and running"]);
    assert_eq!(target.eval(STATE), "{v1, {state, 0}}");
}

#[test]
fn what_fails_before_the_upgrade_leaves_the_node_alone() {
    let (mut target, project) = running();
    project.checkout("0.2.0");
    fails(
        &target,
        &project,
        &[("DEV_SSH_USER_HOST", "nobody-there")],
        1,
        &["cannot connect", "can't be reached"],
    );
    fails(&target, &project, &[("DEV_SSH_USER_HOST", "wrong-key")], 1, &["none of our keys"]);
    fails(&target, &project, &[("DEV_SSH_USER_HOST", "no-such-host.invalid")], 1, &["name is unknown"]);
    fails(&target, &project, &[("OLD_VSN", "0.0.9")], 1, &["0.0.9", "v0.0.9"]);

    target.with_a_damaging_line();
    fails(
        &target,
        &project,
        &[("DEV_SSH_USER_HOST", "damaging-line")],
        1,
        &["did not arrive as it was sent", "untouched"],
    );
    assert!(!target.path("urf/releases/urf-0.2.0.tar.gz").exists());
    assert!(!target.path("urf/releases/urf-0.2.0.tar.gz.part").exists());

    // somebody else deploys
    std::fs::create_dir(target.path("urf/.ci-lock")).unwrap();
    std::fs::write(target.path("urf/.ci-lock/owner"), "anna@build since yesterday\n").unwrap();
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(3)
        .says(&["locked by anna@build", "ci env unlock"]);
    target.ci(project.path(), &["env", "unlock", "dev"], &[]).ended(0).says(&["lock of anna@build"]);
    target.ci(project.path(), &["env", "unlock", "dev"], &[]).ended(0).says(&["not locked"]);

    // built for another version than the one that runs
    project.checkout("0.3.0");
    fails(&target, &project, &[("OLD_VSN", "0.2.0")], 3, &["expected `0.2.0` to run"]);

    // a hand-written appup that does not know the running version, where a restart is not allowed
    project.checkout("0.2.0");
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    let only_hot = "environments: {dev: {strategy: {allow: [hot, fresh]}}}\n";
    std::fs::write(project.path().join(".ci/deploy.yml"), only_hot).unwrap();
    project.replace("ebin/urf.appup", "\"0.1.0\"", "\"0.1.7\"");
    let said = target.ci(project.path(), &["deploy", "dev"], &[]);
    assert!(matches!(said.code, 1 | 3), "{said:?}");
    said.says(&["0.1.0"]);
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");

    // and after all that the upgrade works
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["the same as before"]);
    assert!(target.eval(STATE).starts_with("{v2, {state, 2, "));
}

#[test]
fn a_node_that_does_not_answer_is_never_overwritten() {
    let (target, project) = running();
    let boot = target.boot();
    let vm_args = target.path("urf/releases/0.1.0/vm.args");
    let right = std::fs::read_to_string(&vm_args).unwrap();
    std::fs::write(&vm_args, right.replace("urf_cookie", "another_cookie")).unwrap();
    project.checkout("0.2.0");
    let said = target.ci(project.path(), &["deploy", "dev", "--format", "json"], &[]).ended(3);
    assert_eq!(said.json()["targets"][0]["before"]["state"], "unreachable");
    said.says(&["lives but its node does not answer", "cookie"]);
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(1).says(&["does not answer"]);
    std::fs::write(&vm_args, right).unwrap();
    assert_eq!(target.boot(), boot);
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");
}

#[test]
fn a_failing_code_change_ends_in_the_old_version_and_the_next_deployment_works() {
    let (target, project) = running();
    let boot = target.boot();
    project.checkout("0.2.0");
    project.replace(
        "src/urf_store.erl",
        "    {ok, #state{count = Count, since = urf_util:now_s()}};",
        "    error({cannot_convert, Count});",
    );
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(4).says(&[
        "code_change_failed",
        "the node restarted",
        "`0.1.0` serves again",
        "state of its processes is lost",
        "mend `code_change/3`",
        "`0.2.0` is marked bad",
    ]);
    until("the old version answers", || target.script(&["ping"]).status.success());
    assert_ne!(target.boot(), boot);
    assert_eq!(target.eval(STATE), "{v1, {state, 0}}");
    assert!(!target.path("urf/releases/0.2.0").exists(), "leftovers make every later upgrade fail");
    assert!(!target.path("urf/lib/urf-0.2.0").exists());
    target.eval("urf_store:incr().");

    project.checkout("0.2.0");
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(3)
        .says(&["`0.2.0` failed there before", "ci env clear"]);
    let clear = ["env", "clear", "dev", "0.2.0", "--reason", "mended"];
    target.ci(project.path(), &clear, &[]).ended(0).says(&["may be deployed again"]);
    target.ci(project.path(), &clear, &[]).ended(0).says(&["was not marked bad"]);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    assert!(target.eval(STATE).starts_with("{v2, {state, 1, "));
}

#[test]
fn an_upgrade_that_the_node_refuses_leaves_it_untouched() {
    let (target, project) = running();
    project.checkout("0.2.0");
    // a guard before the point of no return
    project.replace(
        "ebin/urf.appup",
        "[{add_module, urf_util},",
        "[{apply, {erlang, error, [not_today]}}, point_of_no_return, {add_module, urf_util},",
    );
    fails(
        &target,
        &project,
        &[],
        1,
        &["the node refused it before changing anything", "not_today", "`0.1.0` still serves, untouched"],
    );
    assert!(!target.path("urf/releases/0.2.0").exists());
    assert!(!target.path("urf/releases/urf-0.2.0.tar.gz").exists());
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["the same as before"]);
}

#[test]
fn leftovers_of_an_attempt_that_died_are_removed_first() {
    let (target, project) = running();
    // what an unpacking leaves that ran out of disk: release_handler stops at it for ever
    std::fs::create_dir_all(target.path("urf/releases/0.2.0")).unwrap();
    std::fs::write(target.path("urf/releases/0.2.0/start.boot"), "cut").unwrap();
    std::os::unix::fs::symlink("nowhere", target.path("urf/releases/0.2.0/urf.tar.gz")).unwrap();
    std::fs::create_dir_all(target.path("urf/lib/urf-0.2.0/ebin")).unwrap();
    std::fs::write(target.path("urf/lib/urf-0.2.0/ebin/urf_store.beam"), "cut").unwrap();
    project.checkout("0.2.0");
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(0)
        .says(&["remove what is left", "the same as before"]);
    assert!(target.eval(STATE).starts_with("{v2, {state, 2, "));
}

#[test]
fn an_installed_version_that_is_not_permanent_is_made_so() {
    let (target, project) = running();
    let boot = target.boot();
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    assert!(target.script(&["install", "--no-permanent", "0.1.0"]).status.success());
    target
        .ci(project.path(), &["release", "status", "dev"], &[])
        .ended(0)
        .says(&["`0.1.0` running but not permanent", "boots `0.2.0`"]);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(3).says(&["never made permanent"]);
    project.checkout("0.1.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["is permanent now"]);
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(0).says(&["`0.1.0` running\n"]);
    assert_eq!(target.boot(), boot);
}

#[test]
fn a_release_that_does_not_start_is_said_so_and_leaves_nothing_running() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    project.replace("src/urf_store.erl", "init([]) -> {ok, #state{}}.", "init([]) -> {stop, no_disk_today}.");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(1).says(&[
        "it was taken away again",
        "no_disk_today",
        "/urf/log/",
    ]);
    assert!(!target.lives());
    project.checkout("0.1.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&["installed and running"]);
}

#[test]
fn a_target_directory_that_cannot_be_made_is_refused() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    std::fs::write(target.path("file"), "").unwrap();
    let directory = target.path("file/urf");
    target
        .ci(project.path(), &["deploy", "dev"], &[("TARGET_DIR", directory.to_str().unwrap())])
        .ended(3)
        .says(&["cannot write", "mkdir -p"]);
    target.ci(project.path(), &["deploy", "dev"], &[("TARGET_DIR", "urf")]).ended(3).says(&["absolute path"]);
    target
        .ci(project.path(), &["deploy", "dev"], &[("DEV_SSH_USER_HOST", "")])
        .ended(3)
        .says(&["SSH_USER_HOST"]);
}

#[test]
fn a_package_is_used_again_only_for_the_very_same_sources() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    // that of the tests keeps packages itself, and says nothing of what it would start
    std::fs::remove_file(target.path("bin/rebar3")).unwrap();
    let deploy = |code: i32, says: &[&str], again: &[&str]| {
        let said = target.ci(project.path(), &["deploy", "dev"], &[]).ended(code).says(says);
        let versions: Vec<&str> =
            said.stderr.split("the package of `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        assert_eq!(versions, again, "{said:?}");
    };
    deploy(0, &["installed and running"], &[]);
    deploy(0, &["nothing to do"], &["0.1.0"]);
    // a clean clone where the package was shipped
    std::fs::remove_dir_all(project.path().join("_build")).unwrap();
    deploy(0, &["nothing to do"], &["0.1.0"]);
    project.replace("src/urf_store.erl", "init([]) ->", "init([]) -> io:format(\"new\"),");
    deploy(3, &["with other code: module `urf_store` (L005)"], &[]);
    std::fs::remove_dir_all(project.path().join("_build")).unwrap();
    project.checkout("0.2.0");
    deploy(0, &["upgraded from 0.1.0 to 0.2.0", "the same as before"], &["0.1.0"]);
    deploy(0, &["nothing to do"], &["0.2.0"]);
}
