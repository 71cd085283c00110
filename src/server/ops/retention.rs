//! What is old goes: pipelines with their logs and artifacts, deliveries. What stays whatever its age: pipelines that
//! have not ended, the newest of each project, the last success of each branch, and those of commits that run somewhere.

use super::leftovers;
use crate::ledger::standing;
use crate::server::db::now;
use crate::server::environments::Desk;
use crate::server::projects::Settings;
use crate::server::rows::Project;
use crate::server::{Answer, App, artifacts};
use crate::storage::Disk;
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
        if let Err(problem) = leftovers::sweep(&app).await {
            tracing::warn!("removing what is left over: {problem}");
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
    Disk::of(&app.config.data).map_or(u64::MAX, |disk| disk.free)
}

async fn clean(app: &App) -> Answer<()> {
    let keep = &app.config.keep;
    let days = |days: u64| i64::try_from(days).unwrap_or(i64::MAX / DAY_MS).saturating_mul(DAY_MS);
    let old = "DELETE FROM deliveries WHERE state <> 'waiting' AND received_at < $1";
    sqlx::query(old).bind(now().saturating_sub(days(keep.delivery_days))).execute(&app.db.pool).await?;
    sqlx::query("DELETE FROM sessions WHERE expires_at < $1").bind(now()).execute(&app.db.pool).await?;
    let projects: Vec<Project> = sqlx::query_as("SELECT * FROM projects").fetch_all(&app.db.pool).await?;
    for project in &projects {
        let before =
            now().saturating_sub(days(Settings::of(project).keep_days.unwrap_or(keep.pipeline_days)));
        clean_project(app, project, before, i64::MAX).await;
    }
    for project in &projects {
        if free_bytes(app) >= keep.free_bytes {
            break;
        }
        clean_project(app, project, now(), AT_ONCE).await;
    }
    Ok(())
}

/// A project that can't be looked at keeps everything, and keeps nobody else from it.
async fn clean_project(app: &App, project: &Project, before: i64, limit: i64) {
    let clean = async {
        for pipeline in removable(app, project, before, limit).await? {
            remove(app, pipeline).await?;
        }
        Answer::Ok(())
    };
    if let Err(problem) = clean.await {
        tracing::warn!(project = project.id, "removing what is old: {problem}");
    }
}

/// Pipelines that ended before `before` and that nothing needs, oldest first.
async fn removable(app: &App, project: &Project, before: i64, limit: i64) -> Answer<Vec<i64>> {
    let text = "SELECT id, sha FROM pipelines p WHERE project_id = $1 AND finished_at IS NOT NULL AND finished_at < $2 \
        AND id NOT IN (SELECT MAX(id) FROM pipelines WHERE project_id = $1 AND status = 'success' GROUP BY ref) \
        AND id NOT IN (SELECT id FROM pipelines WHERE project_id = $1 ORDER BY id DESC LIMIT $3) \
        AND NOT EXISTS (SELECT 1 FROM jobs j JOIN pipelines q ON j.pipeline_id = q.id \
            WHERE j.id = p.parent_job AND q.finished_at IS NULL) ORDER BY id LIMIT $4";
    let newest = Settings::of(project).keep_pipelines.unwrap_or(app.config.keep.pipelines);
    let newest = i64::try_from(newest).unwrap_or(i64::MAX);
    let query = sqlx::query_as(text).bind(project.id).bind(before).bind(newest).bind(limit);
    let found: Vec<(i64, String)> = query.fetch_all(&app.db.pool).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let deployed = deployed(app, project).await?;
    Ok(found.into_iter().filter(|(_, sha)| !deployed.contains(sha)).map(|(id, _)| id).collect())
}

/// Commits of versions that run somewhere.
async fn deployed(app: &App, project: &Project) -> Answer<HashSet<String>> {
    if !app.dir("mirrors").join(format!("{}.git", project.id)).exists() {
        return Ok(HashSet::new());
    }
    let desk = Desk::of(app, project).await?;
    let entries = desk.entries()?;
    let Some(file) = desk.file()? else { return Ok(HashSet::new()) };
    let versions = file.environments.keys().flat_map(|name| standing::running(entries, name));
    let commits = versions.flat_map(|version| {
        standing::releases(entries, &version).map(|r| r.commit.clone()).collect::<Vec<_>>()
    });
    Ok(commits.collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Arrival, Ended, Fact, Ledger, Released};
    use crate::server::config::{Config, Keep};
    use crate::server::environments::commit;
    use sqlx::AssertSqlSafe;

    async fn run(app: &App, text: String) {
        sqlx::query(AssertSqlSafe(text)).execute(&app.db.pool).await.unwrap();
    }

    /// A pipeline with a job, its log and an artifact.
    async fn pipeline(app: &App, id: i64, reference: &str, status: &str, finished: Option<i64>) {
        let finished = finished.map_or("NULL".to_owned(), |at| at.to_string());
        run(app, format!(
            "INSERT INTO pipelines (id, project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, \
             actor, merge_request, trusted, protected, plan, plan_digest, merged, errors, why, priority, created_at, \
             finished_at) VALUES ({id}, 1, {id}, '{reference}', 0, 'sha{id}', '', 'push', '{status}', '', '', '', '', '', 1, 1, \
             '', '', '', '', '', 0, 1, {finished})"
        ))
        .await;
        run(app, format!(
            "INSERT INTO jobs (id, pipeline_id, project_id, position, attempt, newest, name, stage, status, allowed_to_fail, \
             tags, resource_group, environment, interruptible, timeout_s, waits_for, system_id, cancel, acknowledged, \
             log_size, created_at) VALUES ({id}, {id}, 1, 0, 1, 1, 'build', 'test', '{status}', 0, '[]', '', '', 0, 60, '', \
             '', 0, 1, 5, 1)"
        ))
        .await;
        std::fs::write(app.dir("logs").join(format!("{id}.log")), "line\n").unwrap();
    }

    async fn left(app: &App) -> Vec<i64> {
        sqlx::query_scalar("SELECT id FROM pipelines ORDER BY id").fetch_all(&app.db.pool).await.unwrap()
    }

    async fn app(data: &std::path::Path) -> App {
        let keep = Keep { pipeline_days: 10, pipelines: 1, delivery_days: 10, free_bytes: 0 };
        let app = App::open(Config { data: data.to_owned(), keep, ..Config::default() }).await.unwrap();
        std::fs::create_dir_all(app.dir("logs")).unwrap();
        let text = "INSERT INTO projects (id, path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
                    paused, created_at) VALUES (1, 'g/app', 'file:///nowhere', 'generic', '', 'main', 'h', '[]', '{}', 0, 1)";
        run(&app, text.to_owned()).await;
        app
    }

    #[tokio::test]
    async fn what_is_old_goes_and_what_is_needed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path()).await;
        let old = Some(now() - 11 * DAY_MS);
        pipeline(&app, 1, "main", "success", old).await;
        pipeline(&app, 2, "main", "success", old).await; // the last success of its branch
        pipeline(&app, 3, "main", "failed", old).await;
        pipeline(&app, 4, "dev", "running", None).await; // has not ended
        pipeline(&app, 5, "dev", "failed", Some(now())).await; // is young
        pipeline(&app, 6, "dev", "failed", old).await; // the newest
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [2, 4, 5, 6]);
        let logs = |id: i64| app.dir("logs").join(format!("{id}.log")).exists();
        assert_eq!([1, 2, 3, 4].map(logs), [false, true, false, true]);
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [2, 4, 5, 6]);
    }

    #[tokio::test]
    async fn a_project_may_keep_more_or_less_than_others() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path()).await;
        let keep = |text: &str| run(&app, format!("UPDATE projects SET settings = '{text}' WHERE id = 1"));
        for id in 1..=4 {
            pipeline(&app, id, "main", "failed", Some(now() - 11 * DAY_MS)).await;
        }
        keep(r#"{"keep_days":20}"#).await;
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [1, 2, 3, 4]);
        keep(r#"{"keep_pipelines":2}"#).await;
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [3, 4]);
    }

    #[tokio::test]
    async fn files_without_a_row_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path()).await;
        let sha = commit(&app, "environments: {prod: {targets: [app@prod]}}\n");
        let mirror = git2::Repository::open_bare(app.dir("mirrors").join("1.git")).unwrap();
        pipeline(&app, 1, "main", "failed", Some(now())).await;
        for id in [1, 2] {
            mirror.reference(&format!("refs/pipelines/{id}"), sha, true, "pipeline").unwrap();
        }
        std::fs::write(app.dir("logs").join("2.log"), "line\n").unwrap();
        std::fs::create_dir_all(app.dir("deployments").join("7")).unwrap();
        leftovers::sweep(&app).await.unwrap();
        let there = |name: &str| dir.path().join(name).exists();
        assert!(there("logs/1.log") && !there("logs/2.log") && !there("deployments/7"));
        assert!(mirror.find_reference("refs/pipelines/1").is_ok());
        assert!(mirror.find_reference("refs/pipelines/2").is_err());
        let project = app.project("1").await.unwrap();
        let desk = Desk::of(&app, &project).await.unwrap();
        deployed_to(&desk.ledger, "prod", "1.0", "sha1");
        leftovers::sweep(&app).await.unwrap();
        assert!(desk.ledger.path().exists() && there("desks/1") && there("mirrors/1.git"));
        run(&app, "DELETE FROM projects".to_owned()).await;
        leftovers::sweep(&app).await.unwrap();
        assert!(!desk.ledger.path().exists() && !there("desks/1") && !there("mirrors/1.git"));
        assert!(!there("logs/1.log"));
    }

    fn deployed_to(ledger: &Ledger, environment: &str, version: &str, commit: &str) {
        let (version, environment) = (version.to_owned(), environment.to_owned());
        let released =
            Released { version: version.clone(), commit: commit.to_owned(), ..Released::default() };
        ledger.append(Fact::Release(released)).unwrap();
        let (targets, outcome) = (vec!["app@prod".to_owned()], Ended::Done);
        let arrival = Arrival { environment, version, targets, outcome, ..Arrival::default() };
        ledger.append(Fact::Deployment(arrival)).unwrap();
    }

    #[tokio::test]
    async fn the_commit_that_runs_somewhere_keeps_its_pipeline() {
        let dir = tempfile::tempdir().unwrap();
        let app = app(dir.path()).await;
        commit(&app, "environments: {prod: {targets: [app@prod]}}\n");
        let project = app.project("1").await.unwrap();
        let desk = Desk::of(&app, &project).await.unwrap();
        deployed_to(&desk.ledger, "prod", "1.0", "sha1");
        let old = Some(now() - 11 * DAY_MS);
        for id in 1..=3 {
            pipeline(&app, id, "main", "failed", old).await;
        }
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [1, 3]);
        // what can't be told is no leave to remove anything
        std::fs::remove_dir_all(app.dir("mirrors").join("1.git/refs")).unwrap();
        pipeline(&app, 4, "main", "failed", old).await;
        clean(&app).await.unwrap();
        assert_eq!(left(&app).await, [1, 3, 4]);
    }
}
