//! The queue with reasons, the runners, and how the server is.

use super::page;
use super::place::{self, SEEN};
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::rows::Runner;
use crate::server::{Answer, App};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow};
use std::collections::BTreeMap;

/// Jobs of each kind on the page.
const MANY: i64 = 200;

/// A runner that was not heard of for so long is offline, milliseconds.
const OFFLINE: i64 = 120_000;

#[derive(FromRow, Serialize)]
struct Waiting {
    id: i64,
    name: String,
    status: String,
    tags: String,
    resource_group: String,
    waits_for: String,
    queued_at: Option<i64>,
    created_at: i64,
    started_at: Option<i64>,
    pipeline_id: i64,
    reference: String,
    priority: i64,
    actor: String,
    path: String,
    runner: Option<String>,
    #[sqlx(skip)]
    url: String,
    #[sqlx(skip)]
    wants: Vec<String>,
}

/// `GET /queue`
pub(super) async fn show(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let waiting = jobs(&app, &actor, "'pending', 'waiting_for_resource', 'scheduled'").await?;
    let running = jobs(&app, &actor, "'running', 'canceling'").await?;
    let hidden = hidden(&app, &waiting).await?;
    let data = json!({ "waiting": waiting, "running": running, "hidden": hidden });
    Ok(page(&app, &actor, "queue", "Queue", &data))
}

async fn jobs(app: &App, actor: &Actor, statuses: &str) -> Answer<Vec<Waiting>> {
    let (admin, user, only) = place::seen_by(actor);
    let text = format!(
        "SELECT j.id, j.name, j.status, j.tags, j.resource_group, j.waits_for, j.queued_at, j.created_at, \
         j.started_at, j.pipeline_id, pl.ref AS reference, pl.priority, pl.actor, p.path, r.description AS runner \
         FROM jobs j JOIN pipelines pl ON pl.id = j.pipeline_id JOIN projects p ON p.id = j.project_id \
         LEFT JOIN runners r ON r.id = j.runner_id \
         WHERE {SEEN} AND pl.finished_at IS NULL AND j.newest = 1 AND j.status IN ({statuses}) \
         ORDER BY pl.priority DESC, COALESCE(j.queued_at, j.created_at), j.id LIMIT {MANY}"
    );
    let query = sqlx::query_as::<_, Waiting>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    let mut rows = query.fetch_all(&app.db.pool).await?;
    for row in &mut rows {
        row.url = place::url(&row.path);
        row.wants = serde_json::from_str(&row.tags).unwrap_or_default();
    }
    Ok(rows)
}

/// How many wait in projects that may not be seen: they take slots, too.
async fn hidden(app: &App, seen: &[Waiting]) -> Answer<i64> {
    let (all,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM pending").fetch_one(&app.db.pool).await?;
    let pending = seen.iter().filter(|job| job.status == "pending").count() as i64;
    Ok((all - pending).max(0))
}

#[derive(Serialize)]
pub(super) struct Machine {
    id: i64,
    description: String,
    short_token: String,
    tags: Vec<String>,
    run_untagged: bool,
    protected_only: bool,
    trusted_only: bool,
    paused: bool,
    local: bool,
    project: Option<String>,
    state: &'static str,
    version: String,
    platform: String,
    contacted_at: Option<i64>,
    machines: i64,
    running: i64,
    maximum_timeout: Option<i64>,
}

/// `GET /runners`
pub(super) async fn runners(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let rows = machines(&app, None).await?;
    let online = rows.iter().filter(|row| row.state == "online").count();
    let text = "SELECT COUNT(*) FROM meta WHERE key = 'registration_token'";
    let registration: i64 = sqlx::query_scalar(text).fetch_one(&app.db.pool).await?;
    let data = json!({ "runners": rows, "online": online, "registration": registration });
    Ok(page(&app, &actor, "runners", "Runners", &data))
}

/// All runners, or a project's own.
pub(super) async fn machines(app: &App, project: Option<i64>) -> Answer<Vec<Machine>> {
    let text = format!(
        "SELECT {} FROM runners WHERE $1 = 0 OR project_id = $2 ORDER BY local DESC, id",
        Runner::COLUMNS
    );
    let query = sqlx::query_as::<_, Runner>(AssertSqlSafe(text)).bind(i64::from(project.is_some()));
    let rows = query.bind(project.unwrap_or(0)).fetch_all(&app.db.pool).await?;
    let count = |text: &'static str| sqlx::query_as::<_, (i64, i64)>(text).fetch_all(&app.db.pool);
    let machines = count("SELECT runner_id, COUNT(*) FROM runner_machines GROUP BY runner_id").await?;
    let running = count(
        "SELECT runner_id, COUNT(*) FROM jobs WHERE status = 'running' AND runner_id IS NOT NULL GROUP BY runner_id",
    )
    .await?;
    let (machines, running): (BTreeMap<i64, i64>, BTreeMap<i64, i64>) =
        (machines.into_iter().collect(), running.into_iter().collect());
    let paths: BTreeMap<i64, String> =
        sqlx::query_as("SELECT id, path FROM projects").fetch_all(&app.db.pool).await?.into_iter().collect();
    let machine = |row: Runner| {
        let of = |counts: &BTreeMap<i64, i64>| counts.get(&row.id).copied().unwrap_or(0);
        let (machines, running) = (of(&machines), of(&running));
        let owner = row.project_id.filter(|_| project.is_none()).and_then(|id| paths.get(&id).cloned());
        Machine { machines, running, project: owner, ..Machine::of(row) }
    };
    Ok(rows.into_iter().map(machine).collect())
}

impl Machine {
    fn of(row: Runner) -> Machine {
        let info: serde_json::Value = serde_json::from_str(&row.info).unwrap_or_default();
        let said = |key: &str| info.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        let heard = row.local != 0 || row.contacted_at.is_some_and(|at| now() - at < OFFLINE);
        let state = match (row.paused != 0, heard) {
            (true, _) => "paused",
            (false, true) => "online",
            (false, false) => "offline",
        };
        Machine {
            id: row.id,
            description: row.description,
            short_token: row.short_token,
            tags: serde_json::from_str(&row.tags).unwrap_or_default(),
            run_untagged: row.run_untagged != 0,
            protected_only: row.protected_only != 0,
            trusted_only: row.trusted_only != 0,
            paused: row.paused != 0,
            local: row.local != 0,
            project: None,
            state,
            version: [said("name"), said("version")].join(" ").trim().to_owned(),
            platform: [said("platform"), said("architecture")].join(" ").trim().to_owned(),
            contacted_at: row.contacted_at,
            machines: 0,
            running: 0,
            maximum_timeout: row.maximum_timeout,
        }
    }
}
