//! Settings of a project, by name: no secret is shown. And its schedules.

use super::page;
use super::place::Place;
use crate::server::access::Actor;
use crate::server::{Answer, App, people};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::FromRow;

#[derive(FromRow, Serialize)]
struct Secret {
    id: i64,
    kind: String,
    name: String,
    created_at: i64,
    used_at: Option<i64>,
}

/// `GET /projects/{project}/settings`
pub(super) async fn show(State(app): State<App>, actor: Actor, Path(name): Path<String>) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "settings").await?;
    let variables = people::variables(&app, Some(project.id)).await?;
    let secrets: Vec<Secret> = sqlx::query_as(
        "SELECT id, kind, name, created_at, used_at FROM secrets WHERE project_id = $1 ORDER BY id",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let groups: Vec<(String, String)> =
        sqlx::query_as("SELECT name, mode FROM resource_groups WHERE project_id = $1 ORDER BY name")
            .bind(project.id)
            .fetch_all(&app.db.pool)
            .await?;
    let settings: Json = serde_json::from_str(&project.settings).unwrap_or_default();
    let settings: Vec<Json> = settings.as_object().into_iter().flatten().map(setting).collect();
    let protected: Vec<String> = serde_json::from_str(&project.protected_refs)
        .unwrap_or_else(|_| project.protected_refs.split_whitespace().map(str::to_owned).collect());
    let data = json!({
        "place": place,
        "git_url": without_password(&project.git_url),
        "forge": project.forge,
        "forge_url": project.forge_url,
        "default_branch": project.default_branch,
        "created_at": project.created_at,
        "hook": format!("{}/hooks/{}", app.config.public_url(), project.hook),
        "protected": protected,
        "settings": settings,
        "variables": variables,
        "secrets": secrets,
        "groups": groups.into_iter().map(|(name, mode)| json!({ "name": name, "mode": mode })).collect::<Vec<_>>(),
    });
    Ok(page(&app, &actor, "settings", &format!("Settings · {}", project.path), &data))
}

fn setting((key, value): (&String, &Json)) -> Json {
    let said = match value {
        Json::String(text) => text.clone(),
        Json::Null => "–".to_owned(),
        other => other.to_string(),
    };
    json!({ "key": key.replace('_', " "), "value": said })
}

/// A password in an address is nobody's business.
fn without_password(address: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else { return address.to_owned() };
    match url.password().is_some() && url.set_password(Some("***")).is_ok() {
        true => url.into(),
        false => address.to_owned(),
    }
}

#[derive(FromRow, Serialize)]
struct Schedule {
    id: i64,
    description: String,
    #[sqlx(rename = "ref")]
    reference: String,
    cron: String,
    timezone: String,
    active: i64,
    owner: String,
    next_at: Option<i64>,
    last_pipeline: Option<i64>,
    last_status: Option<String>,
}

/// `GET /projects/{project}/schedules`
pub(super) async fn schedules(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "schedules").await?;
    let rows: Vec<Schedule> = sqlx::query_as(
        "SELECT s.id, s.description, s.ref, s.cron, s.timezone, s.active, s.owner, s.next_at, s.last_pipeline, \
         pl.status AS last_status FROM schedules s LEFT JOIN pipelines pl ON pl.id = s.last_pipeline \
         WHERE s.project_id = $1 ORDER BY s.active DESC, s.next_at, s.id",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let data = json!({ "place": place, "schedules": rows, "branch": project.default_branch });
    Ok(page(&app, &actor, "schedules", &format!("Schedules · {}", project.path), &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_hidden() {
        assert_eq!(without_password("https://u:secret@git.example/x.git"), "https://u:***@git.example/x.git");
        assert_eq!(without_password("git@host:x.git"), "git@host:x.git");
    }
}
