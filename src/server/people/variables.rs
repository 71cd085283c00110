//! Variables and secrets of projects, and of all projects. Values go in, sealed, and come out in jobs only.

use crate::server::access::{Access, Actor};
use crate::server::db::now;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use std::fmt;
use utoipa_axum::routes;

/// Shorter values would mask half of every log.
const SHORTEST_MASKED: usize = 8;
const LONGEST: usize = 1 << 20;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Maintainer, routes!(list_variables))
        .api(Access::Maintainer, routes!(set_variable))
        .api(Access::Maintainer, routes!(remove_variable))
        .api(Access::Admin, routes!(list_variables_of_all))
        .api(Access::Admin, routes!(set_variable_of_all))
        .api(Access::Admin, routes!(remove_variable_of_all))
}

/// A variable, without its value.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(in crate::server) struct Row {
    id: i64,
    /// None: of all projects.
    project_id: Option<i64>,
    key: String,
    environment_scope: String,
    protected: i64,
    masked: i64,
    file: i64,
    raw: i64,
    updated_at: i64,
    updated_by: String,
    used_at: Option<i64>,
}

/// A variable, without its value: that is never shown again.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
struct Variable {
    id: i64,
    key: String,
    environment_scope: String,
    protected: bool,
    masked: bool,
    file: bool,
    raw: bool,
    /// Milliseconds since the epoch.
    updated_at: i64,
    updated_by: String,
    used_at: Option<i64>,
}

impl From<Row> for Variable {
    fn from(row: Row) -> Variable {
        Variable {
            id: row.id,
            key: row.key,
            environment_scope: row.environment_scope,
            protected: row.protected == 1,
            masked: row.masked == 1,
            file: row.file == 1,
            raw: row.raw == 1,
            updated_at: row.updated_at,
            updated_by: row.updated_by,
            used_at: row.used_at,
        }
    }
}

/// A variable to be set.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
struct NewVariable {
    /// Letters, digits and `_`.
    key: String,
    value: String,
    /// Jobs of which environments get it: a name, a pattern such as `review/*`, or `*`.
    #[serde(default = "NewVariable::everywhere")]
    environment_scope: String,
    /// For pipelines of protected refs only.
    #[serde(default)]
    protected: bool,
    /// Is not to be seen in logs.
    #[serde(default = "NewVariable::yes")]
    masked: bool,
    /// The variable holds the path of a file with the value.
    #[serde(default)]
    file: bool,
    /// `$` in the value is a `$`.
    #[serde(default)]
    raw: bool,
}

impl NewVariable {
    fn everywhere() -> String {
        "*".to_owned()
    }

    fn yes() -> bool {
        true
    }
}

impl fmt::Debug for NewVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewVariable").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The variables of a project and of all, or of all projects only.
///
/// # Errors
/// The database does not answer.
pub(in crate::server) async fn rows(app: &App, project: Option<i64>) -> Answer<Vec<Row>> {
    let text = "SELECT id, project_id, key, environment_scope, protected, masked, file, raw, updated_at, updated_by, used_at \
                FROM variables WHERE project_id = $1 OR project_id IS NULL ORDER BY key, environment_scope";
    Ok(sqlx::query_as(text).bind(project).fetch_all(&app.db.pool).await?)
}

async fn list(app: &App, project: Option<i64>) -> Answer<Json<Vec<Variable>>> {
    let rows = rows(app, project).await?.into_iter().filter(|row| row.project_id == project);
    Ok(Json(rows.map(Variable::from).collect()))
}

fn acceptable(new: &NewVariable) -> Answer<()> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = (1..=255).contains(&new.key.len())
        && new.key.chars().all(letter)
        && !new.key.starts_with(|c: char| c.is_ascii_digit());
    if !named {
        return Err(Problem::bad("a variable's name has letters, digits and `_`, and begins with no digit"));
    }
    if new.environment_scope.is_empty() || new.environment_scope.len() > 255 {
        return Err(Problem::bad("`environment_scope` is a name or a pattern; `*` means all environments"));
    }
    if new.value.len() > LONGEST || new.value.contains('\0') {
        return Err(Problem::bad("a value has at most 1 MiB and no NUL in it"));
    }
    if new.masked && new.value.chars().count() < SHORTEST_MASKED {
        return Err(Problem::bad(format!(
            "`{}` can't be masked: a value shorter than {SHORTEST_MASKED} characters would mask what is no secret; \
             take a longer one, or say `masked: false`",
            new.key
        )));
    }
    Ok(())
}

/// Sets a variable: of one name there is one for each environment scope.
async fn set(app: &App, actor: &Actor, project: Option<i64>, new: &NewVariable) -> Answer<i64> {
    acceptable(new)?;
    let mut tx = app.db.write().await?;
    let there: Option<(i64,)> = sqlx::query_as(
        "SELECT id FROM variables WHERE COALESCE(project_id, 0) = $1 AND key = $2 AND environment_scope = $3",
    )
    .bind(project.unwrap_or(0))
    .bind(&new.key)
    .bind(&new.environment_scope)
    .fetch_optional(&mut *tx)
    .await?;
    let id = match there {
        Some((id,)) => id,
        None => {
            let (id,): (i64,) = sqlx::query_as(
                "INSERT INTO variables (project_id, key, sealed, environment_scope, protected, masked, file, raw, \
                 updated_at, updated_by) VALUES ($1, $2, $3, $4, 0, 0, 0, 0, 0, '') RETURNING id",
            )
            .bind(project)
            .bind(&new.key)
            .bind(Vec::<u8>::new())
            .bind(&new.environment_scope)
            .fetch_one(&mut *tx)
            .await?;
            id
        }
    };
    sqlx::query(
        "UPDATE variables SET sealed = $1, protected = $2, masked = $3, file = $4, raw = $5, updated_at = $6, \
         updated_by = $7 WHERE id = $8",
    )
    .bind(app.vault.seal(&format!("variable:{id}"), new.value.as_bytes()))
    .bind(i64::from(new.protected))
    .bind(i64::from(new.masked))
    .bind(i64::from(new.file))
    .bind(i64::from(new.raw))
    .bind(now())
    .bind(&actor.name)
    .bind(id)
    .execute(&mut *tx)
    .await?;
    let detail = json!({
        "environment_scope": new.environment_scope, "protected": new.protected, "masked": new.masked,
        "new": there.is_none(),
    });
    audit(&mut tx, Audit { actor, action: "variable.set", project, subject: &new.key, detail }).await?;
    tx.commit().await?;
    Ok(id)
}

async fn remove(app: &App, actor: &Actor, project: Option<i64>, variable: i64) -> Answer<()> {
    let mut tx = app.db.write().await?;
    let gone: Option<(String, String)> = sqlx::query_as(
        "DELETE FROM variables WHERE id = $1 AND COALESCE(project_id, 0) = $2 RETURNING key, environment_scope",
    )
    .bind(variable)
    .bind(project.unwrap_or(0))
    .fetch_optional(&mut *tx)
    .await?;
    let (key, scope) = gone.ok_or_else(|| Problem::not_found("variable"))?;
    let detail = json!({ "environment_scope": scope });
    audit(&mut tx, Audit { actor, action: "variable.remove", project, subject: &key, detail }).await?;
    tx.commit().await?;
    Ok(())
}

/// A variable that was set.
#[derive(Serialize, utoipa::ToSchema)]
struct Stored {
    id: i64,
}

/// Variables of a project, without their values
#[utoipa::path(get, path = "/api/v1/projects/{project}/variables", tag = "variables",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<Variable>)))]
async fn list_variables(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Variable>>> {
    let project = app.project(&project).await?;
    list(&app, Some(project.id)).await
}

/// Set a variable of a project
#[utoipa::path(post, path = "/api/v1/projects/{project}/variables", tag = "variables", request_body = NewVariable,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Stored), (status = 400, description = "wrong name, or too short to be masked")))]
async fn set_variable(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(new): Json<NewVariable>,
) -> Answer<Json<Stored>> {
    let project = app.project(&project).await?;
    Ok(Json(Stored { id: set(&app, &actor, Some(project.id), &new).await? }))
}

/// Remove a variable of a project
#[utoipa::path(delete, path = "/api/v1/projects/{project}/variables/{variable}", tag = "variables",
    params(("project" = String, Path, description = "number, or path with %2F"), ("variable" = i64, Path, description = "its number")),
    responses((status = 204, description = "gone"), (status = 404, description = "no such variable")))]
async fn remove_variable(
    State(app): State<App>,
    actor: Actor,
    Path((project, variable)): Path<(String, i64)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    remove(&app, &actor, Some(project.id), variable).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Variables of all projects, without their values
#[utoipa::path(get, path = "/api/v1/variables", tag = "variables", responses((status = 200, body = Vec<Variable>)))]
async fn list_variables_of_all(State(app): State<App>) -> Answer<Json<Vec<Variable>>> {
    list(&app, None).await
}

/// Set a variable of all projects
#[utoipa::path(post, path = "/api/v1/variables", tag = "variables", request_body = NewVariable,
    responses((status = 200, body = Stored), (status = 400, description = "wrong name, or too short to be masked")))]
async fn set_variable_of_all(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewVariable>,
) -> Answer<Json<Stored>> {
    Ok(Json(Stored { id: set(&app, &actor, None, &new).await? }))
}

/// Remove a variable of all projects
#[utoipa::path(delete, path = "/api/v1/variables/{variable}", tag = "variables",
    params(("variable" = i64, Path, description = "its number")),
    responses((status = 204, description = "gone"), (status = 404, description = "no such variable")))]
async fn remove_variable_of_all(
    State(app): State<App>,
    actor: Actor,
    Path(variable): Path<i64>,
) -> Answer<StatusCode> {
    remove(&app, &actor, None, variable).await?;
    Ok(StatusCode::NO_CONTENT)
}
