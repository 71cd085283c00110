//! Releases of mix and plain archives on the same way as those of rebar3: hot upgrades, roll-back, status, promotion and
//! bundles, with a real sshd, Elixir and OTP.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::target::{Said, Target, free_port, run};
use tempfile::TempDir;

/// The example, on a node of its own.
struct Mix {
    directory: TempDir,
    target: Target,
}

impl Mix {
    fn new() -> Mix {
        let directory = tempfile::tempdir().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mixrel");
        run(Command::new("cp").arg("-R").arg(example.join(".")).arg(directory.path()));
        let mix = Mix { directory, target: Target::start() };
        // other tests may run the same release
        mix.write("rel/env.sh.eex", &format!("export RELEASE_NODE=mixrel{}\n", free_port()));
        mix
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.directory.path().join(name)).unwrap();
        assert!(text.contains(from), "`{from}` is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    fn version(&self, from: &str, to: &str) {
        self.replace("mix.exs", &format!("version: \"{from}\""), &format!("version: \"{to}\""));
    }

    /// Another state, converted both ways.
    fn second(&self) {
        self.version("0.1.0", "0.2.0");
        let file = "lib/mixrel.ex";
        self.replace(
            file,
            "def init(count), do: {:ok, count}",
            "def init(count), do: {:ok, %{count: count}}",
        );
        self.replace(
            file,
            "def handle_call(:count, _from, count), do: {:reply, count + 1, count + 1}",
            "def handle_call(:count, _from, %{count: count}), do: {:reply, count + 1, %{count: count + 1}}\n\n  \
             @impl true\n  def code_change({:down, _}, %{count: count}, _extra), do: {:ok, count}\n  \
             def code_change(_from, count, _extra), do: {:ok, %{count: count}}",
        );
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        self.target.ci(self.directory.path(), arguments, &[])
    }

    /// What an Elixir expression is on the node.
    fn rpc(&self, expression: &str) -> String {
        let script = self.target.path("urf/bin/mixrel").display().to_string();
        let expression = format!("IO.inspect({expression})");
        let said = self.target.operator(Path::new("/"), &[&script, "rpc", &expression]).ended(0);
        said.stdout.trim().to_owned()
    }

    fn count(&self) -> String {
        self.rpc("{Mixrel.Counter.count(), :sys.get_state(Mixrel.Counter)}")
    }
}

#[test]
fn a_mix_release_is_upgraded_while_it_runs_and_goes_back() {
    let mix = Mix::new();
    mix.ci(&["deploy", "dev"]).ended(0).says(&["fresh install"]);
    assert_eq!(mix.count(), "{1, 1}");
    let boot = mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}");

    mix.second();
    mix.ci(&["deploy", "dev", "--plan"]).ended(0).says(&["hot", "would be deployed"]);
    mix.ci(&["deploy", "dev"])
        .ended(0)
        .says(&["mixrel upgraded from 0.1.0 to 0.2.0 while running", "the same as before"]);
    assert_eq!(mix.count(), "{2, %{count: 2}}");
    assert_eq!(mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}"), boot);
    mix.ci(&["deploy", "dev"]).ended(0).says(&["nothing to do"]);
    let status = mix.ci(&["env", "status", "dev", "--format", "json"]).ended(0).json();
    assert_eq!(status[0]["targets"][0]["installed"]["version"], "0.2.0", "{status}");

    // one that can't convert the state: the old one goes on with its own
    mix.version("0.2.0", "0.3.0");
    mix.replace(
        "lib/mixrel.ex",
        "def code_change(_from, count, _extra), do: {:ok, %{count: count}}",
        "def code_change(_from, %{count: 0}, _extra), do: {:ok, %{count: 0}}",
    );
    let said = mix.ci(&["deploy", "dev"]);
    assert!(matches!(said.code, 1 | 4), "{}", said.stderr);
    assert!(mix.count().starts_with("{"), "nothing serves");
    assert_eq!(mix.rpc("Application.spec(:mixrel, :vsn)"), "'0.2.0'");
    if said.code == 1 {
        assert_eq!(mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}"), boot);
    }

    mix.ci(&["rollback", "dev"]).ended(0).says(&["mixrel 0.1.0 runs again"]);
    assert!(!mix.count().contains('%'), "the state was not converted back");
    mix.ci(&["env", "history", "dev"]).ended(0).says(&["taken back to `0.1.0` by hand", "0.2.0"]);

    // what is computed at the start would be lost
    mix.version("0.3.0", "0.4.0");
    mix.write("config/runtime.exs", "import Config\nconfig :mixrel, answer: 42\n");
    mix.ci(&["deploy", "dev", "--plan"]).ended(0).says(&["restart", "(R028)"]);
    mix.ci(&["deploy", "dev"]).ended(0).says(&["0.4.0 runs in place of 0.1.0"]);
    assert_eq!(mix.rpc("Application.get_env(:mixrel, :answer)"), "42");
}

/// Answers with its version.
const SERVER: &str = include_str!("support/answers.py");

/// An archive with the environments `dev` and `sit` on one host.
struct Archive {
    directory: TempDir,
    target: Target,
    ports: [u16; 3],
}

impl Archive {
    fn new() -> Archive {
        let (directory, target) = (tempfile::tempdir().unwrap(), Target::start());
        let archive = Archive { directory, target, ports: [free_port(), free_port(), free_port()] };
        let release = "release: {name: site, kind: archive, version: {file: VERSION}, package: 'dist/{name}-{version}.tar.gz', build: \
            ['mkdir -p dist && tar czf dist/$NAME-$VERSION.tar.gz -C app .']}\n";
        let environment = |index: usize, name: &str, more: &str| {
            let (port, directory) = (archive.ports[index], archive.target.path(name));
            format!(
                "  {name}:\n    directory: {}\n    {more}\n    health: [{{http: 'http://127.0.0.1:{port}/', within: 15s}}]\n    \
                 service: {{commands: {{start: 'exec python3 server.py {port}'}}}}\n",
                directory.display()
            )
        };
        let all = environment(0, "dev", "targets: [dev]")
            + &environment(1, "sit", "targets: [dev]")
            + &environment(2, "prod", "delivery: bundle");
        archive.write(".ci/deploy.yml", &format!("{release}environments:\n{all}"));
        archive.write("app/server.py", SERVER);
        archive
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(&self, version: &str) -> &Self {
        self.write("VERSION", version);
        self.write("app/version", version);
        self
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        // the file says where, not the variables
        let variables = [("DEV_SSH_USER_HOST", ""), ("TARGET_DIR", "")];
        self.target.ci(self.directory.path(), arguments, &variables)
    }

    fn get(&self, index: usize) -> String {
        let url = format!("http://127.0.0.1:{}/", self.ports[index]);
        let output = Command::new("curl").args(["-s", "--max-time", "5", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.target.path(name)
    }
}

#[test]
fn an_archive_has_a_status_goes_back_and_is_promoted() {
    let site = Archive::new();
    site.at("1.0.0");
    site.ci(&["env", "status", "dev"]).ended(0).says(&["absent"]);
    site.ci(&["rollback", "dev"]).ended(3).says(&["nothing is installed there"]);
    for version in ["1.0.0", "1.1.0"] {
        site.at(version).ci(&["deploy", "dev"]).ended(0);
    }
    let status = site.ci(&["env", "status", "dev", "--format", "json"]).ended(0).json();
    let target = &status[0]["targets"][0];
    assert_eq!(
        (&target["installed"]["version"], &target["drift"]),
        (&"1.1.0".into(), &serde_json::json!([]))
    );
    assert!(target["pid"].as_u64().is_some() && target["memory"].as_u64().unwrap() > 1 << 20, "{status}");
    assert!(target["since"].as_str().unwrap().ends_with('Z'), "{status}");
    site.ci(&["env", "status", "dev"]).ended(0).says(&["1.1.0", "running", "MiB", "none"]);

    // a file is edited on the host
    let file = site.path("dev/versions/1.1.0/version");
    fs::write(&file, "mine").unwrap();
    site.ci(&["env", "status", "dev"]).ended(1).says(&["yes", "changed since it was put there: `version`"]);
    fs::write(&file, "1.1.0").unwrap();

    // the very package goes on, whatever the sources say by now
    site.ci(&["promote", "1.2.0", "--to", "sit"]).ended(3).says(&["has not succeeded in `dev`"]);
    site.at("1.2.0").write("app/more", "not in what was deployed");
    site.ci(&["promote", "1.1.0", "--to", "sit", "--plan"]).ended(0).says(&["would be deployed"]);
    let promoted = site.ci(&["promote", "1.1.0", "--to", "sit", "--format", "json"]).ended(0).json();
    assert_eq!((promoted["version"].as_str(), site.get(1)), (Some("1.1.0"), "1.1.0".to_owned()));
    assert!(!site.path("sit/versions/1.1.0/more").exists());
    let content = |environment: &str| {
        let history = site.ci(&["env", "history", environment, "--format", "json"]).ended(0).json();
        history.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(content("dev"), content("sit"));
    assert_eq!(content("dev").len(), 64);

    site.ci(&["rollback", "dev", "--to", "9.0.0"]).ended(3).says(&["not installed there", "`1.0.0`"]);
    site.ci(&["rollback", "dev"]).ended(0).says(&["site 1.0.0 runs again"]);
    assert_eq!(site.get(0), "1.0.0");
    site.ci(&["env", "history", "dev"]).ended(0).says(&["taken back to `1.0.0` by hand"]);
    site.ci(&["rollback", "dev"]).ended(3).says(&["no version that served before"]);
    // what was taken back neither returns nor goes on
    site.ci(&["rollback", "dev", "--to", "1.1.0"]).ended(3).says(&["failed there before", "ci env clear"]);
    site.ci(&["env", "clear", "dev", "1.1.0", "--reason", "it was the disk"]).ended(0);
    site.ci(&["rollback", "dev", "--to", "1.1.0"]).ended(0).says(&["site 1.1.0 runs again"]);
    // one that does not serve: what served does so again
    fs::write(site.path("dev/versions/1.0.0/version"), "broken").unwrap();
    site.ci(&["env", "clear", "dev", "1.0.0", "--reason", "test"]).ended(0);
    site.ci(&["rollback", "dev"]).ended(4).says(&["rolled back: `1.1.0` serves again"]);
    assert_eq!(site.get(0), "1.1.0");
}

/// Makes a bundle for `prod` and unpacks it as operations would.
fn bundle(ci: impl Fn(&[&str]) -> Said, target: &Target) -> PathBuf {
    let file = target.path("b.tar.gz").display().to_string();
    ci(&["bundle", "prod", "-o", &file, "--override", "test"]).ended(0);
    let to = tempfile::tempdir_in(target.path("")).unwrap().keep();
    run(Command::new("tar").args(["-xzf", &file, "-C"]).arg(&to));
    fs::read_dir(&to).unwrap().next().unwrap().unwrap().path()
}

/// Imports the report that an installation left, and says how it ended.
fn import(ci: impl Fn(&[&str]) -> Said, bundle: &Path) -> Said {
    let mut files = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().path());
    let report = files.find(|path| path.to_str().unwrap().ends_with("-report.json")).unwrap();
    ci(&["receipt", "import", report.to_str().unwrap()])
}

#[test]
fn an_archive_is_delivered_in_a_bundle() {
    let site = Archive::new();
    let ci = |arguments: &[&str]| site.ci(arguments);
    let install = |bundle: &Path, shell: &str, arguments: &[&str]| {
        let command = match shell {
            "busybox" => vec!["busybox", "sh", "install.sh"],
            shell => vec![shell, "install.sh"],
        };
        site.target.operator(bundle, &[command, arguments.to_vec()].concat())
    };
    site.at("1.0.0");
    let first = bundle(ci, &site.target);
    install(&first, "dash", &[]).ended(0).says(&["absent", "plan:     fresh", "nothing was changed"]);
    assert!(!site.path("prod").exists(), "a dry run changed something");
    install(&first, "dash", &["--yes"]).ended(0).says(&["done:     1.0.0 runs", "report:"]);
    assert_eq!(site.get(2), "1.0.0");
    import(ci, &first).ended(0).says(&["site 1.0.0", "done"]);
    install(&first, "busybox", &["--yes"]).ended(0).says(&["nothing to do"]);

    site.at("1.1.0");
    let second = bundle(ci, &site.target);
    assert!(fs::read_to_string(second.join("RUNBOOK.md")).unwrap().contains("| 1.0.0 | restart |"));
    let apply = site.target.path("b.tar.gz").display().to_string();
    site.ci(&["apply", &apply]).ended(0).says(&["plan:     restart, because 1.0.0 runs"]);
    install(&second, "busybox", &["--yes"]).ended(0).says(&["1.1.0 runs"]);
    assert_eq!(site.get(2), "1.1.0");
    import(ci, &second).ended(0);
    site.ci(&["env", "history", "prod"]).ended(0).says(&["bundle", "receipt", "from 1.0.0"]);
    install(&second, "dash", &["--rollback", "--yes"]).ended(0).says(&["1.0.0 runs again"]);
    assert_eq!(site.get(2), "1.0.0");
    import(ci, &second).ended(0).says(&["rolled back"]);

    // one that does not serve: the one before does so again, and it is not tried twice
    site.at("1.2.0-broken");
    let third = bundle(ci, &site.target);
    install(&third, "dash", &["--yes"]).ended(4).says(&["FAIL  health checks", "1.0.0 serves again"]);
    assert_eq!(site.get(2), "1.0.0");
    import(ci, &third).ended(0).says(&["rolled back"]);
    install(&third, "busybox", &["--yes"]).ended(3).says(&["failed here before"]);
    // what was changed on its way is not installed
    fs::write(second.join("service/start"), "true\n").unwrap();
    install(&second, "dash", &["--yes"]).ended(3).says(&["service/start was changed"]);
}

#[test]
fn a_mix_release_in_a_bundle_upgrades_the_running_node() {
    let mix = Mix::new();
    let settings = "release: {kind: elixir}\nenvironments:\n  prod:\n    delivery: bundle\n    directory: DIR\n    \
        health: [{eval: \"is_pid(whereis('Elixir.Mixrel.Counter')).\", within: 20s}]\n";
    mix.write(".ci/deploy.yml", &settings.replace("DIR", &mix.target.release().display().to_string()));
    let ci = |arguments: &[&str]| mix.target.ci(mix.directory.path(), arguments, &[("TARGET_DIR", "")]);
    let install = |bundle: &Path, arguments: &[&str]| {
        mix.target.operator(bundle, &[&["dash", "install.sh"][..], arguments].concat())
    };
    let first = bundle(ci, &mix.target);
    install(&first, &["--yes"]).ended(0).says(&["done:     0.1.0 runs"]);
    import(ci, &first).ended(0);
    mix.count();
    let boot = mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}");
    mix.second();
    let second = bundle(ci, &mix.target);
    install(&second, &[]).ended(0).says(&["plan:     hot, because 0.1.0 runs"]);
    install(&second, &["--yes"]).ended(0).says(&["make 0.2.0 permanent", "done:     0.2.0 runs"]);
    assert_eq!(mix.count(), "{2, %{count: 2}}");
    assert_eq!(mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}"), boot);
    install(&second, &["--rollback", "--yes"]).ended(0).says(&["downgrade to 0.1.0", "0.1.0 runs again"]);
    assert_eq!(mix.count(), "{3, 3}");
    assert_eq!(mix.rpc("{System.pid(), Process.whereis(:kernel_sup)}"), boot);
}
