//! The steps on one target, against a real sshd and real Erlang/OTP: two phases, restart, going back, interruptions.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::io::{Read, Write};

use support::project::Project;
use support::target::Target;

const STATE: &str = "urf_store:info().";

/// A target that runs 0.1.0 with a state worth keeping, and a project that says how it is deployed.
fn running(settings: &str) -> (Target, Project) {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    target.eval("urf_store:incr().");
    with(&project, settings);
    (target, project)
}

/// Writes `.ci/deploy.yml`; `settings` are those of the environment.
fn with(project: &Project, settings: &str) {
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    let text = format!("environments: {{dev: {{{settings}}}}}\n");
    std::fs::write(project.path().join(".ci/deploy.yml"), text).unwrap();
}

#[track_caller]
fn deploys(target: &Target, project: &Project, version: &str, says: &[&str]) {
    project.checkout(version);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(says);
    assert!(!target.path("urf/.ci-lock").exists(), "the lock was left");
    assert!(!target.path("urf/.ci/switch").exists(), "the exchange was left");
    assert!(!target.path(&format!("urf/releases/urf-{version}.tar.gz")).exists(), "the package was left");
}

fn versions(target: &Target) -> String {
    String::from_utf8(target.script(&["versions"]).stdout).unwrap()
}

#[test]
fn what_is_not_healthy_is_taken_back_with_the_state_of_its_processes() {
    let (target, project) = running("health: [{eval: 'urf_store:get() > 9', within: 1s}]");
    let boot = target.boot();
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(4).says(&[
        "`eval: urf_store:get() > 9` did not become true within 1 s",
        "the value is false",
        "`0.1.0` serves again, with the state of its processes",
        "`0.2.0` is marked bad",
    ]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");
    assert!(!target.path("urf/releases/0.2.0").exists());
    assert!(!versions(&target).contains("0.2.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(3).says(&["failed there before"]);
    target
        .ci(project.path(), &["env", "clear", "dev", "0.2.0", "--reason", "the check was wrong"], &[])
        .ended(0)
        .says(&["may be deployed again"]);
    let cleared = std::fs::read_to_string(target.path("urf/.ci/cleared")).unwrap();
    assert!(cleared.contains("the check was wrong") && cleared.contains("did not become true"), "{cleared}");

    // and every kind of check, when it holds
    let (port, server) = http_server();
    with(
        &project,
        &format!(
            "soak: 2s, health: [{{eval: 'urf_store:get() >= 2.'}}, {{tcp: '127.0.0.1:{port}'}}, \
             {{http: 'http://127.0.0.1:{port}/health'}}, {{command: 'test -d releases'}}]"
        ),
    );
    deploys(&target, &project, "0.2.0", &["health: `http:", "watch it for 2 s", "the same as before"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    drop(server);
    with(&project, &format!("health: [{{http: 'http://127.0.0.1:{port}/gone', within: 1s}}]"));
    project.checkout("0.3.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(4).says(&["404", "`0.2.0` serves again"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).starts_with("{v2, {state, 2, "));
}

/// Answers 200, or 404 for `/gone`, as long as the test runs.
fn http_server() -> (u16, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let mut stream = stream;
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap_or(0);
            let gone = String::from_utf8_lossy(&request[..read]).contains("/gone");
            let status = if gone { "404 Not Found" } else { "200 OK" };
            let _ = stream.write_all(
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
            );
        }
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn a_version_that_stops_being_well_while_it_is_watched_is_taken_back() {
    let (target, project) = running("soak: 60s, health: [{command: 'test ! -e sick'}]");
    let boot = target.boot();
    project.checkout("0.2.0");
    let mut ci = target.begin(project.path(), &["deploy", "dev"]);
    ci.until("health:");
    std::fs::write(target.path("urf/sick"), "").unwrap();
    ci.end().ended(4).says(&["was true and is not any more", "`0.1.0` serves again, with the state"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 2}}");
}

#[test]
fn a_restart_exchanges_versions_and_every_way_back_works() {
    let (target, project) = running("strategy: {prefer: restart}");
    deploys(&target, &project, "0.2.0", &["stop `0.1.0`, start `0.2.0`"]);
    assert!(target.eval(STATE).starts_with("{v2, {state, 0, "));
    assert_eq!(versions(&target).matches("0.2.0\tpermanent").count(), 1, "{}", versions(&target));
    assert!(versions(&target).contains("0.1.0\told"));

    // what a restart installed is a sound base for a hot upgrade
    let boot = target.boot();
    with(&project, "keep: 1");
    deploys(&target, &project, "0.3.0", &["the same as before", "remove `0.1.0`, keep 1 old"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(!target.path("urf/lib/urf-0.1.0").exists());
    target
        .ci(project.path(), &["rollback", "dev", "--to", "0.1.0"], &[])
        .ended(3)
        .says(&["not installed there", "0.2.0"]);
    target
        .ci(project.path(), &["rollback", "dev"], &[])
        .ended(0)
        .says(&["from `0.3.0` back to `0.2.0`", "urf 0.2.0 runs again"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    let history =
        |says: &[&str]| target.ci(project.path(), &["env", "history", "dev"], &[]).ended(0).says(says);
    history(&["rolled back: go back from 0.2.0, dev; taken back to `0.2.0` by hand", "bad         0.3.0"]);
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(3)
        .says(&["`0.3.0` failed there before", "by hand"]);

    // without a relup, back by a restart
    with(&project, "strategy: {prefer: restart}");
    target.ci(project.path(), &["env", "clear", "dev", "0.3.0", "--reason", "test"], &[]).ended(0);
    history(&["cleared     0.3.0    test"]);
    assert!(target.script(&["uninstall", "0.3.0"]).status.success());
    deploys(&target, &project, "0.3.0", &["stop `0.2.0`, start `0.3.0`"]);
    target
        .ci(project.path(), &["rollback", "dev"], &[])
        .ended(0)
        .says(&["no way back while running", "stop, start `0.2.0`"]);
    assert!(target.eval(STATE).starts_with("{v2, {state, 0, "));
    assert!(versions(&target).contains("0.2.0\tpermanent"));
    assert!(versions(&target).contains("0.3.0\told"));
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(0).says(&["`0.2.0` running"]);
}

#[test]
fn a_restart_into_what_does_not_start_or_is_not_well_ends_in_the_old_version() {
    let (target, project) = running("strategy: {prefer: restart}");
    project.checkout("0.2.0");
    project.replace(
        "src/urf_store.erl",
        "init([]) -> {ok, #state{since = urf_util:now_s()}}.",
        "init([]) -> {stop, no_disk_today}.",
    );
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(4)
        .says(&["`0.1.0` was started again and serves"]);
    assert_eq!(target.eval(STATE), "{v1, {state, 0}}");
    assert!(!target.path("urf/releases/0.2.0").exists() && !target.path("urf/lib/urf-0.2.0").exists());
    assert!(!target.path("urf/.ci/switch").exists());
    target.ci(project.path(), &["env", "clear", "dev", "0.2.0", "--reason", "mended"], &[]).ended(0);

    project.checkout("0.2.0");
    with(&project, "strategy: {prefer: restart}, health: [{command: 'exit 7', within: 1s}]");
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(4)
        .says(&["exit code 7", "`0.1.0` was started again and serves"]);
    assert_eq!(target.eval(STATE), "{v1, {state, 0}}");
    assert_eq!(versions(&target).matches('*').count(), 1, "{}", versions(&target));
    target.ci(project.path(), &["release", "status", "dev"], &[]).ended(0).says(&["`0.1.0` running"]);

    // a fresh install over what is stopped is reversible too
    assert!(target.script(&["stop"]).status.success());
    target.ci(project.path(), &["env", "clear", "dev", "0.2.0", "--reason", "mended"], &[]).ended(0);
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(1).says(&["exit code 7", "taken away again"]);
    assert!(!target.lives());
    target
        .ci(project.path(), &["release", "status", "dev"], &[])
        .ended(0)
        .says(&["`0.1.0` installed, not running"]);
    with(&project, "");
    deploys(&target, &project, "0.2.0", &["no process of it runs", "installed and running"]);
}

#[test]
fn what_was_edited_on_the_target_stays() {
    let (target, project) = running("");
    let greeting = |target: &Target| target.eval("application:get_env(urf,greeting).");
    let edit = |version: &str, to: &str| {
        let path = target.path(&format!("urf/releases/{version}/sys.config"));
        std::fs::write(
            &path,
            format!("[{{sasl, [{{sasl_error_logger, false}}]}}, {{urf, [{{greeting, \"{to}\"}}]}}].\n"),
        )
        .unwrap();
    };
    // by a hot upgrade
    edit("0.1.0", "from this host");
    deploys(
        &target,
        &project,
        "0.2.0",
        &["kept: `sys.config` of `0.1.0` was edited on the target", "the same as before"],
    );
    assert_eq!(greeting(&target), "{ok, \"from this host\"}");
    let shipped = std::fs::read_to_string(target.path("urf/releases/0.2.0/sys.config.shipped")).unwrap();
    assert!(shipped.contains("hello from 0.2.0"));
    // by a restart, from the version that inherited it
    with(&project, "strategy: {prefer: restart}");
    deploys(&target, &project, "0.3.0", &["kept: `sys.config` of `0.2.0`"]);
    assert_eq!(greeting(&target), "{ok, \"from this host\"}");
    // and by an installation over what is stopped
    assert!(target.script(&["stop"]).status.success());
    edit("0.3.0", "edited again");
    deploys(&target, &project, "0.2.0", &["kept: `sys.config` of `0.3.0`", "installed and running"]);
    assert_eq!(greeting(&target), "{ok, \"edited again\"}");
}

#[test]
fn a_process_that_the_upgrade_would_forget_is_a_refusal() {
    let (target, project) = running("");
    let boot = target.boot();
    // a gen_server of the same module that no supervisor knows
    target.eval("{ok,P}=gen_server:start(urf_store,[],[]),unlink(P),P.");
    project.checkout("0.2.0");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(3).says(&[
        "keep their old state",
        "`urf_store` <",
        "prefer: restart",
    ]);
    assert_eq!(target.boot(), boot);
    assert!(!target.path("urf/releases/0.2.0").exists());
}

#[test]
fn an_upload_whose_connection_breaks_goes_on_where_it_was() {
    let (mut target, project) = running("");
    let boot = target.boot();
    target.with_a_breaking_line();
    project.checkout("0.2.0");
    let said = target.ci(project.path(), &["deploy", "dev"], &[("DEV_SSH_USER_HOST", "breaking-line")]);
    said.ended(0).says(&["had arrived before and were not sent again"]);
    assert!(target.path("broken").exists());
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(!target.path("urf/.ci-lock").exists(), "the lock was left");
}
