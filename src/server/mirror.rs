//! A bare mirror of each project's repository, in `mirrors/ID.git` of the data directory: branches, tags, merge requests'
//! refs, and `refs/pipelines/ID` for every pipeline, so that a commit stays although its branch was forced elsewhere.

use super::engine::Engine;
use super::rows::Project;
use super::{Answer, App, Problem};
use crate::sources::{Fetch, Listed, Reach};
use git2::{Oid, Repository};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Where a project's mirror is, or will be.
pub fn path(app: &App, project: i64) -> PathBuf {
    app.dir("mirrors").join(format!("{project}.git"))
}

/// Hosts that the server may reach for what projects name.
pub fn reach(app: &App) -> Reach {
    Reach::public(&app.config.allow_private)
}

/// Brings the mirror up to date, or makes it. One at a time for each project.
///
/// # Errors
/// The repository can't be reached, or does not let us in; says why without credentials.
pub async fn fetch(app: &App, project: &Project) -> Answer<()> {
    let _turn = turn(&app.engine, project.id).await;
    fetch_now(app, project).await
}

/// Waits until nobody else fetches the project's repository.
pub(super) async fn turn(engine: &Engine, project: i64) -> OwnedMutexGuard<()> {
    let lock: Arc<Mutex<()>> = engine.fetching(project);
    lock.lock_owned().await
}

/// As [`fetch`], for who has the turn.
async fn fetch_now(app: &App, project: &Project) -> Answer<()> {
    let credentials = credentials(app, project.id).await?;
    let (path, url, reach) = (path(app, project.id), project.git_url.clone(), reach(app));
    let name = project.path.clone();
    blocking(move || update(&path, &url, credentials, reach))
        .await?
        .map_err(|why| Problem::unavailable(format!("fetching the repository of `{name}`: {why}")))
}

/// What the repository has now; nothing is fetched.
///
/// # Errors
/// As [`fetch`].
pub(super) async fn list(app: &App, project: &Project) -> Answer<Listed> {
    let credentials = credentials(app, project.id).await?;
    let (path, url, reach) = (path(app, project.id), project.git_url.clone(), reach(app));
    let listed =
        blocking(move || with_credentials(&path, &url, credentials, reach, |fetch| fetch.list())).await?;
    listed.map_err(|why| Problem::unavailable(format!("asking the repository of `{}`: {why}", project.path)))
}

/// The commit of a ref (full name) in the mirror; none: it has no such ref, or there is no mirror yet.
pub(super) fn commit_of(path: &std::path::Path, reference: &str) -> Option<Oid> {
    let repository = Repository::open_bare(path).ok()?;
    let found = repository.find_reference(reference).ok()?;
    found.peel_to_commit().ok().map(|commit| commit.id())
}

/// Keeps a pipeline's commit.
pub(super) async fn keep(app: &App, project: i64, pipeline: i64, sha: &str) {
    let (path, sha) = (path(app, project), sha.to_owned());
    let kept = blocking(move || {
        let repository = Repository::open_bare(path)?;
        let oid = Oid::from_str(&sha)?;
        repository.reference(&format!("refs/pipelines/{pipeline}"), oid, true, "pipeline").map(drop)
    });
    if let Ok(Err(error)) = kept.await {
        tracing::warn!("keeping the commit of pipeline {pipeline}: {}", error.message());
    }
}

/// Work that must not stand in the way of others.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Problem::internal("working in the background", &e))
}

/// `secrets` of kind `git`: a user with a password or token, or a user with an ssh key.
async fn credentials(app: &App, project: i64) -> Answer<Option<(String, String)>> {
    let newest = "SELECT id, name, sealed FROM secrets WHERE project_id = $1 AND kind = 'git' ORDER BY id DESC LIMIT 1";
    let row: Option<(i64, String, Vec<u8>)> =
        sqlx::query_as(newest).bind(project).fetch_optional(&app.db.pool).await?;
    let Some((id, name, sealed)) = row else { return Ok(None) };
    match app.vault.open_text(&format!("secret:{id}"), &sealed) {
        Some(secret) => Ok(Some((name, secret))),
        None => Err(Problem::unavailable(
            "the project's git credentials can't be opened with this server's key: store them again",
        )),
    }
}

fn update(
    path: &std::path::Path,
    url: &str,
    credentials: Option<(String, String)>,
    reach: Reach,
) -> Result<(), String> {
    let new = !path.exists();
    let repository = Repository::open_bare(path).or_else(|_| Repository::init_bare(path));
    let repository = repository.map_err(|e| format!("making the mirror: {}", e.message()))?;
    let done = with_credentials(path, url, credentials, reach, |fetch| fetch.bring(&repository));
    if new && done.is_err() {
        // an empty mirror would look like a project without refs
        let _ = std::fs::remove_dir_all(path);
    }
    done
}

fn with_credentials<T>(
    path: &std::path::Path,
    url: &str,
    credentials: Option<(String, String)>,
    reach: Reach,
    act: impl FnOnce(&Fetch<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let is_key = |secret: &str| secret.contains("PRIVATE KEY-----");
    let (login, key) = match credentials {
        Some((_, secret)) if is_key(&secret) => (None, Some(key_file(path, &secret)?)),
        other => (other, None),
    };
    act(&Fetch { url, login, key: key.as_ref().map(|file| file.path()), reach })
}

/// libssh2 wants a file; it is readable only by us, and gone after the fetch.
fn key_file(mirror: &std::path::Path, key: &str) -> Result<tempfile::NamedTempFile, String> {
    let dir = mirror.parent().unwrap_or(std::path::Path::new("."));
    let written = std::fs::create_dir_all(dir).and_then(|()| {
        let mut file = tempfile::Builder::new().prefix(".key").tempfile_in(dir)?;
        file.write_all(key.trim_end().as_bytes())?;
        file.write_all(b"\n")?;
        Ok(file)
    });
    written.map_err(|e| format!("handing over the project's ssh key: {e}"))
}
