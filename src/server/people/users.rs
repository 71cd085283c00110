//! Accounts, as administrators see them.

use super::accounts::{self, Account, NewAccount};
use super::{links, members, password};
use crate::server::access::{Access, Actor};
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Form, Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::routes;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::SignedIn, routes!(read_me))
        .api(Access::Admin, routes!(list_users))
        .api(Access::Admin, routes!(create_user))
        .api(Access::Admin, routes!(change_user))
        .api(Access::Admin, routes!(link_user))
        .page(Method::GET, "/admin/users", Access::Admin, get(show))
        .page(Method::POST, "/admin/users", Access::Admin, post(submit))
        .page(Method::POST, "/admin/users/{user}", Access::Admin, post(change))
}

/// An account.
#[derive(Serialize, utoipa::ToSchema)]
struct User {
    id: i64,
    name: String,
    display: String,
    email: String,
    admin: bool,
    disabled: bool,
    /// Has it a password here? Else it signs in elsewhere, or has not yet.
    password: bool,
    /// Does it sign in by OpenID Connect?
    oidc: bool,
    /// Milliseconds since the epoch.
    created_at: i64,
    seen_at: Option<i64>,
}

impl From<Account> for User {
    fn from(account: Account) -> User {
        User {
            id: account.id,
            name: account.name,
            display: account.display,
            email: account.email,
            admin: account.admin == 1,
            disabled: account.disabled == 1,
            password: account.password.is_some(),
            oidc: account.subject.is_some(),
            created_at: account.created_at,
            seen_at: account.seen_at,
        }
    }
}

/// Who asks.
#[derive(Serialize, utoipa::ToSchema)]
struct Me {
    name: String,
    admin: bool,
    /// Of the access token; empty with a session, which may all that the person may.
    scopes: Vec<String>,
    /// The only project that the access token is for.
    only_project: Option<i64>,
}

/// Who am I?
#[utoipa::path(get, path = "/api/v1/user", tag = "people", responses((status = 200, body = Me)))]
async fn read_me(actor: Actor) -> Json<Me> {
    Json(Me { name: actor.name, admin: actor.admin, scopes: actor.scopes, only_project: actor.only_project })
}

/// All accounts
#[utoipa::path(get, path = "/api/v1/users", tag = "people", responses((status = 200, body = Vec<User>)))]
async fn list_users(State(app): State<App>) -> Answer<Json<Vec<User>>> {
    Ok(Json(all(&app).await?))
}

async fn all(app: &App) -> Answer<Vec<User>> {
    let accounts: Vec<Account> =
        sqlx::query_as("SELECT * FROM users ORDER BY name").fetch_all(&app.db.pool).await?;
    Ok(accounts.into_iter().map(User::from).collect())
}

/// An account to be made.
#[derive(Deserialize, utoipa::ToSchema)]
struct NewUser {
    /// Lower-case letters, digits, `.`, `_`, `-`.
    name: String,
    /// As people write it.
    #[serde(default)]
    display: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    admin: bool,
    /// None: the answer holds a one-time address where the person sets one.
    #[serde(default)]
    password: Option<String>,
}

/// An account that was made.
#[derive(Serialize, utoipa::ToSchema)]
struct MadeUser {
    id: i64,
    /// One-time address for the person, good for a week.
    link: Option<String>,
}

/// Make an account
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = NewUser, responses(
    (status = 201, body = MadeUser), (status = 409, description = "the name is taken"),
))]
async fn create_user(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewUser>,
) -> Answer<(StatusCode, Json<MadeUser>)> {
    Ok((StatusCode::CREATED, Json(create(&app, &actor, new).await?)))
}

async fn create(app: &App, actor: &Actor, new: NewUser) -> Answer<MadeUser> {
    let hash = match new.password {
        Some(given) => Some(password::hash(app, &given).await?),
        None => None,
    };
    let has_password = hash.is_some();
    let display = if new.display.is_empty() { new.name.clone() } else { new.display };
    let account = NewAccount {
        display,
        email: new.email,
        password: hash,
        subject: None,
        admin: new.admin,
        name: new.name,
    };
    let mut tx = app.db.write().await?;
    let id = accounts::create(&mut tx, actor, &account).await?;
    let link = match has_password {
        true => None,
        false => Some(links::create(app, &mut tx, actor, id, &account.name).await?),
    };
    tx.commit().await?;
    Ok(MadeUser { id, link })
}

/// What to change of an account.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
struct Change {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<bool>,
    /// A disabled account has no sessions, and its access tokens open nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
}

/// Change an account, disable it or let it in again
#[utoipa::path(patch, path = "/api/v1/users/{user}", tag = "people", request_body = Change,
    params(("user" = i64, Path, description = "its number")),
    responses((status = 200, body = User), (status = 409, description = "it is the last administrator")))]
async fn change_user(
    State(app): State<App>,
    actor: Actor,
    Path(user): Path<i64>,
    Json(change): Json<Change>,
) -> Answer<Json<User>> {
    apply(&app, &actor, user, &change).await?;
    Ok(Json(Account::by_id(&app, user).await?.into()))
}

async fn apply(app: &App, actor: &Actor, user: i64, change: &Change) -> Answer<()> {
    let account = Account::by_id(app, user).await?;
    let number = |yes: Option<bool>, before: i64| yes.map_or(before, i64::from);
    let (admin, disabled) = (number(change.admin, account.admin), number(change.disabled, account.disabled));
    let mut tx = app.db.write().await?;
    sqlx::query("UPDATE users SET display = $1, email = $2, admin = $3, disabled = $4 WHERE id = $5")
        .bind(change.display.as_ref().unwrap_or(&account.display))
        .bind(change.email.as_ref().unwrap_or(&account.email))
        .bind(admin)
        .bind(disabled)
        .bind(user)
        .execute(&mut *tx)
        .await?;
    let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM users WHERE admin = 1 AND disabled = 0")
        .fetch_one(&mut *tx)
        .await?;
    if left == 0 {
        return Err(Problem::conflict(format!("`{}` is the last administrator", account.name)));
    }
    if disabled == 1 {
        sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(user).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM links WHERE user_id = $1").bind(user).execute(&mut *tx).await?;
    }
    let detail = json!(change);
    audit(&mut tx, Audit { actor, action: "user.change", project: None, subject: &account.name, detail })
        .await?;
    tx.commit().await?;
    Ok(())
}

/// A one-time address.
#[derive(Serialize, utoipa::ToSchema)]
struct Link {
    /// Where the person sets a password and is signed in; good for a week.
    link: String,
}

/// A one-time address where the person sets a new password
#[utoipa::path(post, path = "/api/v1/users/{user}/link", tag = "people",
    params(("user" = i64, Path, description = "its number")), responses((status = 201, body = Link)))]
async fn link_user(
    State(app): State<App>,
    actor: Actor,
    Path(user): Path<i64>,
) -> Answer<(StatusCode, Json<Link>)> {
    Ok((StatusCode::CREATED, Json(Link { link: link(&app, &actor, user).await? })))
}

async fn link(app: &App, actor: &Actor, user: i64) -> Answer<String> {
    let account = Account::by_id(app, user).await?;
    if account.disabled == 1 {
        return Err(Problem::conflict(format!("the account `{}` is disabled", account.name)));
    }
    let mut tx = app.db.write().await?;
    let link = links::create(app, &mut tx, actor, user, &account.name).await?;
    tx.commit().await?;
    Ok(link)
}

async fn show(State(app): State<App>, actor: Actor) -> Answer<Response> {
    shown(&app, &actor, None).await
}

async fn shown(app: &App, actor: &Actor, link: Option<(&str, &str)>) -> Answer<Response> {
    let data = json!({
        "users": all(app).await?,
        "members": members::list(app, None).await?,
        "link": link.map(|(name, link)| json!({ "name": name, "address": link })),
    });
    Ok(page(app, actor, "users", "People", &data))
}

#[derive(Deserialize)]
struct NewForm {
    name: String,
    #[serde(default)]
    display: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    admin: String,
}

async fn submit(State(app): State<App>, actor: Actor, Form(form): Form<NewForm>) -> Answer<Response> {
    let new = NewUser {
        name: form.name.clone(),
        display: form.display,
        email: form.email,
        admin: form.admin == "1",
        password: None,
    };
    let made = create(&app, &actor, new).await?;
    shown(&app, &actor, made.link.as_deref().map(|link| (form.name.as_str(), link))).await
}

#[derive(Deserialize)]
struct Act {
    act: String,
}

async fn change(
    State(app): State<App>,
    actor: Actor,
    Path(user): Path<i64>,
    Form(Act { act }): Form<Act>,
) -> Answer<Response> {
    let change = match act.as_str() {
        "link" => {
            let name = Account::by_id(&app, user).await?.name;
            let link = link(&app, &actor, user).await?;
            return shown(&app, &actor, Some((&name, &link))).await;
        }
        "disable" => Change { disabled: Some(true), ..Change::default() },
        "enable" => Change { disabled: Some(false), ..Change::default() },
        "promote" => Change { admin: Some(true), ..Change::default() },
        "demote" => Change { admin: Some(false), ..Change::default() },
        _ => return Err(Problem::bad("there is no such button")),
    };
    apply(&app, &actor, user, &change).await?;
    Ok(Redirect::to("/admin/users").into_response())
}
