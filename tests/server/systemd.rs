//! The unit file of `packaging/` under a real systemd: start, reload, restart and stop, with a job that lives through them.

use crate::support::{PASSWORD, Repository, client, eventually};
use crate::targets::systemd::Systemd;
use crate::targets::target::free_port;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const UNIT: &str = include_str!("../../packaging/slipway.service");
const USER: &str = "nobody";
const GROUP: &str = "nogroup";
/// Longer than all that happens to the server meanwhile; it goes on when a file is there.
const PIPELINE: &str = "long:\n  script:\n    - echo it begins\n    - until [ -e \"$GO_ON\" ]; do sleep 0.1; done\n    - echo it ends\n";

/// The unit, whose paths and user are those of this test.
fn unit(home: &Path, state: &str) -> String {
    let home = home.display();
    let changes = [
        ("User=slipway", format!("User={USER}")),
        ("Group=slipway", format!("Group={GROUP}")),
        (
            "/usr/local/bin/ci server --config /etc/slipway/server.yml",
            format!("{home}/ci server --config {home}/server.yml"),
        ),
        ("SLIPWAY_HOME=/var/lib/slipway/home", format!("SLIPWAY_HOME=/var/lib/{state}/home")),
        ("-/etc/slipway/environment", format!("-{home}/environment")),
        ("StateDirectory=slipway", format!("StateDirectory={state}")),
        ("[Service]", format!("[Service]\nStandardError=append:{home}/said")),
    ];
    changes.into_iter().fold(UNIT.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, &to)
    })
}

/// A directory that systemd makes for the service.
struct State(String);

impl Drop for State {
    fn drop(&mut self) {
        // the test may have failed before it was there
        let _ = std::fs::remove_dir_all(Path::new("/var/lib").join(&self.0));
    }
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn a_job_lives_through_reload_and_restart_of_the_unit() {
    let home = tempfile::tempdir().unwrap();
    let state = State(format!("slipway-test-{}", std::process::id()));
    let repository = Repository::with(&[(".gitlab-ci.yml", PIPELINE)]);
    let go_on = home.path().join("go-on");
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = |jobs: u64| {
        let data = format!("/var/lib/{}", state.0);
        write("server.yml", &json!({ "listen": address, "data": data, "local_jobs": jobs }).to_string());
    };
    settings(1);
    let config = home.path().join("config/slipway");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("settings.yml"), "executor: shell\n").unwrap();
    write(
        "environment",
        &format!(
            "SLIPWAY_ADMIN_PASSWORD=\"{PASSWORD}\"\nXDG_CONFIG_HOME={}\n",
            home.path().join("config").display()
        ),
    );
    // a build may lie where `ProtectHome` looks away
    std::fs::copy(env!("CARGO_BIN_EXE_ci"), home.path().join("ci")).unwrap();
    let owner = format!("{USER}:{GROUP}");
    ran(Command::new("chown").args(["-R", &owner]).arg(home.path()).arg(repository.bare()));
    ran(Command::new("chmod").arg("a+rx").arg(home.path()).arg(repository.bare().parent().unwrap()));

    let systemd = Systemd::start(home.path(), "slipway.service", &unit(home.path(), &state.0));
    let systemctl = home.path().join("systemctl");
    std::fs::write(&systemctl, systemd.systemctl()).unwrap();
    let systemctl = |arguments: &[&str]| ran(Command::new("sh").arg(&systemctl).args(arguments));
    let property = |name: &str| systemctl(&["show", "-P", name, "slipway.service"]);
    let url = |path: &str| format!("http://{address}{path}");
    let healthy = || client(None).get(url("/healthz")).send().is_ok_and(|reply| reply.status() == 200);

    systemctl(&["start", "slipway.service"]);
    assert!(healthy(), "it is ready when systemd says so");
    let login = client(None).post(url("/api/v1/login")).json(&json!({ "name": "admin", "password": PASSWORD,
        "scopes": ["read", "write", "admin"] }));
    let token: Value = login.send().unwrap().json().unwrap();
    let admin = client(token["token"].as_str());
    let new = json!({ "path": "group/app", "git_url": repository.url(), "forge": "generic" });
    let made: Value = admin.post(url("/api/v1/projects")).json(&new).send().unwrap().json().unwrap();
    let api = format!("/api/v1/projects/{}", made["project"]["id"]);
    let asked = json!({ "ref": "main", "variables": { "GO_ON": go_on } });
    let asked = admin.post(url(&format!("{api}/pipelines"))).json(&asked).send().unwrap();
    let (status, pipeline) = (asked.status(), asked.json::<Value>().unwrap());
    assert_eq!(status, 201, "{pipeline}");
    let jobs = || -> Option<Value> {
        let place = url(&format!("{api}/pipelines/{}", pipeline["id"]));
        Some(admin.get(place).send().ok()?.json::<Value>().ok()?["jobs"].clone())
    };
    let log = || {
        let id = jobs()?[0]["id"].as_i64()?;
        admin.get(url(&format!("{api}/jobs/{id}/log"))).send().ok()?.text().ok()
    };
    eventually("the job runs", || log()?.contains("\nit begins").then_some(()));
    let same_job = || eventually("its log", &log).matches("\nit begins").count() == 1;

    // the settings are read again; a mistake in them changes nothing
    let before = property("MainPID");
    write("server.yml", "listen: nowhere\n");
    systemctl(&["reload", "slipway.service"]);
    let said = || std::fs::read_to_string(home.path().join("said")).unwrap_or_default();
    eventually("the mistake is told", || said().contains("ended before it took over").then_some(()));
    assert!(healthy() && property("MainPID") == before, "{}", said());
    settings(2);
    systemctl(&["reload", "slipway.service"]);
    let another = |before: &str| {
        eventually("another process serves", || {
            assert_eq!(property("ActiveState"), "active", "{}", said());
            (property("MainPID") != before && healthy()).then(|| property("MainPID"))
        })
    };
    let before = another(&before);
    eventually("it listens", || (said().matches("listening on").count() == 2).then_some(()));
    assert!(same_job());
    systemctl(&["kill", "--kill-who=main", "--signal=HUP", "slipway.service"]);
    another(&before);
    eventually("it listens", || (said().matches("listening on").count() == 3).then_some(()));

    systemctl(&["restart", "slipway.service"]);
    assert!(healthy() && same_job());
    std::fs::write(&go_on, "").unwrap();
    let ended =
        eventually("the job ends", || Some(jobs()?[0].clone()).filter(|job| job["finished_at"].is_i64()));
    assert_eq!(ended["status"], "success", "{ended} {:?}", log());
    assert!(same_job() && log().unwrap().contains("\nit ends"), "{:?}", log());

    systemctl(&["stop", "slipway.service"]);
    assert_eq!((property("ActiveState"), property("Result")), ("inactive".to_owned(), "success".to_owned()));
    assert!(!healthy());
}
