//! `.ci/deploy.yml`: environments of several targets, each planned by itself and all carried out as one.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::fs;

use support::project::Project;
use support::target::{Said, Target, run, until};

const STATE: &str = "urf_store:info().";

/// Several targets behind one ssh configuration, and the project with the environment `sit` of them all.
struct Fleet {
    targets: Vec<Target>,
    project: Project,
}

impl Fleet {
    fn of(count: usize, more: &str) -> Self {
        let targets: Vec<Target> = (0..count).map(|_| Target::start()).collect();
        let mut config = String::new();
        let mut written = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let own = fs::read_to_string(target.path("config")).unwrap();
            config.push_str(&own.replace("Host dev\n", &format!("Host sit{index}\n")));
            written.push(format!("sit{index}:{}", target.release().display()));
        }
        fs::write(targets[0].path("config"), config).unwrap();
        let project = Project::at("0.1.0");
        let fleet = Self { targets, project };
        fleet.settings(&format!("environments:\n  sit:\n    targets: [{}]\n{more}", written.join(", ")));
        fleet
    }

    /// Git leaves the file alone when versions are checked out.
    fn settings(&self, text: &str) {
        fs::create_dir_all(self.project.path().join(".ci")).unwrap();
        fs::write(self.project.path().join(".ci/deploy.yml"), text).unwrap();
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        self.targets[0].ci(self.project.path(), arguments, &[])
    }

    fn versions(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.eval(STATE)).collect()
    }

    fn hook(&self, name: &str) -> String {
        fs::read_to_string(self.project.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn every_target_has_its_own_plan_and_the_plan_is_what_is_done() {
    let fleet = Fleet::of(3, "    batches: {canary: 1, size: 1}\n");
    fleet.ci(&["deploy", "sit"]).ended(0).says(&["TARGET", "fresh install", "done"]);
    let status = fleet.ci(&["env", "status", "--format", "json"]).ended(0).json();
    for target in status[0]["targets"].as_array().unwrap() {
        assert_eq!(target["installed"]["version"], "0.1.0", "{status}");
        assert_eq!(target["drift"].as_array().unwrap().len(), 0, "{status}");
        assert!(target["node"]["memory"].as_u64().unwrap() > 1 << 20, "{status}");
        assert!(target["package"].as_str().unwrap().ends_with("urf-0.1.0.tar.gz"), "{status}");
    }
    fleet.targets[0].eval("urf_store:incr().");
    assert!(fleet.targets[2].script(&["stop"]).status.success());

    fleet.project.checkout("0.2.0");
    assert!(!fleet.targets[0].path("urf/releases/0.2.0").exists());
    let plan = fleet.ci(&["deploy", "sit", "--plan", "--format", "json"]).ended(0).json();
    let digest = plan["digest"].as_str().unwrap();
    let batches: Vec<u64> =
        plan["targets"].as_array().unwrap().iter().map(|target| target["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 2, 3]);
    let kind = |index: usize| plan["targets"][index]["decision"]["strategy"]["kind"].as_str();
    assert_eq!([kind(0), kind(1), kind(2)], [Some("hot"), Some("hot"), Some("fresh")], "{plan}");

    // the world changes: what was agreed to is not done
    assert!(fleet.targets[1].script(&["stop"]).status.success());
    fleet.ci(&["deploy", "sit", "--expect", digest]).ended(3).says(&["not the one that was agreed to"]);
    assert!(fleet.targets[1].script(&["daemon"]).status.success());
    let done = fleet.ci(&["deploy", "sit", "--expect", &digest[..16], "--format", "json"]).ended(0).json();
    assert_eq!(done["digest"], plan["digest"]);
    let pids: Vec<bool> = done["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| target["pid"] == target["pid_before"])
        .collect();
    assert_eq!(pids, [true, true, false]);
    let states = fleet.versions();
    assert!(
        states[0].starts_with("{v2, {state, 1, ") && states[2].starts_with("{v2, {state, 0, "),
        "{states:?}"
    );

    // somebody loads other code into one node
    let source = fleet.project.path().join("urf_util.erl");
    fs::write(&source, "-module(urf_util).\n-export([now_s/0]).\nnow_s() -> 7.\n").unwrap();
    run(std::process::Command::new("erlc").arg("-o").arg(fleet.project.path()).arg(&source));
    let beam = source.with_extension("");
    fleet.targets[1].eval(&format!("begin code:purge(urf_util), code:load_abs(\"{}\") end.", beam.display()));
    fleet.ci(&["env", "status", "sit"]).ended(1).says(&["DRIFT", "yes", "`urf_util` not as in", "sit1"]);
}

#[test]
fn when_a_target_fails_what_was_changed_is_taken_back() {
    let hooks = "    hooks: {before: ['echo $CI_DEPLOY_VERSION to $CI_DEPLOY_TARGETS >hook-before'], after: ['touch hook-after'], failed: ['echo $CI_DEPLOY_OUTCOME >hook-failed']}\n";
    let fleet = Fleet::of(3, &format!("    batches: {{canary: 1, size: 1}}\n{hooks}"));
    fleet.ci(&["deploy", "sit"]).ended(0);
    assert_eq!(fleet.hook("hook-before"), "0.1.0 to sit0 sit1 sit2\n");
    assert!(fleet.project.path().join("hook-after").exists());
    for target in &fleet.targets {
        target.eval("urf_store:incr().");
    }
    let boot = fleet.targets[0].boot();
    fleet.project.checkout("0.2.0");
    fleet.project.replace(
        "src/urf_store.erl",
        "    {ok, #state{count = Count, since = urf_util:now_s()}};",
        "    case filelib:is_file(code:root_dir() ++ \"/fail\") of true -> error(not_here); false -> {ok, #state{count = Count, since = urf_util:now_s()}} end;",
    );
    fs::write(fleet.targets[1].path("urf/fail"), "").unwrap();
    let said = fleet.ci(&["deploy", "sit", "--format", "json"]).ended(4);
    let report = said.json();
    let outcome = |index: usize| report["targets"][index]["outcome"].as_str();
    assert_eq!(
        [outcome(0), outcome(1), outcome(2)],
        [Some("rolled_back"), Some("rolled_back"), None],
        "{report}"
    );
    said.says(&["`sit0` back to `0.1.0`", "sit2 keep what they have"]);
    assert_eq!(fleet.hook("hook-failed"), "rolled_back\n");
    until("the node that failed answers again", || fleet.targets[1].script(&["ping"]).status.success());
    assert_eq!(fleet.versions(), ["{v1, {state, 1}}", "{v1, {state, 0}}", "{v1, {state, 1}}"]);
    assert_eq!(fleet.targets[0].boot(), boot, "the relup leads back, too");

    // what failed there is not tried there again by accident
    fleet.ci(&["deploy", "sit"]).ended(3).says(&["failed there before", "ci env clear"]);
    fleet.ci(&["env", "status", "sit"]).says(&["`0.2.0` failed there and is refused"]);
}

#[test]
fn the_policy_decides_between_restart_and_refusal() {
    let fleet = Fleet::of(1, "    strategy: {allow: [hot, fresh]}\n");
    let targets = format!("[sit0:{}]", fleet.targets[0].release().display());
    fleet.ci(&["deploy", "sit"]).ended(0);
    let boot = fleet.targets[0].boot();
    // the sources change under the same version
    fleet.project.replace("src/urf_store.erl", "init([]) ->", "init([]) -> io:format(\"new\"),");
    fleet.ci(&["deploy", "sit"]).ended(3).says(&["with other code: module `urf_store` (L005)", "next one"]);

    // a hand-written appup that does not know the running version
    fleet.project.checkout("0.2.0");
    fleet.project.replace("ebin/urf.appup", "\"0.1.0\"", "\"0.1.7\"");
    fleet.ci(&["deploy", "sit"]).ended(3).says(&["a restart is not allowed", "0.1.0"]);
    assert_eq!(fleet.targets[0].boot(), boot);
    fleet.settings(&format!("environments: {{sit: {{targets: {targets}}}}}\n"));
    let said = fleet.ci(&["deploy", "sit", "--plan"]).ended(0);
    assert!(said.stdout.contains("    restart\n      because: "), "{}", said.stdout);
    assert!(said.stdout.contains("batch 1") && said.stdout.contains("--expect "), "{}", said.stdout);
    assert_eq!(fleet.targets[0].boot(), boot);
    fleet.ci(&["deploy", "sit"]).ended(0).says(&["restart: ", "runs in place of 0.1.0"]);
    assert!(fleet.targets[0].eval(STATE).starts_with("{v2, {state, 0, "));

    // an older version that is still there, then one that is not
    fleet.project.checkout("0.1.0");
    fleet.ci(&["deploy", "sit"]).ended(0).says(&["is older than `0.2.0`"]);
    assert_eq!(fleet.targets[0].eval(STATE), "{v1, {state, 0}}");
    // going back was wanted: nothing is said against the newer version
    fleet.project.checkout("0.2.0");
    fleet.ci(&["deploy", "sit", "--plan"]).ended(0).says(&["would be deployed"]);
}

#[test]
fn what_cannot_be_told_stops_everything_before_it_begins() {
    let fleet =
        Fleet::of(1, "    hooks: {before: ['exit 3']}\n  prod: {delivery: bundle, tier: production}\n");
    let with = |text: &str| fleet.settings(&format!("environments:\n  sit:\n    {text}\n"));
    fleet.ci(&["env", "list"]).ended(0).says(&["sit", "prod", "production", "bundle"]);
    fleet.ci(&["deploy", "prod"]).ended(3).says(&["delivered as bundles", "ci bundle prod"]);
    fleet.ci(&["deploy", "sti"]).ended(3).says(&["no environment `sti`", "did you mean `sit`"]);
    fleet.ci(&["deploy", "sit"]).ended(3).says(&["hook `exit 3` (before) exited with 3"]);
    assert!(!fleet.targets[0].release().exists(), "something was sent");
    let there = format!("sit0:{}", fleet.targets[0].release().display());
    with(&format!("targets: [{there}, 'nobody-there:/data/urf']"));
    fleet.ci(&["deploy", "sit"]).ended(1).says(&["cannot connect to `nobody-there`"]);
    assert!(!fleet.targets[0].release().exists(), "something was sent");
    fleet.ci(&["env", "status"]).ended(1).says(&[
        "absent",
        "no connection",
        "sit nobody-there: cannot connect",
    ]);
    with("targets: [a, -x]");
    fleet.ci(&["env", "status", "sit"]).ended(3).says(&[".ci/deploy.yml:3:18: the target is `-x`"]);
    with("target: [a]");
    fleet.ci(&["deploy", "sit"]).ended(3).says(&[".ci/deploy.yml:3:5: ", "unknown field `target`"]);
}

#[test]
fn the_projects_own_commands_build_the_package() {
    let fleet = Fleet::of(1, "");
    let targets =
        format!("environments: {{sit: {{targets: ['sit0:{}']}}}}\n", fleet.targets[0].release().display());
    let package = "_build/default/rel/{name}/{name}-{version}.tar.gz";
    fleet.settings(&format!(
        "release: {{build: ['rebar3 tar'], package: '{package}', version: {{file: VERSION}}}}\n{targets}"
    ));
    fs::write(fleet.project.path().join("VERSION"), "0.1.0\n").unwrap();
    fleet.ci(&["deploy", "sit"]).ended(0).says(&["installed and running"]);
    fleet.ci(&["release", "version"]).ended(0).says(&["0.1.0"]);
    fs::write(fleet.project.path().join("VERSION"), "0.1.1\n").unwrap();
    fleet.ci(&["deploy", "sit"]).ended(1).says(&["made no package", "urf-0.1.1.tar.gz"]);
    fleet.settings(&format!("release: {{build: ['echo broken; exit 2'], package: '{package}'}}\n{targets}"));
    fleet.project.checkout("0.2.0");
    fleet.ci(&["deploy", "sit"]).ended(1).says(&["`echo broken; exit 2` failed", "broken"]);
}

#[test]
fn targets_that_run_different_versions_get_one_package_with_an_upgrade_for_each() {
    let fleet = Fleet::of(2, "");
    let settings =
        |targets: &str| fleet.settings(&format!("environments:\n  sit: {{targets: [{targets}]}}\n"));
    let place = |index: usize| format!("'sit{index}:{}'", fleet.targets[index].release().display());
    fleet.ci(&["deploy", "sit"]).ended(0);
    fleet.project.checkout("0.2.0");
    settings(&place(0));
    fleet.ci(&["deploy", "sit"]).ended(0);
    settings(&format!("{}, {}", place(0), place(1)));
    let boots: Vec<String> = fleet.targets.iter().map(Target::boot).collect();
    fleet.project.checkout("0.3.0");
    let done = fleet.ci(&["deploy", "sit"]).ended(0);
    done.says(&["build urf 0.3.0 and its upgrades from 0.1.0, 0.2.0"]);
    for (target, boot) in fleet.targets.iter().zip(boots) {
        assert_eq!(target.boot(), boot, "the node restarted");
        assert!(target.eval(STATE).starts_with("{v3,"));
    }
    let relup = |target: &Target| fs::read(target.path("urf/releases/0.3.0/relup")).unwrap();
    assert_eq!(relup(&fleet.targets[0]), relup(&fleet.targets[1]));
}
