//! Pipelines and jobs for programs: `/api/v1/projects/{project}/pipelines`, `…/jobs`, `…/resource_groups`.

use super::{Created, NewPipeline, cancel, cancel_pipeline, create, groups, play, retry, retry_pipeline};
use crate::server::access::{Access, Actor};
use crate::server::db::now;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, Job, Pipeline, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Pipelines in one answer at most.
const MOST: i64 = 100;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(list_pipelines))
        .api(Access::Developer, routes!(create_pipeline))
        .api(Access::Viewer, routes!(show_pipeline))
        .api(Access::Developer, routes!(act_on_pipeline))
        .api(Access::Viewer, routes!(show_job))
        .api(Access::Developer, routes!(act_on_job))
        .api(Access::Viewer, routes!(list_resource_groups))
        .api(Access::Maintainer, routes!(set_resource_group))
}

/// A pipeline. Times are milliseconds since the epoch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PipelineBody {
    pub(super) id: i64,
    /// Number in the project.
    iid: i64,
    #[serde(rename = "ref")]
    reference: String,
    tag: bool,
    sha: String,
    source: String,
    pub(super) status: String,
    name: String,
    message: String,
    author: String,
    /// Who pushed, or asked.
    actor: String,
    /// Why it runs, or was skipped.
    why: String,
    /// Why it can't run.
    errors: Vec<String>,
    coverage: Option<String>,
    /// The job that started it.
    parent_job: Option<i64>,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    /// The newest attempt of each job; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jobs: Option<Vec<JobBody>>,
}

impl From<Pipeline> for PipelineBody {
    fn from(row: Pipeline) -> PipelineBody {
        PipelineBody {
            id: row.id,
            iid: row.iid,
            reference: row.reference,
            tag: row.tag == 1,
            sha: row.sha,
            source: row.source,
            status: row.status,
            name: row.name,
            message: row.message,
            author: row.author,
            actor: row.actor,
            why: row.why,
            errors: serde_json::from_str(&row.errors).unwrap_or_default(),
            coverage: row.coverage,
            parent_job: row.parent_job,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            jobs: None,
        }
    }
}

/// An attempt of a job. Times are milliseconds since the epoch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct JobBody {
    pub(super) id: i64,
    pipeline: i64,
    pub(super) name: String,
    stage: String,
    pub(super) status: String,
    /// From 1.
    attempt: i64,
    /// Is there no later attempt?
    newest: bool,
    /// GitLab's name of why it failed.
    failure_reason: Option<String>,
    exit_code: Option<i64>,
    message: Option<String>,
    allowed_to_fail: bool,
    tags: Vec<String>,
    environment: String,
    resource_group: String,
    /// Why it waits, in a sentence.
    waits_for: String,
    runner: Option<i64>,
    /// The pipeline that it started.
    child_pipeline: Option<i64>,
    coverage: Option<String>,
    queued_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

impl From<Job> for JobBody {
    fn from(row: Job) -> JobBody {
        JobBody {
            id: row.id,
            pipeline: row.pipeline_id,
            name: row.name,
            stage: row.stage,
            status: row.status,
            attempt: row.attempt,
            newest: row.newest == 1,
            failure_reason: row.reason,
            exit_code: row.exit_code,
            message: row.message,
            allowed_to_fail: row.allowed_to_fail == 1,
            tags: super::claim::tags(&row.tags),
            environment: row.environment,
            resource_group: row.resource_group,
            waits_for: row.waits_for,
            runner: row.runner_id,
            child_pipeline: row.child_pipeline,
            coverage: row.coverage,
            queued_at: row.queued_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

/// Which pipelines.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    #[serde(rename = "ref")]
    pub(super) reference: Option<String>,
    pub(super) status: Option<String>,
    pub(super) source: Option<String>,
    pub(super) sha: Option<String>,
    pub(super) before: Option<i64>,
    pub(super) limit: Option<i64>,
}

/// Pipelines of a project, the newest first
#[utoipa::path(get, path = "/api/v1/projects/{project}/pipelines", tag = "pipelines",
    params(("project" = String, Path, description = "number, or path with %2F"),
        ("ref" = Option<String>, Query, description = "branch or tag"),
        ("status" = Option<String>, Query), ("source" = Option<String>, Query), ("sha" = Option<String>, Query),
        ("before" = Option<i64>, Query, description = "only those with a smaller id"),
        ("limit" = Option<i64>, Query, description = "at most 100; default 20")),
    responses((status = 200, body = Vec<PipelineBody>), (status = 404)))]
pub(super) async fn list_pipelines(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(filter): Query<Filter>,
) -> Answer<Json<Vec<PipelineBody>>> {
    let project = app.project(&project).await?;
    let wished = [
        ("ref", &filter.reference),
        ("status", &filter.status),
        ("source", &filter.source),
        ("sha", &filter.sha),
    ];
    let wished: Vec<(&str, &String)> =
        wished.into_iter().filter_map(|(column, value)| Some((column, value.as_ref()?))).collect();
    let conditions: String =
        wished.iter().zip(3..).map(|((column, _), place)| format!(" AND {column} = ${place}")).collect();
    let limit = filter.limit.unwrap_or(20).clamp(1, MOST);
    let text = format!(
        "SELECT {} FROM pipelines WHERE project_id = $1 AND id < $2{conditions} ORDER BY id DESC LIMIT {limit}",
        Pipeline::COLUMNS
    );
    let query =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(project.id).bind(filter.before.unwrap_or(i64::MAX));
    let query = wished.into_iter().fold(query, |query, (_, value)| query.bind(value));
    let rows: Vec<Pipeline> = query.fetch_all(&app.db.pool).await?;
    Ok(Json(rows.into_iter().map(PipelineBody::from).collect()))
}

/// What to run.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Branch or tag.
    #[serde(rename = "ref")]
    pub(super) reference: String,
    /// Is it a tag?
    #[serde(default)]
    pub(super) tag: bool,
    /// Pipeline variables by name.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, String>,
}

/// Runs a pipeline for what a branch or tag is now
#[utoipa::path(post, path = "/api/v1/projects/{project}/pipelines", tag = "pipelines", request_body = Wish,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 201, body = PipelineBody), (status = 400), (status = 404),
        (status = 422, description = "the configuration wants no pipeline, or the ref is not there"),
        (status = 503, description = "the repository can't be reached")))]
pub(super) async fn create_pipeline(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(wish): Json<Wish>,
) -> Answer<(StatusCode, Json<PipelineBody>)> {
    let project = app.project(&project).await?;
    if let Some(bad) = wish.variables.keys().find(|name| !is_name(name)) {
        return Err(Problem::bad(format!("`{bad}` is no name of a variable")));
    }
    let new = NewPipeline {
        project: project.id,
        reference: wish.reference,
        tag: wish.tag,
        source: "api".to_owned(),
        trusted: true,
        actor: actor.name.clone(),
        variables: wish.variables.into_iter().collect(),
        why: format!("{} asked for it by the API", actor.name),
        ..NewPipeline::default()
    };
    let id = match create(&app, new).await? {
        Created::Pipeline(id) | Created::Skipped(id, _) => id,
        Created::Nothing(why) => return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)),
    };
    Ok((StatusCode::CREATED, Json(whole(&app, project.id, id).await?)))
}

fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    letters && !name.is_empty() && name.len() <= 255 && !name.starts_with(|c: char| c.is_ascii_digit())
}

async fn whole(app: &App, project: i64, id: i64) -> Answer<PipelineBody> {
    let mut body = PipelineBody::from(app.pipeline(project, id).await?);
    let text =
        format!("SELECT {} FROM jobs WHERE pipeline_id = $1 AND newest = 1 ORDER BY position", Job::COLUMNS);
    let rows: Vec<Job> = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(id).fetch_all(&app.db.pool).await?;
    body.jobs = Some(rows.into_iter().map(JobBody::from).collect());
    Ok(body)
}

/// A pipeline with its jobs
#[utoipa::path(get, path = "/api/v1/projects/{project}/pipelines/{pipeline}", tag = "pipelines",
    params(("project" = String, Path, description = "number, or path with %2F"), ("pipeline" = i64, Path)),
    responses((status = 200, body = PipelineBody), (status = 404)))]
pub(super) async fn show_pipeline(
    State(app): State<App>,
    Path((project, pipeline)): Path<(String, i64)>,
) -> Answer<Json<PipelineBody>> {
    let project = app.project(&project).await?;
    Ok(Json(whole(&app, project.id, pipeline).await?))
}

/// Runs what failed or was cancelled again, or ends all jobs
#[utoipa::path(post, path = "/api/v1/projects/{project}/pipelines/{pipeline}/{action}", tag = "pipelines",
    params(("project" = String, Path, description = "number, or path with %2F"), ("pipeline" = i64, Path),
        ("action" = String, Path, description = "`retry` or `cancel`")),
    responses((status = 200, body = PipelineBody), (status = 404), (status = 409)))]
pub(super) async fn act_on_pipeline(
    State(app): State<App>,
    actor: Actor,
    Path((project, pipeline, action)): Path<(String, i64, String)>,
) -> Answer<Json<PipelineBody>> {
    let project = app.project(&project).await?;
    let row = app.pipeline(project.id, pipeline).await?;
    match action.as_str() {
        "retry" => retry_pipeline(&app, row.id, &actor).await?,
        "cancel" => cancel_pipeline(&app, row.id, &actor).await?,
        _ => return Err(Problem::not_found("action: `retry` and `cancel` are there")),
    }
    Ok(Json(whole(&app, project.id, pipeline).await?))
}

/// An attempt of a job
#[utoipa::path(get, path = "/api/v1/projects/{project}/jobs/{job}", tag = "jobs",
    params(("project" = String, Path, description = "number, or path with %2F"), ("job" = i64, Path)),
    responses((status = 200, body = JobBody), (status = 404)))]
pub(super) async fn show_job(
    State(app): State<App>,
    Path((project, job)): Path<(String, i64)>,
) -> Answer<Json<JobBody>> {
    let project = app.project(&project).await?;
    Ok(Json(app.job(project.id, job).await?.into()))
}

/// Starts a manual or delayed job, runs one again, or ends it; answers with the attempt that counts now
#[utoipa::path(post, path = "/api/v1/projects/{project}/jobs/{job}/{action}", tag = "jobs",
    params(("project" = String, Path, description = "number, or path with %2F"), ("job" = i64, Path),
        ("action" = String, Path, description = "`play`, `retry` or `cancel`")),
    responses((status = 200, body = JobBody), (status = 404), (status = 409)))]
pub(super) async fn act_on_job(
    State(app): State<App>,
    actor: Actor,
    Path((project, job, action)): Path<(String, i64, String)>,
) -> Answer<Json<JobBody>> {
    let project = app.project(&project).await?;
    let row = app.job(project.id, job).await?;
    match action.as_str() {
        "play" => play(&app, row.id, &actor).await?,
        "retry" => retry(&app, row.id, &actor).await?,
        "cancel" => cancel(&app, row.id, &actor).await?,
        _ => return Err(Problem::not_found("action: `play`, `retry` and `cancel` are there")),
    }
    let newest: i64 =
        sqlx::query_scalar("SELECT id FROM jobs WHERE pipeline_id = $1 AND position = $2 AND newest = 1")
            .bind(row.pipeline_id)
            .bind(row.position)
            .fetch_one(&app.db.pool)
            .await?;
    Ok(Json(app.job(project.id, newest).await?.into()))
}

/// A resource that one job at a time has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResourceGroup {
    name: String,
    /// Who is next: `unordered`, `oldest_first`, `newest_first`, `newest_ready_first`.
    pub(super) mode: String,
    /// The job that has it.
    held_by: Option<i64>,
    /// How many jobs wait for it.
    waiting: i64,
}

/// Resource groups of a project: those in use, and those that have a mode
#[utoipa::path(get, path = "/api/v1/projects/{project}/resource_groups", tag = "resource groups",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<ResourceGroup>), (status = 404)))]
pub(super) async fn list_resource_groups(
    State(app): State<App>,
    Path(project): Path<String>,
) -> Answer<Json<Vec<ResourceGroup>>> {
    let project = app.project(&project).await?;
    let rows: Vec<(String, String, Option<i64>, i64)> = sqlx::query_as(
        "SELECT g.name, COALESCE(m.mode, 'unordered'), h.job_id, (SELECT COUNT(*) FROM jobs j WHERE j.project_id = $1 \
         AND j.resource_group = g.name AND j.resource_group <> '' AND j.finished_at IS NULL \
         AND j.status = 'waiting_for_resource') FROM (SELECT name FROM held WHERE project_id = $2 \
         UNION SELECT name FROM resource_groups WHERE project_id = $3) g \
         LEFT JOIN resource_groups m ON m.project_id = $4 AND m.name = g.name \
         LEFT JOIN held h ON h.project_id = $5 AND h.name = g.name ORDER BY g.name",
    )
    .bind(project.id)
    .bind(project.id)
    .bind(project.id)
    .bind(project.id)
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let group = |(name, mode, held_by, waiting)| ResourceGroup { name, mode, held_by, waiting };
    Ok(Json(rows.into_iter().map(group).collect()))
}

/// How a resource is given away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mode {
    /// `unordered`, `oldest_first`, `newest_first`, `newest_ready_first`.
    pub(super) mode: String,
}

/// Says who gets a resource next
#[utoipa::path(put, path = "/api/v1/projects/{project}/resource_groups/{name}", tag = "resource groups",
    request_body = Mode,
    params(("project" = String, Path, description = "number, or path with %2F"), ("name" = String, Path)),
    responses((status = 204), (status = 400), (status = 404)))]
pub(super) async fn set_resource_group(
    State(app): State<App>,
    actor: Actor,
    Path((project, name)): Path<(String, String)>,
    Json(wish): Json<Mode>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let modes = ["unordered", "oldest_first", "newest_first", "newest_ready_first"];
    if !modes.contains(&wish.mode.as_str()) {
        return Err(Problem::bad(format!(
            "there is no mode `{}`: use one of {}",
            wish.mode,
            modes.join(", ")
        )));
    }
    let mut tx = app.db.write().await?;
    sqlx::query(
        "INSERT INTO resource_groups (project_id, name, mode) VALUES ($1, $2, $3) \
         ON CONFLICT (project_id, name) DO UPDATE SET mode = excluded.mode",
    )
    .bind(project.id)
    .bind(&name)
    .bind(&wish.mode)
    .execute(&mut *tx)
    .await?;
    // who is next may be another one now
    groups::grant(&mut tx, project.id, &name, now()).await?;
    let detail = json!({ "mode": wish.mode });
    let entry = Audit {
        actor: &actor,
        action: "resource_group.set",
        project: Some(project.id),
        subject: &name,
        detail,
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    app.wake.queue.notify_waiters();
    app.wake.engine.notify_one();
    Ok(StatusCode::NO_CONTENT)
}
