//! What is old goes: pipelines with their logs and artifacts, deliveries. What stays whatever its age: pipelines that
//! have not ended, the newest of each project, the last success of each branch, and those of commits that run somewhere.

use crate::ledger::standing;
use crate::server::db::now;
use crate::server::environments::Desk;
use crate::server::rows::Project;
use crate::server::{Answer, App, artifacts};
use std::collections::HashSet;
use std::time::Duration;

const EVERY: u64 = 3600;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Pipelines that go in one pass where the disk is too full.
const AT_ONCE: i64 = 50;

/// Looks from time to time. Ends with [`App::ending`].
pub(super) async fn pass(app: App) {
    loop {
        if let Err(problem) = clean(&app).await {
            tracing::warn!("removing what is old: {problem}");
        }
        app.beats.ran("retention", EVERY);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(EVERY)) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

/// Bytes that are free where the data is.
pub(super) fn free_bytes(app: &App) -> u64 {
    // what can't be told is no reason to stop
    rustix::fs::statvfs(&app.config.data)
        .map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

async fn clean(app: &App) -> Answer<()> {
    let keep = &app.config.keep;
    let days = |days: u64| i64::try_from(days).unwrap_or(i64::MAX / DAY_MS).saturating_mul(DAY_MS);
    let old = "DELETE FROM deliveries WHERE state <> 'waiting' AND received_at < $1";
    sqlx::query(old).bind(now().saturating_sub(days(keep.delivery_days))).execute(&app.db.pool).await?;
    sqlx::query("DELETE FROM sessions WHERE expires_at < $1").bind(now()).execute(&app.db.pool).await?;
    let projects: Vec<Project> = sqlx::query_as("SELECT * FROM projects").fetch_all(&app.db.pool).await?;
    for project in &projects {
        let before = now().saturating_sub(days(keep.pipeline_days));
        for pipeline in removable(app, project, before, i64::MAX).await? {
            remove(app, pipeline).await?;
        }
    }
    for project in &projects {
        if free_bytes(app) >= keep.free_bytes {
            break;
        }
        for pipeline in removable(app, project, now(), AT_ONCE).await? {
            remove(app, pipeline).await?;
        }
    }
    Ok(())
}

/// Pipelines that ended before `before` and that nothing needs, oldest first.
async fn removable(app: &App, project: &Project, before: i64, limit: i64) -> Answer<Vec<i64>> {
    let text = "SELECT id, sha FROM pipelines p WHERE project_id = $1 AND finished_at IS NOT NULL AND finished_at < $2 \
        AND id NOT IN (SELECT MAX(id) FROM pipelines WHERE project_id = $1 AND status = 'success' GROUP BY ref) \
        AND id NOT IN (SELECT id FROM pipelines WHERE project_id = $1 ORDER BY id DESC LIMIT $3) \
        AND NOT EXISTS (SELECT 1 FROM jobs j JOIN pipelines q ON j.pipeline_id = q.id \
            WHERE j.id = p.parent_job AND q.finished_at IS NULL) ORDER BY id LIMIT $4";
    let newest = i64::try_from(app.config.keep.pipelines).unwrap_or(i64::MAX);
    let query = sqlx::query_as(text).bind(project.id).bind(before).bind(newest).bind(limit);
    let found: Vec<(i64, String)> = query.fetch_all(&app.db.pool).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let deployed = deployed(app, project).await;
    Ok(found.into_iter().filter(|(_, sha)| !deployed.contains(sha)).map(|(id, _)| id).collect())
}

/// Commits of versions that run somewhere.
async fn deployed(app: &App, project: &Project) -> HashSet<String> {
    let Ok(desk) = Desk::of(app, project).await else { return HashSet::new() };
    let (Ok(entries), Ok(Some(file))) = (desk.entries(), desk.file()) else { return HashSet::new() };
    let versions = file.environments.keys().flat_map(|name| standing::running(&entries, name));
    versions
        .flat_map(|version| {
            standing::releases(&entries, &version).map(|r| r.commit.clone()).collect::<Vec<_>>()
        })
        .collect()
}

/// Removes a pipeline; files go after the rows that name them.
async fn remove(app: &App, pipeline: i64) -> Answer<()> {
    let jobs: Vec<(i64,)> = sqlx::query_as("SELECT id FROM jobs WHERE pipeline_id = $1")
        .bind(pipeline)
        .fetch_all(&app.db.pool)
        .await?;
    let text =
        "SELECT DISTINCT sha256 FROM artifacts WHERE job_id IN (SELECT id FROM jobs WHERE pipeline_id = $1)";
    let blobs: Vec<(String,)> = sqlx::query_as(text).bind(pipeline).fetch_all(&app.db.pool).await?;
    sqlx::query("DELETE FROM pipelines WHERE id = $1").bind(pipeline).execute(&app.db.pool).await?;
    for (job,) in jobs {
        if let Err(error) = app.logs.remove(job) {
            tracing::warn!("removing the log of job {job}: {error}");
        }
    }
    for (sha256,) in blobs {
        artifacts::sweep::unnamed(app, &sha256).await?;
    }
    Ok(())
}
