//! What a job made: the files, and those inside its archive.

use super::job::made;
use super::page;
use super::place::Place;
use super::words::bytes;
use crate::server::access::Actor;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    Path((name, id)): Path<(String, i64)>,
    Query(folder): Query<Folder>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let job = app.job(project.id, id).await?;
    let files = made(&app, id).await?;
    let archive = files.iter().find(|file| file.file_type == "archive");
    let inside = folder.path.trim_matches('/').to_owned();
    let entries = match archive {
        Some(archive) => {
            let blob = blob(&app, &archive.sha256);
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

fn blob(app: &App, sha256: &str) -> PathBuf {
    let start = sha256.get(..2).unwrap_or("00");
    app.dir("blobs").join(start).join(sha256)
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

/// What stands in one folder of a zip file, folders first. Only its directory is read.
fn entries(blob: &std::path::Path, inside: &str) -> Answer<Vec<Entry>> {
    let file = std::fs::File::open(blob)
        .map_err(|_| Problem::not_found("archive: it has expired, or was removed"))?;
    let archive =
        zip::ZipArchive::new(file).map_err(|e| Problem::bad(format!("the archive can't be read: {e}")))?;
    let prefix = if inside.is_empty() { String::new() } else { format!("{inside}/") };
    let mut folders: BTreeMap<String, ()> = BTreeMap::new();
    let mut files = BTreeMap::new();
    let mut archive = archive;
    for at in 0..archive.len() {
        let Ok(entry) = archive.by_index_raw(at) else { continue };
        let Ok(name) = entry.name() else { continue };
        let Some(rest) = name.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
        match rest.split_once('/') {
            Some((folder, _)) => drop(folders.insert(folder.to_owned(), ())),
            None => drop(files.insert(rest.to_owned(), entry.size())),
        }
    }
    let folder =
        |name: String| Entry { path: format!("{prefix}{name}"), name, folder: true, size: String::new() };
    let file = |(name, size): (String, u64)| Entry {
        path: format!("{prefix}{name}"),
        name,
        folder: false,
        size: bytes(i64::try_from(size).unwrap_or(i64::MAX)),
    };
    Ok(folders.into_keys().map(folder).chain(files.into_iter().map(file)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_folder_of_an_archive_is_listed_folders_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.zip");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for name in ["readme", "out/b.txt", "out/deep/c.txt"] {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(b"text").unwrap();
        }
        zip.finish().unwrap();
        let names = |inside: &str| -> Vec<String> {
            entries(&path, inside).unwrap().into_iter().map(|entry| entry.path).collect()
        };
        assert_eq!(names(""), ["out", "readme"]);
        assert_eq!(names("out"), ["out/deep", "out/b.txt"]);
        assert_eq!(names("../x"), Vec::<String>::new());
        assert!(entries(&dir.path().join("gone"), "").is_err());
    }
}
