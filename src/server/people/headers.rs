//! What every answer tells the browser not to allow.

use crate::server::App;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

static HEADERS: [(HeaderName, &str); 8] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // and not `no-referrer`: with it browsers hide the origin of our own forms
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=(), payment=()"),
    (header::CACHE_CONTROL, "private, no-cache"),
];

/// Around all routes. What a handler has set itself stays.
pub(in crate::server) async fn headers(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let set = response.headers_mut();
    for (name, value) in &HEADERS {
        set.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if app.config.is_https() {
        let year = HeaderValue::from_static("max-age=31536000");
        set.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
    response
}
