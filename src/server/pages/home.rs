//! The home page: what is mine, what waits for me; the list of projects; the board for a wall.

use super::page;
use super::pipelines::{Wanted, escape_like, listed};
use super::place::{self, SEEN};
use super::words::look;
use crate::server::access::Actor;
use crate::server::{Answer, App};
use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow};

/// Projects on one page.
const MANY: i64 = 50;

/// Projects on a wall.
const WALL: i64 = 60;

#[derive(FromRow, Serialize)]
struct Listed {
    id: i64,
    path: String,
    paused: i64,
    default_branch: String,
    latest: Option<i64>,
    #[sqlx(skip)]
    url: String,
    /// The last pipelines, oldest first.
    #[sqlx(skip)]
    bars: Vec<Bar>,
    #[sqlx(skip)]
    status: String,
    #[sqlx(skip)]
    at: Option<i64>,
    #[sqlx(skip)]
    usual: Option<i64>,
    /// Of the latest on the default branch.
    #[sqlx(skip)]
    title: String,
    #[sqlx(skip)]
    running: i64,
}

#[derive(Serialize)]
struct Bar {
    x: usize,
    y: i64,
    height: i64,
    look: String,
    said: String,
}

#[derive(FromRow)]
struct Past {
    iid: i64,
    status: String,
    message: String,
    reference: String,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
}

/// `GET /`
pub(super) async fn home(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let mine = Wanted { by: &actor.name, live: true, limit: 10, ..Wanted::default() };
    let mine = listed(&app, &actor, &mine).await?;
    let failed = Wanted { by: &actor.name, status: "failed", limit: 5, ..Wanted::default() };
    let failed = listed(&app, &actor, &failed).await?;
    let running = listed(&app, &actor, &Wanted { live: true, limit: 15, ..Wanted::default() }).await?;
    let known: Vec<i64> = mine.iter().map(|row| row.id).collect();
    let others: Vec<_> = running.into_iter().filter(|row| !known.contains(&row.id)).collect();
    let waiting = super::approvals::waiting(&app, &actor, 10).await?;
    let projects = projects(&app, &actor, "", 0, 12).await?;
    let data = json!({
        "mine": mine, "failed": failed, "running": others, "waiting": waiting, "projects": projects,
    });
    Ok(page(&app, &actor, "home", "Home", &data))
}

/// What the list of projects is asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    q: String,
    page: i64,
}

/// `GET /projects`
pub(super) async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(search): Query<Search>,
) -> Answer<Response> {
    let at = search.page.clamp(0, 100_000);
    let mut rows = projects(&app, &actor, search.q.trim(), at * MANY, MANY + 1).await?;
    let more = rows.len() as i64 > MANY;
    rows.truncate(MANY as usize);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("q", &search.q).append_pair("page", &(at + 1).to_string());
    let next = more.then(|| format!("?{}", query.finish()));
    let data = json!({ "projects": rows, "q": search.q, "next": next, "first": at == 0 });
    Ok(page(&app, &actor, "projects", "Projects", &data))
}

/// `GET /wallboard`: a tile for each project, what is broken first.
pub(super) async fn wallboard(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let mut tiles = projects(&app, &actor, "", 0, WALL).await?;
    tiles.retain(|tile| !tile.status.is_empty());
    tiles.sort_by_key(|tile| match look(&tile.status) {
        "failed" => 0,
        "running" => 1,
        _ => 2,
    });
    let tiles: Vec<_> =
        tiles.iter().map(|tile| json!({ "tile": tile, "look": look(&tile.status) })).collect();
    Ok(page(&app, &actor, "wallboard", "Wallboard", &json!({ "tiles": tiles })))
}

/// `GET /projects/new`
pub(super) async fn new_project(State(app): State<App>, actor: Actor) -> Response {
    page(&app, &actor, "new_project", "New project", &json!({}))
}

/// Projects that the actor may see, those with the newest pipeline first.
async fn projects(app: &App, actor: &Actor, text: &str, skip: i64, limit: i64) -> Answer<Vec<Listed>> {
    let sql = format!(
        "SELECT p.id, p.path, p.paused, p.default_branch, \
         (SELECT MAX(l.id) FROM pipelines l WHERE l.project_id = p.id) AS latest \
         FROM projects p WHERE {SEEN} AND LOWER(p.path) LIKE $4 ESCAPE '!' \
         ORDER BY COALESCE((SELECT MAX(l.id) FROM pipelines l WHERE l.project_id = p.id), 0) DESC, p.path \
         LIMIT {limit} OFFSET {skip}"
    );
    let (admin, user, only) = place::seen_by(actor);
    let like = format!("%{}%", escape_like(&text.to_lowercase()));
    let query = sqlx::query_as::<_, Listed>(AssertSqlSafe(sql)).bind(admin).bind(user).bind(only).bind(like);
    let mut rows = query.fetch_all(&app.db.pool).await?;
    for row in &mut rows {
        row.url = place::url(&row.path);
        let past: Vec<Past> = sqlx::query_as(
            "SELECT iid, status, message, ref AS reference, created_at, started_at, finished_at FROM pipelines \
             WHERE project_id = $1 ORDER BY id DESC LIMIT 20",
        )
        .bind(row.id)
        .fetch_all(&app.db.pool)
        .await?;
        row.remember(&past);
    }
    Ok(rows)
}

impl Listed {
    fn remember(&mut self, past: &[Past]) {
        let branch = self.default_branch.as_str();
        let shown = past.iter().find(|one| one.reference == branch).or(past.first());
        if let Some(shown) = shown {
            self.status = shown.status.clone();
            self.at = Some(shown.created_at);
            self.title = shown.message.lines().next().unwrap_or_default().to_owned();
        }
        self.running = past.iter().filter(|one| one.finished_at.is_none()).count() as i64;
        let mut spans: Vec<i64> = past.iter().filter_map(Past::took).collect();
        spans.sort_unstable();
        self.usual = spans.get(spans.len() / 2).copied();
        let longest = spans.last().copied().unwrap_or(1).max(1);
        self.bars = past
            .iter()
            .rev()
            .enumerate()
            .map(|(at, one)| {
                let height = one.took().map_or(4, |took| 4 + 18 * took / longest);
                let said = format!("#{} {}", one.iid, one.status.replace('_', " "));
                Bar { x: at * 6, y: 24 - height, height, look: look(&one.status).to_owned(), said }
            })
            .collect();
    }
}

impl Past {
    fn took(&self) -> Option<i64> {
        Some(self.finished_at? - self.started_at?)
    }
}
