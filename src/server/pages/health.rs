//! How the server is: for admins.

use super::page;
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::ops::{copies, maintenance};
use crate::server::{Answer, App, people};
use crate::storage::Disk;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use std::sync::LazyLock;
use std::time::Instant;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Remembers when the server began to serve.
pub(super) fn started() {
    LazyLock::force(&STARTED);
}

/// `GET /admin`
pub(super) async fn show(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let count = |text: &'static str| {
        let found = one(&app, text);
        async move { Answer::Ok(found.await?.unwrap_or(0)) }
    };
    let oldest = one(&app, "SELECT MIN(queued_at) FROM pending").await?;
    let inbox = one(&app, "SELECT MIN(received_at) FROM deliveries WHERE state = 'waiting'").await?;
    let config = &app.config;
    let reason = maintenance::reason(&app).await?;
    let data = json!({
        "maintenance": reason.is_some(),
        "maintenance_reason": reason,
        "under_way": maintenance::running(&app).await?,
        "version": env!("CARGO_PKG_VERSION"),
        "up_ms": i64::try_from(STARTED.elapsed().as_millis()).unwrap_or(i64::MAX),
        "url": config.public_url(),
        "database": if app.db.is_sqlite() { "SQLite" } else { "PostgreSQL" },
        "database_bytes": database_bytes(&app).await,
        "data": config.data,
        "disk": Disk::of(&config.data).ok(),
        "free_wanted": config.keep.free_bytes,
        "pending": count("SELECT COUNT(*) FROM pending").await?,
        "oldest": oldest,
        "running": count("SELECT COUNT(*) FROM jobs WHERE status = 'running'").await?,
        "inbox": count("SELECT COUNT(*) FROM deliveries WHERE state = 'waiting'").await?,
        "inbox_oldest": inbox,
        "failed_deliveries": count("SELECT COUNT(*) FROM deliveries WHERE state = 'failed'").await?,
        "statuses": count("SELECT COUNT(*) FROM statuses WHERE sent < version").await?,
        "status_errors": count("SELECT COUNT(*) FROM statuses WHERE sent < version AND error <> ''").await?,
        "notices": count("SELECT COUNT(*) FROM notices WHERE next_at IS NOT NULL").await?,
        "pipelines": count("SELECT COUNT(*) FROM pipelines").await?,
        "live": count("SELECT COUNT(*) FROM pipelines WHERE finished_at IS NULL").await?,
        "projects": count("SELECT COUNT(*) FROM projects").await?,
        "users": count("SELECT COUNT(*) FROM users WHERE disabled = 0").await?,
        "artifacts": count("SELECT COUNT(*) FROM artifacts").await?,
        "artifact_bytes": count("SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM artifacts").await?,
        "now": now(),
        "copies": copies::list(&app),
        "backup_at": one(&app, "SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'backup'").await.unwrap_or(None),
        "variables": people::variables(&app, None).await?,
        "api": "/api/v1",
    });
    Ok(page(&app, &actor, "health", "Server", &data))
}

async fn one(app: &App, text: &'static str) -> Answer<Option<i64>> {
    let found: (Option<i64>,) = sqlx::query_as(text).fetch_one(&app.db.pool).await?;
    Ok(found.0)
}

async fn database_bytes(app: &App) -> Option<i64> {
    let text = if app.db.is_sqlite() {
        "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    } else {
        "SELECT pg_database_size(current_database())"
    };
    // a figure for people; without it the page is still right
    sqlx::query_as::<_, (i64,)>(text).fetch_one(&app.db.pool).await.ok().map(|(bytes,)| bytes)
}
