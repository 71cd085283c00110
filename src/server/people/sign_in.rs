//! The sign-in page, and signing in by API.

use super::accounts::Account;
use super::{password, sessions, tokens};
use crate::server::access::{Access, Actor};
use crate::server::db::now;
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use utoipa_axum::routes;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .page(Method::GET, "/login", Access::Public, get(show))
        .page(Method::POST, "/login", Access::Public, post(submit))
        .page(Method::POST, "/logout", Access::SignedIn, post(leave))
        .api(Access::Public, routes!(login))
}

/// Where somebody signs in who then wants to see `then`.
pub(in crate::server) fn login_address(then: &str) -> String {
    let mut address = String::from("/login");
    if own_path(then) != "/" {
        address.push_str("?then=");
        address.extend(url::form_urlencoded::byte_serialize(then.as_bytes()));
    }
    address
}

/// A path of ours, and nothing that a browser takes for another site.
pub(super) fn own_path(then: &str) -> &str {
    let ours = then.starts_with('/')
        && !then.starts_with("//")
        && !then.contains(|c: char| c == '\\' || c.is_control());
    if ours { then } else { "/" }
}

#[derive(Default, Deserialize)]
struct Then {
    #[serde(default)]
    then: String,
}

async fn show(State(app): State<App>, actor: Actor, Query(Then { then }): Query<Then>) -> Response {
    if actor.user.is_some() {
        return Redirect::to(own_path(&then)).into_response();
    }
    login_page(&app, &actor, &then, "", "")
}

fn login_page(app: &App, actor: &Actor, then: &str, name: &str, message: &str) -> Response {
    let then_encoded: String = url::form_urlencoded::byte_serialize(then.as_bytes()).collect();
    let oidc = app.config.oidc.as_ref().map(|oidc| &oidc.name);
    let data = json!({
        "then": then, "then_encoded": then_encoded, "name": name, "message": message, "oidc": oidc,
    });
    page(app, actor, "login", "Sign in", &data)
}

#[derive(Deserialize)]
struct SignIn {
    name: String,
    password: String,
    #[serde(default)]
    then: String,
}

async fn submit(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Answer<Response> {
    match with_password(&app, &actor, &form.name, &form.password).await {
        Ok(account) => {
            let mut tx = app.db.write().await?;
            let jar = sessions::begin(&app, &mut tx, account.id, &actor, &headers).await?;
            let who = Actor { name: account.name.clone(), ..actor };
            let detail = json!({ "with": "password" });
            audit(
                &mut tx,
                Audit { actor: &who, action: "session.begin", project: None, subject: &account.name, detail },
            )
            .await?;
            tx.commit().await?;
            Ok((jar, Redirect::to(own_path(&form.then))).into_response())
        }
        Err(problem) if problem.status.is_client_error() => {
            let shown = login_page(&app, &actor, &form.then, &form.name, &problem.message);
            Ok((problem.status, shown).into_response())
        }
        Err(problem) => Err(problem),
    }
}

async fn leave(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let mut tx = app.db.write().await?;
    sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(&actor.session).execute(&mut *tx).await?;
    let entry = Audit {
        actor: &actor,
        action: "session.end",
        project: None,
        subject: &actor.name,
        detail: json!({}),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((sessions::without_cookie(&app), Redirect::to("/login")).into_response())
}

/// The account whose name and password these are.
///
/// # Errors
/// 401 when they are not, the same whatever is wrong; 429 after too many.
pub(super) async fn with_password(app: &App, actor: &Actor, name: &str, given: &str) -> Answer<Account> {
    if let Err(seconds) = app.people.attempts.take(name, &actor.address, now()) {
        let told = format!("too many sign-ins that failed: try again in {} minutes", seconds.div_ceil(60));
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, told));
    }
    let account = Account::by_name(app, name).await?.filter(|account| account.disabled == 0);
    let kept = account.as_ref().and_then(|account| account.password.as_deref());
    match (password::verify(app, kept, given).await?, account) {
        (true, Some(account)) => {
            app.people.attempts.forgive(name, &actor.address);
            Ok(account)
        }
        _ => Err(Problem::new(StatusCode::UNAUTHORIZED, "name or password is wrong")),
    }
}

/// Name and password for an access token.
#[derive(Deserialize, utoipa::ToSchema)]
struct Login {
    /// Of the account.
    name: String,
    /// Its password.
    password: String,
    /// What the token is to be called in lists.
    #[serde(default = "Login::token_name")]
    token_name: String,
    /// Of `read`, `write`, `deploy`, `admin`.
    #[serde(default = "tokens::all_scopes")]
    scopes: Vec<String>,
    /// Days until it expires.
    #[serde(default = "Login::days")]
    days: i64,
}

impl Login {
    fn token_name() -> String {
        "sign-in by API".to_owned()
    }

    fn days() -> i64 {
        1
    }
}

/// Sign in with name and password, and get an access token for a day
#[utoipa::path(post, path = "/api/v1/login", tag = "people", request_body = Login, responses(
    (status = 201, description = "the token, once", body = tokens::Made),
    (status = 401, description = "name or password is wrong"),
    (status = 429, description = "too many have failed"),
))]
async fn login(State(app): State<App>, actor: Actor, Json(login): Json<Login>) -> Answer<Response> {
    let account = with_password(&app, &actor, &login.name, &login.password).await?;
    let who = Actor { name: account.name.clone(), user: Some(account.id), ..actor };
    let new = tokens::NewToken {
        name: login.token_name,
        scopes: login.scopes,
        project: None,
        days: Some(login.days),
    };
    let mut tx = app.db.write().await?;
    let made = tokens::create(&mut tx, &who, account.id, &new).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}
