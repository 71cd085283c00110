//! Logs of jobs that ended without a last word of their runner: cancelled, lost.

use super::store::Logs;
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(30);

/// Closes them. Ends with [`App::ending`].
pub async fn pass(app: App) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.ending.cancelled() => return,
        }
        for job in app.logs.open_jobs() {
            if let Err(problem) = close(&app, job).await {
                tracing::warn!("closing the log of job {job}: {problem}");
            }
        }
        app.beats.ran("logs", EVERY.as_secs());
    }
}

/// Writes what was held back, and closes the log if its job has ended.
///
/// # Errors
/// The database does not answer, or the log can't be written.
pub async fn close(app: &App, job: i64) -> Answer<()> {
    let query = sqlx::query_scalar("SELECT finished_at FROM jobs WHERE id = $1");
    let row: Option<Option<i64>> = query.bind(job).fetch_optional(&app.db.pool).await?;
    match row {
        Some(None) => return Ok(()),
        Some(Some(_)) => {}
        None => {
            app.logs.close(job);
            return Ok(());
        }
    }
    let logs = Arc::clone(&app.logs);
    let size = tokio::task::spawn_blocking(move || flushed(&logs, job)).await;
    let size = size.map_err(|e| Problem::internal("closing a log", &e))?;
    let size = size.map_err(|e| Problem::internal("closing a log", &e))?;
    let query = sqlx::query("UPDATE jobs SET log_size = $1 WHERE id = $2");
    query.bind(i64::try_from(size).unwrap_or(i64::MAX)).bind(job).execute(&app.db.pool).await?;
    app.logs.close(job);
    Ok(())
}

fn flushed(logs: &Logs, job: i64) -> std::io::Result<u64> {
    let Some(writer) = logs.writer(job) else { return Ok(0) };
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    writer.flush(now())?;
    Ok(writer.received())
}
