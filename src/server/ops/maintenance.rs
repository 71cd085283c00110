//! Maintenance: no job is handed out, no deployment begins, everything else goes on; so a moment comes when nothing runs.

use crate::server::access::Actor;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::atomic::Ordering;

/// Stands before the reason in the database.
const ON: &str = "on ";

/// Whether jobs are handed out.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct Wish {
    on: bool,
    /// Shown to people.
    #[serde(default)]
    reason: String,
}

/// What still runs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Standing {
    on: bool,
    /// Jobs and deployments under way; at 0 the server can be stopped without anybody noticing.
    running: i64,
}

/// Begins or ends maintenance
#[utoipa::path(post, path = "/api/v1/admin/maintenance", tag = "operations", request_body = Wish,
    responses((status = 200, body = Standing)))]
pub(super) async fn set(
    State(app): State<App>,
    actor: Actor,
    Json(wish): Json<Wish>,
) -> Answer<Json<Standing>> {
    let mut tx = app.db.write().await?;
    let text = "INSERT INTO meta (key, value) VALUES ('maintenance', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    let value = if wish.on { format!("{ON}{}", wish.reason) } else { String::new() };
    sqlx::query(text).bind(value).execute(&mut *tx).await?;
    let action = if wish.on { "server.maintenance" } else { "server.work" };
    let detail = json!({ "reason": wish.reason });
    audit(&mut tx, Audit { actor: &actor, action, project: None, subject: "server", detail }).await?;
    tx.commit().await?;
    app.maintenance.store(wish.on, Ordering::Relaxed);
    app.wake.queue.notify_waiters();
    app.wake.deployments.notify_one();
    Ok(Json(Standing { on: wish.on, running: running(&app).await? }))
}

/// Reads from the database whether maintenance goes on.
///
/// # Errors
/// The database does not answer.
pub async fn load(app: &App) -> Answer<()> {
    app.maintenance.store(reason(app).await?.is_some(), Ordering::Relaxed);
    Ok(())
}

/// Why there is maintenance; none: there is none.
///
/// # Errors
/// The database does not answer.
pub async fn reason(app: &App) -> Answer<Option<String>> {
    let value: Option<(String,)> = sqlx::query_as("SELECT value FROM meta WHERE key = 'maintenance'")
        .fetch_optional(&app.db.pool)
        .await?;
    Ok(value.and_then(|(value,)| value.strip_prefix(ON).map(str::to_owned)))
}

/// Jobs and deployments under way.
///
/// # Errors
/// The database does not answer.
pub async fn running(app: &App) -> Answer<i64> {
    let text = "SELECT (SELECT COUNT(*) FROM jobs WHERE status IN ('running', 'canceling') AND bridge = 0) + \
                (SELECT COUNT(*) FROM deployments WHERE status = 'running')";
    Ok(sqlx::query_scalar(text).fetch_one(&app.db.pool).await?)
}
