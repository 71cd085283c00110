//! What waits for a person: gates of deployments, and manual jobs that hold a pipeline back.

use super::page;
use super::place::{self, SEEN};
use crate::server::access::Actor;
use crate::server::{Answer, App};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, FromRow};

/// A deployment that waits for approvals.
#[derive(FromRow, Serialize)]
struct Gate {
    id: i64,
    project_id: i64,
    path: String,
    kind: String,
    environment: String,
    version: String,
    sha: String,
    reason: String,
    requested_by: String,
    plan_digest: String,
    expires_at: Option<i64>,
    created_at: i64,
    approved: i64,
    rejected: i64,
    by_me: i64,
    #[sqlx(skip)]
    url: String,
}

/// A manual job that others wait for.
#[derive(FromRow, Serialize)]
struct Manual {
    id: i64,
    name: String,
    stage: String,
    environment: String,
    created_at: i64,
    pipeline_id: i64,
    iid: i64,
    reference: String,
    message: String,
    actor: String,
    path: String,
    #[sqlx(skip)]
    url: String,
    #[sqlx(skip)]
    title: String,
}

/// Both lists, for whoever asks.
pub(super) async fn waiting(app: &App, actor: &Actor, limit: i64) -> Answer<Json> {
    let (admin, user, only) = place::seen_by(actor);
    let text = format!(
        "SELECT d.id, d.project_id, p.path, d.kind, d.environment, d.version, d.sha, d.reason, d.requested_by, d.plan_digest, \
         d.expires_at, d.created_at, \
         (SELECT COUNT(*) FROM approvals a WHERE a.deployment_id = d.id AND a.approved = 1) AS approved, \
         (SELECT COUNT(*) FROM approvals a WHERE a.deployment_id = d.id AND a.approved = 0) AS rejected, \
         (SELECT COUNT(*) FROM approvals a WHERE a.deployment_id = d.id AND a.user_id = $2) AS by_me \
         FROM deployments d JOIN projects p ON p.id = d.project_id WHERE {SEEN} AND d.status = 'waiting' \
         ORDER BY d.created_at LIMIT {limit}"
    );
    let query = sqlx::query_as::<_, Gate>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    let mut gates = query.fetch_all(&app.db.pool).await?;
    for gate in &mut gates {
        gate.url = format!("{}/environments/{}", place::url(&gate.path), place::encode(&gate.environment));
    }
    let text = format!(
        "SELECT j.id, j.name, j.stage, j.environment, j.created_at, j.pipeline_id, pl.iid, pl.ref AS reference, \
         pl.message, pl.actor, p.path FROM jobs j JOIN pipelines pl ON pl.id = j.pipeline_id \
         JOIN projects p ON p.id = j.project_id WHERE {SEEN} AND j.status = 'manual' AND j.newest = 1 \
         AND j.allowed_to_fail = 0 AND pl.finished_at IS NULL ORDER BY j.id DESC LIMIT {limit}"
    );
    let query = sqlx::query_as::<_, Manual>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    let mut manual = query.fetch_all(&app.db.pool).await?;
    for job in &mut manual {
        job.url = place::url(&job.path);
        job.title = job.message.lines().next().unwrap_or_default().to_owned();
    }
    let count = gates.len() + manual.len();
    Ok(json!({ "gates": gates, "manual": manual, "count": count }))
}

/// `GET /approvals`
pub(super) async fn show(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let data = json!({ "waiting": waiting(&app, &actor, 100).await? });
    Ok(page(&app, &actor, "approvals", "Approvals", &data))
}
