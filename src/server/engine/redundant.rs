//! A newer pipeline of the same ref ends the older ones, as far as `workflow:auto_cancel` and `interruptible` let it.

use super::wishes::{cancel_for, cancel_pipeline_for};
use crate::server::access::Actor;
use crate::server::projects::Settings;
use crate::server::rows::{Pipeline, Project};
use crate::server::{Answer, App};
use pipelines::plan::Plan;

/// Ends what the pipeline makes redundant.
///
/// # Errors
/// The database does not answer.
pub(super) async fn end_older(app: &App, project: &Project, newer: &Pipeline) -> Answer<()> {
    if newer.parent_job.is_some() || newer.source == "schedule" {
        return Ok(());
    }
    let merge = i64::from(newer.source == "merge_request_event");
    let older: Vec<(i64, String)> = sqlx::query_as(
        "SELECT id, plan FROM pipelines WHERE project_id = $1 AND ref = $2 AND tag = $3 AND sha <> $4 AND id < $5 \
         AND finished_at IS NULL AND parent_job IS NULL AND source <> 'schedule' \
         AND CASE WHEN source = 'merge_request_event' THEN 1 ELSE 0 END = $6 ORDER BY id",
    )
    .bind(project.id)
    .bind(&newer.reference)
    .bind(newer.tag)
    .bind(&newer.sha)
    .bind(newer.id)
    .bind(merge)
    .fetch_all(&app.db.pool)
    .await?;
    for (pipeline, plan) in older {
        if let Err(problem) = end(app, pipeline, &how(project, &plan), newer).await {
            tracing::error!(
                "cancelling pipeline {pipeline}, which pipeline {} replaces: {problem}",
                newer.id
            );
        }
    }
    Ok(())
}

/// As the older pipeline's own configuration says, else the project's settings.
fn how(project: &Project, plan: &str) -> String {
    let plan: Plan = serde_json::from_str(plan).unwrap_or_default();
    let default = if Settings::of(project).auto_cancel { "conservative" } else { "none" };
    plan.auto_cancel.and_then(|cancel| cancel.on_new_commit).unwrap_or_else(|| default.to_owned())
}

async fn end(app: &App, pipeline: i64, how: &str, newer: &Pipeline) -> Answer<()> {
    let why =
        format!("replaced by pipeline {}, which is for a newer commit of `{}`", newer.iid, newer.reference);
    match how {
        "none" => Ok(()),
        "interruptible" => {
            let jobs: Vec<i64> = sqlx::query_scalar(
                "SELECT id FROM jobs WHERE pipeline_id = $1 AND newest = 1 AND interruptible = 1 \
                 AND finished_at IS NULL AND status NOT IN ('manual', 'canceling') ORDER BY position",
            )
            .bind(pipeline)
            .fetch_all(&app.db.pool)
            .await?;
            for job in jobs {
                // it may have ended meanwhile
                if let Err(problem) = cancel_for(app, job, &Actor::system(), Some(&why)).await {
                    tracing::debug!("job {job} is not cancelled: {problem}");
                }
            }
            Ok(())
        }
        // conservative: once a job has begun that must not be interrupted, all go on
        _ => {
            let begun: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM jobs WHERE pipeline_id = $1 AND interruptible = 0 AND started_at IS NOT NULL",
            )
            .bind(pipeline)
            .fetch_one(&app.db.pool)
            .await?;
            if begun > 0 {
                Ok(())
            } else {
                cancel_pipeline_for(app, pipeline, &Actor::system(), Some(&why)).await
            }
        }
    }
}
