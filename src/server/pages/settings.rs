//! Settings of a project and the forms that change them; values of variables and secrets are not shown. And its schedules.

use super::page;
use super::place::Place;
use super::queue::machines;
use crate::server::access::Actor;
use crate::server::hooks::forge::Forge;
use crate::server::projects::{Settings, hook_url, setup};
use crate::server::{Answer, App, people};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::FromRow;
use std::collections::BTreeMap;

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
    let secrets: Vec<Secret> = sqlx::query_as(
        "SELECT id, kind, name, created_at, used_at FROM secrets WHERE project_id = $1 ORDER BY id",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let groups: Vec<(String, String)> = sqlx::query_as(
        "SELECT g.name, COALESCE(m.mode, 'unordered') FROM (SELECT name FROM held WHERE project_id = $1 \
         UNION SELECT name FROM resource_groups WHERE project_id = $1) g \
         LEFT JOIN resource_groups m ON m.project_id = $1 AND m.name = g.name ORDER BY g.name",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let protected: Vec<String> = serde_json::from_str(&project.protected_refs)
        .unwrap_or_else(|_| project.protected_refs.split_whitespace().map(str::to_owned).collect());
    let hook = hook_url(&app, &project);
    let forge = Forge::named(&project.forge).unwrap_or(Forge::Generic);
    let data = json!({
        "place": place,
        "api": format!("/api/v1/projects/{}", project.id),
        "git_url": without_password(&project.git_url),
        "forge": project.forge,
        "forges": Forge::ALL.map(|one| json!({ "value": one.name(), "chosen": one == forge })),
        "forge_url": project.forge_url,
        "default_branch": project.default_branch,
        "created_at": project.created_at,
        "setup": setup(forge, &hook),
        "hook": hook,
        "protected_refs": protected.join(", "),
        "settings": Settings::of(&project),
        "forks": FORKS.map(|(value, said)| json!({
            "value": value, "said": said, "chosen": json!(Settings::of(&project).forks) == value,
        })),
        "variables": people::variables(&app, Some(project.id)).await?,
        "secrets": secrets,
        "runners": machines(&app, Some(project.id)).await?,
        "runners_api": format!("/api/v1/projects/{}/runners", project.id),
        "groups": groups.into_iter().map(group).collect::<Vec<_>>(),
    });
    Ok(page(&app, &actor, "settings", &format!("Settings · {}", project.path), &data))
}

fn group((name, mode): (String, String)) -> Json {
    let modes = ["unordered", "oldest_first", "newest_first", "newest_ready_first"];
    json!({ "name": name, "modes": modes.map(|one| json!({ "value": one, "chosen": one == mode })) })
}

/// What can be said of merge requests from forks.
const FORKS: [(&str, &str); 3] = [
    ("approve", "run when a maintainer says yes to the commit"),
    ("ignore", "run nothing"),
    ("run", "run, without secrets"),
];

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
    variables: String,
    #[sqlx(skip)]
    names: Vec<String>,
}

/// `GET /projects/{project}/schedules`
pub(super) async fn schedules(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "schedules").await?;
    let mut rows: Vec<Schedule> = sqlx::query_as(
        "SELECT s.id, s.description, s.ref, s.cron, s.timezone, s.active, s.owner, s.next_at, s.last_pipeline, s.variables, \
         pl.status AS last_status FROM schedules s LEFT JOIN pipelines pl ON pl.id = s.last_pipeline \
         WHERE s.project_id = $1 ORDER BY s.active DESC, s.next_at, s.id",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    for row in &mut rows {
        // values stay here
        let variables: BTreeMap<String, String> =
            serde_json::from_str(&std::mem::take(&mut row.variables)).unwrap_or_default();
        row.names = variables.into_keys().collect();
    }
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
