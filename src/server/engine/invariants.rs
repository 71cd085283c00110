//! What must hold at any time: whoever has not ended is in the queue, with a runner, or waits for something that will
//! come. Looked at each minute, and counted for the health page; 0 unless the server itself is wrong.

use crate::server::{Answer, App};
use std::sync::atomic::Ordering;

/// Each finds jobs that nobody looks after.
const STUCK: [(&str, &str); 6] = [
    (
        "is pending, but not in the queue",
        "j.status = 'pending' AND j.bridge = 0 AND NOT EXISTS (SELECT 1 FROM pending q WHERE q.job_id = j.id)",
    ),
    (
        "is in the queue, but not pending",
        "j.status <> 'pending' AND EXISTS (SELECT 1 FROM pending q WHERE q.job_id = j.id)",
    ),
    (
        "runs, but nobody answers for it",
        "j.status IN ('running', 'canceling') AND j.bridge = 0 AND j.lease_until IS NULL",
    ),
    (
        "is delayed, but has no time",
        "j.status = 'scheduled' AND NOT EXISTS (SELECT 1 FROM timers t WHERE t.job_id = j.id)",
    ),
    (
        "waits for a resource that is free",
        "j.status = 'waiting_for_resource' AND j.queued_at IS NULL AND NOT EXISTS (SELECT 1 FROM jobs o \
         WHERE o.pipeline_id = j.pipeline_id AND o.resource_group = j.resource_group AND o.id <> j.id AND o.newest = 1 \
         AND o.status IN ('pending', 'running', 'canceling', 'waiting_for_resource') AND o.queued_at IS NOT NULL)",
    ),
    (
        "waits for jobs that will not run",
        "j.status = 'created' AND NOT EXISTS (SELECT 1 FROM jobs o WHERE o.pipeline_id = j.pipeline_id AND o.newest = 1 \
         AND o.status IN ('pending', 'running', 'canceling', 'waiting_for_resource', 'scheduled', 'manual'))",
    ),
];

/// Counts the jobs that nobody looks after, and names them in the log.
///
/// # Errors
/// The database does not answer.
pub(super) async fn check(app: &App) -> Answer<i64> {
    let mut stuck = 0;
    for (what, condition) in STUCK {
        let text = format!(
            "SELECT j.id FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id WHERE j.newest = 1 \
             AND j.finished_at IS NULL AND p.finished_at IS NULL AND {condition} ORDER BY j.id"
        );
        let jobs: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_all(&app.db.pool).await?;
        for job in &jobs {
            tracing::error!("job {job} {what}");
        }
        stuck += i64::try_from(jobs.len()).unwrap_or(i64::MAX);
    }
    app.engine.stuck.store(stuck, Ordering::Relaxed);
    Ok(stuck)
}
