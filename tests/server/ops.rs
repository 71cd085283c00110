//! Running the server: health, metrics, the lock, its end, hand-over, backup, maintenance.

use crate::support::{Reply, Repository, Server, client, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn anonymous(server: &Server, path: &str) -> Reply {
    Reply::of(server.anonymous().get(server.url(path)).send().unwrap())
}

#[test]
fn health_is_for_everybody_and_details_are_for_administrators() {
    let server = Server::start();
    assert_eq!(anonymous(&server, "/healthz").is(200).text, "ok\n");
    assert_eq!(anonymous(&server, "/readyz").is(200).text, "ready\n");
    anonymous(&server, "/api/v1/health").is(401);
    let wanted = [
        "artifacts",
        "database",
        "deliveries",
        "deployments",
        "disk",
        "leases",
        "meters",
        "retention",
        "schedules",
    ];
    eventually("every pass has run", || {
        let parts = server.get("/api/v1/health").json();
        let well = |name: &str| {
            parts.as_array().unwrap().iter().any(|part| part["name"] == name && part["state"] == "ok")
        };
        wanted.iter().all(|name| well(name)).then_some(())
    });
    server.get("/api/v1/health").is(200);
}

#[test]
fn metrics_are_for_whoever_knows_their_token() {
    let server = Server::with(json!({ "local_jobs": 0, "metrics_token": "scrape me" }));
    crate::demo::fill(&server);
    anonymous(&server, "/metrics").is(401);
    server.get("/metrics").is(200);
    Reply::of(client(Some("scrape you")).get(server.url("/metrics")).send().unwrap()).is(401);
    let told = Reply::of(client(Some("scrape me")).get(server.url("/metrics")).send().unwrap()).is(200);
    assert!(told.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    for name in
        ["slipway_queue_depth ", "slipway_disk_free_bytes ", "# TYPE slipway_job_wait_seconds histogram"]
    {
        assert!(told.text.contains(name), "{name}: {}", told.text);
    }
    assert!(told.text.ends_with("# EOF\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 8);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expression = target["expr"].as_str().unwrap();
        let names: Vec<&str> = expression
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with("slipway_"))
            .collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            let family = ["_bucket", "_sum", "_count", "_total"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(told.text.contains(&format!("# TYPE {family} ")), "the dashboard asks for `{name}`");
        }
    }
}

#[test]
fn requests_have_numbers_that_a_proxy_may_give() {
    let server = Server::start();
    let ours = anonymous(&server, "/healthz").headers["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(ours.len(), 32, "{ours}");
    for (given, is_kept) in [("abc-123", true), ("a b", false), (&"x".repeat(65), false)] {
        let asked = server.anonymous().get(server.url("/healthz")).header("X-Request-Id", given);
        let reply = Reply::of(asked.send().unwrap());
        assert_eq!(reply.headers["x-request-id"] == given, is_kept, "{given}");
    }
    eventually("the request is in the log", || server.said().contains("\"abc-123\"").then_some(()));
    let lines = server.said();
    let line = lines.lines().find(|line| line.contains("\"abc-123\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["route"], &line["status"]), (&json!("/healthz"), &json!(200)), "{line}");
}

#[test]
fn a_data_directory_belongs_to_one_server() {
    let server = Server::start();
    let second = server.command(&["server", "--listen", "127.0.0.1:0", "--data"]).arg(server.data()).output();
    let second = second.unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", said(&second));
    assert!(said(&second).contains("another server uses"), "{}", said(&second));
    assert!(said(&second).contains("`--data DIR`"), "{}", said(&second));
}

/// A job that runs, as far as the database knows.
fn running_job(server: &Server, project: i64) -> i64 {
    let pipeline = server.number(&format!(
        "INSERT INTO pipelines (project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, actor, \
         merge_request, trusted, protected, plan, plan_digest, merged, errors, why, priority, created_at) VALUES \
         ({project}, 1, 'main', 0, '{}', '', 'push', 'running', '', 'first', 'Ann', 'ann', '', 1, 1, '', '', '', '', '', \
         0, 1) RETURNING id",
        "0".repeat(40)
    ));
    server.number(&format!(
        "INSERT INTO jobs (pipeline_id, project_id, position, attempt, newest, name, stage, status, allowed_to_fail, tags, \
         resource_group, environment, interruptible, timeout_s, waits_for, system_id, cancel, acknowledged, log_size, \
         lease_until, started_at, created_at) VALUES ({pipeline}, {project}, 0, 1, 1, 'build', 'test', 'running', 0, '[]', \
         '', '', 0, 60, '', '', 0, 1, 0, 9000000000000, 1, 1) RETURNING id"
    ))
}

#[test]
fn sigterm_ends_the_server_while_somebody_follows_a_log() {
    let mut server = Server::start();
    let project = server.project("group/app", "file:///nowhere");
    let job = running_job(&server, project);
    let path = server.data().join("logs");
    std::fs::create_dir_all(&path).unwrap();
    let events =
        server.client().get(server.url(&format!("/api/v1/projects/{project}/jobs/{job}/log/events")));
    let events = events.send().unwrap();
    assert_eq!(events.status(), 200);
    let reader = std::thread::spawn(move || BufReader::new(events).lines().map_while(Result::ok).count());
    // panics when it does not end
    server.stop();
    reader.join().unwrap();
}

/// Kills the server that took over, when the test ends.
struct Successor(Option<i32>);

impl Successor {
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = self.0.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }
}

#[test]
fn another_binary_takes_over_and_no_request_fails() {
    let mut server = Server::start();
    let project = server.project("group/app", "file:///nowhere");
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let address = server.url(&format!("/api/v1/projects/{project}"));
    let token = server.token().to_owned();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (over, asked, failed) = (over.clone(), asked.clone(), failed.clone());
            let (address, token) = (address.clone(), token.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // one connection each: a client that keeps one learns that it was closed
                    let reply = client(Some(&token)).get(&address).header("Connection", "close").send();
                    match reply {
                        Ok(reply) if reply.status() == 200 => {}
                        Ok(reply) => failed.lock().unwrap().push(reply.status().to_string()),
                        Err(error) => failed.lock().unwrap().push(format!("{error:?}")),
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let more = |count: usize| {
        let before = asked.load(Ordering::Relaxed);
        eventually("requests are answered", || {
            (asked.load(Ordering::Relaxed) > before + count).then_some(())
        });
    };
    more(20);
    let mut successor = Successor(i32::try_from(server.pid()).ok());
    for swap in 1..=2 {
        successor.signal(rustix::process::Signal::USR2);
        successor.0 = Some(eventually("another server takes over", || {
            let said = server.said();
            let lines = said.lines().filter(|line| line.contains("another server takes over"));
            let line: Value = serde_json::from_str(lines.clone().nth(swap - 1)?).unwrap();
            i32::try_from(line["pid"].as_i64()?).ok()
        }));
        eventually("it serves", || {
            (server.said().matches("listening on http://").count() == swap + 1).then_some(())
        });
        more(50);
    }
    over.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(*failed.lock().unwrap(), Vec::<String>::new(), "of {}", asked.load(Ordering::Relaxed));
    successor.signal(rustix::process::Signal::TERM);
    server.stop();
}

#[test]
fn init_writes_every_setting_once() {
    let home = tempfile::tempdir().unwrap();
    let init = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ci"));
        command.args(["server", "init"]).current_dir(home.path()).env("SLIPWAY_HOME", home.path());
        command.output().unwrap()
    };
    let made = init();
    assert!(made.status.success(), "{}", said(&made));
    assert!(said(&made).contains("next: `ci server --config server.yml`"), "{}", said(&made));
    assert!(std::fs::read_to_string(home.path().join("server.yml")).unwrap().contains("# Where to listen."));
    let again = init();
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("File exists"), "{}", said(&again));
}

#[test]
fn a_backup_of_the_running_server_comes_back_elsewhere() {
    let server = Server::start();
    let project = server.project("group/app", "file:///nowhere");
    let job = running_job(&server, project);
    std::fs::create_dir_all(server.data().join("logs")).unwrap();
    std::fs::write(server.data().join(format!("logs/{job}.log")), "kept\n").unwrap();
    let config = server.home().join("server.yml");
    let ci = |arguments: &[&str], config: &Path| {
        let mut command = server.command(arguments);
        command.arg("--config").arg(config).output().unwrap()
    };
    let made = ci(&["server", "backup", "--with-key", "copy.tar.zst"], &config);
    assert!(
        made.status.success() && said(&made).contains("proved: restored and compared"),
        "{}",
        said(&made)
    );
    // from PostgreSQL to SQLite, when that is what the tests run with; else from SQLite to SQLite
    let elsewhere = server.home().join("elsewhere.yml");
    let data = server.home().join("elsewhere");
    std::fs::write(&elsewhere, json!({ "data": data, "local_jobs": 0, "listen": "127.0.0.1:0" }).to_string())
        .unwrap();
    let back = ci(&["server", "restore", "copy.tar.zst"], &elsewhere);
    assert!(back.status.success(), "{}", said(&back));
    assert_eq!(std::fs::read_to_string(data.join(format!("logs/{job}.log"))).unwrap(), "kept\n");
    let full = ci(&["server", "restore", "copy.tar.zst"], &elsewhere);
    assert_eq!(full.status.code(), Some(1), "{}", said(&full));
    assert!(said(&full).contains("is not empty"), "{}", said(&full));
    // the audit record is whole, and the copy serves: its admin's token is the one that we know
    let whole = ci(&["server", "audit", "verify"], &elsewhere);
    assert!(whole.status.success(), "{}", said(&whole));
    std::fs::write(server.home().join("bad.tar.zst"), "no archive").unwrap();
    let empty = server.home().join("empty.yml");
    std::fs::write(&empty, json!({ "data": server.home().join("empty") }).to_string()).unwrap();
    let bad = ci(&["server", "restore", "bad.tar.zst"], &empty);
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
}

#[test]
fn sqlite_goes_over_to_postgresql() {
    // the other tests run against PostgreSQL then, and this needs both
    let Ok(_) = std::env::var("SLIPWAY_TEST_DATABASE") else { return };
    let mut target = Server::start();
    let url = target.settings_database().unwrap();
    let fresh = target.another_database();
    assert_ne!(fresh, url);
    let home = target.home();
    let data = home.join("small");
    let file = home.join("small.yml");
    std::fs::write(&file, json!({ "data": data, "local_jobs": 0, "listen": "127.0.0.1:0" }).to_string())
        .unwrap();
    let mut small = target.command(&["server", "--config"]);
    let mut small = small.arg(&file).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(small.stderr.take().unwrap()).read_line(&mut first).unwrap();
    small.kill().unwrap();
    small.wait().unwrap();
    assert!(first.starts_with("listening on"), "{first}");
    let ci = |arguments: &[&str], config: &Path| {
        target.command(arguments).arg("--config").arg(config).output().unwrap()
    };
    let made = ci(&["server", "backup", "small.tar.zst"], &file);
    assert!(made.status.success(), "{}", said(&made));
    let big = home.join("big.yml");
    std::fs::write(&big, json!({ "data": home.join("big"), "database": fresh }).to_string()).unwrap();
    let back = ci(&["server", "restore", "small.tar.zst"], &big);
    assert!(back.status.success(), "{}", said(&back));
    let whole = ci(&["server", "audit", "verify"], &big);
    assert!(whole.status.success(), "{}", said(&whole));
}

#[test]
fn in_maintenance_no_job_is_handed_out() {
    let mut server =
        Server::with(json!({ "local_jobs": 1, "reconcile_seconds": 3600, "long_poll_seconds": 0 }));
    let repository = Repository::with(&[(".gitlab-ci.yml", "build: {script: [echo hello]}\n")]);
    let made = json!({ "path": "group/app", "git_url": repository.url(), "forge": "generic" });
    let made = server.post("/api/v1/projects", &made).is(201).json();
    let project = made["project"]["id"].as_i64().unwrap();
    let wish = json!({ "on": true, "reason": "a new <disk>" });
    let standing = server.post("/api/v1/admin/maintenance", &wish).is(200).json();
    assert_eq!(standing, json!({ "on": true, "running": 0 }));
    assert!(anonymous(&server, "/readyz").is(503).text.contains("maintenance"));
    anonymous(&server, "/healthz").is(200);
    let page = server.get("/admin").is(200).text;
    assert!(page.contains("a new &lt;disk&gt;: no job is handed out"), "{page}");
    assert!(page.contains("Nothing is under way"), "{page}");
    let run = json!({ "ref": "main" });
    let pipeline = server.post(&format!("/api/v1/projects/{project}/pipelines"), &run).is(201).json();
    let path = format!("/api/v1/projects/{project}/pipelines/{}", pipeline["id"]);
    // it goes on after a restart
    server.restart();
    assert!(anonymous(&server, "/readyz").is(503).text.contains("maintenance"));
    let runner = json!({ "description": "r", "run_untagged": true });
    let runner = server.post("/api/v1/runners", &runner).is(201).json();
    let ask = json!({ "token": runner["token"], "info": {} });
    let asked =
        Reply::of(server.anonymous().post(server.url("/api/v4/jobs/request")).json(&ask).send().unwrap());
    asked.is(204);
    assert_eq!(server.get(&path).json()["jobs"][0]["status"], "pending");
    server.post("/api/v1/admin/maintenance", &json!({ "on": false })).is(200);
    anonymous(&server, "/readyz").is(200);
    eventually("the job runs", || (server.get(&path).json()["status"] == "success").then_some(()));
    let actions = server.texts("SELECT action FROM audit WHERE action LIKE 'server.%' ORDER BY seq");
    assert_eq!(actions, ["server.maintenance", "server.work"]);
}
