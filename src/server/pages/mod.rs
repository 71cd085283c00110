//! The web page: templates filled on the server, a little script for what is live, no build step.
//!
//! A module that shows something fills a template of `templates/` through [`page`]; templates get the layout around
//! them, and texts are escaped unless a template says `{{{`, which only stands before drawings that we made ourselves.
//! Sections with `data-live="TOPIC …"` and an `id` are fetched again when [`events`] names one of their topics.
//!
//! | module | shows |
//! |---|---|
//! | [`home`], [`pipelines`], [`pipeline`], [`job`], [`log_search`] | what runs, and how it went |
//! | [`graph`], [`timing`] | drawings of a pipeline |
//! | [`reports`], [`artifacts`] | what jobs left |
//! | [`environments`], [`approvals`], [`calendar`] | what runs where, what waits for a person, what is frozen or due |
//! | [`badge`] | how a branch is, for other pages |
//! | [`deliveries`], [`queue`], [`settings`], [`health`] | the machine behind it |
//! | [`actions`] | buttons |

mod actions;
mod approvals;
mod artifacts;
mod badge;
mod calendar;
mod deliveries;
mod environments;
mod events;
mod graph;
mod health;
mod home;
mod job;
mod log_search;
mod pipeline;
mod pipelines;
mod place;
mod queue;
mod render;
mod reports;
mod settings;
mod timing;
mod words;

pub use place::Place;
pub use render::{page, problem_page};

use super::access::Access;
use super::routes::Routes;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};

/// Style, scripts, pictures.
const ASSETS: &[(&str, &str, &str)] = &[
    ("/assets/style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("/assets/live.js", "text/javascript; charset=utf-8", include_str!("assets/live.js")),
    ("/assets/log.js", "text/javascript; charset=utf-8", include_str!("assets/log.js")),
    ("/assets/icons.svg", "image/svg+xml", include_str!("assets/icons.svg")),
];

/// Adds this module's routes.
pub fn routes(mut routes: Routes) -> Routes {
    health::started();
    for (path, kind, text) in ASSETS {
        let headers = [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")];
        let answer = get(move || async move { (headers, *text).into_response() });
        routes = routes.page(Method::GET, path, Access::Public, answer);
    }
    let shown = [
        ("/", Access::SignedIn, get(home::home)),
        ("/events", Access::SignedIn, get(events::show)),
        ("/projects", Access::SignedIn, get(home::list)),
        ("/calendar", Access::SignedIn, get(calendar::show)),
        ("/wallboard", Access::SignedIn, get(home::wallboard)),
        ("/environments", Access::SignedIn, get(environments::all)),
        ("/approvals", Access::SignedIn, get(approvals::show)),
        ("/queue", Access::SignedIn, get(queue::show)),
        ("/projects/new", Access::Admin, get(home::new_project)),
        ("/runners", Access::Admin, get(queue::runners)),
        ("/admin", Access::Admin, get(health::show)),
    ];
    let below = [
        ("", Access::Viewer, get(pipelines::project)),
        ("/branches", Access::Viewer, get(pipelines::branches)),
        ("/pipelines/{pipeline}", Access::Viewer, get(pipeline::show)),
        ("/pipelines/{pipeline}/tests", Access::Viewer, get(reports::show)),
        ("/jobs/{job}", Access::Viewer, get(job::show)),
        ("/jobs/{job}/artifacts", Access::Viewer, get(artifacts::show)),
        ("/jobs/{job}/search", Access::Viewer, get(log_search::search)),
        ("/environments", Access::Viewer, get(environments::of_project)),
        ("/environments/{environment}", Access::Viewer, get(environments::one)),
        ("/schedules", Access::Viewer, get(settings::schedules)),
        ("/deliveries", Access::Developer, get(deliveries::list)),
        ("/deliveries/{delivery}", Access::Developer, get(deliveries::show)),
        ("/run", Access::Developer, get(actions::form)),
        ("/settings", Access::Maintainer, get(settings::show)),
    ];
    let done = [
        ("/run", post(actions::run)),
        ("/pipelines/{pipeline}/{action}", post(actions::pipeline)),
        ("/jobs/{job}/{action}", post(actions::job)),
    ];
    routes = routes.page(Method::GET, &in_project("/badge.svg"), Access::Public, get(badge::show));
    for (path, access, handler) in shown {
        routes = routes.page(Method::GET, path, access, handler);
    }
    for (path, access, handler) in below {
        routes = routes.page(Method::GET, &in_project(path), access, handler);
    }
    for (path, handler) in done {
        routes = routes.page(Method::POST, &in_project(path), Access::Developer, handler);
    }
    routes
}

fn in_project(path: &str) -> String {
    format!("/projects/{{project}}{path}")
}
