//! GitLab's Runner API, served: any gitlab-runner, and `ci runner`, takes this server's jobs.
//!
//! Every route checks a token of its own (of a runner, of a job's attempt). What is our own trouble is 503 and never
//! 403: three 403s in a row send a gitlab-runner to sleep for an hour.
//!
//! | module | what |
//! |---|---|
//! | `identity` | tokens, who asks |
//! | `register` | runners come and go |
//! | `request` | a job is asked for; held until there is one |
//! | [`job_json`] | a job as it is handed out |
//! | `wanted` | its artifacts and caches, as runners want them told |
//! | [`dependencies`] | what it gets of other jobs |
//! | `trace` | its log comes in |
//! | `update` | it says how it stands, and ends |
//! | `upload`, `download` | artifacts |
//! | [`git`] | its sources |

pub mod dependencies;
mod download;
pub mod git;
mod identity;
pub mod job_json;
mod register;
mod request;
mod trace;
mod update;
mod upload;
mod wanted;

use super::access::Access;
use super::routes::Routes;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::{delete, get, patch, post, put};

/// Bytes of a request that holds no log and no artifacts.
const JSON_LIMIT: usize = 256 << 10;
/// Bytes of a piece of log.
const TRACE_LIMIT: usize = 8 << 20;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    let small = DefaultBodyLimit::max(JSON_LIMIT);
    let public = Access::Public;
    routes
        .page(Method::POST, "/api/v4/runners", public, post(register::register).layer(small))
        .page(Method::DELETE, "/api/v4/runners", public, delete(register::unregister).layer(small))
        .page(Method::POST, "/api/v4/runners/verify", public, post(register::verify).layer(small))
        .page(Method::DELETE, "/api/v4/runners/managers", public, delete(register::forget).layer(small))
        .page(
            Method::POST,
            "/api/v4/runners/reset_authentication_token",
            public,
            post(register::reset).layer(small),
        )
        .page(Method::POST, "/api/v4/jobs/request", public, post(request::request).layer(small))
        .page(Method::PUT, "/api/v4/jobs/{job}", public, put(update::update).layer(small))
        .page(
            Method::PATCH,
            "/api/v4/jobs/{job}/trace",
            public,
            patch(trace::append).layer(DefaultBodyLimit::max(TRACE_LIMIT)),
        )
        .page(
            Method::POST,
            "/api/v4/jobs/{job}/artifacts",
            public,
            post(upload::upload).layer(DefaultBodyLimit::disable()),
        )
        .page(Method::GET, "/api/v4/jobs/{job}/artifacts", public, get(download::download))
        .page(Method::GET, "/git/{*path}", public, get(git::advertise))
        .page(
            Method::POST,
            "/git/{*path}",
            public,
            post(git::upload_pack).layer(DefaultBodyLimit::max(git::REQUEST_LIMIT)),
        )
}
