//! Who asks, and what they may do. Checked in one place, before any handler: see [`super::routes`].

use super::routes::Guard;
use super::{App, Problem};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What a route asks of whoever uses it. Each level includes those above it in this list, of its project: the
/// project is the route's `{project}` (number, or path with `%2F`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing: sign-in pages, health; and routes that check a signature or a token of their own (hooks, runners).
    Public,
    /// Any account.
    SignedIn,
    /// Sees the project.
    Viewer,
    /// Runs, retries, cancels pipelines.
    Developer,
    /// Promotes to, rolls back, locks the environment `{environment}`.
    Deployer,
    /// Settings, secrets, members of the project.
    Maintainer,
    /// Everything, and the server itself.
    Admin,
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// They did not.
    Nothing,
    /// A cookie.
    Session,
    /// `Authorization: Bearer`, or `PRIVATE-TOKEN`.
    Token,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Row of `users`; none: nobody signed in.
    pub user: Option<i64>,
    /// For records and greetings; `anonymous`.
    pub name: String,
    /// May do everything.
    pub admin: bool,
    /// How they proved it.
    pub via: Via,
    /// What a token is limited to; empty with a session.
    pub scopes: Vec<String>,
    /// The project that a token is limited to.
    pub only_project: Option<i64>,
    /// Where they ask from.
    pub address: String,
}

impl Actor {
    /// Nobody.
    pub fn anonymous() -> Actor {
        Actor {
            user: None,
            name: "anonymous".to_owned(),
            admin: false,
            via: Via::Nothing,
            scopes: Vec::new(),
            only_project: None,
            address: String::new(),
        }
    }

    /// The server itself: schedules, retention, timers.
    pub fn system() -> Actor {
        Actor { name: "system".to_owned(), ..Actor::anonymous() }
    }
}

impl FromRequestParts<App> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Actor, Problem> {
        Ok(parts.extensions.get::<Actor>().cloned().unwrap_or_else(Actor::anonymous))
    }
}

/// Stands before every route.
pub(super) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    // until there are accounts, only public routes answer
    if guard.access != Access::Public {
        return Problem::unauthorized().into_response();
    }
    request.extensions_mut().insert(Actor::anonymous());
    next.run(request).await
}
