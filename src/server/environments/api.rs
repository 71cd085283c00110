//! The routes of environments.

use super::approval::{Said, vote};
use super::carry;
use super::desk::Desk;
use super::grid::{Row, grid, look_key, row};
use super::jobs;
use super::request::{Wanted, request};
use super::rows::{Bundle, Deployment, Vote, bundles};
use crate::bundle::receipt::{Receipt, verified};
use crate::error::CliError;
use crate::ledger::{Entry, Fact, Mark, standing};
use crate::promotion::approval::allowed_signers;
use crate::server::access::{Access, Actor, allows};
use crate::server::app::Changed;
use crate::server::db::now;
use crate::server::engine::{self, Trust};
use crate::server::routes::Routes;
use crate::server::rows::{Audit, Project, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::routes;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    let unlimited = put(jobs::keep).layer(DefaultBodyLimit::disable());
    let receipts = "/api/v1/projects/{project}/environments/{environment}/receipts";
    let download = "/api/v1/projects/{project}/bundles/{bundle}/file";
    routes
        .api(Access::SignedIn, routes!(all))
        .api(Access::Viewer, routes!(of_project))
        .api(Access::Viewer, routes!(one))
        .api(Access::Viewer, routes!(deployments))
        .api(Access::Viewer, routes!(deployment))
        .api(Access::Deployer, routes!(ask))
        .api(Access::Viewer, routes!(approve))
        .api(Access::Viewer, routes!(reject))
        .api(Access::Deployer, routes!(cancel))
        .api(Access::Deployer, routes!(lock))
        .api(Access::Deployer, routes!(unlock))
        .api(Access::Deployer, routes!(mark))
        .api(Access::Deployer, routes!(look))
        .page(Method::GET, download, Access::Viewer, get(bundle_file))
        .page(Method::POST, receipts, Access::Deployer, post(receipt))
        .page(Method::POST, "/api/v4/jobs/ledger", Access::Public, post(jobs::tell))
        .page(Method::PUT, "/api/v4/jobs/packages", Access::Public, unlimited)
}

/// What the last look at the targets of an environment said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Look {
    /// `well`, `drift`, or what could not be told.
    pub(super) health: String,
    /// Targets that run other code than they should.
    pub(super) drift: u32,
    /// When, in milliseconds since the epoch.
    pub(super) at: i64,
}

/// Which version of which project is where
#[utoipa::path(get, path = "/api/v1/environments", tag = "environments", responses((status = 200, body = [Row])))]
async fn all(State(app): State<App>, actor: Actor) -> Answer<Json<Vec<Row>>> {
    let projects: Vec<Project> =
        sqlx::query_as("SELECT * FROM projects ORDER BY path").fetch_all(&app.db.pool).await?;
    let mut rows = Vec::new();
    for project in projects {
        if allows(&app, &actor, project.id, Access::Viewer, None).await? {
            rows.extend(grid(&app, &project).await?);
        }
    }
    Ok(Json(rows))
}

/// Which version of a project is where
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments", tag = "environments",
    params(("project" = String, Path)), responses((status = 200, body = Row)))]
async fn of_project(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<Row>> {
    let project = app.project(&name).await?;
    let row = grid(&app, &project).await?;
    row.map(Json).ok_or_else(|| Problem::not_found("`.ci/deploy.yml` on the default branch"))
}

/// An environment: what is there, what happened.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct One {
    /// What is there.
    pub cell: super::Cell,
    /// Newest first, as the ledger has them.
    #[schema(value_type = Vec<Object>)]
    pub history: Vec<Entry>,
    /// Those that were asked for, newest first.
    pub deployments: Vec<Deployment>,
    /// Newest first.
    pub bundles: Vec<Bundle>,
    /// Versions that are marked bad, with the reason.
    pub bad: Vec<(String, String)>,
    /// Versions that are kept, newest first.
    pub releases: Vec<String>,
}

/// One environment of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), responses((status = 200, body = One)))]
async fn one(State(app): State<App>, Path((name, environment)): Path<(String, String)>) -> Answer<Json<One>> {
    let project = app.project(&name).await?;
    let about = about(&app, &project, &environment).await?;
    about.map(Json).ok_or_else(|| Problem::not_found("environment"))
}

/// One environment of a project; none: `.ci/deploy.yml` does not name it.
///
/// # Errors
/// The ledger can't be read; or the database does not answer.
pub async fn about(app: &App, project: &Project, environment: &str) -> Answer<Option<One>> {
    // a project whose branch was not fetched yet has no environments yet
    let Ok(desk) = Desk::of(app, project).await else { return Ok(None) };
    let Some(row) = row(app, project, &desk).await? else { return Ok(None) };
    let Some(cell) = row.cells.into_iter().find(|cell| cell.environment == environment) else {
        return Ok(None);
    };
    let entries = desk.entries()?;
    let mut releases: Vec<String> = Vec::new();
    for entry in entries.iter().rev() {
        if let Fact::Release(released) = &entry.fact
            && !releases.contains(&released.version)
        {
            releases.push(released.version.clone());
        }
    }
    let bad = releases.iter().filter_map(|version| {
        standing::bad(entries, environment, version).map(|mark| (version.clone(), mark.reason.clone()))
    });
    let bad = bad.collect();
    let mut history: Vec<Entry> = standing::history(entries, environment).cloned().collect();
    history.reverse();
    let mut deployments = Deployment::newest(app, project.id, 200).await?;
    deployments.retain(|deployment| deployment.environment == environment);
    let mut bundles = bundles(app, project.id).await?;
    bundles.retain(|bundle| bundle.environment == environment);
    Ok(Some(One { cell, history, deployments, bundles, bad, releases }))
}

/// The newest deployments of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/deployments", tag = "environments",
    params(("project" = String, Path)), responses((status = 200, body = [Deployment])))]
async fn deployments(State(app): State<App>, Path(name): Path<String>) -> Answer<Json<Vec<Deployment>>> {
    let project = app.project(&name).await?;
    Ok(Json(Deployment::newest(&app, project.id, 200).await?))
}

/// A deployment with what people said and what it printed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Whole {
    #[serde(flatten)]
    deployment: Deployment,
    votes: Vec<Vote>,
    log: String,
    result: String,
}

/// One deployment
#[utoipa::path(get, path = "/api/v1/projects/{project}/deployments/{deployment}", tag = "environments",
    params(("project" = String, Path), ("deployment" = i64, Path)), responses((status = 200, body = Whole)))]
async fn deployment(State(app): State<App>, Path((name, id)): Path<(String, i64)>) -> Answer<Json<Whole>> {
    let project = app.project(&name).await?;
    let deployment = Deployment::find(&app, project.id, id).await?;
    let step = if deployment.started_at.is_some() { "run" } else { "plan" };
    let (log, result) = (carry::log(&app, id, step), carry::output(&app, id, step));
    Ok(Json(Whole { votes: deployment.votes(&app).await?, deployment, log, result }))
}

/// Asks for a promotion, a rollback or a bundle
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/deployments", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = Wanted,
    responses((status = 201, body = Deployment), (status = 409, description = "a rule forbids it")))]
async fn ask(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
    actor: Actor,
    Json(wanted): Json<Wanted>,
) -> Answer<(StatusCode, Json<Deployment>)> {
    let project = app.project(&name).await?;
    if !wanted.set_aside.is_empty() && !allows(&app, &actor, project.id, Access::Maintainer, None).await? {
        return Err(Problem::forbidden("only a maintainer sets a rule aside"));
    }
    let deployment = request(&app, &project, &environment, wanted, &actor).await?;
    Ok((StatusCode::CREATED, Json(deployment)))
}

/// Agrees to a deployment
#[utoipa::path(post, path = "/api/v1/projects/{project}/deployments/{deployment}/approve", tag = "environments",
    params(("project" = String, Path), ("deployment" = i64, Path)), request_body = Said,
    responses((status = 200, body = Deployment), (status = 403), (status = 409)))]
async fn approve(
    State(app): State<App>,
    Path(which): Path<(String, i64)>,
    actor: Actor,
    Json(said): Json<Said>,
) -> Answer<Json<Deployment>> {
    voted(&app, which, &actor, true, &said).await
}

/// Says no to a deployment
#[utoipa::path(post, path = "/api/v1/projects/{project}/deployments/{deployment}/reject", tag = "environments",
    params(("project" = String, Path), ("deployment" = i64, Path)), request_body = Said,
    responses((status = 200, body = Deployment), (status = 403), (status = 409)))]
async fn reject(
    State(app): State<App>,
    Path(which): Path<(String, i64)>,
    actor: Actor,
    Json(said): Json<Said>,
) -> Answer<Json<Deployment>> {
    voted(&app, which, &actor, false, &said).await
}

async fn voted(
    app: &App,
    (name, id): (String, i64),
    actor: &Actor,
    yes: bool,
    said: &Said,
) -> Answer<Json<Deployment>> {
    let project = app.project(&name).await?;
    let deployment = Deployment::find(app, project.id, id).await?;
    vote(app, &project, &deployment, actor, yes, said).await.map(Json)
}

/// Withdraws a deployment that has not begun
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/deployments/{deployment}",
    tag = "environments", params(("project" = String, Path), ("environment" = String, Path), ("deployment" = i64, Path)),
    responses((status = 200, body = Deployment), (status = 409)))]
async fn cancel(
    State(app): State<App>,
    Path((name, environment, id)): Path<(String, String, i64)>,
    actor: Actor,
) -> Answer<Json<Deployment>> {
    let project = app.project(&name).await?;
    let deployment = Deployment::find(&app, project.id, id).await?;
    if deployment.environment != environment {
        return Err(Problem::not_found("deployment"));
    }
    let reason = format!("withdrawn by {}", actor.name);
    let open = ["planning", "waiting", "queued"].contains(&deployment.status.as_str());
    if !open || !deployment.advance(&app, &deployment.status, "canceled", &reason).await? {
        return Err(Problem::conflict("it has begun or ended: it can't be withdrawn"));
    }
    record(&app, &actor, "deployment.cancel", &project, &environment, json!({ "deployment": id })).await?;
    Deployment::find(&app, project.id, id).await.map(Json)
}

/// Why something is done.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct Reason {
    reason: String,
}

/// Locks an environment: nothing is deployed there until it is unlocked
#[utoipa::path(put, path = "/api/v1/projects/{project}/environments/{environment}/lock", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = Reason,
    responses((status = 204), (status = 409, description = "somebody holds it")))]
async fn lock(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
    actor: Actor,
    Json(Reason { reason }): Json<Reason>,
) -> Answer<StatusCode> {
    let project = app.project(&name).await?;
    if reason.trim().is_empty() {
        return Err(Problem::bad("say why: `reason`"));
    }
    let text = "INSERT INTO environment_locks (project_id, environment, by_whom, reason, at) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project_id, environment) DO NOTHING";
    let query =
        sqlx::query(text).bind(project.id).bind(&environment).bind(&actor.name).bind(&reason).bind(now());
    if query.execute(&app.db.pool).await?.rows_affected() == 0 {
        return Err(Problem::conflict("it is locked already: unlock it first, which is recorded"));
    }
    record(&app, &actor, "environment.lock", &project, &environment, json!({ "reason": reason })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unlocks an environment, whoever locked it
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/lock", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), responses((status = 204)))]
async fn unlock(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
    actor: Actor,
) -> Answer<StatusCode> {
    let project = app.project(&name).await?;
    let text = "DELETE FROM environment_locks WHERE project_id = $1 AND environment = $2";
    sqlx::query(text).bind(project.id).bind(&environment).execute(&app.db.pool).await?;
    record(&app, &actor, "environment.unlock", &project, &environment, json!({})).await?;
    app.wake.deployments.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// A mark on a version.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
struct Marked {
    version: String,
    reason: String,
    /// False: it is good again.
    bad: bool,
}

/// Marks a version as bad for an environment, or as good again
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/marks", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = Marked,
    responses((status = 204)))]
async fn mark(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
    actor: Actor,
    Json(marked): Json<Marked>,
) -> Answer<StatusCode> {
    let project = app.project(&name).await?;
    let Marked { version, reason, bad } = marked;
    if version.is_empty() || reason.trim().is_empty() {
        return Err(Problem::bad("say which version and why: `version`, `reason`"));
    }
    let detail = json!({ "version": version, "reason": reason });
    let mark = Mark { environment: environment.clone(), version, reason };
    let (fact, action) = match bad {
        true => (Fact::Bad(mark), "release.block"),
        false => (Fact::Cleared(mark), "release.clear"),
    };
    let (ledger, by) = (Desk::of(&app, &project).await?.ledger, actor.name.clone());
    let done = tokio::task::spawn_blocking(move || ledger.append_by(fact, by)).await;
    done.map_err(|e| Problem::internal("writing the ledger", &e))?
        .map_err(|e| Problem::conflict(e.message))?;
    record(&app, &actor, action, &project, &environment, detail).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks the targets of an environment what runs there
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/look", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), responses((status = 200, body = Object)))]
async fn look(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
) -> Answer<Json<serde_json::Value>> {
    let project = app.project(&name).await?;
    let desk = Desk::of(&app, &project).await?;
    let known = desk.file()?.is_some_and(|file| file.environments.contains_key(&environment));
    if !known {
        return Err(Problem::not_found("environment"));
    }
    let exe = std::env::current_exe().map_err(|e| Problem::internal("finding our own executable", &e))?;
    let mut command = tokio::process::Command::new(exe);
    command.args(["env", "status", "--format", "json", "--"]).arg(&environment);
    command.current_dir(&desk.root).env("SLIPWAY_HOME", &desk.home).env("NO_COLOR", "1");
    let variables = engine::variables(&app, project.id, Trust::FULL).await?;
    let (runtime, scope) = (app.dir("runtime"), environment.clone());
    let prepare = move || -> std::io::Result<_> {
        let secrets = tempfile::tempdir_in(runtime)?;
        carry::give(command.as_std_mut(), &variables, &scope, secrets.path())?;
        command.stdin(desk.hold()?);
        Ok((command, secrets))
    };
    let prepared = tokio::task::spawn_blocking(prepare).await;
    let prepared = prepared.map_err(|e| Problem::internal("asking the targets", &e))?;
    let (mut command, _secrets) = prepared.map_err(|e| Problem::internal("asking the targets", &e))?;
    let output = command.kill_on_drop(true).output().await;
    let output = output.map_err(|e| Problem::internal("asking the targets", &e))?;
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| Problem::conflict(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    let targets =
        seen.pointer("/0/targets").and_then(|targets| targets.as_array()).cloned().unwrap_or_default();
    let drift = targets.iter().filter(|t| t["drift"].as_array().is_some_and(|list| !list.is_empty())).count();
    let untold = targets.iter().find(|target| !target["error"].is_null());
    let health = match (untold, drift) {
        (Some(target), _) => format!("{}: {}", text(&target["destination"]), text(&target["error"])),
        (None, 0) => "well".to_owned(),
        (None, n) => format!("{n} of {} run other code than they should", targets.len()),
    };
    let looked = Look { health, drift: u32::try_from(drift).unwrap_or(u32::MAX), at: now() };
    let value = serde_json::to_string(&looked).map_err(|e| Problem::internal("keeping what was seen", &e))?;
    let keep = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    sqlx::query(keep).bind(look_key(project.id, &environment)).bind(value).execute(&app.db.pool).await?;
    app.changed(Changed::Environment { project: project.id });
    Ok(Json(seen))
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The file of a bundle.
async fn bundle_file(State(app): State<App>, Path((name, id)): Path<(String, i64)>) -> Answer<Response> {
    let project = app.project(&name).await?;
    let row: Option<(i64, String, i64)> =
        sqlx::query_as("SELECT deployment_id, filename, size FROM bundles WHERE id = $1 AND project_id = $2")
            .bind(id)
            .bind(project.id)
            .fetch_optional(&app.db.pool)
            .await?;
    let (deployment, filename, size) = row.ok_or_else(|| Problem::not_found("bundle"))?;
    let path = carry::dir(&app, deployment).join(&filename);
    let file = tokio::fs::File::open(&path).await.map_err(|e| Problem::internal("reading a bundle", &e))?;
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{filename}\"")),
    ];
    Ok((headers, Body::from_stream(tokio_util::io::ReaderStream::new(file))).into_response())
}

/// A report of `install.sh`: what a bundle did where we can't reach.
async fn receipt(
    State(app): State<App>,
    Path((name, environment)): Path<(String, String)>,
    actor: Actor,
    body: Bytes,
) -> Answer<Json<Entry>> {
    let project = app.project(&name).await?;
    let receipt: Receipt =
        serde_json::from_slice(&body).map_err(|e| Problem::bad(format!("the report can't be read: {e}")))?;
    if receipt.environment != environment {
        return Err(Problem::bad(format!(
            "the report is of `{}`, not of `{environment}`",
            receipt.environment
        )));
    }
    let desk = Desk::of(&app, &project).await?;
    let people = desk.file()?.map(|file| file.people.clone()).unwrap_or_default();
    let by = actor.name.clone();
    let import = move || {
        let failed = |e: std::io::Error| CliError::failed(format!("keeping the report: {e}"));
        let file = tempfile::NamedTempFile::new().map_err(failed)?;
        std::fs::write(file.path(), &body).map_err(failed)?;
        let allowed = allowed_signers(&people, &desk.root, crate::signature::RECEIPT)?;
        desk.ledger.append_by(verified(file.path(), &desk.ledger, &allowed)?, by)
    };
    let done =
        tokio::task::spawn_blocking(import).await.map_err(|e| Problem::internal("reading a receipt", &e))?;
    let entry = done.map_err(|e| Problem::bad(e.message))?;
    record(&app, &actor, "receipt.import", &project, &environment, json!({ "entry": entry.seq })).await?;
    Ok(Json(entry))
}

async fn record(
    app: &App,
    actor: &Actor,
    action: &str,
    project: &Project,
    subject: &str,
    detail: serde_json::Value,
) -> Answer<()> {
    let mut tx = app.db.write().await?;
    audit(&mut tx, Audit { actor, action, project: Some(project.id), subject, detail }).await?;
    tx.commit().await?;
    app.changed(Changed::Environment { project: project.id });
    Ok(())
}
