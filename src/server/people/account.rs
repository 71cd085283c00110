//! One's own account: password, access tokens, sessions.

use super::accounts::Account;
use super::record::time;
use super::{links, password, sessions, sign_in, tokens};
use crate::server::access::{Access, Actor, Via};
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page(Method::GET, "/account", Access::SignedIn, get(show))
        .page(Method::POST, "/account/password", Access::SignedIn, post(change_password))
        .page(Method::POST, "/account/tokens", Access::SignedIn, post(create_token))
        .page(Method::POST, "/account/tokens/{token}/revoke", Access::SignedIn, post(revoke_token))
        .page(Method::POST, "/account/sessions/{session}/end", Access::SignedIn, post(end_session))
}

#[derive(Default, Deserialize)]
struct Done {
    #[serde(default)]
    done: String,
}

async fn show(State(app): State<App>, actor: Actor, Query(done): Query<Done>) -> Answer<Response> {
    let done = match done.done.as_str() {
        "password" => "The password is changed; other browsers are signed out.",
        _ => "",
    };
    shown(&app, &actor, &json!({ "done": done })).await
}

async fn shown(app: &App, actor: &Actor, said: &Value) -> Answer<Response> {
    let user = actor.user.ok_or_else(Problem::unauthorized)?;
    let account = Account::by_id(app, user).await?;
    let tokens = tokens::list(app, Some(user)).await?;
    let tokens: Vec<Value> = tokens.iter().filter(|t| t.revoked_at.is_none()).map(token).collect();
    let sessions: Vec<Value> = sessions::list(app, actor).await?.iter().map(session).collect();
    let roles: Vec<(Option<String>, String, String)> = sqlx::query_as(
        "SELECT p.path, m.role, m.environment FROM members m LEFT JOIN projects p ON p.id = m.project_id \
         WHERE m.user_id = $1 ORDER BY p.path",
    )
    .bind(user)
    .fetch_all(&app.db.pool)
    .await?;
    let roles: Vec<Value> = roles
        .into_iter()
        .map(|(project, role, environment)| json!({ "project": project, "role": role, "environment": environment }))
        .collect();
    let data = json!({
        "account": { "name": account.name, "display": account.display, "email": account.email },
        "has_password": account.password.is_some(), "tokens": tokens, "sessions": sessions, "roles": roles,
        "said": said, "url": app.config.public_url(),
    });
    Ok(page(app, actor, "account", "Your account", &data))
}

fn token(token: &tokens::Token) -> Value {
    json!({
        "id": token.id, "name": token.name, "prefix": token.prefix, "scopes": token.scopes.0.join(", "),
        "project": token.project_id, "expires": token.expires_at.map(time), "used": token.used_at.map(time),
    })
}

fn session(session: &sessions::Listed) -> Value {
    json!({
        "id": session.id, "address": session.address, "agent": session.agent, "current": session.current,
        "since": time(session.created_at),
    })
}

#[derive(Deserialize)]
struct Passwords {
    current: String,
    new: String,
}

async fn change_password(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Form(form): Form<Passwords>,
) -> Answer<Response> {
    if actor.via != Via::Session {
        return Err(Problem::forbidden("a password is changed by a person, on the page"));
    }
    let account = match sign_in::with_password(&app, &actor, &actor.name, &form.current).await {
        Ok(account) => account,
        Err(problem) if problem.status == axum::http::StatusCode::UNAUTHORIZED => {
            return shown(&app, &actor, &json!({ "wrong": "This is not your current password." })).await;
        }
        Err(problem) => return Err(problem),
    };
    if let Err(problem) = password::acceptable(&form.new) {
        return shown(&app, &actor, &json!({ "wrong": problem.message })).await;
    }
    let hash = password::hash(&app, &form.new).await?;
    let mut tx = app.db.write().await?;
    links::set_password(&mut tx, account.id, &hash).await?;
    let jar = sessions::begin(&app, &mut tx, account.id, &actor, &headers).await?;
    let detail = json!({});
    let entry =
        Audit { actor: &actor, action: "user.password", project: None, subject: &account.name, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((jar, Redirect::to("/account?done=password")).into_response())
}

#[derive(Deserialize)]
struct NewToken {
    name: String,
    #[serde(default)]
    read: String,
    #[serde(default)]
    write: String,
    #[serde(default)]
    deploy: String,
    #[serde(default)]
    admin: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    days: String,
}

async fn create_token(State(app): State<App>, actor: Actor, Form(form): Form<NewToken>) -> Answer<Response> {
    let user = actor.user.ok_or_else(Problem::unauthorized)?;
    let boxes =
        [("read", &form.read), ("write", &form.write), ("deploy", &form.deploy), ("admin", &form.admin)];
    let project = match form.project.trim() {
        "" => None,
        path => Some(super::visible(&app, &actor, path).await?),
    };
    let days = match form.days.trim() {
        "" => None,
        days => Some(days.parse().map_err(|_| Problem::bad("days until a token expires are a number"))?),
    };
    let new = tokens::NewToken {
        name: form.name,
        scopes: boxes
            .iter()
            .filter(|(_, given)| *given == "1")
            .map(|(scope, _)| (*scope).to_owned())
            .collect(),
        project,
        days,
    };
    let mut tx = app.db.write().await?;
    let made = tokens::create(&mut tx, &actor, user, &new).await?;
    tx.commit().await?;
    shown(&app, &actor, &json!({ "token": made.token, "name": new.name })).await
}

#[derive(Default, Deserialize)]
struct Why {
    #[serde(default)]
    reason: String,
}

async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path(token): Path<i64>,
    Form(why): Form<Why>,
) -> Answer<Redirect> {
    tokens::revoke(&app, &actor, token, &why.reason).await?;
    Ok(Redirect::to("/account"))
}

async fn end_session(State(app): State<App>, actor: Actor, Path(session): Path<String>) -> Answer<Redirect> {
    sessions::end(&app, &actor, &session).await?;
    Ok(Redirect::to("/account"))
}
