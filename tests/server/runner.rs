//! `ci runner` and the server's own pool against the real server, and a job's process against a server that behaves
//! badly.

use super::support::{Repository, Server, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A server that looks for pushes all the time.
fn server(local_jobs: usize) -> Server {
    Server::with(json!({ "local_jobs": local_jobs, "reconcile_seconds": 1, "lease_seconds": 30 }))
}

/// A project of that repository whose next push runs a pipeline.
fn project(server: &Server, repository: &Repository) -> i64 {
    let id = server.project("group/app", &repository.url());
    eventually("the repository is known", || {
        (server.number(&format!("SELECT COUNT(*) FROM refs WHERE project_id = {id}")) > 0).then_some(())
    });
    id
}

fn job(server: &Server, name: &str) -> Option<(i64, String)> {
    let one = |column: &str| {
        server
            .texts(&format!("SELECT CAST({column} AS TEXT) FROM jobs WHERE name = '{name}' AND newest = 1"))
            .pop()
    };
    Some((one("id")?.parse().unwrap(), one("status")?))
}

/// Waits for a job's end; its number and its status.
#[track_caller]
fn ended(server: &Server, name: &str) -> (i64, String) {
    eventually(&format!("`{name}` ends"), || {
        job(server, name)
            .filter(|(_, status)| matches!(status.as_str(), "success" | "failed" | "canceled" | "skipped"))
    })
}

fn log(server: &Server, project: i64, job: i64) -> String {
    server.get(&format!("/api/v1/projects/{project}/jobs/{job}/log")).is(200).text
}

const STAGES: &str = r#"
stages: [build, test]
default:
  cache: {key: k, paths: [cached/]}
build:
  stage: build
  script:
    - mkdir -p out/deep cached && echo from build > out/deep/file && chmod +x out/deep/file && ln -s file out/deep/link
    - echo GREETING=hello > build.env
    - date > cached/when
    - git log --oneline -1
    - echo "token is $CI_JOB_TOKEN"
  artifacts:
    paths: [out/]
    reports: {dotenv: build.env, junit: r.xml}
test:
  stage: test
  script:
    - cat out/deep/link && test -x out/deep/file
    - echo "$GREETING of $CI_PROJECT_PATH on $CI_COMMIT_BRANCH"
    - test -f cached/when
fails:
  stage: test
  cache: []
  script: [echo "about to fail", exit 3]
slow:
  stage: test
  cache: []
  timeout: 1 seconds
  script: [echo "slow one", sleep 600]
"#;

/// What a pipeline with stages, artifacts, dotenv, cache, a failure and a timeout comes to.
#[track_caller]
fn everything_flows(server: &Server, project: i64) {
    let (build, status) = ended(server, "build");
    let told = log(server, project, build);
    assert_eq!(status, "success", "{told}");
    assert!(told.contains("second") && told.contains("token is [MASKED]"), "{told}");
    assert!(!told.contains("glcbt-"), "{told}");
    let (test, status) = ended(server, "test");
    let told = log(server, project, test);
    assert_eq!(status, "success", "{told}");
    assert!(told.contains("from build") && told.contains("hello of group/app on main"), "{told}");
    let (fails, status) = ended(server, "fails");
    assert_eq!(status, "failed");
    assert!(log(server, project, fails).contains("exit code 3"));
    assert_eq!(server.number(&format!("SELECT exit_code FROM jobs WHERE id = {fails}")), 3);
    let (slow, status) = ended(server, "slow");
    assert_eq!(status, "failed");
    assert!(log(server, project, slow).contains("took longer than 1s"));
    assert_eq!(
        server.texts(&format!("SELECT reason FROM jobs WHERE id = {slow}")),
        ["job_execution_timeout"]
    );
    let kinds =
        server.texts(&format!("SELECT file_type FROM artifacts WHERE job_id = {build} ORDER BY file_type"));
    assert_eq!(kinds, ["archive", "dotenv"]);
}

#[test]
fn a_push_runs_on_the_servers_own_machine() {
    let server = server(2);
    let repository = Repository::with(&[(".gitlab-ci.yml", STAGES)]);
    let project = project(&server, &repository);
    repository.push(&[("a", "b")], "second");
    everything_flows(&server, project);
    eventually("the jobs' directories are gone", || {
        (std::fs::read_dir(server.data().join("jobs")).unwrap().count() == 0).then_some(())
    });
}

/// A process of ours that ends with the test.
struct Runner(Child);

impl Drop for Runner {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_runner_elsewhere_takes_the_servers_jobs() {
    let server = server(0);
    let token =
        server.post("/api/v1/runners", &json!({"description": "mine"})).is(201).json()["token"].clone();
    let config = server.home().join("config/runner.yml");
    let runner = |arguments: &[&str]| {
        let mut command = server.command(&["runner", "--config"]);
        command.arg(&config).args(arguments);
        command
    };
    let register = |token: &str| {
        let mut register = runner(&["register", "--name", "mine", "--url", server.address()]);
        register.env("SLIPWAY_RUNNER_TOKEN", token).output().unwrap()
    };
    let refused = register("glrt-wrong");
    assert!(!refused.status.success() && !config.exists());
    let said = register(token.as_str().unwrap());
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let list = String::from_utf8(runner(&["list"]).output().unwrap().stdout).unwrap();
    assert!(list.contains("mine") && !list.contains(token.as_str().unwrap()), "{list}");
    let mut running = Runner(runner(&["run"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("taking up to"));
    let drain = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    let repository = Repository::with(&[(".gitlab-ci.yml", STAGES)]);
    let project = project(&server, &repository);
    repository.push(&[("a", "b")], "second");
    everything_flows(&server, project);
    let pid = rustix::process::Pid::from_child(&running.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(running.0.wait().unwrap().success(), "{}", drain.join().unwrap());
    assert!(runner(&["unregister", "mine"]).output().unwrap().status.success());
}

const COUNTS: &str = r#"
count:
  script:
    - for i in $(seq 1 60); do echo "line $i"; sleep 0.1; done
"#;

#[test]
fn a_killed_server_finds_its_jobs_again_and_the_log_goes_on() {
    let mut server = server(1);
    let repository = Repository::with(&[(".gitlab-ci.yml", COUNTS)]);
    let project = project(&server, &repository);
    repository.push(&[("a", "b")], "second");
    let (id, _) = eventually("the job runs", || job(&server, "count"));
    let size = format!("SELECT COUNT(*) FROM jobs WHERE id = {id} AND acknowledged = 1");
    eventually("the log begins", || (server.number(&size) == 1).then_some(()));
    let written = server.data().join(format!("jobs/{id}/run/jobs/count/1/job.log"));
    let length = || std::fs::metadata(&written).map_or(0, |found| found.len());
    for _ in 0..2 {
        server.kill9();
        let before = length();
        eventually("the job goes on without a server", || (length() > before).then_some(()));
        server.restart();
    }
    let (same, status) = ended(&server, "count");
    let told = log(&server, project, id);
    assert_eq!((same, status.as_str()), (id, "success"), "{told}");
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=60).map(|i| format!("line {i}")).collect();
    assert_eq!(lines, expected, "{told}");
    assert_eq!(server.number("SELECT COUNT(*) FROM jobs"), 1);
}

#[test]
fn a_job_whose_process_is_killed_is_lost() {
    let server = server(1);
    let text = "waits:\n  script: [echo begun, sleep 600]\n";
    let repository = Repository::with(&[(".gitlab-ci.yml", text)]);
    project(&server, &repository);
    repository.push(&[("a", "b")], "second");
    let pid = eventually("the job's process runs", || {
        let (id, _) = job(&server, "waits")?;
        let text = std::fs::read_to_string(server.data().join(format!("jobs/{id}/lock"))).ok()?;
        let pid = text.trim().parse::<i32>().ok()?;
        (server.number(&format!("SELECT acknowledged FROM jobs WHERE id = {id}")) == 1).then_some(pid)
    });
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let (id, status) = ended(&server, "waits");
    assert_eq!(status, "failed");
    let message = server.texts(&format!("SELECT message FROM jobs WHERE id = {id}"));
    assert!(message[0].contains("killed"), "{message:?}");
}

mod coordinator {
    //! A server that answers as a test wants.

    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::State;
    use axum::http::{HeaderMap, Method, StatusCode, Uri};
    use axum::response::{IntoResponse, Response};
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    /// What it has heard.
    #[derive(Default)]
    pub(super) struct Heard {
        pub(super) log: Vec<u8>,
        pub(super) pieces: Vec<(usize, usize)>,
        pub(super) updates: Vec<Value>,
        pub(super) rejections: usize,
    }

    /// How it behaves; each kind of trouble so often.
    #[derive(Clone, Default)]
    pub(super) struct Behaviour {
        /// It forgets the log down to ten bytes.
        pub(super) forgets: usize,
        /// 500 on pieces of the log.
        pub(super) fails: usize,
        /// 202 on the end.
        pub(super) later: usize,
        /// 412 on the end.
        pub(super) differs: usize,
        /// 403 as soon as there is a log.
        pub(super) refuses: bool,
        /// `Job-Status: canceling` as soon as there is a log.
        pub(super) cancels: bool,
    }

    type Shared = Arc<(Mutex<Heard>, Mutex<Behaviour>)>;

    pub(super) struct Coordinator {
        pub(super) address: String,
        pub(super) shared: Shared,
        _runtime: tokio::runtime::Runtime,
    }

    impl Coordinator {
        pub(super) fn start(behaviour: Behaviour) -> Coordinator {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let shared: Shared = Arc::new((Mutex::default(), Mutex::new(behaviour)));
            let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let router = Router::new().fallback(answer).with_state(shared.clone());
            runtime.spawn(async move { axum::serve(listener, router).await });
            Coordinator { address, shared, _runtime: runtime }
        }
    }

    fn once(count: &mut usize) -> bool {
        let any = *count > 0;
        *count = count.saturating_sub(1);
        any
    }

    async fn answer(
        State(shared): State<Shared>,
        method: Method,
        _uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let (mut heard, mut behaviour) = (shared.0.lock().unwrap(), shared.1.lock().unwrap());
        assert_eq!(headers["JOB-TOKEN"], "glcbt-test");
        let status = if behaviour.cancels && !heard.log.is_empty() { "canceling" } else { "running" };
        let answer = |code: StatusCode, size: usize| {
            (code, [("Job-Status", status.to_owned()), ("Range", format!("0-{size}"))]).into_response()
        };
        if method == Method::PATCH {
            let range = headers["Content-Range"].to_str().unwrap();
            let start: usize = range.split('-').next().unwrap().parse().unwrap();
            if behaviour.refuses && !heard.log.is_empty() {
                return StatusCode::FORBIDDEN.into_response();
            }
            if !heard.log.is_empty() && once(&mut behaviour.fails) {
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
            if heard.log.len() > 10 && once(&mut behaviour.forgets) {
                heard.log.truncate(10);
            }
            if start != heard.log.len() {
                heard.rejections += 1;
                return answer(StatusCode::RANGE_NOT_SATISFIABLE, heard.log.len());
            }
            heard.pieces.push((start, body.len()));
            heard.log.extend_from_slice(&body);
            return answer(StatusCode::ACCEPTED, heard.log.len());
        }
        let update: Value = serde_json::from_slice(&body).unwrap();
        let last = update["state"] != "running";
        heard.updates.push(update);
        if last && once(&mut behaviour.later) {
            return (StatusCode::ACCEPTED, [("X-GitLab-Trace-Update-Interval", "1")]).into_response();
        }
        if last && once(&mut behaviour.differs) {
            heard.log.clear();
            return StatusCode::PRECONDITION_FAILED.into_response();
        }
        answer(StatusCode::OK, heard.log.len())
    }
}

use coordinator::{Behaviour, Coordinator, Heard};

/// Runs a job's process with these commands, without sources, as processes of ours.
fn process(behaviour: Behaviour, script: &[&str], after: &[&str]) -> (Coordinator, std::process::Output) {
    process_with(behaviour, script, after, |_, _| {})
}

/// The same, with an order that was changed; given the home of the process.
fn process_with(
    behaviour: Behaviour,
    script: &[&str],
    after: &[&str],
    change: impl FnOnce(&Path, &mut Value),
) -> (Coordinator, std::process::Output) {
    let coordinator = Coordinator::start(behaviour);
    let home = tempfile::tempdir().unwrap();
    let dir: PathBuf = home.path().join("job");
    std::fs::create_dir(&dir).unwrap();
    let mut order = json!({
        "job": {
            "id": 7, "token": "glcbt-test",
            "job_info": {"name": "j", "stage": "test", "project_id": 1, "project_full_path": "g/p"},
            "runner_info": {"timeout": 120},
            "variables": [{"key": "GIT_STRATEGY", "value": "none"}, {"key": "CI_JOB_TOKEN", "value": "glcbt-test"}],
            "steps": [{"name": "script", "script": script, "when": "on_success"},
                      {"name": "after_script", "script": after, "when": "always"}],
        },
        "address": {"url": coordinator.address}, "origin": "test", "runner": "test", "dir": dir,
        "executor": "shell", "mirror": null, "hidden": [], "local": false,
    });
    change(home.path(), &mut order);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ci"));
    command.arg("__job").env("SLIPWAY_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    command.env("SLIPWAY_LOG", "warn").current_dir(&dir);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (coordinator, output)
}

/// The log is whole, and the end says so.
#[track_caller]
fn whole(heard: &Heard, state: &str) -> String {
    let log = String::from_utf8(heard.log.clone()).unwrap();
    assert_eq!(heard.updates[0]["state"], "running", "the job is acknowledged before anything else");
    let last = heard.updates.last().unwrap();
    assert_eq!(last["state"], state, "{log}");
    let sum = format!("crc32:{:08x}", crc32fast::hash(&heard.log));
    assert_eq!(last["output"], json!({"checksum": sum, "bytesize": heard.log.len()}), "{log}");
    log
}

const LINES: [&str; 2] =
    ["for i in 1 2 3 4 5 6; do echo \"line $i of $CI_JOB_TOKEN\"; sleep 0.3; done", "echo end"];

#[test]
fn a_log_arrives_whole_whatever_the_server_does() {
    type Case = (&'static str, Behaviour, fn(&Heard));
    let table: [Case; 5] = [
        ("as usual", Behaviour::default(), |heard| {
            assert_eq!(heard.rejections, 0);
            assert!(heard.pieces.len() > 2, "the log comes while the job runs: {:?}", heard.pieces);
        }),
        ("it forgets", Behaviour { forgets: 2, ..Behaviour::default() }, |heard| {
            assert_eq!(heard.rejections, 2);
            assert!(heard.pieces.iter().any(|(start, _)| *start == 10), "{:?}", heard.pieces);
        }),
        ("it fails", Behaviour { fails: 3, ..Behaviour::default() }, |_| {}),
        ("it wants to hear it later", Behaviour { later: 1, ..Behaviour::default() }, |heard| {
            let ends = heard.updates.iter().filter(|update| update["state"] == "success").count();
            assert_eq!(ends, 2);
        }),
        ("it has another log", Behaviour { differs: 1, ..Behaviour::default() }, |heard| {
            let (last, before) = heard.pieces.split_last().unwrap();
            assert_eq!(*last, (0, heard.log.len()), "all of it again: {before:?}");
        }),
    ];
    let running = table.map(|(what, behaviour, check)| {
        std::thread::spawn(move || {
            let (coordinator, output) = process(behaviour, &LINES, &[]);
            assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
            let heard = coordinator.shared.0.lock().unwrap();
            let log = whole(&heard, "success");
            for i in 1..=6 {
                assert_eq!(log.matches(&format!("line {i} of [MASKED]\n")).count(), 1, "{what}: {log}");
            }
            check(&heard);
        })
    });
    for thread in running {
        thread.join().unwrap();
    }
}

#[test]
fn a_job_that_is_not_wanted_any_more_is_killed() {
    let behaviour = Behaviour { refuses: true, ..Behaviour::default() };
    let (coordinator, output) =
        process(behaviour, &["echo begun", "sleep 1; echo more; sleep 600"], &["echo after"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heard = coordinator.shared.0.lock().unwrap();
    assert!(heard.updates.iter().all(|update| update["state"] == "running"), "{:?}", heard.updates);
}

#[test]
fn a_cancelled_job_runs_its_after_script() {
    let behaviour = Behaviour { cancels: true, ..Behaviour::default() };
    let (coordinator, output) =
        process(behaviour, &["echo begun", "sleep 600"], &["echo \"status is $CI_JOB_STATUS\""]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let heard = coordinator.shared.0.lock().unwrap();
    let log = whole(&heard, "failed");
    assert!(log.contains("status is canceled"), "{log}");
    assert_eq!(heard.updates.last().unwrap()["failure_reason"], Value::from("job_canceled"));
}

#[test]
fn sources_come_with_their_submodules_and_no_more_history_than_asked_for() {
    let lib = Repository::with(&[("inside", "of the library\n")]);
    let app = Repository::with(&[("a", "1")]);
    app.push(&[("a", "2")], "second");
    let lib_path = lib.bare();
    app.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        lib_path.to_str().unwrap(),
        "lib",
    ]);
    app.git(&["config", "-f", ".gitmodules", "submodule.lib.url", "https://git.invalid/lib.git"]);
    let sha = app.push(&[], "with the library");
    let script = ["cat lib/inside", "git rev-list --count HEAD", "git branch -r", "test ! -e lib/nothing"];
    let (coordinator, output) = process_with(Behaviour::default(), &script, &[], |home, order| {
        order["job"]["variables"] = json!([{"key": "GIT_SUBMODULE_STRATEGY", "value": "normal"}]);
        order["job"]["git_info"] = json!({
            "repo_url": "https://git.invalid/app.git", "ref": "main", "sha": sha, "ref_type": "branch", "depth": 2
        });
        order["mirror"] = json!(app.bare());
        // it was fetched before: nothing of this test goes to a network
        let name = format!("p-{}", &slipway::digest::sha256_hex(b"test 1 g/p")[..16]);
        let module = home.join("projects").join(name).join("mirror.git/modules/lib");
        std::fs::create_dir_all(module.parent().unwrap().parent().unwrap().parent().unwrap()).unwrap();
        git2::Repository::init_bare(module.parent().unwrap().parent().unwrap()).unwrap();
        git2::build::RepoBuilder::new().bare(true).clone(lib.url().as_str(), &module).unwrap();
    });
    let heard = coordinator.shared.0.lock().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = whole(&heard, "success");
    assert!(log.contains("of the library\n"), "{log}");
    assert!(log.contains("\n2\n") && log.contains("origin/main"), "{log}");
}

#[test]
fn a_commit_that_is_gone_is_said() {
    let app = Repository::with(&[("a", "1")]);
    let (coordinator, output) = process_with(Behaviour::default(), &["true"], &[], |_, order| {
        order["job"]["variables"] = json!([]);
        let sha = "1".repeat(40);
        order["job"]["git_info"] =
            json!({"repo_url": app.url(), "ref": "main", "sha": sha, "ref_type": "branch"});
    });
    let heard = coordinator.shared.0.lock().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = whole(&heard, "failed");
    assert!(log.contains("Fetching file://") && log.contains("has no commit 1111"), "{log}");
    assert_eq!(heard.updates.last().unwrap()["failure_reason"], Value::from("runner_system_failure"));
}
