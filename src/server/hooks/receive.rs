//! `POST /hooks/HOOK`.

use super::forge::Forge;
use super::inbox::{Kept, NewDelivery};
use super::signature::{self, Arrived};
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::projects::Settings;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;

/// For all of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Headers that are kept; none of them is secret.
const KEPT: [&str; 13] = [
    "content-type",
    "user-agent",
    "x-github-event",
    "x-github-delivery",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-gitea-event",
    "x-forgejo-event",
    "x-gogs-event",
    "x-event-key",
    "x-request-uuid",
    "x-attempt-number",
    "webhook-id",
];

pub(super) async fn receive(
    State(app): State<App>,
    actor: Actor,
    Path(hook): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let _open = app.hooks.open();
    match received(&app, &actor, &hook, &headers, body).await {
        Ok((status, id, said)) => {
            let mut response = (status, Json(json!({ "id": id, "message": said }))).into_response();
            if let Ok(value) = id.to_string().parse() {
                response.headers_mut().insert(HeaderName::from_static("x-slipway-delivery"), value);
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

async fn received(
    app: &App,
    actor: &Actor,
    hook: &str,
    headers: &HeaderMap,
    body: Body,
) -> Answer<(StatusCode, i64, &'static str)> {
    // of one hook: one that is set up wrongly must not silence others of the same forge
    let source = format!("{} {}", actor.address, hook.chars().take(64).collect::<String>());
    if app.hooks.refusals.too_many(&source, now()) {
        let said = "too many deliveries from this address to this hook were refused; try again in a minute";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, said));
    }
    let body = read(app, headers, body).await?;
    let project = sqlx::query_as("SELECT * FROM projects WHERE hook = $1").bind(hook);
    let Some(project): Option<Project> = project.fetch_optional(&app.db.pool).await? else {
        signature::work_in_vain(&body);
        app.hooks.refusals.of_source(&source, now());
        return Err(unknown());
    };
    let forge = Forge::named(&project.forge).unwrap_or(Forge::Generic);
    let secrets = secrets(app, project.id).await?;
    let allowed = Settings::of(&project).allows(&actor.address);
    let verdict = match allowed {
        true => signature::verify(forge, Arrived { headers, body: &body, now: now() }, &secrets),
        false => Err("its address is not among the project's `allowed_ips`"),
    };
    if let Err(why) = verdict {
        tracing::warn!(project = project.id, address = %actor.address, "a delivery was refused: {why}");
        app.hooks.refusals.of_project(project.id, &actor.address, why, now());
        app.hooks.refusals.of_source(&source, now());
        return Err(unknown());
    }
    let kept = app.hooks.store(delivery(&project, forge, headers, body)).await?;
    app.wake.inbox.notify_one();
    app.changed(crate::server::app::Changed::Delivery { project: project.id });
    Ok(match kept {
        Kept::New(id) => (StatusCode::ACCEPTED, id, "accepted"),
        Kept::Known(id) => (StatusCode::OK, id, "this delivery was here before"),
    })
}

/// The same for a hook that is not there and for one whose signature is wrong.
fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "there is no such hook, or the delivery is not signed as it should be; the project's list of deliveries says \
         which",
    )
}

/// All of a body, within the limits of one body, of time, and of what all open deliveries may take together.
async fn read(app: &App, headers: &HeaderMap, body: Body) -> Answer<Vec<u8>> {
    let limit = app.config.body_limit;
    let too_big = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body may have {limit} bytes"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return Err(too_big());
    }
    let reading = async {
        let (mut all, mut chunks) = (Vec::new(), body.into_data_stream());
        let mut room = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::bad("the body broke off"))?;
            if all.len() + chunk.len() > limit {
                return Err(too_big());
            }
            room.push(app.hooks.room(chunk.len())?);
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    };
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    tokio::time::timeout(PATIENCE, reading).await.map_err(late)?
}

async fn secrets(app: &App, project: i64) -> Answer<Vec<String>> {
    let rows =
        sqlx::query_as("SELECT id, sealed FROM secrets WHERE project_id = $1 AND kind = 'hook' ORDER BY id");
    let rows: Vec<(i64, Vec<u8>)> = rows.bind(project).fetch_all(&app.db.pool).await?;
    let opened = rows.iter().filter_map(|(id, sealed)| app.vault.open_text(&format!("secret:{id}"), sealed));
    Ok(opened.collect())
}

fn delivery(project: &Project, forge: Forge, headers: &HeaderMap, body: Vec<u8>) -> NewDelivery {
    let digest = crate::digest::sha256_hex(&body);
    let id = forge.id(headers);
    // our own keys have a colon
    let key = match id {
        "" => format!("body:{digest}"),
        id if id.len() > 128 || id.contains(':') => {
            format!("id:{}", crate::digest::sha256_hex(id.as_bytes()))
        }
        id => id.to_owned(),
    };
    let kept = KEPT.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), serde_json::Value::from(super::event::plain(value))))
    });
    let kept: serde_json::Map<_, _> = kept.collect();
    // where the id is signed as well, the same body may come twice and mean it
    let signed_id = headers.contains_key("webhook-signature");
    NewDelivery {
        project: project.id,
        key,
        forge: forge.name().to_owned(),
        event: forge.event(headers),
        headers: serde_json::Value::Object(kept).to_string(),
        body,
        body_digest: if signed_id { String::new() } else { digest },
    }
}
