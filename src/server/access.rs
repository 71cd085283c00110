//! Who asks, and what they may do. Checked in one place, before any handler: see [`super::routes`].

use super::people::{self, Rights};
use super::routes::Guard;
use super::{Answer, App, Problem, pages};
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use std::fmt;

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
#[derive(Clone)]
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
    /// With a token: its row of `tokens`.
    pub token: Option<i64>,
    /// Where they ask from.
    pub address: String,
    /// With a session: what forms (field `csrf`) and scripts (header `X-CSRF-Token`) must send back.
    pub csrf: String,
    /// With a session: its row of `sessions`.
    pub session: String,
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
            token: None,
            address: String::new(),
            csrf: String::new(),
            session: String::new(),
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

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Actor").field("name", &self.name).field("via", &self.via).finish_non_exhaustive()
    }
}

/// Stands before every route: finds out who asks, refuses who may not, and what other sites make a browser send.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let for_people = !guard.api && accepts_html(request.headers());
    let (mut parts, body) = request.into_parts();
    let (actor, admitted) = match people::identify(&guard.app, &parts).await {
        Ok(actor) => {
            let admitted = admit(&guard, &actor, &mut parts).await;
            (actor, admitted)
        }
        // a runner's or a job's token, perhaps: public routes look for themselves
        Err(problem) => {
            let admitted = if guard.access == Access::Public { Ok(()) } else { Err(problem) };
            let address = people::address(&guard.app.config, &parts);
            (Actor { address, ..Actor::anonymous() }, admitted)
        }
    };
    let asked = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let safe = parts.method.is_safe();
    let admitted = match admitted {
        Ok(()) => people::same_site(&guard, &actor, parts, body).await,
        Err(problem) => Err(problem),
    };
    let response = match admitted {
        Ok(mut request) => {
            request.extensions_mut().insert(actor.clone());
            pass(request, next).await
        }
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED && for_people && safe => {
            return Redirect::to(&people::login_address(&asked)).into_response();
        }
        Err(problem) => problem.into_response(),
    };
    match response.extensions().get::<Problem>() {
        Some(problem) if for_people => pages::problem_page(&guard.app, &actor, problem),
        _ => response,
    }
}

#[cfg(not(test))]
async fn pass(request: Request, next: Next) -> Response {
    next.run(request).await
}

/// Put into a request by tests that want to know whether the guard lets it pass, and nothing else.
#[cfg(test)]
#[derive(Clone)]
pub(super) struct Probe;

#[cfg(test)]
async fn pass(request: Request, next: Next) -> Response {
    if request.extensions().get::<Probe>().is_some() {
        return StatusCode::IM_A_TEAPOT.into_response();
    }
    next.run(request).await
}

async fn admit(guard: &Guard, actor: &Actor, parts: &mut Parts) -> Answer<()> {
    let access = guard.access;
    if access == Access::Public {
        return Ok(());
    }
    if actor.user.is_none() {
        return Err(Problem::unauthorized());
    }
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|_| Problem::not_found("page"))?;
    let param = |name: &str| params.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
    match param("project") {
        Some(name) => {
            let project = guard.app.project(name).await?;
            let rights = people::rights(&guard.app, actor, project.id).await?;
            if !rights.allows(Access::Viewer) {
                return Err(Problem::not_found("project"));
            }
            project_access(access, &rights, param("environment"))?;
        }
        None => server_access(access, actor)?,
    }
    in_scope(access, actor, &parts.method, param("project").is_some())
}

fn project_access(access: Access, rights: &Rights, environment: Option<&str>) -> Answer<()> {
    let enough = match access {
        // a route without an environment is for who may deploy to all of them
        Access::Deployer => rights.deploys(environment.unwrap_or("*")),
        access => rights.allows(access),
    };
    if enough { Ok(()) } else { Err(Problem::forbidden(refusal(access))) }
}

fn server_access(access: Access, actor: &Actor) -> Answer<()> {
    // what names no project can't be asked of a project's role
    if access <= Access::SignedIn || actor.admin { Ok(()) } else { Err(Problem::forbidden(refusal(access))) }
}

fn refusal(access: Access) -> &'static str {
    match access {
        Access::Public | Access::SignedIn | Access::Viewer => "you may not see this",
        Access::Developer => "this needs the role developer in this project; ask one of its maintainers",
        Access::Deployer => {
            "this needs the role deployer of this environment; ask one of the project's maintainers"
        }
        Access::Maintainer => "this needs the role maintainer in this project; ask one of its maintainers",
        Access::Admin => "this is for administrators of the server",
    }
}

/// A token may do less than its person.
fn in_scope(access: Access, actor: &Actor, method: &Method, in_project: bool) -> Answer<()> {
    if actor.via != Via::Token {
        return Ok(());
    }
    let scope = match access {
        Access::Public => return Ok(()),
        Access::Admin => "admin",
        Access::Deployer => "deploy",
        _ if method.is_safe() => "read",
        Access::Maintainer => "admin",
        Access::SignedIn | Access::Viewer | Access::Developer => "write",
    };
    if !actor.has_scope(scope) {
        let told = format!("this needs an access token with the scope `{scope}`");
        return Err(Problem::forbidden(told));
    }
    let elsewhere = !in_project && (access == Access::Admin || !method.is_safe());
    if actor.only_project.is_some() && elsewhere {
        return Err(Problem::forbidden("this access token is limited to a project"));
    }
    Ok(())
}

/// May somebody do in a project what `access` says, in that environment if it is about one? For handlers that ask for
/// more than their route does.
///
/// # Errors
/// The database does not answer.
pub async fn allows(
    app: &App,
    actor: &Actor,
    project: i64,
    access: Access,
    environment: Option<&str>,
) -> Answer<bool> {
    let rights = people::rights(app, actor, project).await?;
    // of a token as for what changes something
    let scoped = access <= Access::Viewer || in_scope(access, actor, &Method::POST, true).is_ok();
    Ok(scoped && project_access(access, &rights, environment).is_ok())
}

impl Actor {
    /// May they do what needs this scope? People with a session may all that they may.
    pub fn has_scope(&self, scope: &str) -> bool {
        // whatever a token is for, it may look
        let scoped = |s: &String| s == scope || s == "admin" || scope == "read";
        self.via != Via::Token || self.scopes.iter().any(scoped)
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepts.is_some_and(|accepts| accepts.contains("text/html"))
}
