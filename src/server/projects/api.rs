//! Projects over the API.

use super::address::{check_api_url, check_git_url, check_path};
use super::secrets::{NewSecret, add};
use super::settings::Settings;
use super::setup::{hook_url, setup};
use crate::server::access::{Access, Actor};
use crate::server::db::{Tx, now};
use crate::server::hooks::event::is_ref;
use crate::server::hooks::forge::Forge;
use crate::server::hooks::{api_of, look, signature};
use crate::server::routes::Routes;
use crate::server::rows::{Audit, Project, audit};
use crate::server::vault::new_token;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::SignedIn, routes!(list_projects))
        .api(Access::Admin, routes!(create_project))
        .api(Access::Viewer, routes!(read_project))
        .api(Access::Maintainer, routes!(change_project))
        .api(Access::Admin, routes!(remove_project))
        .api(Access::Maintainer, routes!(look_at_repository))
        .api(Access::Maintainer, routes!(read_hook))
}

/// A project as the API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Project)]
pub(super) struct Shown {
    id: i64,
    path: String,
    git_url: String,
    forge: String,
    /// Address of the forge's API; empty: no commit statuses are sent.
    forge_url: String,
    default_branch: String,
    /// Globs of branches and tags.
    protected_refs: Vec<String>,
    paused: bool,
    settings: Settings,
    /// Milliseconds since the epoch.
    created_at: i64,
}

impl Shown {
    fn of(project: &Project) -> Shown {
        Shown {
            id: project.id,
            path: project.path.clone(),
            git_url: project.git_url.clone(),
            forge: project.forge.clone(),
            forge_url: project.forge_url.clone(),
            default_branch: project.default_branch.clone(),
            protected_refs: serde_json::from_str(&project.protected_refs).unwrap_or_default(),
            paused: project.paused == 1,
            settings: Settings::of(project),
            created_at: project.created_at,
        }
    }
}

/// The projects that the asking person may see
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects", responses((status = 200, body = Vec<Shown>)))]
async fn list_projects(State(app): State<App>, actor: Actor) -> Answer<Json<Vec<Shown>>> {
    let text = "SELECT * FROM projects WHERE ($1 = 1 OR EXISTS (SELECT 1 FROM members m WHERE m.user_id = $2 \
                AND (m.project_id IS NULL OR m.project_id = projects.id))) AND ($3 = 0 OR id = $3) ORDER BY path";
    let rows = sqlx::query_as(text).bind(i64::from(actor.admin)).bind(actor.user.unwrap_or(0));
    let rows: Vec<Project> = rows.bind(actor.only_project.unwrap_or(0)).fetch_all(&app.db.pool).await?;
    Ok(Json(rows.iter().map(Shown::of).collect()))
}

/// A project to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewProject {
    /// `group/name`
    path: String,
    /// `https://…`, `ssh://…`, `user@host:path`, `file:///…`; never with a password.
    git_url: String,
    forge: Forge,
    /// Address of the forge's API [default: as the forge has it, by `git_url`].
    forge_url: Option<String>,
    /// [default: what the repository's HEAD is, else `main`]
    default_branch: Option<String>,
    /// Globs of branches and tags [default: the default branch].
    protected_refs: Option<Vec<String>>,
    settings: Option<Settings>,
    /// How we get in; none: without.
    git: Option<Login>,
    /// Token for the forge's API, for commit statuses.
    forge_token: Option<String>,
}

/// How we get into a repository.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GitLogin)]
struct Login {
    user: String,
    /// A password, a token, or a private ssh key.
    secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The hook of a project. Its secret is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectHook)]
struct Hook {
    url: String,
    secret: String,
    /// How to set it up at the forge, for people.
    setup: String,
}

/// How a look at a repository went.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = RepositoryReached)]
struct Reached {
    ok: bool,
    /// Branches and tags.
    refs: usize,
    default_branch: Option<String>,
    /// Why it could not be reached.
    error: String,
}

/// A project that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectMade)]
struct Made {
    project: Shown,
    hook: Hook,
    repository: Reached,
}

/// Makes a project
///
/// The answer holds the hook's address and, this once, its secret.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = Made), (status = 400), (status = 409)))]
async fn create_project(
    State(app): State<App>,
    actor: Actor,
    Json(new): Json<NewProject>,
) -> Answer<(StatusCode, Json<Made>)> {
    let settings = checked(&new)?;
    let secret = signature::new_secret(new.forge);
    let mut tx = app.db.write().await?;
    let id = insert(&mut tx, &new, &settings).await?;
    add(&app, &mut tx, id, &NewSecret::new("hook", "first", &secret)).await?;
    if let Some(git) = &new.git {
        add(&app, &mut tx, id, &NewSecret::new("git", &git.user, &git.secret)).await?;
    }
    if let Some(token) = &new.forge_token {
        add(&app, &mut tx, id, &NewSecret::new("forge", "first", token)).await?;
    }
    let detail = json!({ "git_url": new.git_url, "forge": new.forge, "settings": settings });
    let entry =
        Audit { actor: &actor, action: "project.create", project: Some(id), subject: &new.path, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    let project = app.project(&id.to_string()).await?;
    let repository = reached(&app, &project).await;
    if let (None, Some(branch)) = (&new.default_branch, &repository.default_branch) {
        adopt(&app, &project, branch, new.protected_refs.is_none()).await?;
    }
    let project = app.project(&id.to_string()).await?;
    let url = hook_url(&app, &project);
    let hook = Hook { setup: setup(new.forge, &url), url, secret };
    Ok((StatusCode::CREATED, Json(Made { project: Shown::of(&project), hook, repository })))
}

fn checked(new: &NewProject) -> Answer<Settings> {
    let settings = new.settings.clone().unwrap_or_default();
    check_path(&new.path).map_err(Problem::bad)?;
    check_git_url(&new.git_url).map_err(Problem::bad)?;
    check_api_url(new.forge_url.as_deref().unwrap_or_default()).map_err(Problem::bad)?;
    settings.check().map_err(Problem::bad)?;
    check_branch(new.default_branch.as_deref().unwrap_or("main"))?;
    Ok(settings)
}

fn check_branch(name: &str) -> Answer<()> {
    match is_ref(&format!("refs/heads/{name}")) {
        true => Ok(()),
        false => Err(Problem::bad("`default_branch` is no name of a branch")),
    }
}

async fn insert(tx: &mut Tx, new: &NewProject, settings: &Settings) -> Answer<i64> {
    let branch = new.default_branch.as_deref().unwrap_or("main");
    let protected = new.protected_refs.clone().unwrap_or_else(|| vec![branch.to_owned()]);
    let forge_url = new.forge_url.clone().unwrap_or_else(|| api_of(new.forge, &new.git_url));
    let text = "INSERT INTO projects (path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
                paused, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9) \
                ON CONFLICT (path) DO NOTHING RETURNING id";
    let insert =
        sqlx::query_scalar(text).bind(&new.path).bind(&new.git_url).bind(new.forge.name()).bind(forge_url);
    let insert = insert.bind(branch).bind(new_token("")).bind(json!(protected).to_string());
    let insert = insert.bind(json!(settings).to_string()).bind(now());
    let id = insert.fetch_optional(&mut **tx).await?;
    id.ok_or_else(|| Problem::conflict(format!("there is a project `{}` already", new.path)))
}

/// Takes the repository's own default branch.
async fn adopt(app: &App, project: &Project, branch: &str, protect: bool) -> Answer<()> {
    let protected = if protect { json!([branch]).to_string() } else { project.protected_refs.clone() };
    let text = "UPDATE projects SET default_branch = $1, protected_refs = $2 WHERE id = $3";
    sqlx::query(text).bind(branch).bind(protected).bind(project.id).execute(&app.db.pool).await?;
    Ok(())
}

async fn reached(app: &App, project: &Project) -> Reached {
    match look(app, project).await {
        Ok(looked) => {
            let default_branch = looked.default_branch;
            Reached { ok: true, refs: looked.refs, default_branch, error: String::new() }
        }
        Err(problem) => Reached { error: problem.message, ..Reached::default() },
    }
}

/// One project
#[utoipa::path(get, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Shown), (status = 404)))]
async fn read_project(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Shown>> {
    Ok(Json(Shown::of(&app.project(&project).await?)))
}

/// What is to be changed; what is left out stays.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProjectChanges)]
struct Changes {
    /// Only by administrators, as are `git_url`, `forge` and `forge_url`: they say where the server connects to.
    path: Option<String>,
    git_url: Option<String>,
    forge: Option<Forge>,
    forge_url: Option<String>,
    default_branch: Option<String>,
    protected_refs: Option<Vec<String>>,
    /// A paused project makes no pipelines. When it goes on, its branches are looked at as they are then.
    paused: Option<bool>,
    /// All of them.
    settings: Option<Settings>,
}

/// Changes a project
#[utoipa::path(patch, path = "/api/v1/projects/{project}", tag = "projects", request_body = Changes,
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Shown), (status = 400), (status = 403), (status = 404), (status = 409)))]
async fn change_project(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
    Json(changes): Json<Changes>,
) -> Answer<Json<Shown>> {
    let project = app.project(&project).await?;
    let elsewhere = changes.path.is_some() || changes.git_url.is_some() || changes.forge.is_some();
    if (elsewhere || changes.forge_url.is_some()) && !actor.admin {
        return Err(Problem::forbidden(
            "only administrators change `path`, `git_url`, `forge` and `forge_url`",
        ));
    }
    let changed = applied(&project, &changes)?;
    let mut tx = app.db.write().await?;
    let taken = "SELECT COUNT(*) FROM projects WHERE path = $1 AND id <> $2";
    let taken: i64 =
        sqlx::query_scalar(taken).bind(&changed.path).bind(project.id).fetch_one(&mut *tx).await?;
    if taken > 0 {
        return Err(Problem::conflict(format!("there is a project `{}` already", changed.path)));
    }
    let text = "UPDATE projects SET path = $1, git_url = $2, forge = $3, forge_url = $4, default_branch = $5, \
                protected_refs = $6, settings = $7, paused = $8 WHERE id = $9";
    let update = sqlx::query(text).bind(&changed.path).bind(&changed.git_url).bind(&changed.forge);
    let update = update.bind(&changed.forge_url).bind(&changed.default_branch).bind(&changed.protected_refs);
    update.bind(&changed.settings).bind(changed.paused).bind(project.id).execute(&mut *tx).await?;
    let entry = Audit {
        actor: &actor,
        action: "project.change",
        project: Some(project.id),
        subject: &changed.path,
        detail: json!(changes),
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Json(Shown::of(&changed)))
}

fn applied(project: &Project, changes: &Changes) -> Answer<Project> {
    let mut changed = project.clone();
    if let Some(path) = &changes.path {
        check_path(path).map_err(Problem::bad)?;
        changed.path.clone_from(path);
    }
    if let Some(url) = &changes.git_url {
        check_git_url(url).map_err(Problem::bad)?;
        changed.git_url.clone_from(url);
    }
    if let Some(forge) = changes.forge {
        forge.name().clone_into(&mut changed.forge);
    }
    if let Some(url) = &changes.forge_url {
        check_api_url(url).map_err(Problem::bad)?;
        changed.forge_url.clone_from(url);
    }
    if let Some(branch) = &changes.default_branch {
        check_branch(branch)?;
        changed.default_branch.clone_from(branch);
    }
    if let Some(refs) = &changes.protected_refs {
        changed.protected_refs = json!(refs).to_string();
    }
    if let Some(settings) = &changes.settings {
        settings.check().map_err(Problem::bad)?;
        changed.settings = json!(settings).to_string();
    }
    if let Some(paused) = changes.paused {
        changed.paused = i64::from(paused);
    }
    Ok(changed)
}

/// Removes a project with all that was stored of it; its files go within an hour
#[utoipa::path(delete, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 204), (status = 404), (status = 409)))]
async fn remove_project(
    State(app): State<App>,
    actor: Actor,
    Path(project): Path<String>,
) -> Answer<StatusCode> {
    let project = app.project(&project).await?;
    let mut tx = app.db.write().await?;
    let live = "SELECT COUNT(*) FROM pipelines WHERE project_id = $1 AND finished_at IS NULL";
    let live: i64 = sqlx::query_scalar(live).bind(project.id).fetch_one(&mut *tx).await?;
    if live > 0 {
        let said =
            format!("{live} pipelines of `{}` have not ended: pause it and cancel them first", project.path);
        return Err(Problem::conflict(said));
    }
    for text in [
        "DELETE FROM variables WHERE project_id = $1",
        "DELETE FROM members WHERE project_id = $1",
        "DELETE FROM tokens WHERE project_id = $1",
        "DELETE FROM runners WHERE project_id = $1",
        "DELETE FROM resource_groups WHERE project_id = $1",
        "DELETE FROM environment_locks WHERE project_id = $1",
        "DELETE FROM notices WHERE project_id = $1",
        "DELETE FROM bundles WHERE project_id = $1",
        "DELETE FROM projects WHERE id = $1",
    ] {
        sqlx::query(text).bind(project.id).execute(&mut *tx).await?;
    }
    let meta = "DELETE FROM meta WHERE key = $1 OR key LIKE $2";
    let meta = sqlx::query(meta).bind(format!("seen:{}", project.id)).bind(format!("look:{}:%", project.id));
    meta.execute(&mut *tx).await?;
    let detail = json!({ "git_url": project.git_url });
    let entry = Audit {
        actor: &actor,
        action: "project.remove",
        project: Some(project.id),
        subject: &project.path,
        detail,
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at the repository now
///
/// Says whether it can be reached, and makes pipelines for pushes that no hook told of.
#[utoipa::path(post, path = "/api/v1/projects/{project}/look", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = Reached), (status = 404)))]
async fn look_at_repository(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<Reached>> {
    let project = app.project(&project).await?;
    Ok(Json(reached(&app, &project).await))
}

/// Where a forge sends its deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = ProjectHookAddress)]
struct HookAddress {
    url: String,
    /// How to set it up at the forge, for people.
    setup: String,
}

/// Where the forge sends its deliveries
#[utoipa::path(get, path = "/api/v1/projects/{project}/hook", tag = "projects",
    params(("project" = String, Path, description = "number, or path with %2F")),
    responses((status = 200, body = HookAddress), (status = 404)))]
async fn read_hook(State(app): State<App>, Path(project): Path<String>) -> Answer<Json<HookAddress>> {
    let project = app.project(&project).await?;
    let url = hook_url(&app, &project);
    Ok(Json(HookAddress { setup: setup(Forge::named(&project.forge).unwrap_or(Forge::Generic), &url), url }))
}
