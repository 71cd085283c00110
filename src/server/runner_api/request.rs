//! `POST jobs/request`: a job is asked for, and the question is held until there is one.

use super::identity::{contacted, read, runner};
use super::job_json;
use crate::server::{Answer, App};
use crate::wire::update::{JobRequest, LAST_UPDATE_HEADER};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::time::Instant;

/// A job may have become free without our being told (a lease that ended).
const LOOK: Duration = Duration::from_secs(5);

pub(super) async fn request(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer<Response> {
    let asked: JobRequest = read(&body)?;
    let first = runner(&app, &headers, asked.token.expose()).await?;
    contacted(&app, &first, &asked.system_id, Some(&asked.info)).await?;
    let system_id: String = asked.system_id.chars().take(64).collect();
    let until = Instant::now() + Duration::from_secs(app.config.long_poll_seconds);
    loop {
        // before looking: a job that comes in between wakes us
        let mut woken = std::pin::pin!(app.wake.queue.notified());
        woken.as_mut().enable();
        // it may have been paused, or removed, while it was held
        let mut runner = runner(&app, &headers, asked.token.expose()).await?;
        // several machines may share the token: what counts is what this one can do
        runner.info = serde_json::to_string(&asked.info).unwrap_or_default();
        if runner.paused == 0
            && let Some(job) =
                job_json::next(&app, &runner, &system_id, &job_json::base(&app, &headers)).await?
        {
            return Ok((StatusCode::CREATED, Json(job)).into_response());
        }
        let now = Instant::now();
        if now >= until || app.ending.is_cancelled() {
            let stamp = crate::server::db::now().to_string();
            return Ok((StatusCode::NO_CONTENT, [(LAST_UPDATE_HEADER, stamp)]).into_response());
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep_until(until.min(now + LOOK)) => {}
            () = app.ending.cancelled() => {}
        }
    }
}
