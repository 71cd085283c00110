//! The queue: a job is handed out once, its runner is heard of, it ends.

use super::features::lacking;
use super::live::{pipeline_row, sealed};
use super::step::Step;
use super::told;
use super::{Claimed, Context};
use crate::server::db::now;
use crate::server::rows::{Job, Runner};
use crate::server::vault::{new_token, token_hash};
use crate::server::{Answer, App, Problem};
use pipelines::plan::JobVariable;
use pipelines::schedule::{Input, Outcome};
use pipelines::status::Status;
use std::sync::atomic::Ordering;

/// GitLab's prefix of job tokens: its runners mask whatever begins so.
const TOKEN_PREFIX: &str = "glcbt-";
/// Leases are written again only when so much of them has gone, in milliseconds.
const LEASE_STEP: i64 = 10_000;
/// Jobs that are looked at when others take them away before us.
const CANDIDATES: i64 = 8;

/// Hands out the next job for the runner, if there is one: by priority, then for the project with the fewest jobs
/// running, then the oldest. In maintenance there is none.
///
/// # Errors
/// The database does not answer.
pub async fn claim(app: &App, runner: &Runner, system_id: &str) -> Answer<Option<Claimed>> {
    if runner.paused == 1 || app.maintenance.load(Ordering::Relaxed) {
        return Ok(None);
    }
    loop {
        let candidates = candidates(app, runner).await?;
        if candidates.is_empty() {
            return Ok(None);
        }
        for (job, pipeline) in candidates {
            if let Some(claimed) = take(app, runner, system_id, job, pipeline).await? {
                return Ok(Some(claimed));
            }
        }
    }
}

/// Jobs and their pipelines, the first one first.
async fn candidates(app: &App, runner: &Runner) -> Answer<Vec<(i64, i64)>> {
    let text = "SELECT DISTINCT tags, features FROM pending";
    let lists: Vec<(String, String)> = sqlx::query_as(text).fetch_all(&app.db.pool).await?;
    let own = tags(&runner.tags);
    let fits = |(list, features): &(String, String)| {
        takes(&own, runner.run_untagged == 1, &tags(list)) && lacking(runner, features).is_empty()
    };
    let lists: Vec<(String, String)> = lists.into_iter().filter(fits).collect();
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let places =
        (0..lists.len()).map(|at| format!("(p.tags = ${} AND p.features = ${})", 2 * at + 1, 2 * at + 2));
    let places: Vec<String> = places.collect();
    let mut only = String::new();
    if runner.protected_only == 1 {
        only.push_str(" AND p.protected = 1");
    }
    if runner.trusted_only == 1 {
        only.push_str(" AND p.trusted = 1");
    }
    if let Some(project) = runner.project_id {
        only.push_str(&format!(" AND p.project_id = {project}"));
    }
    let text = format!(
        "SELECT p.job_id, j.pipeline_id FROM pending p JOIN jobs j ON j.id = p.job_id \
         JOIN projects x ON x.id = p.project_id LEFT JOIN (SELECT project_id, COUNT(*) AS running FROM jobs \
         WHERE lease_until IS NOT NULL GROUP BY project_id) r ON r.project_id = p.project_id \
         WHERE ({}) AND x.paused = 0{only} \
         ORDER BY p.priority DESC, COALESCE(r.running, 0), p.job_id LIMIT {CANDIDATES}",
        places.join(" OR ")
    );
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text));
    let query = lists.into_iter().fold(query, |query, (list, features)| query.bind(list).bind(features));
    Ok(query.fetch_all(&app.db.pool).await?)
}

/// A JSON list; anything else is none.
pub(super) fn tags(list: &str) -> Vec<String> {
    serde_json::from_str(list).unwrap_or_default()
}

/// Does a runner with these tags take a job with those?
pub(super) fn takes(runner: &[String], untagged: bool, job: &[String]) -> bool {
    if job.is_empty() { untagged } else { job.iter().all(|tag| runner.contains(tag)) }
}

/// None: somebody else has it.
async fn take(
    app: &App,
    runner: &Runner,
    system_id: &str,
    job: i64,
    pipeline: i64,
) -> Answer<Option<Claimed>> {
    let mut step = Step::begin(app, pipeline).await?;
    let gone =
        sqlx::query("DELETE FROM pending WHERE job_id = $1").bind(job).execute(&mut **step.tx()).await?;
    let Some(position) = step.position(job).filter(|_| gone.rows_affected() == 1) else { return Ok(None) };
    match step.live().scheduler.status(position) {
        Status::Pending => drop(step.tell(Input::JobStarted(position)).await?),
        // it was with a runner that has never been heard of
        Status::Running => {}
        _ => {
            step.commit().await?;
            return Ok(None);
        }
    }
    let token = new_token(TOKEN_PREFIX);
    let sealed = app.vault.seal(&format!("job:{job}"), token.as_bytes());
    let now = step.now;
    sqlx::query(
        "UPDATE jobs SET status = 'running', waits_for = '', runner_id = $1, system_id = $2, token = $3, \
         sealed_token = $4, lease_until = $5, acknowledged = 0, started_at = $6 WHERE id = $7",
    )
    .bind(runner.id)
    .bind(system_id)
    .bind(token_hash(&token))
    .bind(sealed)
    .bind(lease(app, now))
    .bind(now)
    .bind(job)
    .execute(&mut **step.tx())
    .await?;
    step.commit().await?;
    Ok(Some(Claimed { job, token }))
}

/// How long a sign of life now is good for.
pub(super) fn lease(app: &App, now: i64) -> i64 {
    let seconds = i64::try_from(app.config.lease_seconds).unwrap_or(i64::MAX / 1000);
    now.saturating_add(seconds.saturating_mul(1000))
}

/// The attempt whose token this is, while it runs.
///
/// # Errors
/// 403 when there is none.
pub async fn by_token(app: &App, token: &str) -> Answer<Job> {
    let text =
        format!("SELECT {} FROM jobs WHERE token = $1 AND status IN ('running', 'canceling')", Job::COLUMNS);
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(token_hash(token));
    let found = query.fetch_optional(&app.db.pool).await?;
    found.ok_or_else(|| Problem::forbidden("the token belongs to no running job"))
}

/// What a job runs with.
///
/// # Errors
/// There is no such job, or the database does not answer.
pub async fn context(app: &App, job: i64) -> Answer<Context> {
    let row = job_row(app, job).await?;
    let held = app.engine.hold(row.pipeline_id).await;
    if let Some(live) = held.as_ref() {
        let (plan, request) = (live.scheduler.plan().clone(), live.request.as_ref().clone());
        drop(held);
        let pipeline = pipeline_row(app, row.pipeline_id).await?;
        return Ok(Context { row, pipeline, plan, request });
    }
    app.engine.forget(row.pipeline_id, held);
    let pipeline = pipeline_row(app, row.pipeline_id).await?;
    let sealed = sealed(app, row.pipeline_id).await?;
    Ok(Context { row, pipeline, plan: sealed.plan.into(), request: sealed.request })
}

/// The row of an attempt of any project.
pub(super) async fn job_row(app: &App, job: i64) -> Answer<Job> {
    let text = format!("SELECT {} FROM jobs WHERE id = $1", Job::COLUMNS);
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(job);
    query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("job"))
}

/// The variables that only an attempt knows: below all others, as GitLab has them.
pub fn attempt_variables(app: &App, context: &Context, token: &str) -> Vec<JobVariable> {
    let row = &context.row;
    let url = app.config.public_url();
    let started = jiff::Timestamp::from_millisecond(row.started_at.unwrap_or_default()).unwrap_or_default();
    let started = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
    let path = &context.request.project;
    let plain = |key: &str, value: String| JobVariable {
        key: key.to_owned(),
        value,
        file: false,
        masked: false,
        raw: true,
    };
    let secret = |key: &str, value: String| JobVariable { masked: true, ..plain(key, value) };
    vec![
        plain("CI_JOB_ID", row.id.to_string()),
        plain("CI_JOB_URL", format!("{url}/projects/{}/jobs/{}", row.project_id, row.id)),
        secret("CI_JOB_TOKEN", token.to_owned()),
        plain("CI_JOB_NAME", row.name.clone()),
        plain("CI_JOB_STAGE", row.stage.clone()),
        plain("CI_JOB_STARTED_AT", started),
        plain("CI_JOB_TIMEOUT", row.timeout_s.to_string()),
        plain("CI_SERVER", "yes".to_owned()),
        secret("CI_REPOSITORY_URL", format!("{scheme}://gitlab-ci-token:{token}@{rest}/git/{path}.git")),
    ]
}

/// What a pipeline knows when it is there: not seen by rules.
pub(super) fn pipeline_variables(
    app: &App,
    project: i64,
    pipeline: i64,
    created_at: i64,
) -> Vec<JobVariable> {
    let created = jiff::Timestamp::from_millisecond(created_at).unwrap_or_default();
    let facts = [
        ("CI_PIPELINE_ID", pipeline.to_string()),
        ("CI_PIPELINE_URL", told::page(app, project, pipeline)),
        ("CI_PIPELINE_CREATED_AT", created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    ];
    let variable = |(key, value): (&str, String)| JobVariable {
        key: key.into(),
        value,
        file: false,
        masked: false,
        raw: true,
    };
    facts.map(variable).into()
}

/// The job's runner was heard of: its lease goes on (written at most every 10 s).
///
/// # Errors
/// The database does not answer.
pub async fn heard(app: &App, job: &Job) -> Answer<()> {
    let until = lease(app, now());
    let fresh = job.lease_until.is_some_and(|known| until - known < LEASE_STEP);
    if job.acknowledged == 1 && fresh {
        return Ok(());
    }
    sqlx::query(
        "UPDATE jobs SET lease_until = $1, acknowledged = 1 WHERE id = $2 AND lease_until IS NOT NULL",
    )
    .bind(until)
    .bind(job.id)
    .execute(&app.db.pool)
    .await?;
    Ok(())
}

/// The attempt has ended. A second call changes nothing.
///
/// # Errors
/// The database does not answer.
pub async fn finished(app: &App, job: i64, outcome: Outcome) -> Answer<()> {
    let place: Option<(i64, String)> =
        sqlx::query_as("SELECT pipeline_id, status FROM jobs WHERE id = $1 AND newest = 1")
            .bind(job)
            .fetch_optional(&app.db.pool)
            .await?;
    let Some((pipeline, _)) = place.filter(|(_, status)| status == "running" || status == "canceling") else {
        return Ok(());
    };
    let mut step = Step::begin(app, pipeline).await?;
    step.end(job, outcome).await?;
    step.commit().await
}
