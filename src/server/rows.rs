//! Rows that several modules read. Columns are described in `migrations/0001_initial.sql`.

pub use super::people::audit;
use super::{Answer, App, Problem};
use sqlx::FromRow;

/// A row of `projects`.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns are described where the table is made")]
pub struct Project {
    pub id: i64,
    pub path: String,
    pub git_url: String,
    pub forge: String,
    pub forge_url: String,
    pub default_branch: String,
    pub hook: String,
    pub protected_refs: String,
    pub settings: String,
    pub paused: i64,
    pub created_at: i64,
}

/// A row of `pipelines` without the big columns.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns are described where the table is made")]
pub struct Pipeline {
    pub id: i64,
    pub project_id: i64,
    pub iid: i64,
    #[sqlx(rename = "ref")]
    pub reference: String,
    pub tag: i64,
    pub sha: String,
    pub before_sha: String,
    pub source: String,
    pub status: String,
    pub name: String,
    pub message: String,
    pub author: String,
    pub actor: String,
    pub merge_request: String,
    pub trusted: i64,
    pub protected: i64,
    pub plan_digest: String,
    pub errors: String,
    pub why: String,
    pub delivery_id: Option<i64>,
    pub parent_job: Option<i64>,
    pub priority: i64,
    pub coverage: Option<String>,
    pub created_at: i64,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
}

impl Pipeline {
    /// Columns for `SELECT`.
    pub const COLUMNS: &str = "id, project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, \
        actor, merge_request, trusted, protected, plan_digest, errors, why, delivery_id, parent_job, priority, \
        coverage, created_at, started_at, finished_at";
}

/// A row of `jobs` without its token.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns are described where the table is made")]
pub struct Job {
    pub id: i64,
    pub pipeline_id: i64,
    pub project_id: i64,
    pub position: i64,
    pub attempt: i64,
    pub newest: i64,
    pub name: String,
    pub stage: String,
    pub status: String,
    pub reason: Option<String>,
    pub exit_code: Option<i64>,
    pub message: Option<String>,
    pub allowed_to_fail: i64,
    pub tags: String,
    pub resource_group: String,
    pub environment: String,
    pub interruptible: i64,
    pub timeout_s: i64,
    pub waits_for: String,
    pub runner_id: Option<i64>,
    pub system_id: String,
    pub cancel: i64,
    pub lease_until: Option<i64>,
    pub acknowledged: i64,
    pub child_pipeline: Option<i64>,
    pub log_size: i64,
    pub coverage: Option<String>,
    pub queued_at: Option<i64>,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub created_at: i64,
}

impl Job {
    /// Columns for `SELECT`.
    pub const COLUMNS: &str = "id, pipeline_id, project_id, position, attempt, newest, name, stage, status, reason, \
        exit_code, message, allowed_to_fail, tags, resource_group, environment, interruptible, timeout_s, waits_for, \
        runner_id, system_id, cancel, lease_until, acknowledged, child_pipeline, log_size, coverage, queued_at, \
        started_at, finished_at, created_at";
}

/// A row of `runners` without its token.
#[derive(Clone, Debug, FromRow)]
#[expect(missing_docs, reason = "the columns are described where the table is made")]
pub struct Runner {
    pub id: i64,
    pub description: String,
    pub short_token: String,
    pub tags: String,
    pub run_untagged: i64,
    pub protected_only: i64,
    pub trusted_only: i64,
    pub paused: i64,
    pub project_id: Option<i64>,
    pub maximum_timeout: Option<i64>,
    pub local: i64,
    pub info: String,
    pub created_by: String,
    pub created_at: i64,
    pub contacted_at: Option<i64>,
}

impl Runner {
    /// Columns for `SELECT`.
    pub const COLUMNS: &str = "id, description, short_token, tags, run_untagged, protected_only, trusted_only, paused, \
        project_id, maximum_timeout, local, info, created_by, created_at, contacted_at";
}

impl App {
    /// The project of a path's `{project}`: its number, or its path.
    ///
    /// # Errors
    /// There is none, or the database does not answer.
    pub async fn project(&self, name: &str) -> Answer<Project> {
        let found = match name.parse::<i64>() {
            Ok(id) => {
                sqlx::query_as("SELECT * FROM projects WHERE id = $1")
                    .bind(id)
                    .fetch_optional(&self.db.pool)
                    .await
            }
            Err(_) => {
                let query = sqlx::query_as("SELECT * FROM projects WHERE path = $1");
                query.bind(name).fetch_optional(&self.db.pool).await
            }
        };
        found?.ok_or_else(|| Problem::not_found("project"))
    }

    /// A pipeline of a project.
    ///
    /// # Errors
    /// As [`App::project`].
    pub async fn pipeline(&self, project: i64, id: i64) -> Answer<Pipeline> {
        let text = format!("SELECT {} FROM pipelines WHERE id = $1 AND project_id = $2", Pipeline::COLUMNS);
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(id).bind(project);
        query.fetch_optional(&self.db.pool).await?.ok_or_else(|| Problem::not_found("pipeline"))
    }

    /// A job of a project.
    ///
    /// # Errors
    /// As [`App::project`].
    pub async fn job(&self, project: i64, id: i64) -> Answer<Job> {
        let text = format!("SELECT {} FROM jobs WHERE id = $1 AND project_id = $2", Job::COLUMNS);
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(id).bind(project);
        query.fetch_optional(&self.db.pool).await?.ok_or_else(|| Problem::not_found("job"))
    }
}

/// One thing that was done: see [`audit`].
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// Who, and from where.
    pub actor: &'a super::access::Actor,
    /// `noun.verb`.
    pub action: &'a str,
    /// Where.
    pub project: Option<i64>,
    /// To what: a name.
    pub subject: &'a str,
    /// What else; never a secret.
    pub detail: serde_json::Value,
}
