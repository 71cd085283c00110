//! The kill test: pushes come all the time, jobs run, and the server and the processes of jobs are killed at random.
//! Afterwards every delivery has one outcome, every job ran once or is lost and says so, every log is what the job
//! wrote, and nothing is stuck.
//!
//! ```text
//! SLIPWAY_KILLS=200 cargo test --test server kill:: -- --nocapture       SLIPWAY_SEED=…: the same chances again
//! ```

use crate::support::{Reply, Repository, Server, client, eventually};
use serde_json::json;
use slipway::server::db::now;
use slipway::server::hooks::signature::sign;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Pipelines that are open before pushing pauses.
const OPEN: i64 = 6;
const LINES: usize = 12;
/// So long after a job's process was killed its script may still write, in milliseconds.
const NOTICED: u128 = 5000;
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A job writes each line into a file of its own first, then into its log.
const CI: &str = r#"
stages: [one, two]
.count:
  before_script:
    - echo run >> "RECORD/$CI_JOB_ID.runs"
  script:
    - |
      for i in $(seq 1 LINES); do
        line="line $i of $CI_JOB_ID $RANDOM"
        echo "$line" >> "RECORD/$CI_JOB_ID.copy"
        echo "$line"
        sleep 0.1
      done
one: {extends: .count, stage: one, parallel: 2}
two: {extends: .count, stage: two}
"#;

/// Splitmix64: enough for chances that can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Up to so many milliseconds.
    fn pause(&mut self, most: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most)));
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// A branch that was pushed.
struct Pushed {
    sha: String,
    /// Of its delivery that the server took; none: nothing was told, and the server has to find it.
    delivery: Option<i64>,
}

/// Where deliveries go.
struct Hook {
    url: String,
    secret: String,
}

impl Hook {
    /// Sends until it is taken.
    fn deliver(&self, id: &str, branch: &str, sha: &str) -> i64 {
        let body =
            json!({ "type": "push", "ref": format!("refs/heads/{branch}"), "before": NOTHING, "after": sha });
        let body = body.to_string().into_bytes();
        eventually("the delivery is taken", || {
            let mut request = client(None).post(&self.url).body(body.clone());
            for (name, value) in sign(&self.secret, id, now() / 1000, &body) {
                request = request.header(name, value);
            }
            let reply = Reply::of(request.send().ok()?);
            matches!(reply.status, 200 | 202).then(|| reply.json()["id"].as_i64().unwrap())
        })
    }
}

/// Pushes new branches, each with a commit of its own. Some are told of twice, some never.
fn push(
    repository: &Repository,
    hook: &Hook,
    chance: &mut Chance,
    (stop, open): (&AtomicBool, &AtomicI64),
) -> Vec<Pushed> {
    let mut all = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if open.load(Ordering::SeqCst) >= OPEN {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let branch = format!("b{}", all.len());
        repository.git(&["checkout", "-q", "-b", &branch]);
        let sha = repository.push(&[("n", &branch)], "another");
        let times = [0, 1, 1, 2][usize::try_from(chance.below(4)).unwrap()];
        let taken: BTreeSet<i64> =
            (0..times).map(|_| hook.deliver(&format!("msg_{branch}"), &branch, &sha)).collect();
        assert!(taken.len() <= 1, "the same delivery twice has one number: {taken:?}");
        all.push(Pushed { sha, delivery: taken.first().copied() });
        chance.pause(600);
    }
    all
}

/// Kills the process of one job that runs, if there is one.
fn kill_a_job(server: &Server, chance: &mut Chance) -> bool {
    let Ok(jobs) = std::fs::read_dir(server.data().join("jobs")) else { return false };
    let pid_of = |dir: PathBuf| std::fs::read_to_string(dir.join("lock")).ok()?.trim().parse::<i32>().ok();
    let mut pids: Vec<i32> = jobs.flatten().filter_map(|dir| pid_of(dir.path())).collect();
    pids.sort_unstable();
    if pids.is_empty() {
        return false;
    }
    let pid = pids[usize::try_from(chance.below(pids.len() as u64)).unwrap()];
    // the number of one that has ended may be somebody else's by now
    let ours = std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"__job"));
    ours && rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .is_ok()
}

/// What was done.
#[derive(Debug, Default)]
struct Kills {
    server: u64,
    jobs: u64,
}

fn kill_all_the_time(
    server: &mut Server,
    kills: u64,
    chance: &mut Chance,
    open: &AtomicI64,
    said: &mut String,
) -> Kills {
    let mut done = Kills::default();
    while done.server + done.jobs < kills {
        chance.pause(2000);
        let what = chance.below(4);
        if what == 0 {
            done.jobs += u64::from(kill_a_job(server, chance));
        } else {
            said.push_str(&server.said());
            server.kill9();
            done.server += 1;
            if what == 1 {
                done.jobs += u64::from(kill_a_job(server, chance));
            }
            chance.pause(500);
            server.restart();
        }
        open.store(
            server.number("SELECT COUNT(*) FROM pipelines WHERE finished_at IS NULL"),
            Ordering::SeqCst,
        );
    }
    done
}

/// Waits until nothing is left to do.
fn settle(server: &Server, pushed: &[Pushed]) {
    let until = Instant::now() + Duration::from_secs(300);
    let counts = [
        "SELECT COUNT(*) FROM deliveries WHERE state = 'waiting'",
        "SELECT COUNT(*) FROM pipelines WHERE finished_at IS NULL",
        "SELECT COUNT(*) FROM jobs WHERE finished_at IS NULL",
    ];
    loop {
        let left = counts.map(|count| server.number(count));
        let known = server.number("SELECT COUNT(DISTINCT sha) FROM pipelines");
        if left == [0; 3] && usize::try_from(known).unwrap() == pushed.len() {
            return;
        }
        if Instant::now() > until {
            let open = server.texts(
                "SELECT CAST(id AS TEXT) || ' ' || name || ' ' || status || ' ' || waits_for || ' acknowledged ' || \
                 CAST(acknowledged AS TEXT) FROM jobs WHERE finished_at IS NULL",
            );
            panic!(
                "stuck: deliveries, pipelines, jobs {left:?}, {known} of {} pushes; {open:#?}",
                pushed.len()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One attempt as the server tells of it.
struct Attempt {
    id: i64,
    status: String,
    reason: String,
    message: String,
    finished_at: i64,
}

fn attempts(server: &Server) -> Vec<Attempt> {
    let rows = server.texts(
        "SELECT CAST(id AS TEXT) || '|' || status || '|' || COALESCE(reason, '') || '|' || \
         CAST(finished_at AS TEXT) || '|' || COALESCE(message, '') FROM jobs ORDER BY id",
    );
    let attempt = |row: &String| {
        let mut fields = row.splitn(5, '|').map(str::to_owned);
        let mut next = || fields.next().unwrap();
        let id = next().parse().unwrap();
        let (status, reason) = (next(), next());
        let finished_at = next().parse().unwrap();
        Attempt { id, status, reason, finished_at, message: next() }
    };
    rows.iter().map(attempt).collect()
}

/// Every push led to one pipeline, and every delivery that was taken to something.
fn deliveries_are_right(server: &Server, pushed: &[Pushed], wrong: &mut Vec<String>) {
    for Pushed { sha, delivery } in pushed {
        let pipelines = server.number(&format!("SELECT COUNT(*) FROM pipelines WHERE sha = '{sha}'"));
        if pipelines != 1 {
            wrong.push(format!("{pipelines} pipelines of {sha}, delivery {delivery:?}"));
        }
        let Some(id) = delivery else { continue };
        let verdict =
            server.texts(&format!("SELECT state || ' ' || reason FROM deliveries WHERE id = {id}")).pop();
        let right = verdict.as_deref().is_some_and(|verdict| {
            verdict == "pipeline " || (verdict.starts_with("ignored ") && verdict.contains("was seen"))
        });
        if !right {
            wrong.push(format!("delivery {id} became {verdict:?}"));
        }
    }
}

/// It ran once and its log is what it wrote, or it is lost and says so.
fn attempt_is_right(server: &Server, project: i64, record: &Path, attempt: &Attempt) -> Result<(), String> {
    let Attempt { id, status, reason, message, finished_at } = attempt;
    let read = |kind: &str| std::fs::read_to_string(record.join(format!("{id}.{kind}"))).unwrap_or_default();
    let (runs, copy) = (read("runs").lines().count(), read("copy"));
    let log = server.get(&format!("/api/v1/projects/{project}/jobs/{id}/log"));
    let written = log.text.find("line 1 of").map_or("", |at| &log.text[at..]);
    let fail = |what: &str| {
        let log = &log.text;
        Err(format!(
            "job {id} ({status} {reason} {message}): {what}\n--- it wrote\n{copy}--- its log\n{log}---"
        ))
    };
    if log.text.contains("glcbt-") {
        return fail("its token is in its log");
    }
    match status.as_str() {
        "success" if runs != 1 => return fail(&format!("it ran {runs} times")),
        "success" if copy.lines().count() != LINES || !written.starts_with(&copy) => {
            return fail("its log differs");
        }
        "success" => {}
        "failed" if reason != "runner_system_failure" || !message.starts_with("lost: ") => {
            return fail("it is not lost");
        }
        "failed" if runs > 1 => return fail(&format!("it ran {runs} times")),
        "failed" if !written.starts_with(&copy) && !copy.starts_with(written) => {
            return fail("its log is not what it wrote until then");
        }
        "failed" => {}
        "skipped" if runs == 0 => return Ok(()),
        _ => return fail(&format!("it ran {runs} times")),
    }
    let last = std::fs::metadata(record.join(format!("{id}.copy"))).and_then(|found| found.modified());
    let last = last.map_or(0, |time| time.duration_since(UNIX_EPOCH).unwrap().as_millis());
    // the script of a process that was killed is ended by another one that notices
    let end = u128::try_from(*finished_at).unwrap() + if status == "failed" { NOTICED } else { 0 };
    match last > end {
        true => fail("it wrote after its end"),
        false => Ok(()),
    }
}

/// Processes of this server's jobs.
fn left_behind(server: &Server) -> Vec<String> {
    let home = server.home().as_os_str().as_encoded_bytes();
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == server.pid().to_string() {
            continue;
        }
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.windows(home.len()).any(|window| window == home) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            left.push(format!("{name} {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    left
}

#[test]
fn kills_of_server_and_jobs_lose_nothing_and_repeat_nothing() {
    let (kills, seed) = (number("SLIPWAY_KILLS", 5), number("SLIPWAY_SEED", now().unsigned_abs()));
    println!("{kills} kills, seed {seed}");
    let record = tempfile::tempdir().unwrap();
    let mut server = Server::with(json!({ "local_jobs": 4, "reconcile_seconds": 1, "lease_seconds": 20 }));
    std::fs::create_dir_all(server.home().join("config/slipway")).unwrap();
    std::fs::write(server.home().join("config/slipway/settings.yml"), "executor: shell\n").unwrap();
    let text = CI.replace("RECORD", record.path().to_str().unwrap()).replace("LINES", &LINES.to_string());
    let repository = Repository::with(&[(".gitlab-ci.yml", &text)]);
    let body = json!({ "path": "group/app", "git_url": repository.url(), "forge": "generic" });
    let made = server.post("/api/v1/projects", &body).is(201).json();
    let project = made["project"]["id"].as_i64().unwrap();
    let of = |pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let hook = Hook { url: of("/hook/url"), secret: of("/hook/secret") };
    // what is there at the first look runs nothing
    eventually("the repository is known", || (server.number("SELECT COUNT(*) FROM refs") > 0).then_some(()));

    let (stop, open, mut said) = (AtomicBool::new(false), AtomicI64::new(0), String::new());
    let (pushed, done) = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push(&repository, &hook, &mut Chance(seed ^ 1), (&stop, &open)));
        let killing = std::panic::AssertUnwindSafe(|| {
            kill_all_the_time(&mut server, kills, &mut Chance(seed), &open, &mut said)
        });
        // whatever happens, the other thread has to end
        let done = std::panic::catch_unwind(killing);
        stop.store(true, Ordering::SeqCst);
        let pushed = pushing.join();
        (pushed.unwrap(), done.unwrap())
    });
    settle(&server, &pushed);
    let mut wrong = Vec::new();
    deliveries_are_right(&server, &pushed, &mut wrong);
    let (mut statuses, mut lost) = (BTreeMap::new(), BTreeMap::new());
    for attempt in attempts(&server) {
        *statuses.entry(attempt.status.clone()).or_insert(0) += 1;
        if attempt.status == "failed" {
            *lost.entry(attempt.message.clone()).or_insert(0) += 1;
        }
        wrong.extend(attempt_is_right(&server, project, record.path(), &attempt).err());
    }
    for table in ["pending", "held", "timers"] {
        let left = server.number(&format!("SELECT COUNT(*) FROM {table}"));
        if left > 0 {
            wrong.push(format!("{left} rows are left in `{table}`"));
        }
    }
    said.push_str(&server.said());
    let mut complaints = String::new();
    for line in said.lines().filter(|line| line.contains("ERROR") || line.contains("panicked")) {
        let _ = writeln!(complaints, "{line}");
    }
    println!(
        "{done:?}, {} pushes ({} told), jobs {statuses:?}, lost {lost:?}\n{complaints}",
        pushed.len(),
        pushed.iter().filter(|push| push.delivery.is_some()).count()
    );
    assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    assert!(!complaints.contains("panicked"), "{complaints}");
    eventually("no process is left", || left_behind(&server).is_empty().then_some(()));
    eventually("no directory of a job is left", || {
        (std::fs::read_dir(server.data().join("jobs")).unwrap().count() == 0).then_some(())
    });
}
