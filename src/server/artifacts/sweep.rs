//! What has expired goes, and blobs that no row names any more.

use super::blobs::path;
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(600);
/// Looks between two searches of all blobs.
const SEARCH_EVERY: u64 = 144;
/// A blob is younger than its row for so long at most.
const YOUNG: Duration = Duration::from_secs(3600);

/// Looks from time to time. Ends with [`App::ending`].
pub async fn pass(app: App) {
    for round in 0u64.. {
        if let Err(problem) = expired(&app).await {
            tracing::warn!("removing expired artifacts: {problem}");
        }
        if round % SEARCH_EVERY == 0
            && let Err(problem) = orphans(&app).await
        {
            tracing::warn!("removing artifacts of jobs that are gone: {problem}");
        }
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

/// Removes blobs of jobs that are gone, and uploads that a kill has cut off.
///
/// # Errors
/// As [`unnamed`]; or the directory can't be read.
pub async fn orphans(app: &App) -> Answer<()> {
    let dir = app.dir("blobs");
    let names = tokio::task::spawn_blocking(move || names(&dir)).await;
    let names = names.map_err(|e| Problem::internal("searching artifacts", &e))?;
    for name in names.map_err(|e| Problem::internal("searching artifacts", &e))? {
        if app.ending.is_cancelled() {
            break;
        }
        unnamed(app, &name).await?;
    }
    Ok(())
}

/// Digests of all blobs.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".new-") {
            if !is_young(&entry.path()) {
                std::fs::remove_file(entry.path())?;
            }
            continue;
        }
        for blob in std::fs::read_dir(entry.path())? {
            names.push(blob?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn is_young(path: &Path) -> bool {
    let changed = std::fs::metadata(path).and_then(|data| data.modified());
    changed.is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or_default() < YOUNG)
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
    if is_young(&path) {
        return Ok(());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Problem::internal("removing an expired artifact", &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;

    #[tokio::test]
    async fn blobs_go_with_the_last_row_that_names_them() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data: dir.path().to_owned(), ..Config::default() };
        let app = App::open(config).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO projects (path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
             paused, created_at) VALUES ('p', '', 'generic', '', 'main', 'h', '', '{}', 0, 0); \
             INSERT INTO pipelines (project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, \
             actor, merge_request, trusted, protected, plan, plan_digest, merged, errors, why, priority, created_at) \
             SELECT 1, n, 'main', 0, '', '', 'push', s, '', '', '', '', '', 1, 0, '', '', '', '[]', '', 0, 0 \
             FROM (SELECT 1 AS n, 'success' AS s UNION SELECT 2, 'success' UNION SELECT 3, 'failed') x; \
             INSERT INTO jobs (id, pipeline_id, project_id, position, attempt, newest, name, stage, status, \
             allowed_to_fail, tags, resource_group, environment, interruptible, timeout_s, waits_for, system_id, \
             cancel, acknowledged, log_size, created_at) SELECT id, id, 1, 0, 1, 1, 'a', 'test', status, 0, '[]', '', \
             '', 0, 0, '', '', 0, 0, 0, 0 FROM pipelines; \
             INSERT INTO artifacts (job_id, project_id, file_type, file_format, filename, size, sha256, expires_at, \
             created_at) SELECT id, 1, 'archive', 'zip', 'a', 1, 'aa' || id, 1, 0 FROM jobs",
        )
        .execute(&app.db.pool)
        .await
        .unwrap();
        let old = SystemTime::now() - YOUNG * 2;
        let put = |name: &str| {
            std::fs::create_dir_all(path(&app, name).parent().unwrap()).unwrap();
            let file = std::fs::File::create(path(&app, name)).unwrap();
            file.set_modified(old).unwrap();
        };
        for name in ["aa1", "aa2", "aa3", "aa9", "bb9"] {
            put(name);
        }
        std::fs::File::create(path(&app, "aa8")).unwrap();
        expired(&app).await.unwrap();
        orphans(&app).await.unwrap();
        let mut left = names(&app.dir("blobs")).unwrap();
        left.sort();
        // that of the newest success of its branch, and one whose row may be on its way
        assert_eq!(left, ["aa2", "aa8"]);
    }
}
