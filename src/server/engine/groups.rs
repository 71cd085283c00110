//! Resource groups across the pipelines of a project: one job at a time has the resource. Within one pipeline the
//! scheduler sees to it; here a job that the scheduler lets start waits until no other pipeline's job has it.

use crate::server::Answer;
use crate::server::db::Tx;

/// Puts the job into the queue, unless it is a trigger job, which the server does itself.
pub(super) async fn ready(tx: &mut Tx, job: i64, now: i64) -> Answer<()> {
    sqlx::query(
        "INSERT INTO pending (job_id, project_id, tags, features, protected, trusted, priority, queued_at) \
         SELECT j.id, j.project_id, j.tags, j.features, p.protected, p.trusted, p.priority, $1 \
         FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id WHERE j.id = $2 AND j.bridge = 0",
    )
    .bind(now)
    .bind(job)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Marks the job as one that waits for its resource; [`grant`] says whose turn it is.
pub(super) async fn wait(tx: &mut Tx, job: i64) -> Answer<()> {
    sqlx::query("UPDATE jobs SET status = 'waiting_for_resource' WHERE id = $1")
        .bind(job)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Gives the resource to the next job, if it is free; those that go on waiting are told for whom. Safe to repeat.
pub(super) async fn grant(tx: &mut Tx, project: i64, group: &str, now: i64) -> Answer<()> {
    if holder(tx, project, group).await?.is_none()
        && let Some(job) = next(tx, project, group).await?
    {
        let taken = sqlx::query(
            "INSERT INTO held (project_id, name, job_id) VALUES ($1, $2, $3) ON CONFLICT (project_id, name) DO NOTHING",
        )
        .bind(project)
        .bind(group)
        .bind(job)
        .execute(&mut **tx)
        .await?;
        if taken.rows_affected() == 1 {
            sqlx::query("UPDATE jobs SET status = 'pending', waits_for = 'waits for a runner' WHERE id = $1")
                .bind(job)
                .execute(&mut **tx)
                .await?;
            ready(tx, job, now).await?;
        }
    }
    say_why(tx, project, group).await
}

async fn holder(tx: &mut Tx, project: i64, group: &str) -> Answer<Option<(i64, i64, String)>> {
    let held = "SELECT j.id, p.iid, j.name FROM held h JOIN jobs j ON j.id = h.job_id \
                JOIN pipelines p ON p.id = j.pipeline_id WHERE h.project_id = $1 AND h.name = $2";
    Ok(sqlx::query_as(held).bind(project).bind(group).fetch_optional(&mut **tx).await?)
}

/// Whose turn it is by the group's mode. With `oldest_first` and `newest_first` a job that is not ready yet, of a
/// pipeline that comes before, keeps the others waiting; that is what these modes are for.
async fn next(tx: &mut Tx, project: i64, group: &str) -> Answer<Option<i64>> {
    let mode: Option<String> =
        sqlx::query_scalar("SELECT mode FROM resource_groups WHERE project_id = $1 AND name = $2")
            .bind(project)
            .bind(group)
            .fetch_optional(&mut **tx)
            .await?;
    let (upcoming, order) = match mode.as_deref() {
        Some("oldest_first") => (true, "j.pipeline_id, waits DESC, j.queued_at, j.id"),
        Some("newest_first") => (true, "j.pipeline_id DESC, waits DESC, j.queued_at, j.id"),
        Some("newest_ready_first") => (false, "j.pipeline_id DESC, j.queued_at, j.id"),
        _ => (false, "j.queued_at, j.id"),
    };
    let also = match upcoming {
        true => "j.status IN ('waiting_for_resource', 'created', 'scheduled')",
        // what waits for a job of its own pipeline was not let start by the scheduler
        false => "j.status = 'waiting_for_resource' AND j.queued_at IS NOT NULL",
    };
    let text = format!(
        "SELECT j.id, CASE WHEN j.status = 'waiting_for_resource' AND j.queued_at IS NOT NULL THEN 1 ELSE 0 END AS waits \
         FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id \
         WHERE j.project_id = $1 AND j.resource_group = $2 AND j.resource_group <> '' AND j.finished_at IS NULL \
         AND j.newest = 1 AND p.finished_at IS NULL AND {also} ORDER BY {order} LIMIT 1"
    );
    let first: Option<(i64, i64)> =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(project).bind(group).fetch_optional(&mut **tx).await?;
    Ok(first.filter(|(_, waits)| *waits == 1).map(|(job, _)| job))
}

async fn say_why(tx: &mut Tx, project: i64, group: &str) -> Answer<()> {
    let why = match holder(tx, project, group).await? {
        Some((job, iid, name)) => {
            format!("resource group `{group}` is held by job {job} `{name}` of pipeline {iid}")
        }
        None => format!("resource group `{group}` is kept for a job of another pipeline that comes before"),
    };
    sqlx::query(
        "UPDATE jobs SET waits_for = $1 WHERE project_id = $2 AND resource_group = $3 AND resource_group <> '' \
         AND finished_at IS NULL AND newest = 1 AND status = 'waiting_for_resource' AND waits_for <> $4",
    )
    .bind(&why)
    .bind(project)
    .bind(group)
    .bind(&why)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
