//! What people do to jobs and pipelines.

use super::claim::job_row;
use super::live::pipeline_row;
use super::step::Step;
use crate::server::access::{Access, Actor, allows};
use crate::server::rows::{Audit, Job, audit};
use crate::server::{Answer, App, Problem};
use pipelines::schedule::{Input, JobId};
use serde_json::json;

/// Starts a manual job, or a delayed one before its time.
///
/// # Errors
/// It is neither; or the database does not answer.
pub async fn play(app: &App, job: i64, actor: &Actor) -> Answer<()> {
    let refusal = "is neither manual nor delayed";
    let wish = Wish { action: "job.play", input: Input::Play, refusal, why: None };
    wish.on_job(app, job, actor).await
}

/// Runs a job again.
///
/// # Errors
/// It has not ended; or the database does not answer.
pub async fn retry(app: &App, job: i64, actor: &Actor) -> Answer<()> {
    let refusal = "has not run to its end";
    let wish = Wish { action: "job.retry", input: Input::Retry, refusal, why: None };
    wish.on_job(app, job, actor).await
}

/// Ends a job.
///
/// # Errors
/// The database does not answer.
pub async fn cancel(app: &App, job: i64, actor: &Actor) -> Answer<()> {
    cancel_for(app, job, actor, None).await
}

/// As [`cancel`]; people see why.
pub(super) async fn cancel_for(app: &App, job: i64, actor: &Actor, why: Option<&str>) -> Answer<()> {
    let refusal = "has ended, or is being cancelled already";
    let wish = Wish { action: "job.cancel", input: Input::CancelJob, refusal, why };
    wish.on_job(app, job, actor).await
}

struct Wish<'a> {
    action: &'static str,
    input: fn(JobId) -> Input,
    /// Why it may come to nothing.
    refusal: &'static str,
    /// For those whom it was not who wished it.
    why: Option<&'a str>,
}

impl Wish<'_> {
    async fn on_job(&self, app: &App, job: i64, actor: &Actor) -> Answer<()> {
        let row = job_row(app, job).await?;
        if self.action != "job.cancel" {
            may_deploy(app, row.project_id, &row.environment, actor).await?;
        }
        let mut step = Step::begin(app, row.pipeline_id).await?;
        let Some(position) = step.position(job) else {
            let newest = step.live().attempts.get(usize::try_from(row.position).unwrap_or(usize::MAX));
            let newer = newest.map(|a| format!(": job {} is", a.id)).unwrap_or_default();
            return Err(Problem::conflict(format!(
                "this attempt of `{}` is not the newest any more{newer}",
                row.name
            )));
        };
        if !step.tell((self.input)(position)).await? {
            return Err(Problem::conflict(format!("job `{}` {}", row.name, self.refusal)));
        }
        say_why(&mut step, row.pipeline_id, self.why).await?;
        let entry = Audit {
            actor,
            action: self.action,
            project: Some(row.project_id),
            subject: &row.name,
            detail: detail(&row),
        };
        audit(step.tx(), entry).await?;
        step.commit().await
    }
}

/// Whoever starts a job with an environment deploys there.
async fn may_deploy(app: &App, project: i64, environment: &str, actor: &Actor) -> Answer<()> {
    if environment.is_empty() || allows(app, actor, project, Access::Deployer, Some(environment)).await? {
        return Ok(());
    }
    let told = format!("this job deploys to `{environment}`: it needs the role deployer there");
    Err(Problem::forbidden(told))
}

fn detail(row: &Job) -> serde_json::Value {
    json!({ "job": row.id, "pipeline": row.pipeline_id, "environment": row.environment })
}

/// Ends all jobs of a pipeline and of those below it.
///
/// # Errors
/// The database does not answer.
pub async fn cancel_pipeline(app: &App, pipeline: i64, actor: &Actor) -> Answer<()> {
    cancel_pipeline_for(app, pipeline, actor, None).await
}

/// As [`cancel_pipeline`]; people see why.
pub(super) async fn cancel_pipeline_for(
    app: &App,
    pipeline: i64,
    actor: &Actor,
    why: Option<&str>,
) -> Answer<()> {
    let mut open = vec![pipeline];
    while let Some(pipeline) = open.pop() {
        let below: Vec<i64> = sqlx::query_scalar(
            "SELECT p.id FROM pipelines p JOIN jobs j ON j.id = p.parent_job WHERE j.pipeline_id = $1",
        )
        .bind(pipeline)
        .fetch_all(&app.db.pool)
        .await?;
        open.extend(below);
        let wish = OnPipeline { action: "pipeline.cancel", input: Input::CancelAll, why };
        wish.tell(app, pipeline, actor).await?;
    }
    Ok(())
}

/// Runs what failed or was cancelled again.
///
/// # Errors
/// The database does not answer.
pub async fn retry_pipeline(app: &App, pipeline: i64, actor: &Actor) -> Answer<()> {
    let text = "SELECT DISTINCT project_id, environment FROM jobs WHERE pipeline_id = $1 AND newest = 1 \
                AND status IN ('failed', 'canceled')";
    let again: Vec<(i64, String)> = sqlx::query_as(text).bind(pipeline).fetch_all(&app.db.pool).await?;
    for (project, environment) in again {
        may_deploy(app, project, &environment, actor).await?;
    }
    let wish = OnPipeline { action: "pipeline.retry", input: Input::RetryAll, why: None };
    match wish.tell(app, pipeline, actor).await? {
        true => Ok(()),
        false => Err(Problem::conflict("no job of the pipeline has failed or was cancelled")),
    }
}

struct OnPipeline<'a> {
    action: &'static str,
    input: Input,
    why: Option<&'a str>,
}

impl OnPipeline<'_> {
    /// False: it changes nothing.
    async fn tell(self, app: &App, pipeline: i64, actor: &Actor) -> Answer<bool> {
        let row = pipeline_row(app, pipeline).await?;
        if row.plan_digest.is_empty() {
            return Ok(false);
        }
        let mut step = Step::begin(app, pipeline).await?;
        if !step.tell(self.input).await? {
            return Ok(false);
        }
        say_why(&mut step, pipeline, self.why).await?;
        let subject = format!("pipeline {}", row.iid);
        let detail = json!({ "pipeline": pipeline, "ref": row.reference, "why": self.why });
        let project = Some(row.project_id);
        let entry = Audit { actor, action: self.action, project, subject: &subject, detail };
        audit(step.tx(), entry).await?;
        step.commit().await?;
        Ok(true)
    }
}

/// For what was cancelled just now.
async fn say_why(step: &mut Step<'_>, pipeline: i64, why: Option<&str>) -> Answer<()> {
    let Some(why) = why else { return Ok(()) };
    sqlx::query(
        "UPDATE jobs SET message = $1 WHERE pipeline_id = $2 AND newest = 1 AND message IS NULL \
         AND status IN ('canceling', 'canceled')",
    )
    .bind(why)
    .bind(pipeline)
    .execute(&mut **step.tx())
    .await?;
    Ok(())
}
