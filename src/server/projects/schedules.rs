//! Pipelines by the clock.

use crate::server::access::{Access, Actor};
use crate::server::db::now;
use crate::server::hooks::event::is_ref;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::schedules::{next, run_now};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(list_schedules))
        .api(Access::Developer, routes!(add_schedule))
        .api(Access::Developer, routes!(change_schedule))
        .api(Access::Developer, routes!(remove_schedule))
        .api(Access::Developer, routes!(run_schedule))
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    description: String,
    #[sqlx(rename = "ref")]
    reference: String,
    cron: String,
    timezone: String,
    variables: String,
    active: i64,
    owner: String,
    next_at: Option<i64>,
    last_pipeline: Option<i64>,
}

const COLUMNS: &str =
    "id, description, ref, cron, timezone, variables, active, owner, next_at, last_pipeline";

/// A schedule. Values of its variables are not shown.
#[derive(Debug, Serialize, ToSchema)]
struct Schedule {
    id: i64,
    description: String,
    /// Branch or tag.
    #[serde(rename = "ref")]
    reference: String,
    /// Minute, hour, day of the month, month, day of the week; or `@daily` and such.
    cron: String,
    /// As in `Europe/Berlin`.
    timezone: String,
    /// Names of its variables.
    variables: Vec<String>,
    active: bool,
    owner: String,
    /// Milliseconds since the epoch; none: it is not active.
    next_at: Option<i64>,
    last_pipeline: Option<i64>,
}

impl From<Row> for Schedule {
    fn from(row: Row) -> Schedule {
        let variables: BTreeMap<String, String> = serde_json::from_str(&row.variables).unwrap_or_default();
        Schedule {
            id: row.id,
            description: row.description,
            reference: row.reference,
            cron: row.cron,
            timezone: row.timezone,
            variables: variables.into_keys().collect(),
            active: row.active == 1,
            owner: row.owner,
            next_at: row.next_at,
            last_pipeline: row.last_pipeline,
        }
    }
}

/// A schedule to be made; to change one, only what is given.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ScheduleWish)]
struct Wish {
    description: Option<String>,
    /// Branch or tag.
    #[serde(rename = "ref")]
    reference: Option<String>,
    cron: Option<String>,
    /// [default: UTC]
    timezone: Option<String>,
    /// All of them, by name.
    variables: Option<BTreeMap<String, String>>,
    /// [default: true]
    active: Option<bool>,
}

impl Row {
    /// With the wish fulfilled, and when it is due next.
    fn with(mut self, wish: Wish) -> Answer<Row> {
        self.description = wish.description.unwrap_or(self.description);
        self.reference = wish.reference.unwrap_or(self.reference);
        self.cron = wish.cron.unwrap_or(self.cron);
        self.timezone = wish.timezone.unwrap_or(self.timezone);
        if let Some(variables) = wish.variables {
            let name = |key: &String| {
                !key.is_empty()
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                    && key.len() <= 255
            };
            if let Some(bad) = variables.keys().find(|key| !name(key)) {
                return Err(Problem::bad(format!("`{bad}` is no name of a variable")));
            }
            self.variables = json!(variables).to_string();
        }
        self.active = wish.active.map_or(self.active, i64::from);
        if !is_ref(&format!("refs/heads/{}", self.reference)) {
            return Err(Problem::bad("`ref` is no name of a branch or tag"));
        }
        let next = next(&self.cron, &self.timezone, now()).map_err(Problem::bad)?;
        self.next_at = (self.active == 1).then_some(next);
        Ok(self)
    }
}

async fn read(app: &App, project: i64, id: i64) -> Answer<Row> {
    let text = format!("SELECT {COLUMNS} FROM schedules WHERE id = $1 AND project_id = $2");
    let row =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(id).bind(project).fetch_optional(&app.db.pool).await?;
    row.ok_or_else(|| Problem::not_found("schedule"))
}

/// Schedules of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/schedules", tag = "schedules",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<Schedule>), (status = 404)))]
async fn list_schedules(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Schedule>>> {
    let project = app.project(&project).await?;
    let text = format!("SELECT {COLUMNS} FROM schedules WHERE project_id = $1 ORDER BY id");
    let rows: Vec<Row> =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(project.id).fetch_all(&app.db.pool).await?;
    Ok(Json(rows.into_iter().map(Schedule::from).collect()))
}

/// Makes a schedule
#[utoipa::path(post, path = "/api/v1/projects/{project}/schedules", tag = "schedules", request_body = Wish,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 201, body = Schedule), (status = 400), (status = 404)))]
async fn add_schedule(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(wish): Json<Wish>,
) -> Answer<(StatusCode, Json<Schedule>)> {
    let project = app.project(&project).await?;
    let empty = Row {
        id: 0,
        description: String::new(),
        reference: project.default_branch.clone(),
        cron: String::new(),
        timezone: "UTC".to_owned(),
        variables: "{}".to_owned(),
        active: 1,
        owner: actor.name.clone(),
        next_at: None,
        last_pipeline: None,
    };
    let mut row = empty.with(wish)?;
    let mut tx = app.db.write().await?;
    let text = "INSERT INTO schedules (project_id, description, ref, cron, timezone, variables, active, owner, next_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id";
    let insert =
        sqlx::query_scalar(text).bind(project.id).bind(&row.description).bind(&row.reference).bind(&row.cron);
    let insert =
        insert.bind(&row.timezone).bind(&row.variables).bind(row.active).bind(&row.owner).bind(row.next_at);
    row.id = insert.fetch_one(&mut *tx).await?;
    let detail = json!({ "id": row.id, "cron": row.cron, "timezone": row.timezone, "ref": row.reference });
    let entry = Audit {
        actor: &actor,
        action: "schedule.create",
        project: Some(project.id),
        subject: &row.description,
        detail,
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(row.into())))
}

/// Changes a schedule; who changes it owns it from then on
#[utoipa::path(patch, path = "/api/v1/projects/{project}/schedules/{schedule}", tag = "schedules", request_body = Wish,
    params(("project" = String, Path, description = "number, or path with %2F"), ("schedule" = i64, Path)),
    responses((status = 200, body = Schedule), (status = 400), (status = 404)))]
async fn change_schedule(
    State(app): State<App>,
    actor: Actor,
    Path((project, schedule)): Path<(String, i64)>,
    Json(wish): Json<Wish>,
) -> Answer<Json<Schedule>> {
    let project = app.project(&project).await?;
    let mut row = read(&app, project.id, schedule).await?.with(wish)?;
    // its pipelines run in the name of whoever last had a hand in it, and with no more rights
    row.owner.clone_from(&actor.name);
    let mut tx = app.db.write().await?;
    let text = "UPDATE schedules SET description = $1, ref = $2, cron = $3, timezone = $4, variables = $5, active = $6, \
                owner = $7, next_at = $8 WHERE id = $9 AND project_id = $10";
    let update =
        sqlx::query(text).bind(&row.description).bind(&row.reference).bind(&row.cron).bind(&row.timezone);
    let update = update.bind(&row.variables).bind(row.active).bind(&row.owner).bind(row.next_at);
    update.bind(schedule).bind(project.id).execute(&mut *tx).await?;
    let detail = json!({ "id": schedule, "cron": row.cron, "ref": row.reference, "active": row.active == 1 });
    let entry = Audit {
        actor: &actor,
        action: "schedule.change",
        project: Some(project.id),
        subject: &row.description,
        detail,
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Json(row.into()))
}

/// Removes a schedule
#[utoipa::path(delete, path = "/api/v1/projects/{project}/schedules/{schedule}", tag = "schedules",
    params(("project" = String, Path, description = "number, or path with %2F"), ("schedule" = i64, Path)),
    responses((status = 204), (status = 404)))]
async fn remove_schedule(
    State(app): State<App>,
    actor: Actor,
    Path((project, schedule)): Path<(String, i64)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let row = read(&app, project.id, schedule).await?;
    let mut tx = app.db.write().await?;
    let text = "DELETE FROM schedules WHERE id = $1 AND project_id = $2";
    sqlx::query(text).bind(schedule).bind(project.id).execute(&mut *tx).await?;
    let entry = Audit {
        actor: &actor,
        action: "schedule.remove",
        project: Some(project.id),
        subject: &row.description,
        detail: json!({ "id": schedule }),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a schedule has started.
#[derive(Serialize, ToSchema)]
#[schema(as = ScheduleStarted)]
struct Started {
    /// Its number.
    pipeline: i64,
}

/// Starts a schedule's pipeline now, in the name of who asks; when it is due next stays as it is
#[utoipa::path(post, path = "/api/v1/projects/{project}/schedules/{schedule}/run", tag = "schedules",
    params(("project" = String, Path, description = "number, or path with %2F"), ("schedule" = i64, Path)),
    responses((status = 201, body = Started), (status = 404), (status = 422, description = "it has no jobs")))]
async fn run_schedule(
    State(app): State<App>,
    actor: Actor,
    Path((project, schedule)): Path<(String, i64)>,
) -> Answer<(StatusCode, Json<Started>)> {
    let project = app.project(&project).await?;
    let row = read(&app, project.id, schedule).await?;
    let pipeline = run_now(&app, schedule, &actor.name).await?;
    let mut tx = app.db.write().await?;
    let entry = Audit {
        actor: &actor,
        action: "schedule.run",
        project: Some(project.id),
        subject: &row.description,
        detail: json!({ "id": schedule, "pipeline": pipeline }),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Started { pipeline })))
}
