//! Requests have numbers (`X-Request-Id`, taken over from a proxy that gives one), and a line each in the server's log.

use crate::server::vault::random;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::io::IsTerminal;
use std::time::Instant;

const ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGEST: usize = 64;

/// Stands before all routes.
pub async fn numbered(request: Request, next: Next) -> Response {
    let given = request.headers().get(&ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        id.len() <= LONGEST && !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let id = given.filter(plain).map_or_else(|| crate::digest::hex(&random::<16>()), str::to_owned);
    let (method, began) = (request.method().clone(), Instant::now());
    // the route and not the address: that may hold a one-time secret
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    let took = began.elapsed().as_millis();
    tracing::info!(id, %method, route, status = response.status().as_u16(), took_ms = took, "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(ID, value);
    }
    response
}

/// Sends the server's own log to standard error: for people on a terminal, else as JSON, a line each.
pub fn begin_log() {
    let level = std::env::var("SLIPWAY_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(tracing::Level::INFO);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // whoever has set one already keeps it
    let _ = match std::io::stderr().is_terminal() {
        true => log.try_init(),
        false => log.json().flatten_event(true).try_init(),
    };
}
