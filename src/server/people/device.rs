//! `ci login`: the command line shows a code, a person who is signed in says on a page that it is theirs, and the command
//! line gets an access token.

use super::tokens;
use crate::server::access::{Access, Actor, Via};
use crate::server::db::now;
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::vault::{new_token, random, token_hash};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use utoipa_axum::routes;

/// Letters that are hard to mistake and spell no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const GOOD_MS: i64 = 10 * 60 * 1000;
const DAYS: i64 = 90;
/// That wait at one time; more is somebody who plays.
const MOST: i64 = 500;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Public, routes!(begin_device))
        .api(Access::Public, routes!(poll_device))
        .page(Method::GET, "/device", Access::SignedIn, get(show))
        .page(Method::POST, "/device", Access::SignedIn, post(submit))
}

/// Who wants in.
#[derive(Deserialize, utoipa::ToSchema)]
struct Wish {
    /// Machine and person, as the page shows it.
    name: String,
}

/// What the command line shows, and what it asks with.
#[derive(Serialize, utoipa::ToSchema)]
struct Begun {
    /// For people to compare.
    code: String,
    /// The page where a person says yes.
    address: String,
    /// To ask with whether they did; nobody else's business.
    secret: String,
    /// Seconds between two questions.
    interval: i64,
    /// Milliseconds since the epoch.
    expires_at: i64,
}

#[derive(FromRow)]
struct Device {
    hash: String,
    code: String,
    name: String,
    address: String,
    user_id: Option<i64>,
    scopes: String,
    refused: i64,
}

/// Begin to sign a command line in
#[utoipa::path(post, path = "/api/v1/device", tag = "people", request_body = Wish, responses(
    (status = 201, body = Begun), (status = 429, description = "too many wait"),
))]
async fn begin_device(
    State(app): State<App>,
    actor: Actor,
    Json(wish): Json<Wish>,
) -> Answer<(StatusCode, Json<Begun>)> {
    let (secret, code) = (new_token(""), code());
    let name: String = wish.name.chars().filter(|c| !c.is_control()).take(100).collect();
    let expires_at = now() + GOOD_MS;
    let mut tx = app.db.write().await?;
    sqlx::query("DELETE FROM devices WHERE expires_at < $1").bind(now()).execute(&mut *tx).await?;
    let (waiting,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM devices").fetch_one(&mut *tx).await?;
    if waiting >= MOST {
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many sign-ins wait: try again in ten minutes",
        ));
    }
    sqlx::query(
        "INSERT INTO devices (hash, code, name, address, expires_at, scopes, refused) \
         VALUES ($1, $2, $3, $4, $5, '[]', 0)",
    )
    .bind(token_hash(&secret))
    .bind(&code)
    .bind(name)
    .bind(&actor.address)
    .bind(expires_at)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    let address = format!("{}/device?code={code}", app.config.public_url());
    Ok((StatusCode::CREATED, Json(Begun { code, address, secret, interval: 2, expires_at })))
}

fn code() -> String {
    let bytes: [u8; 64] = random();
    // of 256 values 240 give each letter as often
    let mut letters =
        bytes.iter().filter(|b| **b < 240).map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]));
    let mut four = || letters.by_ref().take(4).collect::<String>();
    format!("{}-{}", four(), four())
}

/// What one asks with.
#[derive(Deserialize, utoipa::ToSchema)]
struct Poll {
    /// As it was given.
    secret: String,
}

/// Has a person said yes? Then here is the token
#[utoipa::path(post, path = "/api/v1/device/token", tag = "people", request_body = Poll, responses(
    (status = 201, description = "yes", body = tokens::Made),
    (status = 202, description = "not yet"),
    (status = 403, description = "the person said no"),
    (status = 404, description = "nothing waits: too late, or it was answered already"),
))]
async fn poll_device(State(app): State<App>, actor: Actor, Json(poll): Json<Poll>) -> Answer<Response> {
    let mut tx = app.db.write().await?;
    let found: Option<Device> = sqlx::query_as("SELECT * FROM devices WHERE hash = $1 AND expires_at > $2")
        .bind(token_hash(&poll.secret))
        .bind(now())
        .fetch_optional(&mut *tx)
        .await?;
    let device = found.ok_or_else(|| Problem::not_found("sign-in: it is too late, begin again"))?;
    if device.refused == 0 && device.user_id.is_none() {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let gone =
        sqlx::query("DELETE FROM devices WHERE hash = $1").bind(&device.hash).execute(&mut *tx).await?;
    let Some(user) = device.user_id.filter(|_| device.refused == 0 && gone.rows_affected() == 1) else {
        tx.commit().await?;
        return Err(Problem::forbidden("the sign-in was refused on the page"));
    };
    let (name,): (String,) =
        sqlx::query_as("SELECT name FROM users WHERE id = $1").bind(user).fetch_one(&mut *tx).await?;
    let new = tokens::NewToken {
        name: format!("ci login, {}", device.name).chars().take(100).collect(),
        scopes: serde_json::from_str(&device.scopes).unwrap_or_default(),
        project: None,
        days: Some(DAYS),
    };
    let who = Actor { name, user: Some(user), ..actor };
    let made = tokens::create(&mut tx, &who, user, &new).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    code: String,
}

async fn show(State(app): State<App>, actor: Actor, Query(Asked { code }): Query<Asked>) -> Answer<Response> {
    if code.is_empty() {
        return Ok(page(&app, &actor, "device", "Sign a command line in", &json!({})));
    }
    // so that codes can't be tried out
    app.people.attempts.take(&format!("device {}", actor.name), &actor.address, now()).map_err(
        |seconds| {
            let told = format!("too many codes: try again in {} minutes", seconds.div_ceil(60));
            Problem::new(StatusCode::TOO_MANY_REQUESTS, told)
        },
    )?;
    let data = match waiting(&app, &code).await? {
        Some(device) => {
            app.people.attempts.forgive(&format!("device {}", actor.name), &actor.address);
            json!({ "code": device.code, "name": device.name, "from": device.address })
        }
        None => json!({ "wrong": "No command line waits with this code. Codes are good for ten minutes." }),
    };
    Ok(page(&app, &actor, "device", "Sign a command line in", &data))
}

async fn waiting(app: &App, code: &str) -> Answer<Option<Device>> {
    let code: String = code.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_uppercase();
    let code = if code.len() == 8 { format!("{}-{}", &code[..4], &code[4..]) } else { code };
    let query = sqlx::query_as(
        "SELECT * FROM devices WHERE code = $1 AND expires_at > $2 AND user_id IS NULL AND refused = 0",
    );
    Ok(query.bind(code).bind(now()).fetch_optional(&app.db.pool).await?)
}

#[derive(Deserialize)]
struct Answered {
    code: String,
    answer: String,
    #[serde(default)]
    write: String,
    #[serde(default)]
    deploy: String,
    #[serde(default)]
    admin: String,
}

async fn submit(State(app): State<App>, actor: Actor, Form(form): Form<Answered>) -> Answer<Response> {
    if actor.via != Via::Session {
        return Err(Problem::forbidden("only a person says yes here, in a browser"));
    }
    let none = || Problem::not_found("sign-in: it is too late, or was answered already");
    let device = waiting(&app, &form.code).await?.ok_or_else(none)?;
    let yes = form.answer == "yes";
    let mut scopes = vec!["read"];
    for (scope, given) in [("write", &form.write), ("deploy", &form.deploy), ("admin", &form.admin)] {
        if given == "1" {
            scopes.push(scope);
        }
    }
    let mut tx = app.db.write().await?;
    let answered = sqlx::query(
        "UPDATE devices SET user_id = $1, scopes = $2, refused = $3 WHERE hash = $4 AND user_id IS NULL",
    )
    .bind(actor.user)
    .bind(json!(scopes).to_string())
    .bind(i64::from(!yes))
    .bind(&device.hash)
    .execute(&mut *tx)
    .await?;
    if answered.rows_affected() == 0 {
        return Err(none());
    }
    let action = if yes { "device.accept" } else { "device.refuse" };
    let detail = json!({ "from": device.address, "scopes": scopes });
    audit(&mut tx, Audit { actor: &actor, action, project: None, subject: &device.name, detail }).await?;
    tx.commit().await?;
    let data = json!({ "done": if yes { "yes" } else { "no" }, "name": device.name });
    Ok(page(&app, &actor, "device", "Sign a command line in", &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_two_groups_of_four_letters() {
        for _ in 0..100 {
            let code = code();
            assert_eq!(code.len(), 9, "{code}");
            assert!(code.bytes().enumerate().all(|(n, b)| if n == 4 {
                b == b'-'
            } else {
                LETTERS.contains(&b)
            }));
        }
    }
}
