//! The web page: templates filled on the server, a little script for what is live, no build step.
//!
//! A module that shows something fills a template of `templates/` through [`page`]; templates get the layout around
//! them, and texts are escaped unless a template says `{{{`, which only the log view does with what it made itself.

mod render;

pub use render::{page, problem_page};

use super::access::Access;
use super::routes::Routes;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// Style and script.
const ASSETS: &[(&str, &str, &str)] = &[
    ("/assets/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/assets/live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
];

/// Adds this module's routes.
pub fn routes(mut routes: Routes) -> Routes {
    for (path, kind, text) in ASSETS {
        let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")];
        let answer = get(move || async move { (headers, *text).into_response() });
        routes = routes.page(Method::GET, path, Access::Public, answer);
    }
    routes
}
