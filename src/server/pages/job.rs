//! One attempt of a job: its log, why it waits or failed, what it made.

use super::pipeline::attempts;
use super::pipelines::{Wanted, listed, parse};
use super::place::Place;
use super::{page, reports};
use crate::server::access::Actor;
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, State};
use axum::response::Response;
use pipelines::plan::Plan;
use pipelines::status::Status;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::FromRow;

/// An artifact of a job.
#[derive(FromRow, Serialize)]
pub(super) struct Made {
    id: i64,
    pub file_type: String,
    filename: String,
    size: i64,
    pub sha256: String,
    expires_at: Option<i64>,
}

/// `GET /projects/{project}/jobs/{job}`
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    Path((name, id)): Path<(String, i64)>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let job = app.job(project.id, id).await?;
    let wanted =
        Wanted { project: Some(project.id), ids: Some(&[job.pipeline_id]), limit: 1, ..Wanted::default() };
    let pipeline = listed(&app, &actor, &wanted).await?.pop();
    let pipeline = pipeline.ok_or_else(|| Problem::not_found("pipeline"))?;
    let status = parse(&job.status);
    let started = job.started_at.is_some();
    let data = json!({
        "job": told(&job, status),
        "plan": planned(&app, &job).await?,
        "attempts": attempts(&app, job.pipeline_id, job.position, &place.url).await?,
        "siblings": super::pipeline::jobs(&app, job.pipeline_id, &place.url).await?,
        "artifacts": made(&app, id).await?,
        "tests": reports::totals_of_job(&app, id).await?,
        "runner": runner(&app, &job).await?,
        "child": child(&app, &actor, &job).await?,
        "log": started && job.child_pipeline.is_none(),
        "live": !status.is_complete(),
        "can_play": place.developer && matches!(status, Status::Manual | Status::Scheduled),
        "can_retry": place.developer && job.newest != 0 && status.is_complete() && status != Status::Skipped,
        "can_cancel": place.developer && !status.is_complete()
            && !matches!(status, Status::Created | Status::Manual),
        "pipeline": pipeline,
        "place": place,
    });
    Ok(page(&app, &actor, "job", &format!("{} ({id}) · {}", job.name, project.path), &data))
}

fn told(job: &Job, status: Status) -> Json {
    let forgiven = status == Status::Failed && job.allowed_to_fail != 0;
    let tags: Vec<String> = serde_json::from_str(&job.tags).unwrap_or_default();
    json!({
        "id": job.id, "name": job.name, "stage": job.stage, "status": job.status, "attempt": job.attempt,
        "look": if forgiven { "warning" } else { job.status.as_str() },
        "allowed_to_fail": job.allowed_to_fail != 0,
        "reason": job.reason, "reason_said": job.reason.as_deref().map(reason), "exit_code": job.exit_code,
        "message": job.message, "tags": tags, "resource_group": job.resource_group,
        "environment": job.environment, "timeout_ms": job.timeout_s * 1000, "waits_for": job.waits_for,
        "coverage": job.coverage, "log_size": job.log_size, "queued_at": job.queued_at,
        "started_at": job.started_at, "finished_at": job.finished_at, "created_at": job.created_at,
        "newest": job.newest != 0, "canceling": job.cancel == 1,
    })
}

/// What a reason means, for people.
fn reason(name: &str) -> &str {
    match name {
        "script_failure" => "the script failed",
        "runner_system_failure" => "the runner could not run it, or was lost",
        "job_execution_timeout" => "it took longer than its timeout",
        "missing_dependency_failure" => "artifacts of a job that it needs are gone",
        "runner_unsupported" => "the runner can't do what it asks for",
        "image_pull_failure" => "its image can't be had",
        "downstream_pipeline_failure" => "the pipeline that it started failed",
        "data_integrity_failure" => "its data are wrong",
        other => other,
    }
}

/// What the plan says of the job: its script, without values of variables.
async fn planned(app: &App, job: &Job) -> Answer<Json> {
    let found: Option<(String,)> = sqlx::query_as("SELECT plan FROM pipelines WHERE id = $1")
        .bind(job.pipeline_id)
        .fetch_optional(&app.db.pool)
        .await?;
    let plan: Plan = found.and_then(|(text,)| serde_json::from_str(&text).ok()).unwrap_or_default();
    let at = usize::try_from(job.position).ok();
    let Some(planned) = at.and_then(|at| plan.jobs.get(at)) else { return Ok(Json::Null) };
    let needs = planned.needs.iter().flatten().map(|need| need.job.as_str());
    let script = [planned.work.before_script.as_slice(), &planned.work.script].concat();
    Ok(json!({
        "script": script.join("\n"),
        "after_script": planned.work.after_script.join("\n"),
        "image": planned.work.image.as_ref().map(|image| &image.name),
        "services": planned.work.services.iter().map(|service| &service.image.name).collect::<Vec<_>>(),
        "needs": needs.collect::<Vec<_>>(),
        "confirmation": planned.work.manual_confirmation,
    }))
}

/// What a job made that is still there.
pub(super) async fn made(app: &App, job: i64) -> Answer<Vec<Made>> {
    let text = "SELECT id, file_type, filename, size, sha256, expires_at FROM artifacts \
                WHERE job_id = $1 AND file_type <> 'metadata' ORDER BY id";
    Ok(sqlx::query_as(text).bind(job).fetch_all(&app.db.pool).await?)
}

async fn runner(app: &App, job: &Job) -> Answer<Option<Json>> {
    let Some(id) = job.runner_id else { return Ok(None) };
    let found: Option<(String, i64)> = sqlx::query_as("SELECT description, local FROM runners WHERE id = $1")
        .bind(id)
        .fetch_optional(&app.db.pool)
        .await?;
    Ok(found.map(|(description, local)| {
        json!({ "id": id, "description": description, "local": local != 0, "system_id": job.system_id })
    }))
}

async fn child(app: &App, actor: &Actor, job: &Job) -> Answer<Json> {
    let Some(child) = job.child_pipeline else { return Ok(Json::Null) };
    let wanted = Wanted { ids: Some(&[child]), limit: 1, ..Wanted::default() };
    Ok(json!(listed(app, actor, &wanted).await?.pop()))
}
