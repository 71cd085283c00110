//! What a pipeline's status brings to others: the commit's status at the forge, and a notice to people. Both are only
//! written down here; helpers of their own send them.

use crate::notify::{Event, Occasion};
use crate::server::db::Tx;
use crate::server::rows::Pipeline;
use crate::server::{Answer, App};
use pipelines::status::Status;

/// The pipeline's page.
pub(super) fn page(app: &App, project: i64, pipeline: i64) -> String {
    format!("{}/projects/{project}/pipelines/{pipeline}", app.config.public_url())
}

/// Puts the status of the commit into the outbox. The last word of a context wins; an older pipeline of the same commit
/// and source has none any more.
pub(super) async fn status(
    app: &App,
    tx: &mut Tx,
    row: &Pipeline,
    status: Status,
    before: &str,
    now: i64,
) -> Answer<()> {
    // those below another pipeline count through their trigger job
    if row.parent_job.is_some() || word(status) == before {
        return Ok(());
    }
    let place: Option<(String, i64)> = sqlx::query_as(
        "SELECT forge_url, (SELECT COUNT(*) FROM pipelines n WHERE n.project_id = $1 AND n.sha = $2 AND n.source = $3 \
         AND n.id > $4 AND n.parent_job IS NULL) FROM projects WHERE id = $5",
    )
    .bind(row.project_id)
    .bind(&row.sha)
    .bind(&row.source)
    .bind(row.id)
    .bind(row.project_id)
    .fetch_optional(&mut **tx)
    .await?;
    if place.is_none_or(|(forge, newer)| forge.is_empty() || newer > 0) {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO statuses (project_id, sha, context, ref, state, description, target_url, version, sent, tries, \
         next_at, error) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 0, 0, $8, '') \
         ON CONFLICT (project_id, sha, context) DO UPDATE SET ref = excluded.ref, state = excluded.state, \
         description = excluded.description, target_url = excluded.target_url, version = statuses.version + 1, \
         tries = 0, next_at = excluded.next_at, error = ''",
    )
    .bind(row.project_id)
    .bind(&row.sha)
    .bind(format!("slipway/{}", row.source))
    .bind(&row.reference)
    .bind(word(status))
    .bind(description(row, status))
    .bind(page(app, row.project_id, row.id))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The words of the outbox.
fn word(status: Status) -> &'static str {
    match status {
        Status::Created
        | Status::WaitingForResource
        | Status::Pending
        | Status::Manual
        | Status::Scheduled => "pending",
        Status::Running | Status::Canceling => "running",
        Status::Success => "success",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
        Status::Skipped => "skipped",
    }
}

fn description(row: &Pipeline, status: Status) -> String {
    let what = match status {
        Status::Manual => "waits for a person".to_owned(),
        Status::Scheduled => "waits for its time".to_owned(),
        Status::WaitingForResource => "waits for a resource".to_owned(),
        Status::Created | Status::Pending => "waits for a runner".to_owned(),
        other => other.name().replace('_', " "),
    };
    format!("Pipeline {} {what}", row.iid)
}

/// Notes that a pipeline ended otherwise than the one before it on the same ref: failed, or works again.
pub(super) async fn ended(app: &App, tx: &mut Tx, row: &Pipeline, status: Status, now: i64) -> Answer<()> {
    if row.parent_job.is_some() || !matches!(status, Status::Success | Status::Failed) {
        return Ok(());
    }
    let before: Option<String> = sqlx::query_scalar(
        "SELECT status FROM pipelines WHERE project_id = $1 AND ref = $2 AND id < $3 AND parent_job IS NULL \
         AND status IN ('success', 'failed') ORDER BY id DESC LIMIT 1",
    )
    .bind(row.project_id)
    .bind(&row.reference)
    .bind(row.id)
    .fetch_optional(&mut **tx)
    .await?;
    let (name, occasion) = match (before.as_deref(), status) {
        (Some("failed"), Status::Failed) => return Ok(()),
        (_, Status::Failed) => ("pipeline.failed", Occasion::Failed),
        (Some("failed"), _) => ("pipeline.fixed", Occasion::Fixed),
        _ => return Ok(()),
    };
    let body = event(app, tx, row, occasion).await?;
    sqlx::query(
        "INSERT INTO notices (project_id, event, body, created_at, tries, next_at, error) \
         VALUES ($1, $2, $3, $4, 0, $5, '')",
    )
    .bind(row.project_id)
    .bind(name)
    .bind(body)
    .bind(now)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn event(app: &App, tx: &mut Tx, row: &Pipeline, occasion: Occasion) -> Answer<String> {
    let path: String = sqlx::query_scalar("SELECT path FROM projects WHERE id = $1")
        .bind(row.project_id)
        .fetch_one(&mut **tx)
        .await?;
    let failed: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM jobs WHERE pipeline_id = $1 AND newest = 1 AND status = 'failed' AND allowed_to_fail = 0 \
         ORDER BY position",
    )
    .bind(row.id)
    .fetch_all(&mut **tx)
    .await?;
    let event = Event {
        reference: Some(row.reference.clone()),
        commit: row.sha.get(..8).map(str::to_owned),
        run: u64::try_from(row.id).ok(),
        failed_jobs: failed,
        by: Some(row.actor.clone()).filter(|name| !name.is_empty()),
        link: Some(page(app, row.project_id, row.id)),
        ..Event::pipeline(occasion, &path)
    };
    Ok(serde_json::to_string(&event).unwrap_or_default())
}
