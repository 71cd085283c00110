//! `PATCH jobs/ID/trace`: the log comes in.

use super::dependencies::planned;
use super::identity::{answer, job};
use crate::server::app::Changed;
use crate::server::db::now;
use crate::server::engine;
use crate::server::logs::store::LIMIT;
use crate::server::logs::{Appended, Writer};
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use crate::wire::update::{ContentRange, JOB_TOKEN_HEADER, Stored};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) async fn append(
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let job = job(&app, &headers, "", id).await?;
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let range = range
        .and_then(ContentRange::of)
        .ok_or_else(|| Problem::bad("the header `Content-Range` is missing or is not `START-END`"))?;
    let writer = writer(&app, &headers, &job).await?;
    let appended = with(&app, id, writer, move |writer| writer.append(range.start, &body, now())).await?;
    engine::heard(&app, &job).await?;
    match appended {
        Appended::Taken(size) => {
            app.changed(Changed::Log { job: id });
            answer(&app, &job, (StatusCode::ACCEPTED, [(header::RANGE, Stored(size).to_string())])).await
        }
        Appended::Elsewhere(size) => {
            let stored = [(header::RANGE, Stored(size).to_string())];
            answer(&app, &job, (StatusCode::RANGE_NOT_SATISFIABLE, stored)).await
        }
        Appended::TooBig => {
            let message =
                format!("its log has more than {} MiB: let it write less, or into artifacts", LIMIT >> 20);
            let reason = FailureReason::DataIntegrityFailure;
            let outcome = Outcome::Failed { reason, exit_code: None, message: Some(message.clone()) };
            engine::finished(&app, id, outcome).await?;
            app.logs.close(id);
            Err(Problem::forbidden(message))
        }
    }
}

/// The job's log, opened if it is not; then with all secrets that the server knows of the job.
pub(super) async fn writer(app: &App, headers: &HeaderMap, job: &Job) -> Answer<Arc<Mutex<Writer>>> {
    if let Some(writer) = app.logs.writer(job.id) {
        return Ok(writer);
    }
    let context = engine::context(app, job.id).await?;
    let masked = planned(&context)?.environment_variables.iter().filter(|variable| variable.masked);
    let mut secrets: Vec<String> = masked.map(|variable| variable.value.clone()).collect();
    let token = headers.get(JOB_TOKEN_HEADER).and_then(|token| token.to_str().ok());
    secrets.extend(token.map(str::to_owned));
    let (logs, id) = (app.logs.clone(), job.id);
    let opened = tokio::task::spawn_blocking(move || logs.open(id, &secrets)).await;
    let opened = opened.map_err(|e| Problem::internal("opening the log", &e))?;
    opened.map_err(|error| unwritable(id, &error))
}

/// Works on a log. After an error it is opened anew by who comes next, as the files are.
pub(super) async fn with<T: Send + 'static>(
    app: &App,
    job: i64,
    writer: Arc<Mutex<Writer>>,
    work: impl FnOnce(&mut Writer) -> std::io::Result<T> + Send + 'static,
) -> Answer<T> {
    let done =
        tokio::task::spawn_blocking(move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner)));
    let done = done.await.map_err(|e| std::io::Error::other(e.to_string())).and_then(|done| done);
    done.map_err(|error| {
        app.logs.close(job);
        unwritable(job, &error)
    })
}

/// A full disk is our trouble: the runner keeps the log and tries again.
fn unwritable(job: i64, error: &std::io::Error) -> Problem {
    tracing::error!("writing the log of job {job}: {error}");
    Problem::unavailable("the log can't be written now; try again")
}
