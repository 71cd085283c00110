//! Trigger jobs: the server does them itself. It makes the pipeline, and takes over its status as far as `strategy` says.

use super::below::{self, Refused};
use super::step::Step;
use super::{cancel_pipeline, finished};
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::{Answer, App};
use pipelines::plan::Plan;
use pipelines::schedule::{Input, Outcome};
use pipelines::status::FailureReason;
use serde_json::Value as Json;

/// What may be mended by itself (a repository that can't be reached) is tried so long, in milliseconds.
const PATIENCE: i64 = 300_000;

/// `trigger:strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// Done when the pipeline exists.
    None,
    Depend,
    Mirror,
}

/// A trigger job that has not ended.
#[derive(Debug, sqlx::FromRow)]
struct Bridge {
    id: i64,
    pipeline_id: i64,
    position: i64,
    status: String,
    child: Option<i64>,
    child_status: Option<String>,
    child_ended: Option<i64>,
    started_at: Option<i64>,
}

/// Brings all trigger jobs on as far as they can be.
///
/// # Errors
/// The database does not answer.
pub(super) async fn run(app: &App) -> Answer<()> {
    let open: Vec<Bridge> = sqlx::query_as(
        "SELECT j.id, j.pipeline_id, j.position, j.status, j.child_pipeline AS child, p.status AS child_status, \
         p.finished_at AS child_ended, j.started_at FROM jobs j LEFT JOIN pipelines p ON p.id = j.child_pipeline \
         WHERE j.bridge = 1 AND j.newest = 1 AND j.finished_at IS NULL AND j.queued_at IS NOT NULL \
         AND j.status IN ('pending', 'running', 'canceling') ORDER BY j.id",
    )
    .fetch_all(&app.db.pool)
    .await?;
    for bridge in open {
        if let Err(problem) = one(app, &bridge).await {
            tracing::error!("trigger job {}: {problem}", bridge.id);
        }
    }
    Ok(())
}

async fn one(app: &App, bridge: &Bridge) -> Answer<()> {
    match (bridge.status.as_str(), bridge.child) {
        ("pending", _) => {
            start(app, bridge).await?;
            make(app, bridge, now()).await
        }
        ("running", None) => make(app, bridge, bridge.started_at.unwrap_or_default()).await,
        ("running", Some(_)) => follow(app, bridge).await,
        ("canceling", Some(child)) if bridge.child_ended.is_none() => {
            cancel_pipeline(app, child, &Actor::system()).await
        }
        ("canceling", _) => finished(app, bridge.id, Outcome::Canceled).await,
        _ => Ok(()),
    }
}

async fn start(app: &App, bridge: &Bridge) -> Answer<()> {
    let mut step = Step::begin(app, bridge.pipeline_id).await?;
    let Some(position) = step.position(bridge.id) else { return Ok(()) };
    step.tell(Input::JobStarted(position)).await?;
    let now = step.now;
    sqlx::query("UPDATE jobs SET started_at = $1 WHERE id = $2")
        .bind(now)
        .bind(bridge.id)
        .execute(&mut **step.tx())
        .await?;
    step.commit().await
}

async fn make(app: &App, bridge: &Bridge, since: i64) -> Answer<()> {
    let fail = |message: String| {
        let reason = FailureReason::DownstreamPipelineFailure;
        finished(app, bridge.id, Outcome::Failed { reason, exit_code: None, message: Some(message) })
    };
    match below::create(app, bridge.id).await {
        Ok(Ok(child)) if let Some(errors) = errors_of(app, child).await? => fail(errors).await,
        Ok(Ok(_)) if strategy_of(app, bridge).await? == Strategy::None => {
            finished(app, bridge.id, Outcome::Success).await
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(Refused(why))) => fail(why).await,
        Err(problem) if now() - since > PATIENCE => fail(problem.message).await,
        Err(problem) => Err(problem),
    }
}

/// Why the pipeline can't run at all; none: it can.
async fn errors_of(app: &App, pipeline: i64) -> Answer<Option<String>> {
    let (digest, errors): (String, String) =
        sqlx::query_as("SELECT plan_digest, errors FROM pipelines WHERE id = $1")
            .bind(pipeline)
            .fetch_one(&app.db.pool)
            .await?;
    let errors: Vec<String> = serde_json::from_str(&errors).unwrap_or_default();
    Ok(digest.is_empty().then(|| format!("its pipeline can't run: {}", errors.join("; "))))
}

async fn follow(app: &App, bridge: &Bridge) -> Answer<()> {
    let strategy = strategy_of(app, bridge).await?;
    if strategy == Strategy::None {
        // the server was killed between the two
        return finished(app, bridge.id, Outcome::Success).await;
    }
    if bridge.child_ended.is_none() {
        return Ok(());
    }
    let status = bridge.child_status.as_deref().unwrap_or_default();
    finished(app, bridge.id, outcome(strategy, status)).await
}

async fn strategy_of(app: &App, bridge: &Bridge) -> Answer<Strategy> {
    // the plan that people see says it as well, and need not be opened
    let text: String = sqlx::query_scalar("SELECT plan FROM pipelines WHERE id = $1")
        .bind(bridge.pipeline_id)
        .fetch_one(&app.db.pool)
        .await?;
    let plan: Plan = serde_json::from_str(&text).unwrap_or_default();
    let job = usize::try_from(bridge.position).ok().and_then(|position| plan.jobs.get(position));
    let word = job.and_then(|job| job.work.trigger.as_ref()?.get("strategy").and_then(Json::as_str));
    Ok(match word {
        Some("depend") => Strategy::Depend,
        Some("mirror") => Strategy::Mirror,
        _ => Strategy::None,
    })
}

/// What becomes of the trigger job when its pipeline has ended. One that waits for a person has not.
fn outcome(strategy: Strategy, status: &str) -> Outcome {
    match status {
        "success" => Outcome::Success,
        "canceled" => Outcome::Canceled,
        "skipped" if strategy == Strategy::Mirror => Outcome::Skipped,
        other => Outcome::Failed {
            reason: FailureReason::DownstreamPipelineFailure,
            exit_code: None,
            message: Some(format!("its pipeline came out as {other}")),
        },
    }
}
