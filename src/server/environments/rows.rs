//! Rows of `deployments` and what belongs to them.

use crate::server::{Answer, App, Problem};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

/// A row of `deployments`.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub struct Deployment {
    /// Its number.
    pub id: i64,
    /// Project.
    pub project_id: i64,
    /// `promote`, `rollback` or `bundle`.
    pub kind: String,
    /// Environment.
    pub environment: String,
    /// Release version; of a rollback empty for the one before.
    pub version: String,
    /// What is in the release.
    pub content: String,
    /// Commit that it was built from.
    pub sha: String,
    /// See [`super`].
    pub status: String,
    /// What would be done: the document of `ci promote --plan --format json`; empty before it is there.
    pub plan: String,
    /// Approvals are bound to it.
    pub plan_digest: String,
    /// Why it waits, or ended like that.
    pub reason: String,
    /// Why a rule was set aside; empty: none was.
    pub set_aside: String,
    /// Who asked.
    pub requested_by: String,
    /// Until when it may be approved, in milliseconds since the epoch.
    pub expires_at: Option<i64>,
    /// When it was asked for.
    pub created_at: i64,
    /// When it began.
    pub started_at: Option<i64>,
    /// When it ended.
    pub finished_at: Option<i64>,
}

/// A row of `approvals`.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub struct Vote {
    /// Who.
    pub name: String,
    /// 1: yes, 0: no.
    pub approved: i64,
    /// What they said.
    pub comment: String,
    /// The plan that they saw.
    pub plan_digest: String,
    /// When.
    pub at: i64,
}

/// A row of `bundles`.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub struct Bundle {
    /// Its number.
    pub id: i64,
    /// Environment that it is for.
    pub environment: String,
    /// Release version.
    pub version: String,
    /// Name of the file.
    pub filename: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Bytes.
    pub size: i64,
    /// When it was made.
    pub created_at: i64,
}

/// A row of `environment_locks`.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub struct Lock {
    /// Environment.
    pub environment: String,
    /// Who.
    pub by_whom: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: i64,
}

impl Deployment {
    const COLUMNS: &str = "id, project_id, kind, environment, version, content, sha, status, plan, plan_digest, reason, \
        set_aside, requested_by, expires_at, created_at, started_at, finished_at";

    /// One of a project.
    pub async fn find(app: &App, project: i64, id: i64) -> Answer<Deployment> {
        let text = format!("SELECT {} FROM deployments WHERE id = $1 AND project_id = $2", Self::COLUMNS);
        let query = sqlx::query_as(AssertSqlSafe(text)).bind(id).bind(project);
        query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("deployment"))
    }

    /// The newest of a project, at most `limit`.
    pub async fn newest(app: &App, project: i64, limit: i64) -> Answer<Vec<Deployment>> {
        let columns = Self::COLUMNS;
        let text =
            format!("SELECT {columns} FROM deployments WHERE project_id = $1 ORDER BY id DESC LIMIT $2");
        Ok(sqlx::query_as(AssertSqlSafe(text)).bind(project).bind(limit).fetch_all(&app.db.pool).await?)
    }

    /// All that have one of two states, oldest first.
    pub async fn in_state(app: &App, state: &str) -> Answer<Vec<Deployment>> {
        let text = format!("SELECT {} FROM deployments WHERE status = $1 ORDER BY id", Self::COLUMNS);
        Ok(sqlx::query_as(AssertSqlSafe(text)).bind(state).fetch_all(&app.db.pool).await?)
    }

    /// Who voted, in order.
    pub async fn votes(&self, app: &App) -> Answer<Vec<Vote>> {
        let text = "SELECT name, approved, comment, plan_digest, at FROM approvals WHERE deployment_id = $1 ORDER BY id";
        Ok(sqlx::query_as(text).bind(self.id).fetch_all(&app.db.pool).await?)
    }

    /// Moves it from one state to another; false: it was in another.
    pub async fn advance(&self, app: &App, from: &str, to: &str, reason: &str) -> Answer<bool> {
        let now = crate::server::db::now();
        let ended = !matches!(to, "planning" | "waiting" | "queued" | "running");
        let text = "UPDATE deployments SET status = $1, reason = $2, \
             started_at = CASE WHEN $1 = 'running' THEN $3 ELSE started_at END, \
             finished_at = CASE WHEN $4 = 1 THEN $3 ELSE finished_at END WHERE id = $5 AND status = $6";
        let query = sqlx::query(text).bind(to).bind(reason).bind(now).bind(i64::from(ended));
        let done = query.bind(self.id).bind(from).execute(&app.db.pool).await?.rows_affected() == 1;
        if done {
            app.changed(crate::server::app::Changed::Environment { project: self.project_id });
            app.wake.deployments.notify_one();
        }
        Ok(done)
    }
}

/// The locks of a project.
pub(super) async fn locks(app: &App, project: i64) -> Answer<Vec<Lock>> {
    let text = "SELECT environment, by_whom, reason, at FROM environment_locks WHERE project_id = $1";
    Ok(sqlx::query_as(text).bind(project).fetch_all(&app.db.pool).await?)
}

/// The bundles of a project, newest first.
pub(super) async fn bundles(app: &App, project: i64) -> Answer<Vec<Bundle>> {
    let text = "SELECT id, environment, version, filename, sha256, size, created_at FROM bundles \
                WHERE project_id = $1 ORDER BY id DESC LIMIT 100";
    Ok(sqlx::query_as(text).bind(project).fetch_all(&app.db.pool).await?)
}
