//! One-time addresses: whoever opens one sets the password of an account, and is signed in. For the first
//! administrator, for people who were invited, for who has forgotten.

use super::accounts::{self, Account, NewAccount};
use super::{password, sessions};
use crate::server::access::{Access, Actor};
use crate::server::db::{Tx, now};
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::vault::{new_token, token_hash};
use crate::server::{Answer, App, Problem};
use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

const GOOD_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.page(Method::GET, "/welcome/{link}", Access::Public, get(show)).page(
        Method::POST,
        "/welcome/{link}",
        Access::Public,
        post(submit),
    )
}

/// Makes the address; those that the account had before are void.
pub(super) async fn create(app: &App, tx: &mut Tx, actor: &Actor, user: i64, name: &str) -> Answer<String> {
    let link = new_token("");
    sqlx::query("DELETE FROM links WHERE user_id = $1 OR expires_at < $2")
        .bind(user)
        .bind(now())
        .execute(&mut **tx)
        .await?;
    sqlx::query("INSERT INTO links (hash, user_id, expires_at) VALUES ($1, $2, $3)")
        .bind(token_hash(&link))
        .bind(user)
        .bind(now() + GOOD_MS)
        .execute(&mut **tx)
        .await?;
    audit(tx, Audit { actor, action: "user.link", project: None, subject: name, detail: json!({}) }).await?;
    Ok(format!("{}/welcome/{link}", app.config.public_url()))
}

/// Makes the account `admin` when there is none at all. Gives a one-time address as long as no administrator has a way to sign in; with
/// `given` (`SLIPWAY_ADMIN_PASSWORD`) that is the password.
///
/// # Errors
/// The password is too short, or the database does not answer.
pub async fn first_account(app: &App, given: Option<&str>) -> Answer<Option<String>> {
    let (ready,): (i64,) = sqlx::query_as(
        "SELECT COUNT(*) FROM users WHERE admin = 1 AND disabled = 0 AND (password IS NOT NULL OR subject IS NOT NULL)",
    )
    .fetch_one(&app.db.pool)
    .await?;
    if ready > 0 {
        return Ok(None);
    }
    let actor = Actor::system();
    let password = match given {
        Some(given) => Some(password::hash(app, given).await?),
        None => None,
    };
    let there = Account::by_name(app, "admin").await?;
    let mut tx = app.db.write().await?;
    let id = match there {
        Some(account) => account.id,
        None => {
            let display = "Administrator".to_owned();
            let new = NewAccount { name: "admin".to_owned(), display, admin: true, ..NewAccount::default() };
            accounts::create(&mut tx, &actor, &new).await?
        }
    };
    let address = match &password {
        Some(password) => {
            let query = sqlx::query("UPDATE users SET password = $1 WHERE id = $2").bind(password).bind(id);
            query.execute(&mut *tx).await?;
            None
        }
        None => Some(create(app, &mut tx, &actor, id, "admin").await?),
    };
    tx.commit().await?;
    Ok(address)
}

/// A one-time address for an account, for `ci server sign-in`: whoever may read the data directory may do this.
///
/// # Errors
/// There is no such account, or the database does not answer.
pub async fn sign_in_address(app: &App, name: &str) -> Answer<String> {
    let account = Account::by_name(app, name).await?;
    let account = account.ok_or_else(|| Problem::not_found(&format!("account as `{name}`")))?;
    if account.disabled == 1 {
        return Err(Problem::conflict(format!("the account `{name}` is disabled")));
    }
    let mut tx = app.db.write().await?;
    let address = create(app, &mut tx, &Actor::system(), account.id, name).await?;
    tx.commit().await?;
    Ok(address)
}

async fn account_of(app: &App, link: &str) -> Answer<Account> {
    let found: Option<(i64,)> =
        sqlx::query_as("SELECT user_id FROM links WHERE hash = $1 AND expires_at > $2")
            .bind(token_hash(link))
            .bind(now())
            .fetch_optional(&app.db.pool)
            .await?;
    let used = || Problem::not_found("address: it was used already, or is too old; ask for another one");
    let account = Account::by_id(app, found.ok_or_else(used)?.0).await?;
    if account.disabled == 1 { Err(used()) } else { Ok(account) }
}

async fn show(State(app): State<App>, actor: Actor, Path(link): Path<String>) -> Answer<Response> {
    let account = account_of(&app, &link).await?;
    Ok(form(&app, &actor, &account, &link, ""))
}

fn form(app: &App, actor: &Actor, account: &Account, link: &str, message: &str) -> Response {
    let data = json!({ "name": account.name, "link": link, "message": message });
    page(app, actor, "welcome", "Welcome", &data)
}

#[derive(Deserialize)]
struct Chosen {
    password: String,
}

async fn submit(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Path(link): Path<String>,
    Form(chosen): Form<Chosen>,
) -> Answer<Response> {
    let account = account_of(&app, &link).await?;
    if let Err(problem) = password::acceptable(&chosen.password) {
        let shown = form(&app, &actor, &account, &link, &problem.message);
        return Ok((problem.status, shown).into_response());
    }
    let hash = password::hash(&app, &chosen.password).await?;
    let mut tx = app.db.write().await?;
    // of two who open it at once, one
    let gone =
        sqlx::query("DELETE FROM links WHERE hash = $1").bind(token_hash(&link)).execute(&mut *tx).await?;
    if gone.rows_affected() == 0 {
        return Err(Problem::not_found("address: it was used already"));
    }
    set_password(&mut tx, account.id, &hash).await?;
    let jar = sessions::begin(&app, &mut tx, account.id, &actor, &headers).await?;
    let who = Actor { name: account.name.clone(), user: Some(account.id), ..actor };
    let detail = json!({ "with": "one-time address" });
    let entry = Audit { actor: &who, action: "session.begin", project: None, subject: &account.name, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((jar, Redirect::to("/")).into_response())
}

/// A new password ends all sessions that there are.
pub(super) async fn set_password(tx: &mut Tx, user: i64, hash: &str) -> Answer<()> {
    sqlx::query("UPDATE users SET password = $1 WHERE id = $2")
        .bind(hash)
        .bind(user)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(user).execute(&mut **tx).await?;
    Ok(())
}
