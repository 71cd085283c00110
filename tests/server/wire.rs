//! The Runner API, as runners of several versions speak it: literal requests, in the order in which they come.

use super::support::{Database, Reply, Repository, client, eventually};
use reqwest::blocking::{Client, multipart};
use serde_json::{Value, json};
use slipway::server::access::Actor;
use slipway::server::config::Config;
use slipway::server::db::now;
use slipway::server::vault::{new_token, token_hash};
use slipway::server::{App, engine, serve};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server in this process, so that a test can also do what people do.
struct Wire {
    app: App,
    url: String,
    admin: String,
    project: i64,
    repository: Repository,
    runtime: Runtime,
    database: Database,
    _data: tempfile::TempDir,
}

impl Wire {
    /// One that answers at once when there is no job.
    fn start(yaml: &str) -> Wire {
        Wire::holding(yaml, 0)
    }

    /// One that holds the question so many seconds.
    fn holding(yaml: &str, long_poll_seconds: u64) -> Wire {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let database = Database::make(data.path(), &runtime);
        let repository = Repository::with(&[(".gitlab-ci.yml", yaml), ("README", "hello\n")]);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let config = Config {
            listen: listener.local_addr().unwrap(),
            data: data.path().to_owned(),
            database: database.postgres.clone(),
            local_jobs: Some(0),
            long_poll_seconds,
            ..Config::default()
        };
        let url = config.public_url();
        let app = runtime.block_on(App::open(config)).unwrap();
        let admin = new_token("slp_");
        let project = runtime.block_on(rows(&app, &admin, &repository.url()));
        runtime.spawn(serve::serve(app.clone(), listener));
        Wire { app, url, admin, project, repository, runtime, database, _data: data }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// As an administrator.
    fn admin(&self, method: &str, path: &str, body: &Value) -> Reply {
        let request = client(Some(&self.admin)).request(method.parse().unwrap(), self.url(path));
        Reply::of(request.json(body).send().unwrap())
    }

    fn runner(&self, body: &Value) -> String {
        let made = self.admin("POST", "/api/v1/runners", body).is(201).json();
        made["token"].as_str().unwrap().to_owned()
    }

    fn pipeline(&self) {
        let new = engine::NewPipeline {
            project: self.project,
            reference: "main".to_owned(),
            source: "push".to_owned(),
            trusted: true,
            actor: "ann".to_owned(),
            ..engine::NewPipeline::default()
        };
        let created = self.runtime.block_on(engine::create(&self.app, new)).unwrap();
        assert!(matches!(created, engine::Created::Pipeline(_)), "{created:?}");
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
        let mut request = Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap()
            .request(method.parse().unwrap(), self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::of(request.body(body.into()).send().unwrap())
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, &[("Content-Type", "application/json")], body.to_string())
    }

    /// The next job as a runner of that version asks for it.
    fn request(&self, token: &str, info: &Value) -> Reply {
        let body = json!({ "info": info, "token": token, "system_id": "s_1746f8786189", "last_update": "" });
        self.json("POST", "/api/v4/jobs/request", &body)
    }

    fn job(&self, token: &str, info: &Value) -> Value {
        self.request(token, info).is(201).json()
    }

    fn patch(&self, job: &Value, start: usize, text: &[u8]) -> Reply {
        let range = format!("{start}-{}", start + text.len() - 1);
        let headers = [("JOB-TOKEN", token(job)), ("Content-Range", &range), ("Content-Type", "text/plain")];
        self.send("PATCH", &format!("/api/v4/jobs/{}/trace?debug_trace=false", job["id"]), &headers, text)
    }

    fn put(&self, job: &Value, body: Value) -> Reply {
        let mut whole = json!({ "info": modern(), "token": token(job) });
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.json("PUT", &format!("/api/v4/jobs/{}", job["id"]), &whole)
    }

    fn upload(&self, job: &Value, kind: &str, format: &str, name: &str, bytes: Vec<u8>) -> Reply {
        let part = multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = multipart::Form::new().part("file", part);
        let path = format!(
            "/api/v4/jobs/{}/artifacts?artifact_format={format}&artifact_type={kind}&expire_in=1+day",
            job["id"]
        );
        let request = client(None).post(self.url(&path)).header("JOB-TOKEN", token(job)).multipart(form);
        Reply::of(request.send().unwrap())
    }

    fn status_of(&self, job: &Value) -> String {
        let path = format!("SELECT status FROM jobs WHERE id = {}", job["id"]);
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(path)).fetch_one(&self.app.db.pool);
        self.runtime.block_on(query).unwrap()
    }

    fn log(&self, job: &Value) -> String {
        std::fs::read_to_string(self.app.logs.path(job["id"].as_i64().unwrap())).unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.app.ending.cancel();
        self.runtime.block_on(self.app.db.pool.close());
        self.database.remove(&self.runtime);
    }
}

async fn rows(app: &App, admin: &str, git_url: &str) -> i64 {
    let user = "INSERT INTO users (name, display, email, admin, disabled, created_at) VALUES ('root', 'root', '', 1, 0, $1) RETURNING id";
    let user: i64 = sqlx::query_scalar(user).bind(now()).fetch_one(&app.db.pool).await.unwrap();
    sqlx::query("INSERT INTO tokens (user_id, name, hash, prefix, scopes, created_at) VALUES ($1, 't', $2, 'slp_', '[\"read\",\"write\",\"deploy\",\"admin\"]', $3)")
        .bind(user).bind(token_hash(admin)).bind(now()).execute(&app.db.pool).await.unwrap();
    let project: i64 = sqlx::query_scalar("INSERT INTO projects (path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, paused, created_at) VALUES ('group/app', $1, 'generic', '', 'main', 'h', '[\"main\"]', '{}', 0, $2) RETURNING id")
        .bind(git_url).bind(now()).fetch_one(&app.db.pool).await.unwrap();
    let variable: i64 = sqlx::query_scalar("INSERT INTO variables (project_id, key, sealed, environment_scope, protected, masked, file, raw, updated_at, updated_by) VALUES ($1, 'PASSWORD', $2, '*', 0, 1, 0, 1, 0, '') RETURNING id")
        .bind(project).bind(vec![0u8]).fetch_one(&app.db.pool).await.unwrap();
    sqlx::query("UPDATE variables SET sealed = $1 WHERE id = $2")
        .bind(app.vault.seal(&format!("variable:{variable}"), b"hunter2hunter2"))
        .bind(variable)
        .execute(&app.db.pool)
        .await
        .unwrap();
    project
}

fn token(job: &Value) -> &str {
    job["token"].as_str().unwrap()
}

/// As gitlab-runner 17.0 says it.
fn modern() -> Value {
    let features = [
        "variables",
        "image",
        "services",
        "artifacts",
        "cache",
        "upload_multiple_artifacts",
        "refspecs",
        "masking",
        "raw_variables",
        "trace_reset",
        "trace_checksum",
        "trace_size",
        "cancelable",
        "return_exit_code",
        "cancel_gracefully",
    ];
    let features: serde_json::Map<String, Value> =
        features.iter().map(|f| ((*f).to_owned(), json!(true))).collect();
    json!({ "name": "gitlab-runner", "version": "17.0.0", "revision": "44feccdf", "platform": "linux",
        "architecture": "amd64", "executor": "shell", "shell": "bash", "features": features,
        "config": { "gpus": "" }, "labels": {} })
}

/// As gitlab-runner 14.7 says it.
fn old() -> Value {
    json!({ "name": "gitlab-runner", "version": "14.7.0", "executor": "docker", "features": { "refspecs": true, "artifacts": true } })
}

fn output(text: &[u8]) -> Value {
    json!({ "checksum": format!("crc32:{:08x}", crc32fast::hash(text)), "bytesize": text.len() })
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn zip(name: &str, text: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(text.as_bytes()).unwrap();
    zip.finish().unwrap().into_inner()
}

const TWO_STAGES: &str = r#"
stages: [build, test]
build:
  stage: build
  image: { name: "alpine:3", entrypoint: [""] }
  services: [{ name: "redis:7", alias: db }]
  before_script: [echo before]
  script: [make]
  after_script: [echo after]
  coverage: '/Covered (\d+)%/'
  cache: { key: k, paths: [deps] }
  artifacts:
    paths: [out]
    reports: { dotenv: build.env, junit: report.xml }
test:
  stage: test
  variables: { VERSION: yaml }
  script: [make test]
  after_script: [echo]
"#;

#[test]
fn a_job_is_handed_out_runs_and_hands_over() {
    let wire = Wire::start(TWO_STAGES);
    let runner = wire.runner(&json!({ "description": "one" }));
    let verified =
        wire.json("POST", "/api/v4/runners/verify", &json!({ "token": runner, "system_id": "s_1" }));
    assert_eq!(verified.is(200).json()["token"], json!(runner));
    assert!(!wire.request(&runner, &modern()).is(204).headers["X-GitLab-Last-Update"].is_empty());
    wire.pipeline();
    let job = wire.job(&runner, &modern());
    assert_eq!(job["job_info"]["name"], "build");
    assert_eq!(job["steps"][0]["script"], json!(["echo before", "make"]));
    assert_eq!(job["steps"][1]["name"], "after_script");
    assert_eq!((&job["image"]["name"], &job["services"][0]["alias"]), (&json!("alpine:3"), &json!("db")));
    assert_eq!(job["cache"][0]["key"], "k-protected");
    let kinds: Vec<_> = job["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["artifact_type"].as_str().unwrap(), a["artifact_format"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [("archive", "zip"), ("dotenv", "gzip"), ("junit", "gzip")]);
    let variable = |job: &Value, key: &str| -> Vec<Value> {
        job["variables"].as_array().unwrap().iter().filter(|v| v["key"] == key).cloned().collect()
    };
    assert_eq!(variable(&job, "CI_JOB_ID")[0]["value"], json!(job["id"].to_string()));
    let password = variable(&job, "PASSWORD");
    assert_eq!(
        (password.len(), &password[0]["masked"], &password[0]["public"]),
        (1, &json!(true), &json!(false))
    );
    // nothing else is there: the second stage waits
    wire.request(&runner, &modern()).is(204);

    clones_and_nothing_else(&wire, &job);

    let log = b"one\nCovered 81%\nthe password is hunter2hunter2\n";
    let taken = wire.patch(&job, 0, &log[..20]).is(202);
    assert_eq!(taken.headers["Range"], "0-20");
    assert_eq!(taken.headers["Job-Status"], "running");
    assert_eq!(wire.patch(&job, 5, b"again").is(416).headers["Range"], "0-20");
    wire.patch(&job, 20, &log[20..]).is(202);
    wire.put(&job, json!({ "state": "running" })).is(200);
    // a checksum of something else: everything is sent again
    wire.put(&job, json!({ "state": "success", "output": output(b"other") })).is(412);
    assert_eq!(wire.patch(&job, 20, &log[20..]).is(416).headers["Range"], "0-0");
    wire.patch(&job, 0, log).is(202);

    assert_eq!(wire.upload(&job, "archive", "gzip", "a.gz", gzip("x")).status, 400);
    assert_eq!(wire.upload(&job, "archive", "zip", "a.zip", b"no zip".to_vec()).status, 400);
    wire.upload(&job, "archive", "zip", "artifacts.zip", zip("out/app", "binary")).is(201);
    wire.upload(&job, "dotenv", "gzip", ".env.gz", gzip("VERSION=1.2.3\n")).is(201);
    let report = "<testsuite name='s'><testcase name='a' time='1'/><testcase name='b'><failure/></testcase></testsuite>";
    wire.upload(&job, "junit", "gzip", "junit.xml.gz", gzip(report)).is(201);
    wire.put(&job, json!({ "state": "success", "output": output(log) })).is(200);
    assert_eq!(wire.status_of(&job), "success");
    assert_eq!(wire.log(&job), "one\nCovered 81%\nthe password is [MASKED]******\n");

    // the token has ended with the job
    wire.put(&job, json!({ "state": "success" })).is(403);
    wire.patch(&job, log.len(), b"more").is(403);

    let second = wire.job(&runner, &modern());
    assert_eq!(second["job_info"]["name"], "test");
    let version = variable(&second, "VERSION");
    assert_eq!((version.len(), &version[0]["value"]), (1, &json!("1.2.3")), "over the YAML, once");
    assert_eq!(second["dependencies"][0]["artifacts_file"]["filename"], "artifacts.zip");
    let path = format!("/api/v4/jobs/{}/artifacts?direct_download=true", job["id"]);
    let got = client(None).get(wire.url(&path)).header("JOB-TOKEN", token(&second)).send().unwrap();
    assert_eq!((got.status().as_u16(), got.bytes().unwrap().to_vec()), (200, zip("out/app", "binary")));
    wire.send("GET", &path, &[("JOB-TOKEN", "glcbt-nobody")], "").is(403);
    wire.send("GET", &path, &[], "").is(401);

    people_see(&wire, &job);
}

/// Sources for the job's token, of its project only, to read only.
fn clones_and_nothing_else(wire: &Wire, job: &Value) {
    let url = job["git_info"]["repo_url"].as_str().unwrap();
    let clone = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(clone.path()).args(arguments).env("GIT_TERMINAL_PROMPT", "0");
        command.env_remove("http_proxy").env("no_proxy", "*").output().unwrap()
    };
    assert!(git(&["init", "-q"]).status.success());
    let refspecs: Vec<&str> =
        job["git_info"]["refspecs"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
    for protocol in ["protocol.version=2", "protocol.version=0"] {
        let fetch = ["-c", protocol, "fetch", "--depth", "20", url];
        let done = git(&[&fetch[..], &refspecs[..]].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let sha = job["git_info"]["sha"].as_str().unwrap();
    assert!(git(&["checkout", "-q", sha]).status.success());
    assert_eq!(std::fs::read_to_string(clone.path().join("README")).unwrap(), "hello\n");
    assert!(!git(&["push", url, "HEAD:refs/heads/evil"]).status.success());
    let other = url.replace("group/app", "group/other");
    assert!(!git(&["ls-remote", &other]).status.success());
    let nobody = url.replace(token(job), "glcbt-nobody");
    assert!(!git(&["ls-remote", &nobody]).status.success());
    assert!(wire.repository.bare().is_dir());
    wire.send("GET", "/git/group/app.git/info/refs?service=git-upload-pack", &[], "").is(401);
}

/// Log, artifacts and tests in the API.
fn people_see(wire: &Wire, job: &Value) {
    let get = |path: &str| {
        wire.admin("GET", &format!("/api/v1/projects/group%2Fapp/jobs/{}{path}", job["id"]), &json!({}))
    };
    let lines = get("/log/lines?from=2&count=1&sections=true").is(200).json();
    assert_eq!((&lines["total"], &lines["lines"][0]["html"]), (&json!(3), &json!("Covered 81%")));
    assert_eq!(lines["status"], "success");
    assert_eq!(get("/log").is(200).text, wire.log(job));
    let range = client(Some(&wire.admin))
        .get(wire.url(&format!("/api/v1/projects/{}/jobs/{}/log", wire.project, job["id"])))
        .header("Range", "bytes=4-6")
        .send()
        .unwrap();
    assert_eq!((range.status().as_u16(), range.text().unwrap().as_str()), (206, "Cov"));
    assert_eq!(get("/artifacts/archive/tree").is(200).json()[0]["path"], "out");
    let file = get("/artifacts/archive/file?path=out/app").is(200);
    assert_eq!(file.text, "binary");
    assert!(file.headers["Content-Disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(file.headers["X-Content-Type-Options"], "nosniff");
    assert!(file.headers["Content-Security-Policy"].to_str().unwrap().contains("sandbox"));
    get("/artifacts/archive/file?path=../../key").is(404);
    let tests = get("/tests").is(200).json();
    assert_eq!((&tests["total"], &tests["failed"]), (&json!(2), &json!(1)));
    let coverage = "SELECT coverage FROM jobs WHERE coverage IS NOT NULL";
    let coverage: String =
        wire.runtime.block_on(sqlx::query_scalar(coverage).fetch_one(&wire.app.db.pool)).unwrap();
    assert_eq!(coverage, "81");
    wire.admin("GET", &format!("/api/v1/projects/{}/jobs/{}/log", wire.project + 1, job["id"]), &json!({}))
        .is(404);
}

const ONE: &str = "a:\n  script: [make]\n  tags: [x]\n";

#[test]
fn runners_of_other_versions_put_their_tokens_elsewhere() {
    let wire = Wire::start("a:\n  script: [make]\nb:\n  script: [make]\n");
    let runner = wire.runner(&json!({}));
    wire.pipeline();
    // 18 and newer: header for the runner, header for the job; `running` on receipt
    let body = json!({ "info": modern() });
    let headers = [("RUNNER-TOKEN", runner.as_str())];
    let job = wire.send("POST", "/api/v4/jobs/request", &headers, body.to_string()).is(201).json();
    let headers = [("JOB-TOKEN", token(&job))];
    let put = |state: &str| {
        let body =
            json!({ "info": modern(), "state": state, "failure_reason": "script_failure", "exit_code": 3 });
        wire.send("PUT", &format!("/api/v4/jobs/{}", job["id"]), &headers, body.to_string())
    };
    assert_eq!(put("running").is(200).headers["Job-Status"], "running");
    put("failed").is(200);
    assert_eq!(wire.status_of(&job), "failed");
    // 14: token in the body, no system_id, no checksum
    let body = json!({ "info": old(), "token": runner, "last_update": "" });
    let job = wire.json("POST", "/api/v4/jobs/request", &body).is(201).json();
    wire.json(
        "PUT",
        &format!("/api/v4/jobs/{}", job["id"]),
        &json!({ "token": token(&job), "state": "success" }),
    )
    .is(200);
    assert_eq!(wire.status_of(&job), "success");
}

#[test]
fn a_runner_that_can_end_gracefully_is_asked_to_and_others_abort() {
    for (info, expected) in [(modern(), "canceling"), (old(), "canceled")] {
        let wire = Wire::start("a:\n  script: [make]\n");
        let runner = wire.runner(&json!({}));
        wire.pipeline();
        let job = wire.job(&runner, &info);
        wire.patch(&job, 0, b"begun\n").is(202);
        let id = job["id"].as_i64().unwrap();
        wire.runtime.block_on(engine::cancel(&wire.app, id, &Actor::system())).unwrap();
        assert_eq!(wire.patch(&job, 6, b"more\n").is(202).headers["Job-Status"], expected);
        wire.put(&job, json!({ "state": "failed", "failure_reason": "job_canceled" })).is(200);
        assert_eq!(wire.status_of(&job), "canceled");
    }
}

#[test]
fn a_held_question_is_answered_with_the_job() {
    let wire = Wire::holding(ONE, 50);
    let runner = wire.runner(&json!({ "tags": ["x"] }));
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| wire.request(&runner, &modern()));
        eventually("the question is there", || {
            let heard = "SELECT COUNT(*) FROM runners WHERE contacted_at IS NOT NULL";
            let heard: i64 =
                wire.runtime.block_on(sqlx::query_scalar(heard).fetch_one(&wire.app.db.pool)).unwrap();
            (heard == 1).then_some(())
        });
        wire.pipeline();
        asking.join().unwrap()
    });
    assert_eq!(asked.is(201).json()["job_info"]["name"], "a");
}

#[test]
fn who_may_register_and_ask() {
    let wire = Wire::start(ONE);
    wire.request("glrt-nobody", &modern()).is(403);
    wire.json("POST", "/api/v4/runners/verify", &json!({ "token": "glrt-nobody" })).is(403);
    wire.send("POST", "/api/v4/jobs/request", &[], "not json").is(400);
    let register = |token: &str| {
        let body = json!({ "token": token, "description": "old", "tag_list": "x, y", "run_untagged": false, "info": old() });
        wire.json("POST", "/api/v4/runners", &body)
    };
    register("r").is(410);
    let allowed = wire.admin("POST", "/api/v1/registration-token", &json!({})).is(201).json();
    register("r").is(403);
    let registered = register(allowed["token"].as_str().unwrap()).is(201).json();
    let own = registered["token"].as_str().unwrap();
    wire.pipeline();
    let path = format!("/api/v1/runners/{}", registered["id"]);
    wire.admin("PATCH", &path, &json!({ "paused": true })).is(200);
    wire.request(own, &modern()).is(204);
    assert_eq!(
        wire.admin("PATCH", &path, &json!({ "paused": false })).is(200).json()["tags"],
        json!(["x", "y"])
    );
    wire.request(own, &modern()).is(201);
    let reset = wire
        .json("POST", "/api/v4/runners/reset_authentication_token", &json!({ "token": own }))
        .is(201)
        .json();
    wire.request(own, &modern()).is(403);
    let own = reset["token"].as_str().unwrap();
    wire.request(own, &modern()).is(204);
    wire.json("DELETE", "/api/v4/runners/managers", &json!({ "token": own, "system_id": "s_1746f8786189" }))
        .is(204);
    wire.json("DELETE", "/api/v4/runners/managers", &json!({ "token": own })).is(400);
    wire.json("DELETE", "/api/v4/runners", &json!({ "token": own })).is(204);
    wire.request(own, &modern()).is(403);
    let listed = wire.admin("GET", "/api/v1/runners", &json!({})).is(200).text;
    assert!(!listed.contains(own) && !listed.contains("\"old\""), "{listed}");
    let nothing = json!({ "run_untagged": false });
    wire.admin("POST", "/api/v1/runners", &nothing).is(400);
}

const RELEASE: &str = "a:\n  script: [make]\n  release: { tag_name: v$NUMBER, description: .gitlab-ci.yml }\n  \
                       variables: { NUMBER: '1.0' }\n";

#[test]
fn a_release_is_recorded_when_its_job_succeeds_and_a_tag_has_one() {
    let wire = Wire::start(RELEASE);
    let runner = wire.runner(&json!({}));
    let releases = format!("/api/v1/projects/{}/releases", wire.project);
    let run = || {
        wire.pipeline();
        let job = wire.job(&runner, &modern());
        assert_eq!(wire.admin("GET", &format!("{releases}/none"), &json!({})).status, 404);
        wire.put(&job, json!({ "state": "success" })).is(200);
        (wire.status_of(&job), job["id"].clone())
    };
    let (status, job) = run();
    assert_eq!(status, "success");
    let made = wire.admin("GET", &format!("{releases}/v1.0"), &json!({})).is(200).json();
    assert_eq!((&made["tag"], &made["job"], &made["by"]), (&json!("v1.0"), &job, &json!("ann")));
    assert_eq!(
        (&made["release"]["name"], &made["release"]["description"]),
        (&json!("v1.0"), &json!(RELEASE))
    );
    assert_eq!(wire.admin("GET", &releases, &json!({})).is(200).json(), json!([made]));
    let (status, job) = run();
    assert_eq!(status, "failed");
    let path = format!("/api/v1/projects/{}/jobs/{job}", wire.project);
    let told = wire.admin("GET", &path, &json!({})).is(200).json()["message"].to_string();
    assert!(told.contains("`v1.0` has a release already"), "{told}");
    wire.admin("DELETE", &format!("{releases}/v1.0"), &json!({})).is(204);
    assert_eq!(run().0, "success");
}

#[test]
fn a_follower_that_comes_back_misses_nothing() {
    let wire = Wire::start("a:\n  script: [make]\n");
    let runner = wire.runner(&json!({}));
    wire.pipeline();
    let job = wire.job(&runner, &modern());
    let follow = |last: Option<&str>| {
        let path = format!("/api/v1/projects/{}/jobs/{}/log/events", wire.project, job["id"]);
        let mut request = client(Some(&wire.admin)).get(wire.url(&path));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Events(BufReader::new(request.send().unwrap()).lines())
    };
    wire.patch(&job, 0, b"one\ntwo\nhal").is(202);
    let mut events = follow(None);
    let (kind, id, data) = events.next().unwrap();
    assert_eq!((kind.as_str(), id.as_str(), &data["lines"][2]["partial"]), ("lines", "8", &json!(true)));
    assert_eq!(wire.patch(&job, 11, b"f").is(202).headers["X-GitLab-Trace-Update-Interval"], "1");
    drop(events);
    wire.patch(&job, 12, b"\nfour\n").is(202);
    wire.put(&job, json!({ "state": "success", "output": output(b"one\ntwo\nhalf\nfour\n") })).is(200);
    let rest: Vec<_> = follow(Some("8")).collect();
    let texts: Vec<_> = rest[0].2["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["line"].clone(), l["html"].clone()))
        .collect();
    assert_eq!(texts, [(json!(3), json!("half")), (json!(4), json!("four"))]);
    assert_eq!((rest.len(), rest[1].0.as_str(), &rest[1].2["status"]), (2, "end", &json!("success")));
    eventually("nobody watches", || (!wire.app.logs.is_watched(job["id"].as_i64().unwrap())).then_some(()));
}

/// Server-sent events: kind, id, data.
struct Events(std::io::Lines<BufReader<reqwest::blocking::Response>>);

impl Iterator for Events {
    type Item = (String, String, Value);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut kind, mut id, mut data) = (String::new(), String::new(), Value::Null);
        for line in self.0.by_ref().map_while(Result::ok) {
            match line.split_once(": ") {
                Some(("event", text)) => kind = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                _ if line.is_empty() && !kind.is_empty() => return Some((kind, id, data)),
                _ => {}
            }
        }
        None
    }
}
