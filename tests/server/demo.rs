//! A database that looks lived in: projects, pipelines in all states, a long log, releases. Rows are written as the
//! server's own modules write them, so that pages can be looked at, and tested, without a day of work before.

use crate::support::Server;
use pipelines::plan::{AllowFailure, Environment, Job, Need, Plan, When};
use slipway::server::db::now;
use sqlx::AssertSqlSafe;
use std::fmt::Write as _;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Numbers that tests ask for.
pub(crate) struct Demo {
    /// `shop/checkout`
    pub(crate) project: i64,
    /// Its pipeline that runs.
    pub(crate) running: i64,
    /// Its pipeline that failed.
    pub(crate) failed: i64,
    /// A job of the one that runs.
    pub(crate) job: i64,
    /// A job that failed, with a log.
    pub(crate) broken: i64,
}

/// Fills the server's database.
pub(crate) fn fill(server: &Server) -> Demo {
    let seed = Seed { server, now: now() };
    seed.runners();
    let checkout = seed.project("shop/checkout");
    let billing = seed.project("shop/billing-service");
    let gateway = seed.project("platform/edge-gateway");
    seed.project("research/nothing-yet");
    for nth in 0..14 {
        let status = if nth % 5 == 3 { "failed" } else { "success" };
        seed.past(billing, nth, status, 20 + 7 * nth % 40);
        seed.past(gateway, nth, if nth % 7 == 2 { "canceled" } else { "success" }, 90 - 3 * nth);
    }
    for nth in 0..22 {
        seed.past(checkout, nth, if nth % 6 == 4 { "failed" } else { "success" }, 60 + 11 * (nth % 5));
    }
    seed.skipped(checkout);
    seed.unmakeable(checkout);
    let (failed, broken) = seed.failed(checkout);
    let (running, job) = seed.running(checkout);
    seed.reports(failed, broken);
    seed.deliveries(checkout, running);
    seed.releases(&[checkout, billing, gateway]);
    seed.settings(checkout);
    Demo { project: checkout, running, failed, job, broken }
}

struct Seed<'a> {
    server: &'a Server,
    now: i64,
}

/// What a pipeline's row says, besides what is the same for all.
struct Row<'a> {
    project: i64,
    reference: &'a str,
    source: &'a str,
    status: &'a str,
    message: &'a str,
    author: &'a str,
    created: i64,
    started: Option<i64>,
    finished: Option<i64>,
    plan: Option<&'a Plan>,
    errors: &'a str,
    why: &'a str,
    request: &'a str,
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn nullable<T: ToString>(value: Option<T>) -> String {
    value.map_or("NULL".to_owned(), |value| value.to_string())
}

impl Seed<'_> {
    fn number(&self, sql: String) -> i64 {
        let query = sqlx::query_scalar(AssertSqlSafe(sql));
        self.server.block_on(query.fetch_one(&self.server.db().pool)).unwrap()
    }

    fn run(&self, sql: &str) {
        self.server.execute(sql);
    }

    fn project(&self, path: &str) -> i64 {
        self.server.project(path, &format!("https://git.example.org/{path}.git"))
    }

    fn pipeline(&self, row: &Row<'_>) -> i64 {
        let mixed = (row.created as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C834);
        let sha = format!("{mixed:032x}cafe1234");
        let plan = row.plan.map(|plan| serde_json::to_string(plan).unwrap()).unwrap_or_default();
        let merged = row.plan.map_or(String::new(), |_| MERGED.to_owned());
        self.number(format!(
            "INSERT INTO pipelines (project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, \
             actor, merge_request, trusted, protected, plan, plan_digest, merged, errors, why, priority, created_at, \
             started_at, finished_at) VALUES ({project}, (SELECT COUNT(*) + 1 FROM pipelines WHERE project_id = \
             {project}), {}, 0, '{sha}', '', {}, {}, '', {}, {}, 'admin', {}, {}, 0, {}, '{}', {}, {}, {}, 0, {}, {}, {}) \
             RETURNING id",
            quoted(row.reference),
            quoted(row.source),
            quoted(row.status),
            quoted(row.message),
            quoted(row.author),
            quoted(row.request),
            i64::from(!row.request.contains("\"fork\":true")),
            quoted(&plan),
            &sha[..32],
            quoted(&merged),
            quoted(row.errors),
            quoted(row.why),
            row.created,
            nullable(row.started),
            nullable(row.finished),
            project = row.project,
        ))
    }

    /// A job as it stands: name, status, and when it was queued, began, ended, in seconds from `base`.
    fn job(
        &self,
        at: (i64, i64, i64),
        plan: &Plan,
        name: &str,
        status: &str,
        times: [Option<i64>; 3],
    ) -> i64 {
        let (project, pipeline, base) = at;
        let position = plan.jobs.iter().position(|job| job.name == name).unwrap();
        let job = &plan.jobs[position];
        let [queued, started, finished] =
            times.map(|time| nullable(time.map(|seconds| base + seconds * 1000)));
        let (reason, code) = if status == "failed" { ("'script_failure'", "1") } else { ("NULL", "NULL") };
        let waits = match status {
            "pending" => "waits for a runner with tags erlang, arm64: none is there",
            "waiting_for_resource" => "resource group `sit` is held by job 12 of pipeline 3",
            "manual" => "waits for a person",
            _ => "",
        };
        let environment = job.environment.as_ref().map_or("", |environment| environment.name.as_str());
        let tags = serde_json::to_string(&job.tags).unwrap();
        let runner = if started == "NULL" { "NULL" } else { "1" };
        self.number(format!(
            "INSERT INTO jobs (pipeline_id, project_id, position, attempt, newest, name, stage, status, reason, exit_code, \
             allowed_to_fail, tags, resource_group, environment, interruptible, timeout_s, waits_for, runner_id, \
             system_id, cancel, acknowledged, log_size, queued_at, started_at, finished_at, created_at) VALUES \
             ({pipeline}, {project}, {position}, 1, 1, {}, {}, '{status}', {reason}, {code}, {}, {}, '', {}, 0, 3600, {}, \
             {runner}, 's_4f2a', 0, 1, 0, {queued}, {started}, {finished}, {base}) RETURNING id",
            quoted(name),
            quoted(&job.stage),
            i64::from(job.allow_failure == AllowFailure::Static(true)),
            quoted(&tags),
            quoted(environment),
            quoted(waits),
        ))
    }

    fn past(&self, project: i64, nth: i64, status: &str, minutes: i64) {
        const SAID: &[(&str, &str)] = &[
            ("Round totals once, at the end", "Maya Lindqvist"),
            ("Let the cart survive a restart of its node", "Tomasz Zieliński"),
            ("Ask the tax service only for lines that changed", "Ann Okafor"),
            ("Raise the ranch acceptor count", "Maya Lindqvist"),
            ("Tidy the supervision tree", "João Pereira"),
        ];
        let created = self.now - (60 - nth) * 5 * HOUR - project * 17 * MINUTE;
        let (message, author) = SAID[(nth as usize + project as usize) % SAID.len()];
        let branch = if nth % 4 == 1 { "feature/tax-lines" } else { "main" };
        let finished = created + minutes * 10_000;
        let plan = plan();
        let row = Row {
            project,
            reference: branch,
            source: if nth % 6 == 0 { "schedule" } else { "push" },
            status,
            message,
            author,
            created,
            started: Some(created + 2000),
            finished: Some(finished),
            plan: Some(&plan),
            errors: "[]",
            why: "a push to the branch",
            request: "",
        };
        let id = self.pipeline(&row);
        let at = (project, id, created);
        let third = minutes * 10 / 3;
        self.job(at, &plan, "compile", "success", [Some(1), Some(2), Some(third)]);
        self.job(at, &plan, "eunit", "success", [Some(third), Some(third + 1), Some(2 * third)]);
        let (last, ship) = if status == "success" { ("success", "success") } else { (status, "skipped") };
        self.job(at, &plan, "dialyzer", last, [Some(third), Some(third + 2), Some(3 * third)]);
        self.job(at, &plan, "deploy dev", ship, [None, None, None]);
    }

    fn skipped(&self, project: i64) {
        let row = Row {
            project,
            reference: "main",
            source: "push",
            status: "skipped",
            message: "Correct a word in the manual [ci skip]",
            author: "Ann Okafor",
            created: self.now - 50 * MINUTE,
            started: None,
            finished: Some(self.now - 50 * MINUTE),
            plan: None,
            errors: "[]",
            why: "the commit message says [ci skip]",
            request: "",
        };
        self.pipeline(&row);
    }

    fn unmakeable(&self, project: i64) {
        let row = Row {
            project,
            reference: "feature/cache",
            source: "push",
            status: "failed",
            message: "Keep compiled dependencies between jobs",
            author: "João Pereira",
            created: self.now - 40 * MINUTE,
            started: None,
            finished: Some(self.now - 40 * MINUTE),
            plan: None,
            errors: r#"["jobs:dialyzer:needs job `plt` is not defined in stages before it","jobs:eunit config contains unknown keys: artifact; did you mean `artifacts`?"]"#,
            why: "a push to the branch",
            request: "",
        };
        self.pipeline(&row);
    }

    fn failed(&self, project: i64) -> (i64, i64) {
        let (plan, base) = (plan(), self.now - 25 * MINUTE);
        let row = Row {
            project,
            reference: "feature/tax-lines",
            source: "merge_request_event",
            status: "failed",
            message: "Ask the tax service only for lines that changed\n\nIt was asked for all of them.",
            author: "Tomasz Zieliński",
            created: base,
            started: Some(base + 2000),
            finished: Some(base + 190_000),
            plan: Some(&plan),
            errors: "[]",
            why: "merge request !42 was updated",
            request: r#"{"iid":42,"title":"Tax only for changed lines","source_branch":"feature/tax-lines","target_branch":"main","fork":true,"draft":false,"labels":[],"git_ref":"","url":"https://git.example.org/shop/checkout/-/merge_requests/42"}"#,
        };
        let id = self.pipeline(&row);
        let at = (project, id, base);
        self.job(at, &plan, "compile", "success", [Some(1), Some(2), Some(51)]);
        let broken = self.job(at, &plan, "eunit", "failed", [Some(51), Some(53), Some(120)]);
        self.job(at, &plan, "dialyzer", "success", [Some(51), Some(54), Some(188)]);
        self.job(at, &plan, "xref", "failed", [Some(51), Some(60), Some(82)]);
        for name in ["common_test 1/2", "common_test 2/2", "release", "deploy dev", "deploy sit"] {
            self.job(at, &plan, name, "skipped", [None, None, None]);
        }
        let log = "\x1b[36;1mgetting sources\x1b[0m\n\x1b[32;1m$ rebar3 eunit\x1b[0m\n===> Verifying dependencies...\n\
                   ===> Performing EUnit tests...\n.....\x1b[31mF\x1b[0m....\n\x1b[31;1mFailures:\x1b[0m\n\n  1) cart_tests:tax_is_asked_for_changed_lines_only/0\n\
                        \x1b[33mexpected: 1\x1b[0m\n     got: 3\n\n10 tests, 1 failures\n\x1b[31;1mERROR: Job failed: exit code 1\x1b[0m\n";
        self.log(broken, log);
        (id, broken)
    }

    fn running(&self, project: i64) -> (i64, i64) {
        let (plan, base) = (plan(), self.now - 4 * MINUTE);
        let row = Row {
            project,
            reference: "main",
            source: "push",
            status: "running",
            message: "Let the cart survive a restart of its node",
            author: "Maya Lindqvist",
            created: base,
            started: Some(base + 2000),
            finished: None,
            plan: Some(&plan),
            errors: "[]",
            why: "a push to the branch",
            request: "",
        };
        let id = self.pipeline(&row);
        let at = (project, id, base);
        self.job(at, &plan, "compile", "success", [Some(1), Some(2), Some(51)]);
        let job = self.job(at, &plan, "eunit", "running", [Some(51), Some(53), None]);
        self.job(at, &plan, "dialyzer", "success", [Some(51), Some(54), Some(188)]);
        self.job(at, &plan, "xref", "failed", [Some(51), Some(60), Some(82)]);
        self.job(at, &plan, "common_test 1/2", "running", [Some(90), Some(95), None]);
        let waiting = self.job(at, &plan, "common_test 2/2", "pending", [Some(90), None, None]);
        self.job(at, &plan, "release", "created", [None, None, None]);
        self.job(at, &plan, "deploy dev", "created", [None, None, None]);
        self.job(at, &plan, "deploy sit", "manual", [None, None, None]);
        self.run(&format!(
            "INSERT INTO pending (job_id, project_id, tags, protected, trusted, priority, queued_at) \
             VALUES ({waiting}, {project}, '[\"erlang\",\"arm64\"]', 0, 1, 0, {})",
            base + 90_000
        ));
        self.log(job, "\x1b[32;1m$ rebar3 eunit\x1b[0m\n===> Verifying dependencies...\n");
        (id, job)
    }

    /// Writes a job's log as the server keeps it, without an index.
    pub(crate) fn log(&self, job: i64, text: &str) {
        let dir = self.server.data().join("logs");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("{job}.log")), text).unwrap();
        self.run(&format!("UPDATE jobs SET log_size = {} WHERE id = {job}", text.len()));
    }

    fn reports(&self, pipeline: i64, job: i64) {
        let cases = r#"[{"suite":"cart_tests","name":"tax_is_asked_for_changed_lines_only","status":"failed","seconds":0.42,"message":"expected: 1\n     got: 3"},
            {"suite":"cart_tests","name":"totals_are_rounded_once","status":"success","seconds":0.003,"message":null},
            {"suite":"session_tests","name":"a_session_survives_a_restart","status":"success","seconds":4.1,"message":null},
            {"suite":"session_tests","name":"old_sessions_end","status":"skipped","seconds":0.0,"message":null}]"#;
        self.run(&format!(
            "INSERT INTO test_reports (job_id, pipeline_id, total, failed, skipped, duration_ms, cases) \
             VALUES ({job}, {pipeline}, 4, 1, 1, 4523, {})",
            quoted(cases)
        ));
        self.run(&format!(
            "INSERT INTO artifacts (job_id, project_id, file_type, file_format, filename, size, sha256, expires_at, \
             created_at) VALUES ({job}, 1, 'junit', 'gzip', 'junit.xml.gz', 2112, '{}', {}, {})",
            "ab".repeat(32),
            self.now + 30 * 24 * HOUR,
            self.now
        ));
    }

    fn deliveries(&self, project: i64, pipeline: i64) {
        let rows = [
            ("push", "pipeline", "a push to the branch", Some(pipeline), 4),
            ("push", "skipped", "the commit message says [ci skip]", None, 50),
            ("pull_request", "ignored", "the merge request was only labelled", None, 70),
            ("push", "failed", "the repository can't be reached: connection refused", None, 90),
            ("ping", "ignored", "the forge only asks whether we are here", None, 3000),
        ];
        for (nth, (event, state, reason, pipeline, minutes)) in rows.into_iter().enumerate() {
            let at = self.now - minutes * MINUTE;
            let insert = sqlx::query(
                "INSERT INTO deliveries (project_id, key, forge, event, headers, body, body_digest, received_at, state, \
                 reason, pipeline_id, processed_at, tries) VALUES ($1, $2, 'github', $3, $4, $5, '', $6, $7, $8, $9, $10, \
                 $11)",
            );
            let insert = insert
                .bind(project)
                .bind(format!("72d3162e-cc78-11e3-81ab-4c9367dc09{nth:02}"))
                .bind(event)
                .bind(r#"{"content-type":"application/json","x-github-event":"push"}"#)
                .bind(br#"{"ref":"refs/heads/main","after":"9e3779b97f4a7c15","pusher":{"name":"<script>alert(1)</script>"}}"#.to_vec())
                .bind(at)
                .bind(state)
                .bind(reason)
                .bind(pipeline)
                .bind(at + 130)
                .bind(if state == "failed" { 5_i64 } else { 1 });
            self.server.block_on(insert.execute(&self.server.db().pool)).unwrap();
        }
    }

    fn releases(&self, projects: &[i64]) {
        let mut version = 40;
        for &project in projects {
            for (environment, behind, days) in [("dev", 0, 0), ("sit", 0, 1), ("uat", 1, 4), ("prod", 3, 13)]
            {
                version += 1;
                let number = format!("2.{}.{}", 7 + project, 20 - behind);
                let at = self.now - days * 24 * HOUR - version * 3 * MINUTE;
                self.deployment(project, environment, &number, "done", at);
            }
        }
        self.deployment(projects[0], "prod", "2.8.19", "waiting", self.now - 3 * HOUR);
        self.deployment(projects[1], "uat", "2.9.20", "failed", self.now - 5 * HOUR);
        self.run(&format!(
            "INSERT INTO environment_locks (project_id, environment, by_whom, reason, at) \
             VALUES ({}, 'prod', 'ann', 'stock-taking until Monday', {})",
            projects[2],
            self.now - 20 * HOUR
        ));
    }

    fn deployment(&self, project: i64, environment: &str, version: &str, status: &str, at: i64) {
        let (kind, expires) = if status == "waiting" {
            ("promote", (self.now + 20 * HOUR).to_string())
        } else {
            ("deploy", "NULL".into())
        };
        let done = if status == "waiting" { "NULL".to_owned() } else { (at + 95_000).to_string() };
        let begun = if status == "waiting" { "NULL".to_owned() } else { at.to_string() };
        let reason = match status {
            "waiting" => "`prod` wants 2 approvals of people who did not ask for it",
            "failed" => "the health check did not answer within 60 s; went back to 2.9.19",
            _ => "",
        };
        self.run(&format!(
            "INSERT INTO deployments (project_id, kind, environment, version, content, sha, status, plan, plan_digest, \
             reason, set_aside, requested_by, expires_at, created_at, started_at, finished_at) VALUES ({project}, '{kind}', \
             '{environment}', '{version}', '', '9e3779b97f4a7c15f39c', '{status}', '{{}}', 'c0ffee00aa', {}, '', 'maya', \
             {expires}, {at}, {begun}, {done})",
            quoted(reason)
        ));
    }

    fn runners(&self) {
        for (description, tags, local, heard) in [
            ("this machine", "[]", 1, 0),
            ("build-07", "[\"erlang\",\"amd64\"]", 0, 3000),
            ("old laptop", "[\"macos\"]", 0, 9 * 24 * HOUR),
        ] {
            let token = slipway::server::vault::token_hash(description);
            self.run(&format!(
                "INSERT INTO runners (description, token, short_token, tags, run_untagged, protected_only, trusted_only, \
                 paused, local, info, created_by, created_at, contacted_at) VALUES ('{description}', '{token}', 'glrt-9xQ2', \
                 '{tags}', {local}, 0, 1, 0, {local}, '{{\"name\":\"gitlab-runner\",\"version\":\"17.5.0\",\"platform\":\"linux\",\"architecture\":\"amd64\"}}', \
                 'admin', {now}, {})",
                self.now - heard,
                now = self.now
            ));
        }
    }

    fn settings(&self, project: i64) {
        for (key, scope, masked) in [("DEPLOY_KEY", "prod", 1), ("DEPLOY_KEY", "uat", 1), ("REGION", "*", 0)]
        {
            let insert = sqlx::query(
                "INSERT INTO variables (project_id, key, sealed, environment_scope, protected, masked, file, raw, \
                 updated_at, updated_by) VALUES ($1, $2, $3, $4, $5, $5, 0, 0, $6, 'ann')",
            );
            let insert = insert.bind(project).bind(key).bind(vec![0_u8; 40]).bind(scope).bind(masked as i64);
            let insert = insert.bind(self.now - 40 * HOUR);
            self.server.block_on(insert.execute(&self.server.db().pool)).unwrap();
        }
        self.run(&format!(
            "INSERT INTO schedules (project_id, description, ref, cron, timezone, variables, active, owner, next_at) VALUES \
             ({project}, 'Every night: all suites', 'main', '15 2 * * *', 'Europe/Stockholm', '{{}}', 1, 'maya', {}), \
             ({project}, 'Load test', 'main', '0 9 * * 1', 'UTC', '{{}}', 0, 'ann', NULL)",
            self.now + 7 * HOUR
        ));
    }
}

const MERGED: &str =
    "stages: [build, test, release, deploy]\n\ncompile:\n  stage: build\n  script:\n    - rebar3 compile\n";

/// Nine jobs in four stages; some by needs.
fn plan() -> Plan {
    let stages = ["build", "test", "release", "deploy"].map(str::to_owned).to_vec();
    let mut plan = Plan { stages, ..Plan::default() };
    let mut add = |name: &str, stage: &str, needs: Option<&[&str]>| {
        let mut job = Job::new(name, stage);
        job.work.script = vec![format!("rebar3 {name}")];
        job.variables.insert("REBAR_COLOR".to_owned(), "high".to_owned());
        job.needs = needs.map(|needs| {
            needs
                .iter()
                .map(|job| Need { job: (*job).to_owned(), artifacts: true, optional: false })
                .collect()
        });
        job.allow_failure = AllowFailure::Static(name == "xref");
        job.tags =
            if name.starts_with("common") { vec!["erlang".into(), "arm64".into()] } else { Vec::new() };
        if let Some(environment) = name.strip_prefix("deploy ") {
            job.environment = Some(Environment {
                name: environment.to_owned(),
                url: None,
                action: None,
                on_stop: None,
                auto_stop_in: None,
                deployment_tier: None,
                kubernetes: None,
            });
            job.when = if environment == "sit" { When::Manual } else { When::OnSuccess };
        }
        plan.jobs.push(job);
    };
    add("compile", "build", None);
    for name in ["eunit", "dialyzer", "xref"] {
        add(name, "test", None);
    }
    for name in ["common_test 1/2", "common_test 2/2"] {
        add(name, "test", Some(&["compile"]));
    }
    add("release", "release", Some(&["eunit", "common_test 1/2", "common_test 2/2"]));
    add("deploy dev", "deploy", Some(&["release", "dialyzer"]));
    add("deploy sit", "deploy", Some(&["deploy dev"]));
    plan
}

/// A log of so many lines, with colours and a section.
pub(crate) fn long_log(server: &Server, job: i64, lines: u64) {
    let mut text = String::new();
    for line in 1..=lines {
        // writing into a text can't fail
        let _ = writeln!(text, "\x1b[32m{line:>8}\x1b[0m compiling module_{} of {lines}", line % 977);
    }
    // as the server writes one that comes in: with its index
    let logs = slipway::server::logs::Logs::new(server.data().join("logs"));
    let writer = logs.open(job, &[]).unwrap();
    writer.lock().unwrap().append(0, text.as_bytes(), now()).unwrap();
    server.execute(&format!("UPDATE jobs SET log_size = {} WHERE id = {job}", text.len()));
}

/// A pipeline of 200 jobs in eight stages, half of them by needs; its number.
pub(crate) fn many_jobs(server: &Server, project: i64) -> i64 {
    let seed = Seed { server, now: now() };
    let stages: Vec<String> = (1..=8).map(|stage| format!("stage {stage}")).collect();
    let mut plan = Plan { stages, ..Plan::default() };
    for nth in 0..200_usize {
        let stage = nth / 25;
        let mut job =
            Job::new(format!("unit {} of suite {}", nth % 25, stage + 1), format!("stage {}", stage + 1));
        job.work.script = vec!["rebar3 ct".to_owned()];
        if nth >= 25 && nth % 2 == 0 {
            let need = &plan.jobs[nth - 25].name;
            job.needs = Some(vec![Need { job: need.clone(), artifacts: true, optional: false }]);
        }
        plan.jobs.push(job);
    }
    let base = seed.now - 30 * MINUTE;
    let row = Row {
        project,
        reference: "main",
        source: "push",
        status: "success",
        message: "Test everything with everything",
        author: "Ann Okafor",
        created: base,
        started: Some(base + 2000),
        finished: Some(base + 900_000),
        plan: Some(&plan),
        errors: "[]",
        why: "a push to the branch",
        request: "",
    };
    let id = seed.pipeline(&row);
    for (nth, job) in plan.jobs.clone().iter().enumerate() {
        let (stage, at) = ((nth / 25) as i64, (nth % 25) as i64);
        let began = stage * 100 + at;
        let times = [Some(stage * 100), Some(began), Some(began + 40 + (at * 7) % 31)];
        let status = if nth % 67 == 66 { "failed" } else { "success" };
        seed.job((project, id, base), &plan, &job.name, status, times);
    }
    id
}
