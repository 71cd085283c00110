//! `GET /events`: what changed, as it changes, to whoever looks at a page. An event names topics; the page fetches
//! the parts of itself that show one of them again. Nothing else travels here, so nothing can be missed for good: a
//! page that was away fetches all of them.

use super::place::{self, SEEN};
use crate::server::access::Actor;
use crate::server::app::Changed;
use crate::server::ops::Stream;
use crate::server::{Answer, App};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// A comment so often tells proxies and browsers that the line is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// What may be seen is asked again after so long.
const REMEMBERED: Duration = Duration::from_secs(60);

struct Listener {
    app: App,
    actor: Actor,
    changes: Receiver<Changed>,
    seen: HashMap<i64, (bool, Instant)>,
    greeted: bool,
    _open: Stream,
}

/// `GET /events`
pub(super) async fn show(State(app): State<App>, actor: Actor) -> Response {
    let changes = app.changes.subscribe();
    let _open = app.meters.stream("page");
    let listener = Listener { app, actor, changes, seen: HashMap::new(), greeted: false, _open };
    let body = stream::unfold(listener, |mut listener| async move {
        let text = listener.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), listener))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

impl Listener {
    /// The next words; none when the server ends.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            self.greeted = true;
            return Some("retry: 2000\n\n".to_owned());
        }
        loop {
            let ending = self.app.ending.clone();
            let changed = tokio::select! {
                () = ending.cancelled() => return None,
                () = tokio::time::sleep(HEARTBEAT) => return Some(": still here\n\n".to_owned()),
                changed = self.changes.recv() => changed,
            };
            match changed {
                Ok(changed) => {
                    if let Some(topics) = self.topics(&changed).await {
                        return Some(format!("data: {topics}\n\n"));
                    }
                }
                Err(RecvError::Lagged(_)) => return Some("data: all\n\n".to_owned()),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// What the change is called in pages, if it may be seen.
    async fn topics(&mut self, changed: &Changed) -> Option<String> {
        let (project, topics) = match changed {
            Changed::Pipeline { project, pipeline, job } => {
                let job = job.map(|job| format!(" job:{job}")).unwrap_or_default();
                (*project, format!("pipelines project:{project} pipeline:{pipeline}{job}"))
            }
            // the log view has a stream of its own
            Changed::Log { .. } => return None,
            Changed::Delivery { project } => (*project, format!("deliveries:{project}")),
            Changed::Environment { project } => (*project, format!("environments environments:{project}")),
        };
        self.sees(project).await.then_some(topics)
    }

    async fn sees(&mut self, project: i64) -> bool {
        if let Some((seen, at)) = self.seen.get(&project)
            && at.elapsed() < REMEMBERED
        {
            return *seen;
        }
        // who can't be asked about is not shown
        let seen = may_see(&self.app, &self.actor, project).await.unwrap_or(false);
        self.seen.insert(project, (seen, Instant::now()));
        seen
    }
}

async fn may_see(app: &App, actor: &Actor, project: i64) -> Answer<bool> {
    let (admin, user, only) = place::seen_by(actor);
    let text = format!("SELECT COUNT(*) FROM projects p WHERE {SEEN} AND p.id = $4");
    let (count,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(admin)
        .bind(user)
        .bind(only)
        .bind(project)
        .fetch_one(&app.db.pool)
        .await?;
    Ok(count > 0)
}
