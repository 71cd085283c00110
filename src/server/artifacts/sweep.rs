//! What has expired goes, and blobs that no row names any more.

use super::blobs::path;
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use std::time::{Duration, SystemTime};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(600);
/// A blob is younger than its row for so long at most.
const YOUNG: Duration = Duration::from_secs(3600);

/// Looks from time to time. Ends with [`App::ending`].
pub async fn pass(app: App) {
    loop {
        if let Err(problem) = expired(&app).await {
            tracing::warn!("removing expired artifacts: {problem}");
        }
        app.beats.ran("artifacts", EVERY.as_secs());
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

/// Removes the rows of archives whose time is over, then their blobs. Of reports the rows stay short-lived as well;
/// what was read from them (`test_reports`) stays. Archives of a ref's newest successful pipeline stay, as in GitLab.
///
/// # Errors
/// The database does not answer.
pub async fn expired(app: &App) -> Answer<()> {
    let query = "SELECT a.id, a.sha256 FROM artifacts a JOIN jobs j ON j.id = a.job_id \
                 JOIN pipelines p ON p.id = j.pipeline_id WHERE a.expires_at IS NOT NULL AND a.expires_at <= $1 \
                 AND NOT (p.status = 'success' AND p.id = (SELECT MAX(q.id) FROM pipelines q \
                 WHERE q.project_id = p.project_id AND q.ref = p.ref AND q.status = 'success'))";
    let rows: Vec<(i64, String)> = sqlx::query_as(query).bind(now()).fetch_all(&app.db.pool).await?;
    for (id, sha256) in rows {
        sqlx::query("DELETE FROM artifacts WHERE id = $1").bind(id).execute(&app.db.pool).await?;
        unnamed(app, &sha256).await?;
    }
    Ok(())
}

/// Removes a blob that no row names, unless it is so young that its row may still be on its way.
///
/// # Errors
/// The database does not answer, or the file can't be removed.
pub async fn unnamed(app: &App, sha256: &str) -> Answer<()> {
    let query = sqlx::query_scalar("SELECT COUNT(*) FROM artifacts WHERE sha256 = $1");
    let named: i64 = query.bind(sha256).fetch_one(&app.db.pool).await?;
    if named > 0 {
        return Ok(());
    }
    let path = path(app, sha256);
    let young = std::fs::metadata(&path)
        .and_then(|data| data.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < YOUNG);
    if young {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Problem::internal("removing an expired artifact", &error))
        }
        _ => Ok(()),
    }
}
