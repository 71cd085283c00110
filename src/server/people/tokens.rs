//! Access tokens: `slp_…`, kept as SHA-256, limited to scopes, to a project if one likes, and to a time.

use crate::server::access::{Access, Actor, Via};
use crate::server::db::{Tx, now};
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::vault::{new_token, token_hash};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use utoipa_axum::routes;

const PREFIX: &str = "slp_";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const SCOPES: &[&str] = &["read", "write", "deploy", "admin"];

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::SignedIn, routes!(list_tokens))
        .api(Access::SignedIn, routes!(create_token))
        .api(Access::SignedIn, routes!(revoke_token))
        .api(Access::SignedIn, routes!(revoke_this_token))
}

pub(super) fn all_scopes() -> Vec<String> {
    SCOPES.iter().map(ToString::to_string).collect()
}

/// An access token to be made.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct NewToken {
    /// What it is called in lists.
    pub(super) name: String,
    /// Of `read`, `write` (run pipelines), `deploy` (promote, roll back), `admin` (settings). Any of them may read.
    pub(super) scopes: Vec<String>,
    /// The only project that it is for.
    #[serde(default)]
    pub(super) project: Option<i64>,
    /// Days until it expires; none: it does not.
    #[serde(default)]
    pub(super) days: Option<i64>,
}

/// A token that was made.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Made {
    pub(super) id: i64,
    /// Shown this once.
    pub(super) token: String,
    /// Milliseconds since the epoch.
    pub(super) expires_at: Option<i64>,
}

/// A token of the list.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub(super) struct Token {
    pub(super) id: i64,
    /// Whose it is.
    pub(super) user: String,
    pub(super) name: String,
    /// Its first characters.
    pub(super) prefix: String,
    #[sqlx(try_from = "String")]
    #[schema(value_type = Vec<String>)]
    pub(super) scopes: Scopes,
    pub(super) project_id: Option<i64>,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) used_at: Option<i64>,
    pub(super) revoked_at: Option<i64>,
    pub(super) revoked_why: Option<String>,
}

/// What a token is limited to; a JSON list in the database.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Scopes(pub(super) Vec<String>);

impl From<String> for Scopes {
    fn from(text: String) -> Scopes {
        Scopes(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// A token that is good, with whose it is.
#[derive(FromRow)]
pub(super) struct Valid {
    pub(super) id: i64,
    pub(super) user_id: i64,
    pub(super) user_name: String,
    pub(super) admin: i64,
    pub(super) scopes: String,
    pub(super) project_id: Option<i64>,
    used_at: Option<i64>,
}

/// The row of a token, while it is good.
pub(super) async fn valid(app: &App, token: &str) -> Answer<Option<Valid>> {
    if !token.starts_with(PREFIX) {
        return Ok(None);
    }
    let at = now();
    let found: Option<Valid> = sqlx::query_as(
        "SELECT t.id, t.user_id, u.name AS user_name, u.admin, t.scopes, t.project_id, t.used_at FROM tokens t \
         JOIN users u ON u.id = t.user_id WHERE t.hash = $1 AND t.revoked_at IS NULL AND u.disabled = 0 \
         AND (t.expires_at IS NULL OR t.expires_at > $2)",
    )
    .bind(token_hash(token))
    .bind(at)
    .fetch_optional(&app.db.pool)
    .await?;
    if let Some(token) = found.as_ref().filter(|token| token.used_at.is_none_or(|used| at - used > 60_000)) {
        let query = sqlx::query("UPDATE tokens SET used_at = $1 WHERE id = $2").bind(at).bind(token.id);
        query.execute(&app.db.pool).await?;
    }
    Ok(found)
}

/// Makes a token for an account.
///
/// # Errors
/// 400 for wrong scopes or days, 403 when the actor's own token may do less than the new one.
pub(super) async fn create(tx: &mut Tx, actor: &Actor, user: i64, new: &NewToken) -> Answer<Made> {
    acceptable(actor, new)?;
    let token = new_token(PREFIX);
    let at = now();
    let expires_at = new.days.map(|days| at + days * DAY_MS);
    let (id,): (i64,) = sqlx::query_as(
        "INSERT INTO tokens (user_id, name, hash, prefix, scopes, project_id, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
    )
    .bind(user)
    .bind(&new.name)
    .bind(token_hash(&token))
    .bind(&token[..PREFIX.len() + 6])
    .bind(json!(new.scopes).to_string())
    .bind(new.project)
    .bind(at)
    .bind(expires_at)
    .fetch_one(&mut **tx)
    .await?;
    let detail = json!({ "id": id, "scopes": new.scopes, "days": new.days });
    audit(tx, Audit { actor, action: "token.create", project: new.project, subject: &new.name, detail })
        .await?;
    Ok(Made { id, token, expires_at })
}

fn acceptable(actor: &Actor, new: &NewToken) -> Answer<()> {
    if new.name.trim().is_empty() || new.name.chars().count() > 100 {
        return Err(Problem::bad("a token needs a name of at most 100 characters"));
    }
    if new.scopes.is_empty() {
        return Err(Problem::bad("a token needs a scope: read, write, deploy or admin"));
    }
    if let Some(unknown) = new.scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        return Err(Problem::bad(format!(
            "`{unknown}` is no scope: there are read, write, deploy and admin"
        )));
    }
    if new.days.is_some_and(|days| !(1..=3650).contains(&days)) {
        return Err(Problem::bad("days until a token expires are 1 to 3650"));
    }
    if actor.via == Via::Token && new.scopes.iter().any(|scope| !actor.has_scope(scope)) {
        return Err(Problem::forbidden("a token can't make one that may do more than itself"));
    }
    Ok(())
}

/// What tokens to list.
#[derive(Default, Deserialize, utoipa::IntoParams)]
struct Which {
    /// Those of all people; for administrators.
    #[serde(default)]
    all: bool,
}

/// Your access tokens
#[utoipa::path(get, path = "/api/v1/tokens", tag = "people", params(Which), responses(
    (status = 200, description = "without the tokens themselves", body = Vec<Token>),
))]
async fn list_tokens(
    State(app): State<App>,
    actor: Actor,
    Query(which): Query<Which>,
) -> Answer<Json<Vec<Token>>> {
    if which.all && !(actor.admin && actor.has_scope("admin")) {
        return Err(Problem::forbidden("only administrators see the tokens of others"));
    }
    Ok(Json(list(&app, actor.user.filter(|_| !which.all)).await?))
}

/// Tokens of a person, or of all; newest first.
pub(super) async fn list(app: &App, user: Option<i64>) -> Answer<Vec<Token>> {
    let found = sqlx::query_as(
        "SELECT t.id, u.name AS user, t.name, t.prefix, t.scopes, t.project_id, t.created_at, t.expires_at, \
         t.used_at, t.revoked_at, t.revoked_why FROM tokens t JOIN users u ON u.id = t.user_id \
         WHERE $1 = 0 OR t.user_id = $1 ORDER BY t.id DESC",
    )
    .bind(user.unwrap_or(0));
    Ok(found.fetch_all(&app.db.pool).await?)
}

/// Make an access token
#[utoipa::path(post, path = "/api/v1/tokens", tag = "people", request_body = NewToken, responses(
    (status = 201, description = "the token, once", body = Made),
    (status = 400, description = "wrong scopes or days"),
))]
async fn create_token(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewToken>,
) -> Answer<(StatusCode, Json<Made>)> {
    let user = actor.user.ok_or_else(Problem::unauthorized)?;
    if let Some(project) = new.project {
        super::visible(&app, &actor, &project.to_string()).await?;
    }
    let mut tx = app.db.write().await?;
    let made = create(&mut tx, &actor, user, &new).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Why a token is revoked.
#[derive(Default, Deserialize, utoipa::IntoParams)]
struct Why {
    /// For the list and the record.
    #[serde(default)]
    reason: String,
}

/// Revoke an access token, at once and for good
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "people",
    params(("token" = i64, Path, description = "its number"), Why),
    responses((status = 204, description = "it opens nothing any more"), (status = 404, description = "no such token of yours")))]
async fn revoke_token(
    State(app): State<App>,
    actor: Actor,
    Path(token): Path<i64>,
    Query(why): Query<Why>,
) -> Answer<StatusCode> {
    revoke(&app, &actor, token, &why.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revoke the access token that asks, as `ci logout` does
#[utoipa::path(delete, path = "/api/v1/token", tag = "people", responses(
    (status = 204, description = "it opens nothing any more"), (status = 400, description = "no token asks"),
))]
async fn revoke_this_token(
    State(app): State<App>,
    actor: Actor,
    Query(why): Query<Why>,
) -> Answer<StatusCode> {
    let token = actor.token.ok_or_else(|| Problem::bad("this was not asked with an access token"))?;
    revoke(&app, &actor, token, &why.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Revokes a token: one's own, or as an administrator anybody's.
pub(super) async fn revoke(app: &App, actor: &Actor, token: i64, why: &str) -> Answer<()> {
    let anybodys = actor.admin && actor.has_scope("admin");
    let mut tx = app.db.write().await?;
    let found: Option<(String,)> = sqlx::query_as(
        "UPDATE tokens SET revoked_at = $1, revoked_why = $2 \
         WHERE id = $3 AND revoked_at IS NULL AND ($4 = 1 OR user_id = $5) RETURNING name",
    )
    .bind(now())
    .bind(why)
    .bind(token)
    .bind(i64::from(anybodys))
    .bind(actor.user)
    .fetch_optional(&mut *tx)
    .await?;
    let (name,) = found.ok_or_else(|| Problem::not_found("token"))?;
    let detail = json!({ "id": token, "reason": why });
    audit(&mut tx, Audit { actor, action: "token.revoke", project: None, subject: &name, detail }).await?;
    tx.commit().await?;
    Ok(())
}
