//! Runners come and go.

use super::identity::{contacted, read, runner};
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::rows::{Audit, audit};
use crate::server::runners::{NewRunner, create};
use crate::server::vault::{new_token, token_hash};
use crate::server::{Answer, App, Problem};
use crate::wire::runner::{RUNNER_TOKEN, Register, Registered, Verify};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

/// `POST runners`: the old way, by the server's registration token.
pub(super) async fn register(State(app): State<App>, body: Bytes) -> Answer<(StatusCode, Json<Registered>)> {
    let asked: Register = read(&body)?;
    let known = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'registration_token'");
    let known: Option<String> = known.fetch_optional(&app.db.pool).await?;
    let Some(known) = known else {
        let message = "registration tokens are off: create the runner on the server and register with its `glrt-` token";
        return Err(Problem::new(StatusCode::GONE, message));
    };
    if known != token_hash(asked.token.expose()) {
        return Err(Problem::forbidden("this is not the registration token"));
    }
    let new = NewRunner {
        description: asked.description.chars().take(250).collect(),
        tags: asked
            .tag_list
            .split(',')
            .map(|tag| tag.trim().to_owned())
            .filter(|tag| !tag.is_empty())
            .collect(),
        run_untagged: asked.run_untagged.unwrap_or(true),
        protected: asked.access_level == "ref_protected",
        trusted_only: true,
        paused: asked.paused.unwrap_or(asked.active == Some(false)),
        maximum_timeout: asked.maximum_timeout,
    };
    let mut actor = Actor::system();
    actor.name = "registration token".to_owned();
    let (id, token) = create(&app, &actor, None, new, "").await?;
    Ok((StatusCode::CREATED, Json(Registered { id, token: token.into(), token_expires_at: None })))
}

/// `POST runners/verify`: is the token good?
pub(super) async fn verify(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Json<Registered>> {
    let asked: Verify = read(&body)?;
    let found = runner(&app, &headers, asked.token.expose()).await?;
    contacted(&app, &found, &asked.system_id, asked.info.as_ref()).await?;
    Ok(Json(Registered { id: found.id, token: asked.token, token_expires_at: None }))
}

/// `DELETE runners`: it is gone. What it runs is lost when its lease ends.
pub(super) async fn unregister(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<StatusCode> {
    let asked: Verify = read(&body)?;
    let found = runner(&app, &headers, asked.token.expose()).await?;
    let mut tx = app.db.write().await?;
    sqlx::query("DELETE FROM runners WHERE id = $1").bind(found.id).execute(&mut *tx).await?;
    let actor = Actor { name: format!("runner {}", found.id), ..Actor::system() };
    let entry = Audit {
        actor: &actor,
        action: "runner.delete",
        project: found.project_id,
        subject: &found.description,
        detail: json!({}),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE runners/managers`: one machine of those that share a token.
pub(super) async fn forget(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Answer<StatusCode> {
    let asked: Verify = read(&body)?;
    let found = runner(&app, &headers, asked.token.expose()).await?;
    if asked.system_id.is_empty() {
        return Err(Problem::bad("`system_id` is missing"));
    }
    let query = sqlx::query("DELETE FROM runner_machines WHERE runner_id = $1 AND system_id = $2");
    let gone = query.bind(found.id).bind(&asked.system_id).execute(&app.db.pool).await?;
    if gone.rows_affected() == 0 {
        return Err(Problem::not_found("machine of this runner"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `POST runners/reset_authentication_token`: a new token in the place of the old.
pub(super) async fn reset(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<(StatusCode, Json<Registered>)> {
    let asked: Verify = read(&body)?;
    let found = runner(&app, &headers, asked.token.expose()).await?;
    let prefix = if asked.token.expose().starts_with(RUNNER_TOKEN) { RUNNER_TOKEN } else { "" };
    let token = new_token(prefix);
    let mut tx = app.db.write().await?;
    let query =
        sqlx::query("UPDATE runners SET token = $1, short_token = $2, contacted_at = $3 WHERE id = $4");
    let short = crate::server::runners::short(&token);
    query.bind(token_hash(&token)).bind(short).bind(now()).bind(found.id).execute(&mut *tx).await?;
    let actor = Actor { name: format!("runner {}", found.id), ..Actor::system() };
    let entry = Audit {
        actor: &actor,
        action: "runner.reset_token",
        project: found.project_id,
        subject: &found.description,
        detail: json!({}),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Registered { id: 0, token: token.into(), token_expires_at: None })))
}
