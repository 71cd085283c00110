//! Who has which role in a project, or in all projects.

use super::accounts::Account;
use super::roles::access_of;
use crate::server::access::{Access, Actor};
use crate::server::pages::{Place, page};
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Form, Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use utoipa_axum::routes;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    let (shown, removed) = ("/projects/{project}/members", "/projects/{project}/members/{member}/remove");
    routes
        .api(Access::Maintainer, routes!(list_members))
        .api(Access::Maintainer, routes!(set_member))
        .api(Access::Maintainer, routes!(remove_member))
        .api(Access::Admin, routes!(list_members_of_all))
        .api(Access::Admin, routes!(set_member_of_all))
        .api(Access::Admin, routes!(remove_member_of_all))
        .page(Method::GET, shown, Access::Maintainer, get(show))
        .page(Method::POST, shown, Access::Maintainer, post(submit))
        .page(Method::POST, removed, Access::Maintainer, post(remove_here))
        .page(Method::POST, "/admin/members", Access::Admin, post(submit_for_all))
        .page(Method::POST, "/admin/members/{member}/remove", Access::Admin, post(remove_for_all))
}

/// A person's role.
#[derive(Clone, Debug, FromRow, Serialize, utoipa::ToSchema)]
pub(super) struct Member {
    /// Of the membership.
    id: i64,
    /// Name of the account.
    user: String,
    display: String,
    /// `viewer`, `developer`, `deployer`, `maintainer`.
    role: String,
    /// Of a deployer: its name, or `*`.
    environment: String,
}

/// A role to be given.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub(super) struct NewMember {
    /// Name of the account.
    user: String,
    /// `viewer`, `developer`, `deployer`, `maintainer`. A deployer may also what a developer may.
    role: String,
    /// Of a deployer: its name, or `*` for all.
    #[serde(default)]
    environment: String,
}

/// Members of a project; none: of all projects.
pub(super) async fn list(app: &App, project: Option<i64>) -> Answer<Vec<Member>> {
    let query = sqlx::query_as(
        "SELECT m.id, u.name AS user, u.display, m.role, m.environment FROM members m JOIN users u ON u.id = m.user_id \
         WHERE COALESCE(m.project_id, 0) = $1 ORDER BY u.name, m.environment",
    );
    Ok(query.bind(project.unwrap_or(0)).fetch_all(&app.db.pool).await?)
}

/// Gives a role. It takes the place of the one that the person had there; only of environments to deploy to somebody may
/// have several.
async fn set(app: &App, actor: &Actor, project: Option<i64>, new: &NewMember) -> Answer<()> {
    let access = access_of(&new.role).ok_or_else(|| {
        Problem::bad(format!(
            "`{}` is no role: there are viewer, developer, deployer and maintainer",
            new.role
        ))
    })?;
    let environment = match (access, new.environment.trim()) {
        (Access::Deployer, "") => {
            return Err(Problem::bad("say which environment to deploy to, or `*` for all"));
        }
        (Access::Deployer, environment) => environment,
        _ => "",
    };
    let account = Account::by_name(app, &new.user).await?;
    let account = account.ok_or_else(|| Problem::not_found(&format!("account as `{}`", new.user)))?;
    let mut tx = app.db.write().await?;
    sqlx::query(
        "DELETE FROM members WHERE user_id = $1 AND COALESCE(project_id, 0) = $2 \
         AND ($3 <> 'deployer' OR role <> 'deployer' OR environment = $4)",
    )
    .bind(account.id)
    .bind(project.unwrap_or(0))
    .bind(&new.role)
    .bind(environment)
    .execute(&mut *tx)
    .await?;
    sqlx::query("INSERT INTO members (user_id, project_id, role, environment) VALUES ($1, $2, $3, $4)")
        .bind(account.id)
        .bind(project)
        .bind(&new.role)
        .bind(environment)
        .execute(&mut *tx)
        .await?;
    let detail = json!({ "role": new.role, "environment": environment });
    audit(&mut tx, Audit { actor, action: "member.set", project, subject: &new.user, detail }).await?;
    tx.commit().await?;
    Ok(())
}

async fn remove(app: &App, actor: &Actor, project: Option<i64>, member: i64) -> Answer<()> {
    let mut tx = app.db.write().await?;
    let gone: Option<(i64, String, String)> = sqlx::query_as(
        "DELETE FROM members WHERE id = $1 AND COALESCE(project_id, 0) = $2 RETURNING user_id, role, environment",
    )
    .bind(member)
    .bind(project.unwrap_or(0))
    .fetch_optional(&mut *tx)
    .await?;
    let (user, role, environment) = gone.ok_or_else(|| Problem::not_found("member"))?;
    let (name,): (String,) =
        sqlx::query_as("SELECT name FROM users WHERE id = $1").bind(user).fetch_one(&mut *tx).await?;
    let detail = json!({ "role": role, "environment": environment });
    audit(&mut tx, Audit { actor, action: "member.remove", project, subject: &name, detail }).await?;
    tx.commit().await?;
    Ok(())
}

/// Members of a project
#[utoipa::path(get, path = "/api/v1/projects/{project}/members", tag = "people",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<Member>)))]
async fn list_members(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Member>>> {
    let project = app.project(&project).await?;
    Ok(Json(list(&app, Some(project.id)).await?))
}

/// Give a person a role in a project
#[utoipa::path(post, path = "/api/v1/projects/{project}/members", tag = "people", request_body = NewMember,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 204, description = "given"), (status = 404, description = "no such account")))]
async fn set_member(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(new): Json<NewMember>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    set(&app, &actor, Some(project.id), &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a role in a project away
#[utoipa::path(delete, path = "/api/v1/projects/{project}/members/{member}", tag = "people",
    params(("project" = String, Path, description = "number, or path with %2F"), ("member" = i64, Path, description = "number of the membership")),
    responses((status = 204, description = "taken"), (status = 404, description = "no such membership")))]
async fn remove_member(
    State(app): State<App>,
    actor: Actor,
    Path((project, member)): Path<(String, i64)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    remove(&app, &actor, Some(project.id), member).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Members of all projects
#[utoipa::path(get, path = "/api/v1/members", tag = "people", responses((status = 200, body = Vec<Member>)))]
async fn list_members_of_all(State(app): State<App>) -> Answer<Json<Vec<Member>>> {
    Ok(Json(list(&app, None).await?))
}

/// Give a person a role in all projects
#[utoipa::path(post, path = "/api/v1/members", tag = "people", request_body = NewMember,
    responses((status = 204, description = "given"), (status = 404, description = "no such account")))]
async fn set_member_of_all(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewMember>,
) -> Answer<StatusCode> {
    set(&app, &actor, None, &new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a role in all projects away
#[utoipa::path(delete, path = "/api/v1/members/{member}", tag = "people",
    params(("member" = i64, Path, description = "number of the membership")),
    responses((status = 204, description = "taken"), (status = 404, description = "no such membership")))]
async fn remove_member_of_all(
    State(app): State<App>,
    actor: Actor,
    Path(member): Path<i64>,
) -> Answer<StatusCode> {
    remove(&app, &actor, None, member).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(State(app): State<App>, actor: Actor, Path(name): Path<String>) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "settings").await?;
    let members = list(&app, Some(project.id)).await?;
    let data = json!({ "place": place, "members": members, "everywhere": list(&app, None).await? });
    Ok(page(&app, &actor, "members", &format!("Members · {}", project.path), &data))
}

fn url(project: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(project.as_bytes()).collect();
    format!("/projects/{}/members", encoded.replace('+', "%20"))
}

async fn submit(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Form(new): Form<NewMember>,
) -> Answer<Redirect> {
    let project = app.project(&project).await?;
    set(&app, &actor, Some(project.id), &new).await?;
    Ok(Redirect::to(&url(&project.path)))
}

async fn remove_here(
    State(app): State<App>,
    actor: Actor,
    Path((project, member)): Path<(String, i64)>,
) -> Answer<Redirect> {
    let project = app.project(&project).await?;
    remove(&app, &actor, Some(project.id), member).await?;
    Ok(Redirect::to(&url(&project.path)))
}

async fn submit_for_all(
    State(app): State<App>,
    actor: Actor,
    Form(new): Form<NewMember>,
) -> Answer<Response> {
    set(&app, &actor, None, &new).await?;
    Ok(Redirect::to("/admin/users").into_response())
}

async fn remove_for_all(State(app): State<App>, actor: Actor, Path(member): Path<i64>) -> Answer<Redirect> {
    remove(&app, &actor, None, member).await?;
    Ok(Redirect::to("/admin/users"))
}
