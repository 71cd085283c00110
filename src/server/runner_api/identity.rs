//! Tokens of runners and of jobs' attempts.

use crate::server::db::now;
use crate::server::engine;
use crate::server::rows::{Job, Runner};
use crate::server::vault::token_hash;
use crate::server::{Answer, App, Problem};
use crate::wire::runner::{Info, RUNNER_TOKEN_HEADER, feature};
use crate::wire::update::{INTERVAL_HEADER, JOB_STATUS_HEADER, JOB_TOKEN_HEADER, JobStatus};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use sqlx::AssertSqlSafe;

/// What a runner tells of itself is written down that seldom (ms).
const CONTACT_EVERY: i64 = 10_000;
/// Seconds between pieces of a log that somebody watches.
const WATCHED: u64 = 1;
/// And of others.
const UNWATCHED: u64 = 3;

/// The body's JSON, whatever its content type says.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    let body = if body.is_empty() { b"{}" } else { body };
    // the error of serde could repeat a token
    serde_json::from_slice(body).map_err(|_| Problem::bad("the body is not the JSON that this route takes"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

/// The runner that asks: by the body's token, else by a header.
pub(super) async fn runner(app: &App, headers: &HeaderMap, token: &str) -> Answer<Runner> {
    let token = match token {
        "" => header(headers, RUNNER_TOKEN_HEADER).or_else(|| header(headers, "PRIVATE-TOKEN")).unwrap_or(""),
        token => token,
    };
    let text = format!("SELECT {} FROM runners WHERE token = $1 AND local = 0", Runner::COLUMNS);
    let query = sqlx::query_as(AssertSqlSafe(text)).bind(token_hash(token));
    let found = query.fetch_optional(&app.db.pool).await?;
    found.ok_or_else(|| {
        Problem::forbidden("no runner has this token: create one on the server, then register again")
    })
}

/// The job that speaks, whose attempt runs: by the header, else by the body's or the query's token.
pub(super) async fn job(app: &App, headers: &HeaderMap, token: &str, id: i64) -> Answer<Job> {
    let token = header(headers, JOB_TOKEN_HEADER).unwrap_or(token);
    if token.is_empty() {
        return Err(Problem::forbidden("the job's token is missing"));
    }
    let job = engine::by_token(app, token).await?;
    if job.id != id {
        return Err(Problem::forbidden("the token is of another job"));
    }
    Ok(job)
}

/// Writes down that a runner was heard of, and what it is.
pub(super) async fn contacted(
    app: &App,
    runner: &Runner,
    system_id: &str,
    info: Option<&Info>,
) -> Answer<()> {
    let system_id: String = system_id.chars().take(64).collect();
    let at = now();
    let told = info.map(|info| serde_json::to_string(info).unwrap_or_default()).unwrap_or_default();
    let recent = runner.contacted_at.is_some_and(|last| at - last < CONTACT_EVERY);
    if recent && (told.is_empty() || told == runner.info) {
        return Ok(());
    }
    let mut tx = app.db.write().await?;
    sqlx::query(
        "UPDATE runners SET contacted_at = $1, info = CASE WHEN $2 = '' THEN info ELSE $3 END WHERE id = $4",
    )
    .bind(at)
    .bind(&told)
    .bind(&told)
    .bind(runner.id)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO runner_machines (runner_id, system_id, info, contacted_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (runner_id, system_id) DO UPDATE SET info = excluded.info, contacted_at = excluded.contacted_at",
    )
    .bind(runner.id)
    .bind(&system_id)
    .bind(&told)
    .bind(at)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(())
}

/// How a job stands, as its runner understands it: one that can't end gracefully is told to abort.
pub(super) async fn status(app: &App, job: &Job) -> Answer<JobStatus> {
    Ok(match job.cancel {
        0 => JobStatus::Running,
        1 if gracefully(app, job).await? => JobStatus::Canceling,
        _ => JobStatus::Canceled,
    })
}

async fn gracefully(app: &App, job: &Job) -> Answer<bool> {
    let machine = "SELECT info FROM runner_machines WHERE runner_id = $1 AND system_id = $2";
    let machine = sqlx::query_scalar(machine).bind(job.runner_id).bind(&job.system_id);
    let info: Option<String> = machine.fetch_optional(&app.db.pool).await?;
    if let Some(info) = info.filter(|info| !info.is_empty()) {
        return Ok(can_cancel(&info));
    }
    let runner = sqlx::query_as("SELECT info, local FROM runners WHERE id = $1").bind(job.runner_id);
    let runner: Option<(String, i64)> = runner.fetch_optional(&app.db.pool).await?;
    Ok(runner.is_some_and(|(info, local)| local != 0 || can_cancel(&info)))
}

fn can_cancel(info: &str) -> bool {
    serde_json::from_str::<Info>(info).is_ok_and(|info| info.can(feature::CANCEL_GRACEFULLY))
}

/// The answer to what a job sent, with the headers that all of them have.
pub(super) async fn answer(app: &App, job: &Job, answer: impl IntoResponse) -> Answer<Response> {
    let mut response = answer.into_response();
    let status = status(app, job).await?;
    let interval = if app.logs.is_watched(job.id) { WATCHED } else { UNWATCHED };
    response.headers_mut().insert(JOB_STATUS_HEADER, HeaderValue::from_static(status.as_str()));
    response.headers_mut().insert(INTERVAL_HEADER, HeaderValue::from(interval));
    Ok(response)
}
