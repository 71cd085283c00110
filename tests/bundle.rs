//! Bundles and promotions with real Erlang/OTP: what operations do with dash and busybox, and what comes back.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::project::Project;
use support::target::{Said, Target, run};

const STATE: &str = "urf_store:info().";

/// A project with `.ci/deploy.yml`, a host, and a ledger of its own.
struct Site {
    target: Target,
    project: Project,
}

impl Site {
    fn new(environments: &str) -> Site {
        let site = Site { target: Target::start(), project: Project::at("0.1.0") };
        site.settings(environments);
        site
    }

    /// `DIR` in the text is the release's directory.
    fn settings(&self, environments: &str) {
        let ann = fs::read_to_string(self.target.path("user.pub")).unwrap();
        let text = format!("people:\n  ann: ['{}']\nenvironments:\n{environments}", ann.trim());
        let text = text.replace("DIR", &self.target.release().display().to_string());
        let path = self.project.path().join(".ci");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("deploy.yml"), text).unwrap();
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        let home = self.target.path("slipway");
        let home = home.to_str().unwrap();
        // the file says where, not the variables
        let variables = [("SLIPWAY_HOME", home), ("DEV_SSH_USER_HOST", ""), ("TARGET_DIR", "")];
        self.target.ci(self.project.path(), arguments, &variables)
    }

    /// Makes a signed bundle of what is checked out, and unpacks it as operations would.
    fn bundle(&self, more: &[&str]) -> PathBuf {
        let key = self.target.path("user");
        let file = self.target.path("b.tar.gz");
        let mut arguments =
            vec!["bundle", "prod", "--sign", key.to_str().unwrap(), "-o", file.to_str().unwrap()];
        arguments.extend(more);
        self.ci(&arguments).ended(0);
        self.unpack(&file)
    }

    fn unpack(&self, file: &Path) -> PathBuf {
        let to = tempfile::tempdir_in(self.target.path("")).unwrap().keep();
        run(Command::new("tar").arg("-xzf").arg(file).arg("-C").arg(&to));
        fs::read_dir(&to).unwrap().next().unwrap().unwrap().path()
    }

    fn install(&self, shell: &[&str], bundle: &Path, arguments: &[&str]) -> Said {
        let mut command = shell.to_vec();
        command.push("install.sh");
        command.extend(arguments);
        self.target.operator(bundle, &command)
    }

    fn report(&self, bundle: &Path) -> PathBuf {
        let mut files = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.to_str().unwrap().ends_with("-report.json")).unwrap()
    }

    fn count_to_two(&self) {
        self.target.eval("urf_store:incr().");
        self.target.eval("urf_store:incr().");
        assert_eq!(self.target.eval(STATE), "{v1, {state, 2}}");
    }

    /// Every path below the release, but for logs.
    fn files(&self) -> String {
        let root = self.target.release();
        if !root.exists() {
            return String::new();
        }
        run(Command::new("find").arg(&root).args([
            "-path",
            "*/log",
            "-prune",
            "-o",
            "-printf",
            "%p %s %T@\n",
        ]))
    }
}

const DASH: &[&str] = &["dash"];
const BUSYBOX: &[&str] = &["busybox", "sh"];
const PROD: &str = "  prod:\n    tier: production\n    delivery: bundle\n    directory: DIR\n    soak: 1s\n    health: [{eval: 'is_tuple(urf_store:info()).', within: 5s}]\n";

#[test]
fn a_bundle_installs_afresh_upgrades_hot_and_goes_back_by_the_relup() {
    let site = Site::new(PROD);
    let bundle = site.bundle(&[]);
    let first = fs::read(site.target.path("b.tar.gz")).unwrap();
    site.bundle(&[]);
    assert!(first == fs::read(site.target.path("b.tar.gz")).unwrap(), "the same input gave other bytes");

    site.install(DASH, &bundle, &[]).ended(0).says(&["absent", "plan:     fresh", "nothing was changed"]);
    assert!(!site.target.release().exists(), "a dry run changed something");
    site.install(DASH, &bundle, &["--yes"]).ended(0).says(&["0.1.0 runs", "report:"]);
    let report = site.report(&bundle);
    site.ci(&["receipt", "import", report.to_str().unwrap()]).ended(0).says(&["urf 0.1.0", "done"]);
    site.ci(&["receipt", "import", report.to_str().unwrap()]).ended(3).says(&["imported already"]);
    let text = fs::read_to_string(&report).unwrap();
    fs::write(&report, text.replace("\"version\": \"0.1.0\"", "\"version\": \"0.9.0\"")).unwrap();
    site.ci(&["receipt", "import", report.to_str().unwrap()]).ended(3).says(&["it was changed"]);
    site.count_to_two();
    let boot = site.target.boot();

    // the ledger knows what runs there: the next bundle has its upgrade
    site.project.checkout("0.2.0");
    let bundle = site.bundle(&[]);
    let before = site.files();
    site.install(BUSYBOX, &bundle, &[]).ended(0).says(&[
        "running, 0.1.0 runs",
        "plan:     hot",
        "nothing was changed",
    ]);
    assert_eq!(site.files(), before, "a dry run changed something");
    site.install(BUSYBOX, &bundle, &["--yes"]).ended(0).says(&["0.2.0 runs"]);
    assert_eq!(site.target.boot(), boot, "the node restarted");
    assert!(site.target.eval(STATE).starts_with("{v2, {state, 2, "));
    site.install(DASH, &bundle, &["--yes"]).ended(0).says(&["nothing to do"]);
    let report = site.report(&bundle);
    site.ci(&["receipt", "import", report.to_str().unwrap()]).ended(0);
    site.ci(&["env", "history", "prod"]).ended(0).says(&["bundle", "receipt", "from 0.1.0"]);

    site.install(DASH, &bundle, &["--rollback"])
        .ended(0)
        .says(&["back from 0.2.0 to 0.1.0", "nothing was changed"]);
    assert!(site.target.eval(STATE).starts_with("{v2, "));
    site.install(DASH, &bundle, &["--rollback", "--yes"]).ended(0).says(&["0.1.0 runs again"]);
    assert_eq!(site.target.eval(STATE), "{v1, {state, 2}}");
    assert_eq!(site.target.boot(), boot, "the node restarted");

    // and forward again, through what the way back left
    site.install(BUSYBOX, &bundle, &["--yes"]).ended(0).says(&["0.2.0 runs"]);
    assert_eq!(site.target.boot(), boot, "the node restarted");
}

#[test]
fn what_fails_its_health_check_goes_back_hot_or_by_a_restart() {
    let site = Site::new(PROD);
    let bundle = site.bundle(&[]);
    site.install(DASH, &bundle, &["--yes"]).ended(0);
    site.count_to_two();
    let boot = site.target.boot();
    site.project.checkout("0.2.0");
    let failing = PROD.replace(
        "is_tuple(urf_store:info()).', within: 5s",
        "element(1, urf_store:info()) =:= v1.', within: 1s",
    );
    site.settings(&failing);
    let bundle = site.bundle(&["--from", "0.1.0"]);

    site.install(DASH, &bundle, &["--yes"])
        .ended(4)
        .says(&["health check", "back on 0.1.0, the node kept running"]);
    assert_eq!(site.target.eval(STATE), "{v1, {state, 2}}");
    assert_eq!(site.target.boot(), boot, "the node restarted");
    let report = site.report(&bundle);
    site.ci(&["receipt", "import", report.to_str().unwrap()]).ended(0).says(&["rolled back"]);

    site.install(BUSYBOX, &bundle, &["--yes", "--strategy", "restart"])
        .ended(4)
        .says(&["0.1.0 was started again"]);
    assert_eq!(site.target.eval(STATE), "{v1, {state, 0}}");

    // without the failing check the restart holds, and what was edited on the host stays
    let config = site.target.path("urf/releases/0.1.0/sys.config");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("%% edited here\n{text}")).unwrap();
    site.settings(PROD);
    let bundle = site.bundle(&["--from", "0.1.0"]);
    site.install(DASH, &bundle, &["--yes", "--strategy", "restart"])
        .ended(0)
        .says(&["was edited on this host", "0.2.0 runs"]);
    assert!(site.target.eval(STATE).starts_with("{v2, "));
    let kept = fs::read_to_string(site.target.path("urf/releases/0.2.0/sys.config")).unwrap();
    assert!(kept.starts_with("%% edited here"));
    site.install(BUSYBOX, &bundle, &["--rollback", "--yes"]).ended(0).says(&["0.1.0 runs again"]);
    assert_eq!(site.target.eval(STATE), "{v1, {state, 0}}");
}

#[test]
fn a_changed_bundle_and_an_unclear_host_are_refused_before_anything_changes() {
    let site = Site::new(PROD);
    let bundle = site.bundle(&[]);
    site.install(DASH, &bundle, &["--yes"]).ended(0);
    site.count_to_two();
    let boot = site.target.boot();
    site.project.checkout("0.2.0");
    let bundle = site.bundle(&["--from", "0.0.9"]);
    let public = fs::read_to_string(site.target.path("user.pub")).unwrap();
    fs::write(site.target.path("signers"), format!("ann {public}")).unwrap();
    let stranger = fs::read_to_string(site.target.path("stranger.pub")).unwrap();
    fs::write(site.target.path("strangers"), format!("eve {stranger}")).unwrap();
    let signers = site.target.path("signers");
    let signers = ["--allowed-signers", signers.to_str().unwrap()];
    let strangers = site.target.path("strangers");
    let refused = |bundle: &Path, arguments: &[&str], says: &str| {
        let before = site.files();
        for shell in [DASH, BUSYBOX] {
            let mut all = vec!["--yes"];
            all.extend(arguments);
            site.install(shell, bundle, &all).ended(3).says(&[says]);
        }
        assert_eq!(site.files(), before, "something was changed");
    };
    site.install(DASH, &bundle, &signers).says(&["signature: good, by ann"]);
    refused(&bundle, &["--allowed-signers", strangers.to_str().unwrap()], "a key that is not in");
    // what it was not made for is not stopped without being told
    refused(&bundle, &[], "made to replace: 0.0.9");
    refused(&bundle, &["--strategy", "hot"], "no hot upgrade");
    refused(&bundle, &["--strategy", "fresh"], "");
    fs::create_dir(site.target.path("urf/.ci-lock")).unwrap();
    site.install(DASH, &bundle, &["--yes", "--strategy", "restart"]).ended(3).says(&["is locked by"]);
    fs::remove_dir(site.target.path("urf/.ci-lock")).unwrap();

    // a changed file, and one whose digest was changed along with it
    let facts = fs::read_to_string(bundle.join("facts")).unwrap();
    fs::write(bundle.join("facts"), facts.replace("soak\t1", "soak\t0")).unwrap();
    refused(&bundle, &[], "facts was changed after the bundle was made");
    let sums = fs::read_to_string(bundle.join("SHA256SUMS")).unwrap();
    let old = run(Command::new("sha256sum").arg(bundle.join("facts")));
    let line = sums.lines().find(|line| line.ends_with("  facts")).unwrap();
    fs::write(bundle.join("SHA256SUMS"), sums.replace(line, &format!("{}  facts", &old[..64]))).unwrap();
    refused(&bundle, &signers, "it was changed after it was signed");
    fs::write(bundle.join("SHA256SUMS"), format!("{}  ../x\n", &old[..64])).unwrap();
    refused(&bundle, &[], "outside the bundle");
    assert_eq!(site.target.boot(), boot, "the node restarted");

    // with the binary: the archive's own signature
    let file = site.target.path("b.tar.gz");
    let apply = |more: &[&str]| {
        let mut arguments = vec!["apply", file.to_str().unwrap()];
        arguments.extend(more);
        site.ci(&arguments)
    };
    apply(&["--allowed-signers", strangers.to_str().unwrap()]).ended(3).says(&["was not signed by anybody"]);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    apply(&signers).ended(3).says(&["changed after it was signed"]);
    apply(&[]).ended(3);

    // a node that does not answer is not overwritten
    let bundle = site.bundle(&["--from", "0.1.0"]);
    let vm_args = site.target.path("urf/releases/0.1.0/vm.args");
    let right = fs::read_to_string(&vm_args).unwrap();
    fs::write(&vm_args, right.replace("urf_cookie", "another_cookie")).unwrap();
    refused(&bundle, &[], "its node does not answer");
    fs::write(&vm_args, right).unwrap();
    assert_eq!(site.target.boot(), boot, "the node restarted");
    assert_eq!(site.target.eval(STATE), "{v1, {state, 2}}");
}

#[test]
fn the_very_release_goes_on_when_every_rule_is_kept() {
    let environments = |more: &str| {
        format!(
            "  dev: {{targets: [dev], directory: DIR}}\n  sit: {{targets: [dev], directory: DIR-sit, {more}}}\n  prod: {{delivery: bundle, directory: DIR-prod}}\n"
        )
    };
    let site = Site::new(&environments("tier: testing"));
    site.ci(&["promote", "0.1.0", "--to", "sit"]).ended(3).says(&["has not succeeded in `dev`"]);
    site.ci(&["deploy", "dev"]).ended(0);
    site.ci(&["bundle", "prod"]).ended(3).says(&["has not succeeded in `sit`"]);
    assert!(site.target.script(&["stop"]).status.success());

    // approvals, by the key of somebody in `people`
    site.settings(&environments("approvals: {count: 1, from: [ann]}"));
    let key = site.target.path("user");
    let stranger = site.target.path("stranger");
    site.ci(&["promote", "0.1.0", "--to", "sit"]).ended(3).says(&["0 of 1 approvals"]);
    site.ci(&["deploy", "sit"]).ended(3).says(&["needs 1 approvals"]);
    site.ci(&["approve", "0.1.0", "--to", "sit", "--key", stranger.to_str().unwrap()])
        .ended(3)
        .says(&["of nobody"]);
    site.ci(&["approve", "0.1.0", "--to", "sit", "--key", key.to_str().unwrap()])
        .ended(0)
        .says(&["ann approved"]);
    // what was agreed to is this directory, not another
    site.settings(
        &environments("approvals: {count: 1, from: [ann]}, profile: x").replace("DIR-sit", "DIR-other"),
    );
    site.ci(&["promote", "0.1.0", "--to", "sit", "--plan"]).says(&["would be deployed"]);
    site.ci(&["promote", "0.1.0", "--to", "sit"]).ended(3).says(&["0 of 1 approvals"]);

    // a freeze, set aside with a reason
    let frozen = "approvals: {count: 1, from: [ann]}, freeze: [{from: '2020-01-01 00:00', until: '2120-01-01 00:00', reason: audit}]";
    site.settings(&environments(frozen));
    site.ci(&["promote", "0.1.0", "--to", "sit"]).ended(3).says(&["is frozen", "audit"]);
    // the sources moved on: what goes on is what was deployed
    site.project.checkout("0.2.0");
    let promote =
        ["promote", "0.1.0", "--to", "sit", "--override", "agreed with the auditors", "--format", "json"];
    let report = site.ci(&promote).ended(0).json();
    assert_eq!(report["version"], "0.1.0", "{report}");
    let history = site.ci(&["env", "history", "sit", "--format", "json"]).ended(0).json();
    let kinds: Vec<&str> =
        history.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["approval", "override", "deployment"]);
    let content = |environment: &str| {
        let history = site.ci(&["env", "history", environment, "--format", "json"]).ended(0).json();
        let all = history.as_array().unwrap();
        all.iter().rfind(|entry| entry["kind"] == "deployment").unwrap()["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(content("dev"), content("sit"));

    // and the bundle has the evidence and the same content
    site.ci(&["bundle", "prod", "--version", "0.1.0", "-o", site.target.path("b.tar.gz").to_str().unwrap()])
        .ended(0);
    let bundle = site.unpack(&site.target.path("b.tar.gz"));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["content"], content("sit"));
    let evidence = fs::read_to_string(bundle.join("evidence/ledger.jsonl")).unwrap();
    assert_eq!(evidence.lines().count(), 2, "{evidence}");
    assert!(fs::read_to_string(bundle.join("RUNBOOK.md")).unwrap().contains("# urf 0.1.0 for prod"));
}
