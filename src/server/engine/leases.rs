//! Runners that fall silent. A job that its runner has never been heard of for goes back into the queue, with another
//! token; one that ran is lost, and the pipeline's own rules say what follows. What was to be cancelled ends in any case.

use super::claim::lease;
use super::step::Step;
use super::{finished, groups};
use crate::server::{Answer, App};
use pipelines::schedule::Outcome;

/// After so long without a word a job that was to end is ended here, in milliseconds.
const SILENCE: i64 = 60_000;
/// After so long it is ended whatever its runner says: an `after_script` has had its time.
const PATIENCE: i64 = 600_000;

type Silent = (i64, i64, i64, String, String, i64);

/// Looks at all jobs that were handed out, as of `now`. Nothing is judged in the first moments of this process: while it
/// was away nobody could be heard of.
///
/// # Errors
/// The database does not answer.
pub(super) async fn sweep(app: &App, now: i64) -> Answer<()> {
    end_cancelled(app, now).await?;
    if now < lease(app, app.engine.since) {
        return Ok(());
    }
    let silent: Vec<Silent> = sqlx::query_as(
        "SELECT j.id, j.pipeline_id, j.acknowledged, j.environment, COALESCE(r.description, ''), j.cancel FROM jobs j \
         LEFT JOIN runners r ON r.id = j.runner_id WHERE j.lease_until IS NOT NULL AND j.lease_until < $1 ORDER BY j.id",
    )
    .bind(now)
    .fetch_all(&app.db.pool)
    .await?;
    for (job, pipeline, acknowledged, environment, runner, cancel) in silent {
        let done = match (cancel, acknowledged) {
            (1.., _) => finished(app, job, Outcome::Canceled).await,
            (_, 0) => requeue(app, job, pipeline, now).await,
            _ => lose(app, Lost { job, pipeline, environment, runner }, now).await,
        };
        if let Err(problem) = done {
            tracing::error!("judging job {job}, whose runner is silent: {problem}");
        }
    }
    Ok(())
}

async fn end_cancelled(app: &App, now: i64) -> Answer<()> {
    // a lease is as long after the last word as the settings say
    let silent = lease(app, now) - SILENCE;
    let over: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM jobs WHERE lease_until IS NOT NULL AND cancel = 1 AND status = 'canceling' \
         AND ((cancel_at < $1 AND lease_until < $2) OR cancel_at < $3) ORDER BY id",
    )
    .bind(now - SILENCE)
    .bind(silent)
    .bind(now - PATIENCE)
    .fetch_all(&app.db.pool)
    .await?;
    for job in over {
        if let Err(problem) = finished(app, job, Outcome::Canceled).await {
            tracing::error!("ending job {job}, which was cancelled: {problem}");
        }
    }
    Ok(())
}

/// Gives back what the server's own pool took without starting a process for it, because it was killed in between:
/// nobody will ever be heard of. `alive`: jobs that have a process.
///
/// # Errors
/// The database does not answer.
pub(in crate::server) async fn never_started(app: &App, alive: &[String]) -> Answer<()> {
    let taken: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT j.id, j.pipeline_id FROM jobs j JOIN runners r ON r.id = j.runner_id WHERE r.local = 1 \
         AND j.lease_until IS NOT NULL AND j.acknowledged = 0 ORDER BY j.id",
    )
    .fetch_all(&app.db.pool)
    .await?;
    for (job, pipeline) in taken {
        if !alive.contains(&job.to_string()) {
            requeue(app, job, pipeline, i64::MAX).await?;
        }
    }
    Ok(())
}

/// Back into the queue, if its lease ends before `end`. Whoever has the old token is refused from now on.
async fn requeue(app: &App, job: i64, pipeline: i64, end: i64) -> Answer<()> {
    let mut step = Step::begin(app, pipeline).await?;
    let back = sqlx::query(
        "UPDATE jobs SET status = 'pending', waits_for = 'waits for a runner', token = NULL, sealed_token = NULL, \
         lease_until = NULL, runner_id = NULL, system_id = '', started_at = NULL WHERE id = $1 AND acknowledged = 0 \
         AND cancel = 0 AND newest = 1 AND lease_until < $2",
    )
    .bind(job)
    .bind(end)
    .execute(&mut **step.tx())
    .await?;
    if back.rows_affected() == 1 {
        app.meters.lease_ended("requeued");
        let now = step.now;
        groups::ready(step.tx(), job, now).await?;
        step.wake_queue();
        step.changed(job);
    }
    step.commit().await
}

struct Lost {
    job: i64,
    pipeline: i64,
    environment: String,
    runner: String,
}

async fn lose(app: &App, lost: Lost, now: i64) -> Answer<()> {
    let mut step = Step::begin(app, lost.pipeline).await?;
    // its runner may have been heard of meanwhile
    let still = sqlx::query("UPDATE jobs SET cancel = cancel WHERE id = $1 AND lease_until < $2")
        .bind(lost.job)
        .bind(now)
        .execute(&mut **step.tx())
        .await?;
    if still.rows_affected() == 0 {
        return Ok(());
    }
    let seconds = app.config.lease_seconds;
    let mut message = format!("lost: its runner `{}` was not heard of for {seconds} s", lost.runner);
    if !lost.environment.is_empty() {
        message.push_str(&format!(
            "; nobody knows how far it came, so look at `{}` before it is run again: it never is by itself",
            lost.environment
        ));
    }
    step.end(lost.job, Outcome::Lost { message }).await?;
    step.commit().await?;
    app.meters.lease_ended("lost");
    Ok(())
}
