//! Signed-in browsers: a cookie with 160 random bits, of which the database holds the SHA-256.

use crate::server::access::{Access, Actor};
use crate::server::db::{Tx, now};
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::vault::{new_token, token_hash};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use serde::Serialize;
use serde_json::json;
use utoipa_axum::routes;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A browser that is not used for so long is signed out,
const IDLE_MS: i64 = 7 * DAY_MS;
/// and one that is used, after so long.
const LONGEST_MS: i64 = 30 * DAY_MS;

/// `__Host-` keeps other hosts of the domain from setting it; browsers take such a name over https only.
fn cookie_name(app: &App) -> &'static str {
    if app.config.is_https() { "__Host-slipway" } else { "slipway" }
}

/// A cookie of ours: not for scripts, not with requests of other sites.
pub(super) fn cookie(app: &App, name: &'static str, value: String) -> Cookie<'static> {
    Cookie::build((name, value))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.config.is_https())
        .build()
}

/// Begins a session; the cookie tells the browser. A session that the browser had ends.
pub(super) async fn begin(
    app: &App,
    tx: &mut Tx,
    user: i64,
    from: &Actor,
    headers: &HeaderMap,
) -> Answer<CookieJar> {
    let value = new_token("");
    let agent = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let agent: String = agent.chars().take(200).collect();
    let at = now();
    sqlx::query(
        "INSERT INTO sessions (hash, user_id, created_at, expires_at, address, agent) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(token_hash(&value))
    .bind(user)
    .bind(at)
    .bind(at + IDLE_MS)
    .bind(&from.address)
    .bind(agent)
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM sessions WHERE hash = $1 OR expires_at < $2")
        .bind(&from.session)
        .bind(at)
        .execute(&mut **tx)
        .await?;
    let name = cookie_name(app);
    Ok(CookieJar::new().add(cookie(app, name, value)))
}

/// Takes the cookie away.
pub(super) fn without_cookie(app: &App) -> CookieJar {
    let name = cookie_name(app);
    let mut gone = cookie(app, name, String::new());
    gone.make_removal();
    CookieJar::new().add(gone)
}

/// A session with whom it belongs to.
#[derive(sqlx::FromRow)]
pub(super) struct Session {
    pub(super) hash: String,
    pub(super) user_id: i64,
    pub(super) name: String,
    pub(super) admin: i64,
    created_at: i64,
    expires_at: i64,
    seen_at: Option<i64>,
}

/// The session of a request, and what its forms must send back.
pub(super) async fn of(app: &App, headers: &HeaderMap) -> Answer<Option<(Session, String)>> {
    let jar = CookieJar::from_headers(headers);
    let Some(value) = jar.get(cookie_name(app)).map(|cookie| cookie.value().to_owned()) else {
        return Ok(None);
    };
    let at = now();
    let found: Option<Session> = sqlx::query_as(
        "SELECT s.hash, s.user_id, u.name, u.admin, s.created_at, s.expires_at, u.seen_at FROM sessions s \
         JOIN users u ON u.id = s.user_id WHERE s.hash = $1 AND s.expires_at > $2 AND u.disabled = 0",
    )
    .bind(token_hash(&value))
    .bind(at)
    .fetch_optional(&app.db.pool)
    .await?;
    let Some(session) = found else { return Ok(None) };
    slide(app, &session, at).await?;
    // not to be had from the hash in the database
    Ok(Some((session, token_hash(&format!("csrf {value}")))))
}

/// Use lengthens a session; written once a day, not with each request.
async fn slide(app: &App, session: &Session, at: i64) -> Answer<()> {
    let expires = (at + IDLE_MS).min(session.created_at + LONGEST_MS);
    if expires - session.expires_at > DAY_MS {
        sqlx::query("UPDATE sessions SET expires_at = $1 WHERE hash = $2")
            .bind(expires)
            .bind(&session.hash)
            .execute(&app.db.pool)
            .await?;
    }
    if session.seen_at.is_none_or(|seen| at - seen > DAY_MS / 24) {
        sqlx::query("UPDATE users SET seen_at = $1 WHERE id = $2")
            .bind(at)
            .bind(session.user_id)
            .execute(&app.db.pool)
            .await?;
    }
    Ok(())
}

/// A signed-in browser.
#[derive(Clone, Debug, sqlx::FromRow, Serialize, utoipa::ToSchema)]
pub(super) struct Listed {
    /// Names it; opens nothing.
    pub(super) id: String,
    /// Milliseconds since the epoch.
    pub(super) created_at: i64,
    pub(super) expires_at: i64,
    /// Where it signed in from.
    pub(super) address: String,
    /// What the browser calls itself.
    pub(super) agent: String,
    /// Is it the one that asks?
    #[sqlx(skip)]
    pub(super) current: bool,
}

/// Letters of the hash that name a session.
const NAMED_BY: usize = 16;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.api(Access::SignedIn, routes!(list_sessions)).api(Access::SignedIn, routes!(end_session))
}

/// The actor's.
pub(super) async fn list(app: &App, actor: &Actor) -> Answer<Vec<Listed>> {
    let mut found: Vec<Listed> = sqlx::query_as(
        "SELECT hash AS id, created_at, expires_at, address, agent FROM sessions \
         WHERE user_id = $1 AND expires_at > $2 ORDER BY created_at DESC",
    )
    .bind(actor.user)
    .bind(now())
    .fetch_all(&app.db.pool)
    .await?;
    for session in &mut found {
        session.current = session.id == actor.session;
        session.id.truncate(NAMED_BY);
    }
    Ok(found)
}

/// Ends one of the actor's.
pub(super) async fn end(app: &App, actor: &Actor, id: &str) -> Answer<()> {
    let mut tx = app.db.write().await?;
    let query = sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND substr(hash, 1, 16) = $2");
    let gone = query.bind(actor.user).bind(id).execute(&mut *tx).await?;
    if gone.rows_affected() == 0 {
        return Err(Problem::not_found("session"));
    }
    audit(
        &mut tx,
        Audit { actor, action: "session.end", project: None, subject: &actor.name, detail: json!({}) },
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// Your signed-in browsers
#[utoipa::path(get, path = "/api/v1/sessions", tag = "people", responses((status = 200, body = Vec<Listed>)))]
async fn list_sessions(State(app): State<App>, actor: Actor) -> Answer<Json<Vec<Listed>>> {
    Ok(Json(list(&app, &actor).await?))
}

/// Sign a browser out
#[utoipa::path(delete, path = "/api/v1/sessions/{session}", tag = "people",
    params(("session" = String, Path, description = "its id")),
    responses((status = 204, description = "ended"), (status = 404, description = "no such session of yours")))]
async fn end_session(
    State(app): State<App>,
    actor: Actor,
    Path(session): Path<String>,
) -> Answer<StatusCode> {
    end(&app, &actor, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}
