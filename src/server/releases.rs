//! Releases of projects: what jobs with `release:` say of a tag. GitLab would make the tag as well; a mirror is no place
//! for that, so it stays the business of who pushes.

use super::access::{Access, Actor};
use super::db::now;
use super::engine::Context;
use super::routes::Routes;
use super::rows::{Audit, audit};
use super::{Answer, App, Problem, mirror};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use runners::job::Release;
use runners::variables::Variables;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::FromRow;
use std::path::Path as FilePath;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Releases of one answer.
const MOST: i64 = 200;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(list_releases))
        .api(Access::Viewer, routes!(read_release))
        .api(Access::Maintainer, routes!(remove_release))
}

#[derive(FromRow)]
struct Row {
    tag: String,
    sha: String,
    document: String,
    job_id: i64,
    pipeline_id: i64,
    made_by: String,
    created_at: i64,
}

/// A release of a project.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ProjectRelease)]
pub struct Shown {
    /// Its name; nobody here makes the tag.
    pub tag: String,
    /// Commit of the pipeline.
    pub sha: String,
    /// As GitLab's API would be sent it: `name`, `description` (Markdown), `ref`, `milestones`, `assets` …
    #[schema(value_type = Object)]
    pub release: Value,
    /// The job that made it.
    pub job: i64,
    /// The job's pipeline.
    pub pipeline: i64,
    /// Whose pipeline.
    pub by: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Shown {
        Shown {
            tag: row.tag,
            sha: row.sha,
            release: serde_json::from_str(&row.document).unwrap_or_default(),
            job: row.job_id,
            pipeline: row.pipeline_id,
            by: row.made_by,
            created_at: row.created_at,
        }
    }
}

/// Keeps what a job that succeeded says of a release. Safe to repeat. The answer says why the job fails for it, as it
/// would at GitLab: what it says is wrong, or the tag has a release already.
///
/// # Errors
/// The database does not answer, or the mirror can't be read.
pub async fn record(
    app: &App,
    context: &Context,
    asked: &Value,
    variables: &Variables,
) -> Answer<Result<(), String>> {
    let (pipeline, job) = (&context.pipeline, context.row.id);
    if pipeline.trusted != 1 {
        return Ok(Err("jobs of forks make no releases".to_owned()));
    }
    let mut release = Release::of(asked, variables);
    let (path, sha) = (mirror::path(app, pipeline.project_id), pipeline.sha.clone());
    let name = release.description.clone();
    if let Some(text) = mirror::blocking(move || file(&path, &sha, name.trim())).await? {
        release.description = text;
    }
    if let Err(why) = release.check() {
        return Ok(Err(why));
    }
    let text = "INSERT INTO releases (project_id, tag, sha, document, job_id, pipeline_id, made_by, created_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (project_id, tag) DO UPDATE \
                SET document = excluded.document WHERE releases.job_id = excluded.job_id";
    let insert = sqlx::query(text).bind(pipeline.project_id).bind(&release.tag_name).bind(&pipeline.sha);
    let insert = insert.bind(json!(release).to_string()).bind(job).bind(pipeline.id).bind(&pipeline.actor);
    let kept = insert.bind(now()).execute(&app.db.pool).await?.rows_affected();
    Ok(if kept == 1 { Ok(()) } else { Err(format!("tag `{}` has a release already", release.tag_name)) })
}

/// The text of a file of the commit, if the description names one. What the job made is not looked at: it is elsewhere.
fn file(mirror: &FilePath, sha: &str, name: &str) -> Option<String> {
    if name.is_empty() || name.len() > 255 || name.contains('\n') {
        return None;
    }
    let repository = git2::Repository::open_bare(mirror).ok()?;
    let tree = repository.find_commit(git2::Oid::from_str(sha).ok()?).ok()?.tree().ok()?;
    let blob = tree.get_path(FilePath::new(name)).ok()?.to_object(&repository).ok()?.into_blob().ok()?;
    Some(String::from_utf8_lossy(blob.content()).into_owned())
}

const COLUMNS: &str = "tag, sha, document, job_id, pipeline_id, made_by, created_at";

/// The newest releases of a project.
///
/// # Errors
/// The database does not answer.
pub async fn newest(app: &App, project: i64) -> Answer<Vec<Shown>> {
    let text = format!("SELECT {COLUMNS} FROM releases WHERE project_id = $1 ORDER BY id DESC LIMIT {MOST}");
    let rows: Vec<Row> =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(project).fetch_all(&app.db.pool).await?;
    Ok(rows.into_iter().map(Shown::from).collect())
}

/// The releases of a project that its jobs made, newest first
#[utoipa::path(get, path = "/api/v1/projects/{project}/releases", tag = "releases",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<Shown>)))]
async fn list_releases(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Shown>>> {
    let project = app.project(&project).await?;
    Ok(Json(newest(&app, project.id).await?))
}

/// The release of a tag
#[utoipa::path(get, path = "/api/v1/projects/{project}/releases/{tag}", tag = "releases",
    params(("project" = String, Path, description = "number, or path with %2F"), ("tag" = String, Path)),
    responses((status = 200, body = Shown), (status = 404)))]
async fn read_release(
    State(app): State<App>,
    Path((project, tag)): Path<(String, String)>,
) -> Answer<Json<Shown>> {
    let project = app.project(&project).await?;
    let text = format!("SELECT {COLUMNS} FROM releases WHERE project_id = $1 AND tag = $2");
    let row: Option<Row> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(project.id)
        .bind(tag)
        .fetch_optional(&app.db.pool)
        .await?;
    row.map(|row| Json(row.into())).ok_or_else(|| Problem::not_found("release"))
}

/// Removes the release of a tag, so that a job can make another
#[utoipa::path(delete, path = "/api/v1/projects/{project}/releases/{tag}", tag = "releases",
    params(("project" = String, Path, description = "number, or path with %2F"), ("tag" = String, Path)),
    responses((status = 204), (status = 404)))]
async fn remove_release(
    State(app): State<App>,
    actor: Actor,
    Path((project, tag)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let mut tx = app.db.write().await?;
    let text = "DELETE FROM releases WHERE project_id = $1 AND tag = $2";
    let done = sqlx::query(text).bind(project.id).bind(&tag).execute(&mut *tx).await?;
    if done.rows_affected() == 0 {
        return Err(Problem::not_found("release"));
    }
    let entry = Audit {
        actor: &actor,
        action: "release.remove",
        project: Some(project.id),
        subject: &tag,
        detail: json!({}),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
