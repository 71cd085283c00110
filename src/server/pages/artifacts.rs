//! What a job made: the files, and those inside its archive.

use super::job::made;
use super::page;
use super::place::Place;
use super::words::bytes;
use crate::server::access::Actor;
use crate::server::artifacts::{blobs, browse};
use crate::server::{Answer, App, Problem};
use axum::extract::{self, Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;

/// Entries of a folder that one page shows.
const MANY: usize = 1000;

/// Which folder of the archive.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Folder {
    path: String,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    /// Inside the archive.
    path: String,
    folder: bool,
    size: String,
}

/// `GET /projects/{project}/jobs/{job}/artifacts`
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    extract::Path((name, id)): extract::Path<(String, i64)>,
    Query(folder): Query<Folder>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let job = app.job(project.id, id).await?;
    let files = made(&app, id).await?;
    let archive = files.iter().find(|file| file.file_type == "archive");
    let inside = folder.path.trim_matches('/').to_owned();
    let entries = match archive {
        Some(archive) => {
            let blob = blobs::path(&app, &archive.sha256);
            let inside = inside.clone();
            let read = tokio::task::spawn_blocking(move || entries(&blob, &inside)).await;
            read.unwrap_or_else(|e| Err(Problem::internal("reading an archive", &e))).map(Some)
        }
        None => Ok(None),
    };
    let (entries, trouble) = match entries {
        Ok(entries) => (entries, None),
        Err(problem) => (None, Some(problem.message)),
    };
    let more = entries.as_ref().map_or(0, |all: &Vec<Entry>| all.len().saturating_sub(MANY));
    let data = json!({
        "place": place, "job": { "id": id, "name": job.name, "pipeline_id": job.pipeline_id }, "files": files,
        "entries": entries.map(|all| all.into_iter().take(MANY).collect::<Vec<_>>()), "more": more,
        "trouble": trouble, "inside": inside, "crumbs": crumbs(&inside),
    });
    Ok(page(&app, &actor, "artifacts", &format!("Artifacts of {} · {}", job.name, project.path), &data))
}

/// The folders above, each with its path.
fn crumbs(inside: &str) -> Vec<(String, String)> {
    let mut path = String::new();
    let mut all = Vec::new();
    for part in inside.split('/').filter(|part| !part.is_empty()) {
        path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
        all.push((part.to_owned(), path.clone()));
    }
    all
}

/// What stands in one folder of the archive.
fn entries(blob: &Path, inside: &str) -> Answer<Vec<Entry>> {
    let listed = browse::list(blob, inside).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Problem::not_found("archive: it has expired, or was removed"),
        _ => Problem::bad(format!("the archive can't be read: {error}")),
    })?;
    let shown = |entry: browse::Entry| Entry {
        name: entry.path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: entry.path,
        folder: entry.directory,
        size: bytes(i64::try_from(entry.size).unwrap_or(i64::MAX)),
    };
    Ok(listed.into_iter().map(shown).collect())
}
