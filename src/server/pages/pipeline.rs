//! One pipeline: its jobs by stage, by needs and over time, its configuration, and why it is as it is.

use super::pipelines::{Wanted, listed, parse};
use super::place::Place;
use super::{graph, page, timing};
use crate::server::access::Actor;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use pipelines::plan::Plan;
use pipelines::status::{Status, Weight, WeightSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, FromRow};
use std::collections::BTreeSet;

/// A job as pipelines show it: the newest attempt.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Shown {
    pub id: i64,
    pub position: i64,
    pub attempt: i64,
    pub name: String,
    pub stage: String,
    pub status: String,
    pub allowed_to_fail: i64,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub environment: String,
    pub waits_for: String,
    pub child_pipeline: Option<i64>,
    pub created_at: i64,
    pub queued_at: Option<i64>,
    pub started_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// Address of its page.
    #[sqlx(skip)]
    pub url: String,
    /// Its status, `warning` for a failure that is allowed.
    #[sqlx(skip)]
    pub look: String,
    /// May a person start it?
    #[sqlx(skip)]
    pub playable: bool,
    /// Has it ended, so that it may run again?
    #[sqlx(skip)]
    pub ended: bool,
    /// May it be ended?
    #[sqlx(skip)]
    pub live: bool,
}

impl Shown {
    const COLUMNS: &str = "id, position, attempt, name, stage, status, allowed_to_fail, reason, message, environment, \
        waits_for, child_pipeline, created_at, queued_at, started_at, finished_at";

    /// What follows from the columns.
    fn complete(mut self, base: &str) -> Shown {
        let status = parse(&self.status);
        self.url = format!("{base}/jobs/{}", self.id);
        let forgiven = status == Status::Failed && self.allowed_to_fail != 0;
        self.look = if forgiven { "warning".to_owned() } else { self.status.clone() };
        self.playable = matches!(status, Status::Manual | Status::Scheduled);
        self.ended = status.is_complete() && status != Status::Skipped;
        self.live = !status.is_complete() && !matches!(status, Status::Created | Status::Manual);
        self
    }
}

/// The newest attempt of each job of a pipeline, in the order of the configuration.
pub(super) async fn jobs(app: &App, pipeline: i64, base: &str) -> Answer<Vec<Shown>> {
    let text = format!(
        "SELECT {} FROM jobs WHERE pipeline_id = $1 AND newest = 1 ORDER BY position",
        Shown::COLUMNS
    );
    let rows: Vec<Shown> = sqlx::query_as(AssertSqlSafe(text)).bind(pipeline).fetch_all(&app.db.pool).await?;
    Ok(rows.into_iter().map(|row| row.complete(base)).collect())
}

#[derive(FromRow, Serialize)]
struct Detail {
    plan: String,
    merged: String,
    errors: String,
    before_sha: String,
    plan_digest: String,
    message: String,
    coverage: Option<String>,
    delivery_id: Option<i64>,
    parent_job: Option<i64>,
    protected: i64,
    priority: i64,
}

#[derive(Serialize)]
struct Column {
    name: String,
    status: &'static str,
    jobs: Vec<Shown>,
}

/// Which side of the pipeline is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    view: String,
}

/// `GET /projects/{project}/pipelines/{pipeline}`
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    Path((name, id)): Path<(String, i64)>,
    Query(view): Query<View>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let wanted = Wanted { project: Some(project.id), ids: Some(&[id]), limit: 1, ..Wanted::default() };
    let found = listed(&app, &actor, &wanted).await?.pop();
    let row = found.ok_or_else(|| Problem::not_found("pipeline"))?;
    let detail = detail(&app, id).await?;
    let jobs = jobs(&app, id, &place.url).await?;
    let plan: Plan = serde_json::from_str(&detail.plan).unwrap_or_default();
    let errors: Vec<String> = serde_json::from_str(&detail.errors).unwrap_or_default();
    let view = match view.view.as_str() {
        "" if jobs.is_empty() && !errors.is_empty() => "errors",
        "needs" => "needs",
        "timing" => "timing",
        "errors" => "errors",
        "config" => "config",
        "variables" => "variables",
        _ => "stages",
    };
    let live = !parse(&row.status).is_complete();
    let again = jobs.iter().any(|job| matches!(job.status.as_str(), "failed" | "canceled"));
    let waits: Vec<&Shown> = jobs.iter().filter(|job| !job.waits_for.is_empty()).collect();
    let failed: Vec<&Shown> = jobs.iter().filter(|job| job.status == "failed").collect();
    let data = json!({
        "view": view,
        "graph": (view == "needs").then(|| graph::draw(&plan, &jobs)),
        "timing": (view == "timing").then(|| timing::draw(&plan, &jobs, row_times(&jobs))),
        "variables": (view == "variables").then(|| variables(&plan)),
        "has_needs": plan.jobs.iter().any(|job| job.needs.is_some()),
        "columns": columns(jobs.clone()),
        "count": jobs.len(),
        "waits": waits,
        "failed": failed,
        "errors": errors,
        "detail": { "before_sha": detail.before_sha, "plan_digest": detail.plan_digest, "message": detail.message,
            "coverage": detail.coverage, "delivery_id": detail.delivery_id, "protected": detail.protected,
            "priority": detail.priority, "merged": (view == "config").then_some(detail.merged) },
        "parent": parent(&app, &actor, detail.parent_job).await?,
        "children": children(&app, &actor, &jobs).await?,
        "tests": super::reports::totals(&app, id).await?,
        "can_retry": place.developer && again,
        "can_cancel": place.developer && live && !jobs.is_empty(),
        "pipeline": row,
        "place": place,
    });
    let title = format!("Pipeline {id} · {}", project.path);
    Ok(page(&app, &actor, "pipeline", &title, &data))
}

async fn detail(app: &App, id: i64) -> Answer<Detail> {
    let text = "SELECT plan, merged, errors, before_sha, plan_digest, message, coverage, delivery_id, parent_job, \
                protected, priority FROM pipelines WHERE id = $1";
    Ok(sqlx::query_as(text).bind(id).fetch_one(&app.db.pool).await?)
}

/// Jobs in the columns of their stages, in order of appearance.
fn columns(jobs: Vec<Shown>) -> Vec<Column> {
    let mut columns: Vec<(Column, WeightSet)> = Vec::new();
    for job in jobs {
        let weight = Weight::of(parse(&job.status), job.allowed_to_fail != 0);
        match columns.iter_mut().find(|(column, _)| column.name == job.stage) {
            Some((column, set)) => {
                set.insert(weight);
                column.jobs.push(job);
            }
            None => {
                let column = Column { name: job.stage.clone(), status: "created", jobs: vec![job] };
                columns.push((column, [weight].into_iter().collect()));
            }
        }
    }
    let finish = |(column, set): (Column, WeightSet)| Column { status: set.composite().name(), ..column };
    columns.into_iter().map(finish).collect()
}

fn row_times(jobs: &[Shown]) -> Option<(i64, i64)> {
    let from = jobs.iter().filter_map(|job| job.queued_at.or(job.started_at)).min()?;
    let now = crate::server::db::now();
    let to =
        jobs.iter().filter(|job| job.started_at.is_some()).map(|job| job.finished_at.unwrap_or(now)).max()?;
    Some((from, to.max(from + 1)))
}

/// Names only: values stay where they are.
fn variables(plan: &Plan) -> Vec<Json> {
    let mut names: Vec<(String, BTreeSet<String>)> = Vec::new();
    for job in &plan.jobs {
        for key in job.variables.keys() {
            match names.iter_mut().find(|(name, _)| name == key) {
                Some((_, jobs)) => {
                    jobs.insert(job.name.clone());
                }
                None => names.push((key.clone(), [job.name.clone()].into())),
            }
        }
    }
    names.sort();
    let all = plan.jobs.len();
    names
        .into_iter()
        .map(|(name, jobs)| json!({ "name": name, "all": jobs.len() == all, "jobs": jobs }))
        .collect()
}

/// The pipeline of the job that started this one, if it may be seen.
async fn parent(app: &App, actor: &Actor, job: Option<i64>) -> Answer<Option<Json>> {
    let Some(job) = job else { return Ok(None) };
    let found: Option<(i64, String)> = sqlx::query_as("SELECT pipeline_id, name FROM jobs WHERE id = $1")
        .bind(job)
        .fetch_optional(&app.db.pool)
        .await?;
    let Some((pipeline, job)) = found else { return Ok(None) };
    let wanted = Wanted { ids: Some(&[pipeline]), limit: 1, ..Wanted::default() };
    let row = listed(app, actor, &wanted).await?.pop();
    Ok(row.map(|row| json!({ "pipeline": row, "job": job })))
}

/// The pipelines that jobs of this one started.
async fn children(app: &App, actor: &Actor, jobs: &[Shown]) -> Answer<Json> {
    let ids: Vec<i64> = jobs.iter().filter_map(|job| job.child_pipeline).collect();
    if ids.is_empty() {
        return Ok(json!([]));
    }
    let wanted = Wanted { ids: Some(&ids), limit: 50, ..Wanted::default() };
    Ok(json!(listed(app, actor, &wanted).await?))
}

/// All attempts of the job at a position, newest first.
pub(super) async fn attempts(app: &App, pipeline: i64, position: i64, base: &str) -> Answer<Vec<Shown>> {
    let text = format!(
        "SELECT {} FROM jobs WHERE pipeline_id = $1 AND position = $2 ORDER BY attempt DESC LIMIT 100",
        Shown::COLUMNS
    );
    let rows: Vec<Shown> =
        sqlx::query_as(AssertSqlSafe(text)).bind(pipeline).bind(position).fetch_all(&app.db.pool).await?;
    Ok(rows.into_iter().map(|row| row.complete(base)).collect())
}
