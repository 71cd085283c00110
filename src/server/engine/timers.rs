//! Delayed jobs, and resources that nobody took.

use super::groups;
use super::step::Step;
use crate::server::{Answer, App};
use pipelines::schedule::Input;

/// Starts the delayed jobs whose time has come.
///
/// # Errors
/// The database does not answer.
pub(super) async fn fire(app: &App, now: i64) -> Answer<()> {
    let due: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT t.job_id, j.pipeline_id FROM timers t JOIN jobs j ON j.id = t.job_id WHERE t.fires_at <= $1 \
         ORDER BY t.fires_at, t.job_id",
    )
    .bind(now)
    .fetch_all(&app.db.pool)
    .await?;
    for (job, pipeline) in due {
        if let Err(problem) = start(app, job, pipeline).await {
            tracing::error!("starting delayed job {job}: {problem}");
        }
    }
    Ok(())
}

async fn start(app: &App, job: i64, pipeline: i64) -> Answer<()> {
    let mut step = Step::begin(app, pipeline).await?;
    if let Some(position) = step.position(job) {
        step.tell(Input::TimerFired(position)).await?;
    }
    sqlx::query("DELETE FROM timers WHERE job_id = $1").bind(job).execute(&mut **step.tx()).await?;
    step.commit().await
}

/// Gives free resources to jobs that wait for them. Whoever lets go of one has done so already, but two who did at once
/// may not have seen each other.
///
/// # Errors
/// The database does not answer.
pub(super) async fn grant(app: &App, now: i64) -> Answer<()> {
    let free: Vec<(i64, String)> = sqlx::query_as(
        "SELECT DISTINCT j.project_id, j.resource_group FROM jobs j WHERE j.resource_group <> '' \
         AND j.finished_at IS NULL AND j.newest = 1 AND j.status = 'waiting_for_resource' AND j.queued_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM held h WHERE h.project_id = j.project_id AND h.name = j.resource_group)",
    )
    .fetch_all(&app.db.pool)
    .await?;
    let some = !free.is_empty();
    for (project, group) in free {
        let mut tx = app.db.write().await?;
        groups::grant(&mut tx, project, &group, now).await?;
        tx.commit().await?;
    }
    if some {
        app.wake.queue.notify_waiters();
        app.wake.engine.notify_one();
    }
    Ok(())
}
