//! Runners: made, listed, changed, removed by people. What runners themselves ask is in `runner_api`.

use super::access::{Access, Actor};
use super::db::now;
use super::routes::Routes;
use super::rows::{Audit, Runner, audit};
use super::vault::{new_token, token_hash};
use super::{Answer, App, Problem};
use crate::wire::runner::{Info, RUNNER_TOKEN};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AssertSqlSafe;
use utoipa_axum::routes;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Admin, routes!(list))
        .api(Access::Admin, routes!(make))
        .api(Access::Admin, routes!(change))
        .api(Access::Admin, routes!(remove))
        .api(Access::Admin, routes!(allow_registration))
        .api(Access::Admin, routes!(forbid_registration))
        .api(Access::Viewer, routes!(list_of_project))
        .api(Access::Maintainer, routes!(make_for_project))
        .api(Access::Maintainer, routes!(change_of_project))
        .api(Access::Maintainer, routes!(remove_of_project))
}

/// A runner.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Shown {
    /// Its number.
    pub id: i64,
    /// For people.
    pub description: String,
    /// The first characters of its token.
    pub short_token: String,
    /// It takes jobs whose tags are all among these.
    pub tags: Vec<String>,
    /// Does it take jobs without tags?
    pub run_untagged: bool,
    /// Only jobs of protected refs?
    pub protected: bool,
    /// No jobs of forks?
    pub trusted_only: bool,
    /// Does it get no jobs?
    pub paused: bool,
    /// Only jobs of this project.
    pub project_id: Option<i64>,
    /// Seconds.
    pub maximum_timeout: Option<i64>,
    /// Is it the server's own?
    pub local: bool,
    /// `VERSION, PLATFORM/ARCHITECTURE, EXECUTOR`, as it told last.
    pub about: String,
    /// ms.
    pub contacted_at: Option<i64>,
    /// ms.
    pub created_at: i64,
    /// Who made it.
    pub created_by: String,
}

impl Shown {
    fn of(runner: Runner) -> Shown {
        let info: Info = serde_json::from_str(&runner.info).unwrap_or_default();
        let machine = [info.platform, info.architecture].join("/");
        let about = [format!("{} {}", info.name, info.version), machine, info.executor];
        let about = about.iter().map(|part| part.trim_matches([' ', '/'])).filter(|part| !part.is_empty());
        Shown {
            id: runner.id,
            description: runner.description,
            short_token: runner.short_token,
            tags: serde_json::from_str(&runner.tags).unwrap_or_default(),
            run_untagged: runner.run_untagged != 0,
            protected: runner.protected_only != 0,
            trusted_only: runner.trusted_only != 0,
            paused: runner.paused != 0,
            project_id: runner.project_id,
            maximum_timeout: runner.maximum_timeout,
            local: runner.local != 0,
            about: about.collect::<Vec<_>>().join(", "),
            contacted_at: runner.contacted_at,
            created_at: runner.created_at,
            created_by: runner.created_by,
        }
    }
}

/// What a runner is made with.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewRunner {
    /// For people.
    pub description: String,
    /// It takes jobs whose tags are all among these.
    pub tags: Vec<String>,
    /// Does it take jobs without tags? As on GitLab: yes, if nothing is said, also with tags.
    pub run_untagged: bool,
    /// Only jobs of protected refs?
    pub protected: bool,
    /// No jobs of forks?
    pub trusted_only: bool,
    /// Begins paused?
    pub paused: bool,
    /// Seconds.
    pub maximum_timeout: Option<i64>,
}

impl Default for NewRunner {
    fn default() -> NewRunner {
        NewRunner {
            description: String::new(),
            tags: Vec::new(),
            run_untagged: true,
            protected: false,
            trusted_only: true,
            paused: false,
            maximum_timeout: None,
        }
    }
}

/// What changes; what is absent stays.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
struct Change {
    description: Option<String>,
    tags: Option<Vec<String>>,
    run_untagged: Option<bool>,
    protected: Option<bool>,
    trusted_only: Option<bool>,
    paused: Option<bool>,
    maximum_timeout: Option<i64>,
}

/// A token that is shown this once.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
struct Token {
    /// Of the runner; none: a registration token.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    /// The token.
    token: String,
    /// What to do with it.
    next: String,
}

/// The part of a token that may be shown.
pub fn short(token: &str) -> String {
    token.strip_prefix(RUNNER_TOKEN).unwrap_or(token).chars().take(8).collect()
}

fn check(tags: &[String], run_untagged: bool) -> Answer<()> {
    if tags.iter().any(|tag| tag.is_empty() || tag.len() > 255 || tag.contains(',')) {
        return Err(Problem::bad("a tag is empty, longer than 255 bytes or has a comma in it"));
    }
    if tags.is_empty() && !run_untagged {
        return Err(Problem::bad(
            "a runner without tags that takes no jobs without tags would never get one",
        ));
    }
    Ok(())
}

/// Makes a runner; its number and its token, which begins with `prefix`.
///
/// # Errors
/// It would never get a job; or the database does not answer.
pub async fn create(
    app: &App,
    actor: &Actor,
    project: Option<i64>,
    new: NewRunner,
    prefix: &str,
) -> Answer<(i64, String)> {
    check(&new.tags, new.run_untagged)?;
    let token = new_token(prefix);
    let mut tx = app.db.write().await?;
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO runners (description, token, short_token, tags, run_untagged, protected_only, trusted_only, \
         paused, project_id, maximum_timeout, local, info, created_by, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '', $11, $12) RETURNING id",
    )
    .bind(&new.description)
    .bind(token_hash(&token))
    .bind(short(&token))
    .bind(json!(new.tags).to_string())
    .bind(i64::from(new.run_untagged))
    .bind(i64::from(new.protected))
    .bind(i64::from(new.trusted_only))
    .bind(i64::from(new.paused))
    .bind(project)
    .bind(new.maximum_timeout)
    .bind(&actor.name)
    .bind(now())
    .fetch_one(&mut *tx)
    .await?;
    let detail = json!({ "id": id, "tags": new.tags });
    audit(&mut tx, Audit { actor, action: "runner.create", project, subject: &new.description, detail })
        .await?;
    tx.commit().await?;
    app.wake.queue.notify_waiters();
    Ok((id, token))
}

/// All runners, or those of a project and those of all.
async fn all(app: &App, project: Option<i64>) -> Answer<Vec<Shown>> {
    let text = format!(
        "SELECT {} FROM runners WHERE $1 = 0 OR project_id IS NULL OR project_id = $2 ORDER BY id",
        Runner::COLUMNS
    );
    let query = sqlx::query_as::<_, Runner>(AssertSqlSafe(text));
    let query = query.bind(i64::from(project.is_some())).bind(project.unwrap_or(0));
    Ok(query.fetch_all(&app.db.pool).await?.into_iter().map(Shown::of).collect())
}

/// A runner that may be changed: one of the project, if one is named; never the server's own but to pause it.
async fn found(app: &App, project: Option<i64>, id: i64) -> Answer<Runner> {
    let text =
        format!("SELECT {} FROM runners WHERE id = $1 AND ($2 = 0 OR project_id = $3)", Runner::COLUMNS);
    let query = sqlx::query_as(AssertSqlSafe(text)).bind(id);
    let query = query.bind(i64::from(project.is_some())).bind(project.unwrap_or(0));
    query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("runner"))
}

async fn update(app: &App, actor: &Actor, runner: Runner, change: Change) -> Answer<Shown> {
    let before: Vec<String> = serde_json::from_str(&runner.tags).unwrap_or_default();
    let tags = change.tags.unwrap_or(before);
    let flag = |new: Option<bool>, old: i64| new.map_or(old, i64::from);
    let run_untagged = flag(change.run_untagged, runner.run_untagged);
    check(&tags, run_untagged != 0)?;
    let description = change.description.unwrap_or(runner.description);
    let mut tx = app.db.write().await?;
    sqlx::query(
        "UPDATE runners SET description = $1, tags = $2, run_untagged = $3, protected_only = $4, trusted_only = $5, \
         paused = $6, maximum_timeout = $7 WHERE id = $8",
    )
    .bind(&description)
    .bind(json!(tags).to_string())
    .bind(run_untagged)
    .bind(flag(change.protected, runner.protected_only))
    .bind(flag(change.trusted_only, runner.trusted_only))
    .bind(flag(change.paused, runner.paused))
    .bind(change.maximum_timeout.or(runner.maximum_timeout))
    .bind(runner.id)
    .execute(&mut *tx)
    .await?;
    let detail = json!({ "id": runner.id, "tags": tags, "paused": change.paused });
    let entry =
        Audit { actor, action: "runner.update", project: runner.project_id, subject: &description, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    app.wake.queue.notify_waiters();
    Ok(Shown::of(found(app, None, runner.id).await?))
}

async fn delete(app: &App, actor: &Actor, runner: Runner) -> Answer<StatusCode> {
    if runner.local != 0 {
        return Err(Problem::conflict("the server's own runner stays; pause it, or set `local_jobs: 0`"));
    }
    let mut tx = app.db.write().await?;
    sqlx::query("DELETE FROM runners WHERE id = $1").bind(runner.id).execute(&mut *tx).await?;
    let detail = json!({ "id": runner.id });
    let subject = &runner.description;
    audit(&mut tx, Audit { actor, action: "runner.delete", project: runner.project_id, subject, detail })
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn made(app: &App, id: i64, token: String) -> (StatusCode, Json<Token>) {
    let url = app.config.public_url();
    let next = format!(
        "register with it: `ci runner register --url {url} --token TOKEN`, or `gitlab-runner register --url {url} --token TOKEN`"
    );
    (StatusCode::CREATED, Json(Token { id: Some(id), token, next }))
}

/// All runners
#[utoipa::path(get, path = "/api/v1/runners", tag = "runners", responses((status = 200, body = Vec<Shown>)))]
async fn list(State(app): State<App>) -> Answer<Json<Vec<Shown>>> {
    Ok(Json(all(&app, None).await?))
}

/// Make a runner for all projects
///
/// The token is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/runners", tag = "runners", request_body = NewRunner, responses((status = 201, body = Token), (status = 400)))]
async fn make(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewRunner>,
) -> Answer<(StatusCode, Json<Token>)> {
    let (id, token) = create(&app, &actor, None, new, RUNNER_TOKEN).await?;
    Ok(made(&app, id, token))
}

/// Change a runner
#[utoipa::path(patch, path = "/api/v1/runners/{runner}", tag = "runners", params(("runner" = i64, Path)), request_body = Change, responses((status = 200, body = Shown), (status = 404)))]
async fn change(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<i64>,
    Json(change): Json<Change>,
) -> Answer<Json<Shown>> {
    let runner = found(&app, None, id).await?;
    Ok(Json(update(&app, &actor, runner, change).await?))
}

/// Remove a runner
#[utoipa::path(delete, path = "/api/v1/runners/{runner}", tag = "runners", params(("runner" = i64, Path)), responses((status = 204), (status = 404), (status = 409)))]
async fn remove(State(app): State<App>, actor: Actor, Path(id): Path<i64>) -> Answer<StatusCode> {
    let runner = found(&app, None, id).await?;
    delete(&app, &actor, runner).await
}

/// Allow runners to register themselves
///
/// The old way (`gitlab-runner register --registration-token`). A new token takes the place of an earlier one.
#[utoipa::path(post, path = "/api/v1/registration-token", tag = "runners", responses((status = 201, body = Token)))]
async fn allow_registration(State(app): State<App>, actor: Actor) -> Answer<(StatusCode, Json<Token>)> {
    let token = new_token("");
    set_registration(&app, &actor, Some(token_hash(&token))).await?;
    let url = app.config.public_url();
    let next = format!("`gitlab-runner register --url {url} --registration-token TOKEN`");
    Ok((StatusCode::CREATED, Json(Token { id: None, token, next })))
}

/// Forbid it again
#[utoipa::path(delete, path = "/api/v1/registration-token", tag = "runners", responses((status = 204)))]
async fn forbid_registration(State(app): State<App>, actor: Actor) -> Answer<StatusCode> {
    set_registration(&app, &actor, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_registration(app: &App, actor: &Actor, hash: Option<String>) -> Answer<()> {
    let mut tx = app.db.write().await?;
    sqlx::query("DELETE FROM meta WHERE key = 'registration_token'").execute(&mut *tx).await?;
    let action = if hash.is_some() { "registration_token.create" } else { "registration_token.delete" };
    if let Some(hash) = hash {
        let query = sqlx::query("INSERT INTO meta (key, value) VALUES ('registration_token', $1)");
        query.bind(hash).execute(&mut *tx).await?;
    }
    audit(&mut tx, Audit { actor, action, project: None, subject: "runners", detail: json!({}) }).await?;
    tx.commit().await?;
    Ok(())
}

/// Runners that take jobs of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/runners", tag = "runners", params(("project" = String, Path)), responses((status = 200, body = Vec<Shown>)))]
async fn list_of_project(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Shown>>> {
    let project = app.project(&project).await?;
    Ok(Json(all(&app, Some(project.id)).await?))
}

/// Make a runner for one project
#[utoipa::path(post, path = "/api/v1/projects/{project}/runners", tag = "runners", params(("project" = String, Path)), request_body = NewRunner, responses((status = 201, body = Token), (status = 400)))]
async fn make_for_project(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(new): Json<NewRunner>,
) -> Answer<(StatusCode, Json<Token>)> {
    let project = app.project(&project).await?;
    let (id, token) = create(&app, &actor, Some(project.id), new, RUNNER_TOKEN).await?;
    Ok(made(&app, id, token))
}

/// Change a project's runner
#[utoipa::path(patch, path = "/api/v1/projects/{project}/runners/{runner}", tag = "runners", params(("project" = String, Path), ("runner" = i64, Path)), request_body = Change, responses((status = 200, body = Shown), (status = 404)))]
async fn change_of_project(
    State(app): State<App>,
    actor: Actor,
    Path((project, id)): Path<(String, i64)>,
    Json(change): Json<Change>,
) -> Answer<Json<Shown>> {
    let project = app.project(&project).await?;
    let runner = found(&app, Some(project.id), id).await?;
    Ok(Json(update(&app, &actor, runner, change).await?))
}

/// Remove a project's runner
#[utoipa::path(delete, path = "/api/v1/projects/{project}/runners/{runner}", tag = "runners", params(("project" = String, Path), ("runner" = i64, Path)), responses((status = 204), (status = 404), (status = 409)))]
async fn remove_of_project(
    State(app): State<App>,
    actor: Actor,
    Path((project, id)): Path<(String, i64)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let runner = found(&app, Some(project.id), id).await?;
    delete(&app, &actor, runner).await
}
