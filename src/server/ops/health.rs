//! Is the server alive, can it take work, and when did each of its passes run last.

use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// What a busy machine may take.
const SLACK_MS: i64 = 5000;

/// When each pass ran last, by its name.
#[derive(Debug, Default)]
pub struct Beats(Mutex<BTreeMap<&'static str, Beat>>);

#[derive(Clone, Copy, Debug)]
struct Beat {
    at: i64,
    every_ms: i64,
}

impl Beats {
    /// A pass has run, and will run again in `every` seconds at the latest.
    pub fn ran(&self, pass: &'static str, every: u64) {
        let every_ms = i64::try_from(every).unwrap_or(i64::MAX / 4000) * 1000;
        let beat = Beat { at: now(), every_ms };
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(pass, beat);
    }

    fn all(&self) -> Vec<(&'static str, Beat)> {
        let beats = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        beats.iter().map(|(name, beat)| (*name, *beat)).collect()
    }
}

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it can take work.
pub(super) async fn ready(State(app): State<App>) -> Answer<&'static str> {
    if app.ending.is_cancelled() {
        return Err(Problem::unavailable("the server is ending"));
    }
    if app.maintenance.load(Ordering::Relaxed) {
        return Err(Problem::unavailable("the server is in maintenance"));
    }
    sqlx::query("SELECT 1").execute(&app.db.pool).await?;
    if super::retention::free_bytes(&app) < app.config.keep.free_bytes / 2 {
        return Err(Problem::unavailable("the disk is nearly full"));
    }
    Ok("ready\n")
}

/// How a part of the server is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Component {
    name: String,
    /// `ok`, `late` or `failed`.
    state: String,
    /// Milliseconds since the epoch.
    last_ran: Option<i64>,
    /// What is wrong; empty: nothing.
    told: String,
}

/// How each part of the server is
#[utoipa::path(get, path = "/api/v1/health", tag = "operations", responses((status = 200, body = [Component]),
    (status = 503, body = [Component], description = "a part is not well")))]
pub(super) async fn components(State(app): State<App>) -> (StatusCode, Json<Vec<Component>>) {
    let mut found = Vec::new();
    let database = sqlx::query("SELECT 1").execute(&app.db.pool).await.err();
    let told = database.map(|error| error.to_string()).unwrap_or_default();
    let state = if told.is_empty() { "ok" } else { "failed" };
    found.push(Component { name: "database".into(), state: state.into(), last_ran: Some(now()), told });
    let free = super::retention::free_bytes(&app);
    let full = free < app.config.keep.free_bytes / 2;
    let told = if full { format!("{free} bytes are free") } else { String::new() };
    let state = if full { "failed" } else { "ok" };
    found.push(Component { name: "disk".into(), state: state.into(), last_ran: Some(now()), told });
    for (name, beat) in app.beats.all() {
        let late = now() - beat.at > 2 * beat.every_ms + SLACK_MS;
        let told = if late { "it should have run again by now".to_owned() } else { String::new() };
        let state = if late { "late" } else { "ok" };
        found.push(Component { name: name.into(), state: state.into(), last_ran: Some(beat.at), told });
    }
    let well = found.iter().all(|component| component.state == "ok");
    (if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(found))
}
