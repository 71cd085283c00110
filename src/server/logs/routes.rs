//! Logs in the API: raw, by line, as events.

use super::index::Section;
use super::read::{self, Lines};
use crate::server::access::Access;
use crate::server::app::Changed;
use crate::server::routes::Routes;
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io::SeekFrom;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::broadcast::Receiver;
use tokio_util::io::ReaderStream;
use utoipa_axum::routes;

/// Lines of one event.
const LINES_OF_EVENT: u64 = 1000;
/// Events are looked for that often although nobody told of a change.
const LOOK: Duration = Duration::from_secs(5);

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(raw))
        .api(Access::Viewer, routes!(by_line))
        .api(Access::Viewer, routes!(events))
}

async fn job(app: &App, project: &str, job: i64) -> Answer<Job> {
    let project = app.project(project).await?;
    app.job(project.id, job).await
}

fn unreadable(error: &std::io::Error) -> Problem {
    Problem::internal("reading the log", error)
}

/// The log's bytes
///
/// Masked, with its ANSI sequences and marks of sections. One `Range: bytes=FROM-[TO]` is honoured.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/log",
    tag = "logs",
    params(("project" = String, Path), ("job" = i64, Path)),
    responses((status = 200, content_type = "text/plain"), (status = 206), (status = 404), (status = 416))
)]
async fn raw(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let job = job(&app, &project, id).await?;
    let mut file = match tokio::fs::File::open(app.logs.path(job.id)).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(text_headers(Body::empty().into_response(), 0));
        }
        Err(error) => return Err(unreadable(&error)),
    };
    let size = file.metadata().await.map_err(|e| unreadable(&e))?.len();
    let Some(asked) = headers.get(header::RANGE).and_then(|text| text.to_str().ok()) else {
        let body = Body::from_stream(ReaderStream::with_capacity(file.take(size), 64 << 10));
        return Ok(text_headers(body.into_response(), size));
    };
    let Some((from, to)) = range(asked, size) else {
        let mut response = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "the log does not reach so far");
        response.message = format!("the log has {size} bytes; ask for `bytes=FROM-TO` within them");
        let mut response = response.into_response();
        response.headers_mut().insert(header::CONTENT_RANGE, header_value(&format!("bytes */{size}")));
        return Ok(response);
    };
    file.seek(SeekFrom::Start(from)).await.map_err(|e| unreadable(&e))?;
    let length = to - from + 1;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 << 10));
    let mut response = text_headers((StatusCode::PARTIAL_CONTENT, body).into_response(), length);
    let content = header_value(&format!("bytes {from}-{to}/{size}"));
    response.headers_mut().insert(header::CONTENT_RANGE, content);
    Ok(response)
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn text_headers(mut response: Response, length: u64) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// First and last byte of `bytes=FROM-TO`, `bytes=FROM-`, `bytes=-LAST`.
fn range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let last = size.checked_sub(1)?;
    let (from, to) = match (from, to) {
        ("", count) => (size.saturating_sub(count.parse().ok().filter(|n| *n > 0)?), last),
        (from, "") => (from.parse().ok()?, last),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.min(last)),
    };
    (from <= to).then_some((from, to))
}

#[derive(Deserialize, utoipa::IntoParams)]
struct LinesQuery {
    /// Number of the first line, from 1. Below zero: so many lines before the end (-100: the last hundred).
    #[serde(default = "first")]
    from: i64,
    /// How many lines, 5,000 at most.
    #[serde(default = "many")]
    count: u64,
    /// Also list the sections of the whole log?
    #[serde(default)]
    sections: bool,
}

fn first() -> i64 {
    1
}

fn many() -> u64 {
    500
}

/// Lines of a log.
#[derive(Serialize, utoipa::ToSchema)]
struct LinesAnswer {
    #[serde(flatten)]
    lines: Lines,
    /// Of the job: when it has ended, nothing more comes.
    status: String,
    /// Sections of the whole log, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    sections: Option<Vec<Section>>,
}

/// Lines of the log, as safe HTML
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/log/lines",
    tag = "logs",
    params(("project" = String, Path), ("job" = i64, Path), LinesQuery),
    responses((status = 200, body = LinesAnswer), (status = 404))
)]
async fn by_line(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
    Query(query): Query<LinesQuery>,
) -> Answer<Json<LinesAnswer>> {
    let job = job(&app, &project, id).await?;
    let logs = app.logs.clone();
    let read = tokio::task::spawn_blocking(move || {
        let from = match u64::try_from(query.from) {
            Ok(from) => from,
            Err(_) => {
                let total = read::lines(logs.dir(), id, 1, 0)?.total;
                total.saturating_sub(query.from.unsigned_abs()) + 1
            }
        };
        let lines = read::lines(logs.dir(), id, from, query.count)?;
        let sections = if query.sections { Some(read::sections(logs.dir(), id)?) } else { None };
        Ok((lines, sections))
    });
    let (lines, sections) =
        read.await.map_err(|e| Problem::internal("reading the log", &e))?.map_err(|e| unreadable(&e))?;
    Ok(Json(LinesAnswer { lines, status: job.status, sections }))
}

#[derive(Deserialize, utoipa::IntoParams)]
struct EventsQuery {
    /// Byte to begin at: `next` of the lines that one has. `Last-Event-ID` counts more.
    #[serde(default)]
    offset: u64,
}

/// The log as it grows
///
/// Server-sent events. `lines`: `{lines, total, size, next}`; a line that has not ended is `partial` and comes again.
/// The id of an event is the byte to go on from, so that a browser that connects again misses nothing. `end`:
/// `{status}`, the job has ended and everything was sent.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/log/events",
    tag = "logs",
    params(("project" = String, Path), ("job" = i64, Path), EventsQuery),
    responses((status = 200, content_type = "text/event-stream"), (status = 404))
)]
async fn events(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let job = job(&app, &project, id).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let follow = Follow {
        changes: app.changes.subscribe(),
        _watching: app.logs.watch(job.id),
        _open: app.meters.stream("log"),
        project: job.project_id,
        job: job.id,
        offset: last.unwrap_or(query.offset),
        partial: None,
        over: false,
        app,
    };
    let alive = KeepAlive::new().interval(Duration::from_secs(20));
    let mut response = Sse::new(stream(follow)).keep_alive(alive).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Somebody who follows a log. Everything is read from the file: a slow reader costs nothing.
struct Follow {
    app: App,
    project: i64,
    job: i64,
    /// Byte after the last whole line that was sent.
    offset: u64,
    /// Length of the unfinished line that was sent.
    partial: Option<u64>,
    over: bool,
    changes: Receiver<Changed>,
    _watching: super::store::Watching,
    _open: crate::server::ops::Stream,
}

fn stream(follow: Follow) -> impl Stream<Item = Result<Event, Infallible>> {
    futures_util::stream::unfold(follow, |mut follow| async move {
        let event = follow.next().await?;
        Some((Ok(event), follow))
    })
}

impl Follow {
    async fn next(&mut self) -> Option<Event> {
        if self.over {
            return None;
        }
        loop {
            // the status first: what a job that has ended wrote is in the file
            let status = self.app.job(self.project, self.job).await.map(|job| job.status);
            match self.read().await {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!("reading the log of job {}: {error}", self.job);
                    return None;
                }
            }
            match status {
                Ok(status) if ended(&status) => {
                    self.over = true;
                    let body = serde_json::json!({ "status": status });
                    return Some(
                        Event::default().event("end").id(self.offset.to_string()).data(body.to_string()),
                    );
                }
                Err(problem) if problem.status == StatusCode::NOT_FOUND => return None,
                _ => {}
            }
            if !self.wait().await {
                return None;
            }
        }
    }

    /// What is new in the file.
    async fn read(&mut self) -> std::io::Result<Option<Event>> {
        let (logs, job, offset) = (self.app.logs.clone(), self.job, self.offset);
        let read = move || read::lines_at(logs.dir(), job, offset, LINES_OF_EVENT);
        let lines = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        let unfinished = lines.lines.last().filter(|line| line.partial).map(|line| lines.size - line.offset);
        let whole = lines.lines.iter().any(|line| !line.partial);
        if !whole && unfinished == self.partial {
            return Ok(None);
        }
        // a log that began again is shorter than what was sent
        self.offset = lines.next;
        self.partial = unfinished;
        let body = serde_json::to_string(&lines)?;
        Ok(Some(Event::default().event("lines").id(self.offset.to_string()).data(body)))
    }

    /// Until something may be new; false: the server ends.
    async fn wait(&mut self) -> bool {
        let late = tokio::time::sleep(LOOK);
        tokio::pin!(late);
        loop {
            tokio::select! {
                () = self.app.ending.cancelled() => return false,
                () = &mut late => return true,
                changed = self.changes.recv() => match changed {
                    Ok(Changed::Log { job }) if job == self.job => return true,
                    Ok(Changed::Pipeline { job: Some(job), .. }) if job == self.job => return true,
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => return true,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return false,
                },
            }
        }
    }
}

/// Does nothing more come?
fn ended(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let table = [
            ("bytes=0-", Some((0, 9))),
            ("bytes=3-5", Some((3, 5))),
            ("bytes=3-500", Some((3, 9))),
            ("bytes=-4", Some((6, 9))),
            ("bytes=-40", Some((0, 9))),
            ("bytes=10-", None),
            ("bytes=5-3", None),
            ("bytes=-0", None),
            ("lines=0-1", None),
            ("bytes=0-1,3-4", None),
        ];
        for (text, expected) in table {
            assert_eq!(range(text, 10), expected, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), None);
    }
}
