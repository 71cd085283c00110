//! Hot upgrades by way of other versions, and rehearsals before them, against a real sshd and real Erlang/OTP.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use support::project::Project;
use support::target::{Target, run, signal};

const STATE: &str = "urf_store:info().";

/// Writes `.ci/deploy.yml`; `settings` are those of the environment, `more` are others.
fn with(project: &Project, settings: &str, more: &str) {
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    let text = format!("environments: {{dev: {{{settings}}}{more}}}\n");
    std::fs::write(project.path().join(".ci/deploy.yml"), text).unwrap();
}

/// A target that runs 0.1.0 with a state worth keeping and has had 0.2.0, whose package is kept; and the project at
/// 0.3.0, which knows an upgrade from 0.2.0 only.
fn before_a_gap() -> (Target, Project) {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    let ci = |arguments: &[&str]| target.ci(project.path(), arguments, &[]).ended(0);
    ci(&["deploy", "dev"]);
    target.eval("urf_store:incr().");
    project.checkout("0.2.0");
    ci(&["deploy", "dev"]);
    ci(&["rollback", "dev"]);
    ci(&["env", "clear", "dev", "0.2.0", "--reason", "it was only tried"]);
    project.checkout("0.3.0");
    project.replace("ebin/urf.appup", "\"0.1.0\"", "\"0.0.9\"");
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
    (target, project)
}

fn versions(target: &Target) -> String {
    String::from_utf8(target.script(&["versions"]).stdout).unwrap()
}

#[test]
fn a_version_without_a_straight_upgrade_is_reached_by_way_of_another() {
    let (target, project) = before_a_gap();
    with(&project, "keep: 1", "");
    let boot = target.boot();
    let plan =
        target.ci(project.path(), &["deploy", "dev", "--plan", "--format", "json"], &[]).ended(0).json();
    let strategy = &plan["targets"][0]["decision"]["strategy"];
    assert_eq!(*strategy, serde_json::json!({"kind": "hot", "from": "0.1.0", "via": ["0.2.0"]}), "{plan}");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0).says(&[
        "its upgrade goes by way of `0.2.0`; not straight: ",
        "hop 1 of 2: from `0.1.0` to `0.2.0`",
        "hop 2 of 2: from `0.2.0` to `0.3.0`",
        "upgraded from 0.1.0 to 0.3.0 by way of 0.2.0",
    ]);
    assert_eq!(target.boot(), boot, "the node restarted");
    let state = target.eval(STATE);
    assert!(state.starts_with("{v3,") && state.contains("count => 1"), "{state}");
    assert!(versions(&target).contains("0.3.0\tpermanent"), "{}", versions(&target));
    assert!(!target.path("urf/releases/urf-0.2.0.tar.gz").exists(), "a package was left");
    assert!(!target.path("urf/.ci-lock").exists(), "the lock was left");
    // the one that was passed does not count, but the way back goes over it
    assert!(target.path("urf/releases/0.1.0").is_dir() && target.path("urf/releases/0.2.0").is_dir());
    // one store: what the ledger speaks of is what `ci release list` shows
    target.ci(project.path(), &["release", "list"], &[]).ended(0).says(&["0.3.0", "0.2.0", "0.1.0"]);
    let state = std::fs::read_dir(target.path("slipway/projects")).unwrap().next().unwrap().unwrap().path();
    assert!(state.join("releases").is_dir() && !state.join("packages").exists());
    // back to what served before the deployment, not to what was passed
    target
        .ci(project.path(), &["rollback", "dev"], &[])
        .ended(0)
        .says(&["plan: from `0.3.0` back to `0.1.0` by way of `0.2.0`", "0.1.0 runs again"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
    assert!(versions(&target).contains("0.1.0\tpermanent"), "{}", versions(&target));
}

#[test]
fn killed_between_two_hops_the_next_deployment_goes_on_from_there() {
    let (target, project) = before_a_gap();
    let boot = target.boot();
    let mut ci = target.begin(project.path(), &["deploy", "dev"]);
    ci.until("bin/urf install 0.2.0");
    signal(ci.child.id());
    ci.end();
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(0)
        .says(&["took over the lock of ", "upgraded from 0.2.0 to 0.3.0"]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(target.eval(STATE).contains("count => 1"));
    let names =
        std::fs::read_dir(target.path("urf/releases")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_str().unwrap().contains(".tar.gz")).collect();
    assert!(left.is_empty() && !target.path("urf/.ci-lock").exists(), "{left:?}");
}

#[test]
fn when_a_later_hop_fails_the_earlier_ones_are_taken_back() {
    let (target, project) = before_a_gap();
    let boot = target.boot();
    with(&project, "health: [{command: 'test ! -d releases/0.3.0', within: 1s}]", "");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(4).says(&[
        "hop 2 of 2",
        "the upgrade was taken back: `0.2.0` serves again",
        "the hops before it were taken back: `0.1.0` serves again, with the state of its processes",
    ]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert_eq!(target.eval(STATE), "{v1, {state, 1}}");
    assert!(versions(&target).contains("0.1.0\tpermanent"), "{}", versions(&target));

    // without the package of the version between, there is no way but a restart, which says why
    let state = std::fs::read_dir(target.path("slipway/projects")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(state.join("releases")).unwrap();
    with(&project, "", "");
    target.ci(project.path(), &["env", "clear", "dev", "0.3.0", "--reason", "mended"], &[]).ended(0);
    target.ci(project.path(), &["deploy", "dev", "--plan"], &[]).ended(0).says(&["    restart\n", "0.1.0"]);
}

#[test]
fn an_upgrade_is_rehearsed_before_it_is_made_where_that_is_demanded() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    target.eval("urf_store:incr().");
    let boot = target.boot();
    with(&project, "strategy: {rehearse: true}", ", prod: {delivery: bundle}");
    project.checkout("0.2.0");
    let convert = "    {ok, #state{count = Count, since = urf_util:now_s()}};";
    project.replace("src/urf_store.erl", convert, "    error({boom, Count, urf_util:now_s()});");
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(3).says(&[
        "FAIL",
        "rehearse the upgrade from 0.1.0 to 0.2.0 on a copy",
        "rehearsed from `0.1.0` on a copy: ",
        "prefer: restart",
    ]);
    assert_eq!(target.boot(), boot, "the node restarted");
    assert!(!target.path("urf/releases/0.2.0").exists(), "something was sent");

    // what must hold on the copy does not
    project.checkout("0.2.0");
    let rehearse = |check: &str| {
        let settings = format!("strategy: {{rehearse: {{setup: 'urf_store:incr().', check: '{check}'}}}}");
        with(&project, &settings, ", prod: {delivery: bundle}");
    };
    rehearse("urf_store:get() =:= 2.");
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(3)
        .says(&["FAIL", "rehearsed from `0.1.0` on a copy: check of 0.2.0: it is not `true`, but false"]);
    rehearse("urf_store:no().");
    target.ci(project.path(), &["deploy", "dev", "--plan"], &[]).ended(3).says(&["`urf_store:no().` fails"]);
    // and on the way back
    rehearse("element(1, urf_store:info()) =:= v2.");
    target
        .ci(project.path(), &["deploy", "dev", "--plan"], &[])
        .ended(3)
        .says(&["check of 0.1.0: it is not `true`"]);
    assert!(!target.path("urf/releases/0.2.0").exists(), "something was sent");
    rehearse("urf_store:get() =:= 1.");
    target.ci(project.path(), &["deploy", "dev", "--plan"], &[]).ended(0).says(&["rehearsed on a copy"]);
    target
        .ci(project.path(), &["deploy", "dev"], &[])
        .ended(0)
        .says(&["rehearsed on a copy", "the same as before"]);
    assert_eq!(target.boot(), boot, "the node restarted");

    // the bundle of the very release says so
    let file = target.path("b.tar.gz");
    let bundle = ["bundle", "prod", "--from", "0.1.0", "-o", file.to_str().unwrap()];
    target.ci(project.path(), &bundle, &[]).ended(0).says(&["from 0.1.0: hot"]);
    run(std::process::Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(target.path("")));
    let manifest = std::fs::read(target.path("urf-0.2.0-prod/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert!(manifest["replaces"][0]["rehearsed"].is_string(), "{manifest}");
    let evidence = std::fs::read_to_string(target.path("urf-0.2.0-prod/evidence/ledger.jsonl")).unwrap();
    assert!(evidence.contains("\"kind\":\"rehearsal\"") && evidence.contains("\"fit\":true"), "{evidence}");
}

/// What a process runs and where; nothing of it was there before the copy was.
fn in_copy(pid: &std::path::Path, home: &std::path::Path) -> Option<std::path::PathBuf> {
    let environment = std::fs::read(pid.join("environ")).ok()?;
    let home = home.as_os_str().as_encoded_bytes();
    let exe = std::fs::read_link(pid.join("exe")).ok()?;
    let copy = exe
        .ancestors()
        .find(|part| part.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ci-r")))?;
    environment.windows(home.len()).any(|part| part == home).then(|| copy.to_owned())
}

#[test]
fn nothing_of_a_rehearsal_outlives_a_ci_that_was_killed() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    target.ci(project.path(), &["deploy", "dev"], &[]).ended(0);
    with(&project, "strategy: {rehearse: {setup: 'timer:sleep(600000).'}}", "");
    project.checkout("0.2.0");
    let all = || std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let patiently = |what: &str, true_now: &mut dyn FnMut() -> bool| {
        let began = std::time::Instant::now();
        while !true_now() {
            assert!(began.elapsed() < std::time::Duration::from_secs(240), "waited too long until {what}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let mut ci = target.begin(project.path(), &["deploy", "dev", "--plan"]);
    ci.until("check the upgrade");
    let mut copy = None;
    patiently("a copy runs", &mut || {
        copy = all()
            .filter(|pid| pid.join("exe").read_link().is_ok_and(|exe| exe.ends_with("beam.smp")))
            .find_map(|pid| in_copy(&pid, &target.path("")));
        copy.is_some()
    });
    let copy = copy.unwrap();
    ci.child.kill().unwrap();
    ci.child.wait().unwrap();
    let inside = |pid: std::path::PathBuf| {
        ["exe", "cwd"].iter().any(|link| pid.join(link).read_link().is_ok_and(|to| to.starts_with(&copy)))
    };
    patiently("its copy is gone", &mut || !copy.exists() && !all().any(inside));
    assert!(target.script(&["ping"]).status.success(), "the release that was copied goes on");
}
