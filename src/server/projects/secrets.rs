//! Secrets of a project that the server itself uses. What was stored never comes out again.

use crate::server::access::{Access, Actor};
use crate::server::db::{Tx, now};
use crate::server::hooks::forge::Forge;
use crate::server::hooks::signature;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Shorter hook secrets could be guessed from one signed delivery.
const SHORTEST_HOOK: usize = 16;
const LONGEST: usize = 64 * 1024;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Maintainer, routes!(list_secrets))
        .api(Access::Maintainer, routes!(add_secret))
        .api(Access::Maintainer, routes!(remove_secret))
}

/// A secret, but not its value.
#[derive(Debug, Serialize, ToSchema, sqlx::FromRow)]
#[schema(as = ProjectSecret)]
struct Secret {
    id: i64,
    /// `hook`, `git`, `forge`
    kind: String,
    /// A user's name, or what people call it.
    name: String,
    created_at: i64,
}

/// A secret to be stored.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewProjectSecret)]
pub(super) struct NewSecret {
    /// `hook`: signs deliveries, several may hold at once. `git`: gets into the repository, the newest holds. `forge`:
    /// token of the forge's API, the newest holds.
    kind: String,
    /// With `git` the user's name.
    name: String,
    /// With `git` a password, a token, or a private ssh key. With `hook` it may be left out: one is made.
    value: Option<String>,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl NewSecret {
    pub(super) fn new(kind: &str, name: &str, value: &str) -> NewSecret {
        NewSecret { kind: kind.to_owned(), name: name.to_owned(), value: Some(value.to_owned()) }
    }

    fn check(&self) -> Result<(), String> {
        let length = self.value.as_ref().map(String::len);
        match self.kind.as_str() {
            "hook" if length.is_some_and(|length| length < SHORTEST_HOOK) => Err(format!(
                "a hook secret has at least {SHORTEST_HOOK} characters; leave `value` out to have one made"
            )),
            "hook" => Ok(()),
            "git" | "forge" if length.is_none_or(|length| length == 0) => {
                Err("`value` is missing".to_owned())
            }
            "git" | "forge" => Ok(()),
            _ => Err("`kind` is `hook`, `git` or `forge`".to_owned()),
        }?;
        match self.name.chars().any(char::is_control)
            || self.name.len() > 200
            || length.is_some_and(|l| l > LONGEST)
        {
            true => Err("`name` or `value` is too long, or `name` has control characters".to_owned()),
            false => Ok(()),
        }
    }
}

/// Stores a secret, sealed; its number.
pub(super) async fn add(app: &App, tx: &mut Tx, project: i64, new: &NewSecret) -> Answer<i64> {
    new.check().map_err(Problem::bad)?;
    let text = "INSERT INTO secrets (project_id, kind, name, sealed, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id";
    let insert = sqlx::query_scalar(text).bind(project).bind(&new.kind).bind(&new.name);
    let id: i64 = insert.bind(&[][..]).bind(now()).fetch_one(&mut **tx).await?;
    // it is bound to its number, which is known only now
    let sealed = app.vault.seal(&format!("secret:{id}"), new.value.as_deref().unwrap_or_default().as_bytes());
    let text = "UPDATE secrets SET sealed = $1 WHERE id = $2";
    sqlx::query(text).bind(sealed).bind(id).execute(&mut **tx).await?;
    Ok(id)
}

/// Secrets of a project, without their values
#[utoipa::path(get, path = "/api/v1/projects/{project}/secrets", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Vec<Secret>), (status = 404)))]
async fn list_secrets(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Vec<Secret>>> {
    let project = app.project(&project).await?;
    let text = "SELECT id, kind, name, created_at FROM secrets WHERE project_id = $1 ORDER BY id";
    Ok(Json(sqlx::query_as(text).bind(project.id).fetch_all(&app.db.pool).await?))
}

/// A secret that was stored.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectSecretStored)]
struct Stored {
    id: i64,
    /// A hook secret that was made here, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// Stores a secret
#[utoipa::path(post, path = "/api/v1/projects/{project}/secrets", tag = "projects", request_body = NewSecret,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 201, body = Stored), (status = 400), (status = 404)))]
async fn add_secret(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(mut new): Json<NewSecret>,
) -> Answer<(StatusCode, Json<Stored>)> {
    let project = app.project(&project).await?;
    let made = (new.kind == "hook" && new.value.is_none())
        .then(|| signature::new_secret(Forge::named(&project.forge).unwrap_or(Forge::Generic)));
    if made.is_some() {
        new.value.clone_from(&made);
    }
    let mut tx = app.db.write().await?;
    let id = add(&app, &mut tx, project.id, &new).await?;
    let detail = json!({ "kind": new.kind, "name": new.name, "id": id });
    let entry =
        Audit { actor: &actor, action: "secret.add", project: Some(project.id), subject: &new.kind, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Stored { id, value: made })))
}

/// Removes a secret
#[utoipa::path(delete, path = "/api/v1/projects/{project}/secrets/{secret}", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F"), ("secret" = i64, Path)),
    responses((status = 204), (status = 404)))]
async fn remove_secret(
    State(app): State<App>,
    actor: Actor,
    Path((project, secret)): Path<(String, i64)>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let mut tx = app.db.write().await?;
    let text = "DELETE FROM secrets WHERE id = $1 AND project_id = $2 RETURNING kind";
    let kind = sqlx::query_scalar(text).bind(secret).bind(project.id).fetch_optional(&mut *tx).await?;
    let kind: String = kind.ok_or_else(|| Problem::not_found("secret"))?;
    let detail = json!({ "id": secret });
    let entry =
        Audit { actor: &actor, action: "secret.remove", project: Some(project.id), subject: &kind, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
