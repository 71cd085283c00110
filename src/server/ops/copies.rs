//! Backups that were made here, in the data directory's `backups`.

use super::backup;
use crate::server::access::Actor;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A backup.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// Name of its file, which tells when it was made.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub at: i64,
}

/// Those that are there, newest first.
pub fn list(app: &App) -> Vec<Copy> {
    let Ok(entries) = std::fs::read_dir(app.dir("backups")) else { return Vec::new() };
    let copy = |entry: std::fs::DirEntry| {
        let file = entry.file_name().into_string().ok().filter(|name| is_name(name))?;
        let facts = entry.metadata().ok()?;
        let at = jiff::Timestamp::try_from(facts.modified().ok()?).ok()?.as_millisecond();
        Some(Copy { file, size: facts.len(), at })
    };
    let mut copies: Vec<Copy> = entries.flatten().filter_map(copy).collect();
    copies.sort_by(|a, b| b.file.cmp(&a.file));
    copies
}

/// What [`make`] calls its files, and nothing else: it becomes part of a path.
fn is_name(name: &str) -> bool {
    let moment = name.strip_prefix("slipway-").and_then(|rest| rest.strip_suffix(".tar.zst"));
    moment.is_some_and(|moment| !moment.is_empty() && moment.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn path(app: &App, file: &str) -> Answer<PathBuf> {
    if is_name(file) { Ok(app.dir("backups").join(file)) } else { Err(Problem::not_found("backup")) }
}

fn trouble(error: &std::io::Error) -> Problem {
    match error.kind() {
        std::io::ErrorKind::NotFound => Problem::not_found("backup"),
        _ => Problem::internal("reading a backup", error),
    }
}

/// `POST /api/v1/admin/backup`
pub(super) async fn make(State(app): State<App>) -> Answer<Json<Value>> {
    let dir = app.dir("backups");
    let doing = |e: std::io::Error| Problem::internal("making a backup", &e);
    std::fs::create_dir_all(&dir).map_err(doing)?;
    let name = format!("slipway-{}.tar.zst", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let config = app.config.clone();
    let path = dir.join(&name);
    // packing blocks: it has a thread of its own
    let handle = tokio::runtime::Handle::current();
    let made =
        tokio::task::spawn_blocking(move || handle.block_on(backup::backup(&config, &path, false))).await;
    let manifest = made.map_err(|e| Problem::internal("making a backup", &e))?.map_err(doing)?;
    backup::remember(&app).await?;
    Ok(Json(json!({ "file": format!("backups/{name}"), "manifest": manifest })))
}

/// `GET /api/v1/admin/backups/{file}`
pub(super) async fn fetch(
    State(app): State<App>,
    actor: Actor,
    Path(file): Path<String>,
) -> Answer<Response> {
    let open = tokio::fs::File::open(path(&app, &file)?).await.map_err(|e| trouble(&e))?;
    let size = open.metadata().await.map_err(|e| trouble(&e))?.len();
    record(&app, &actor, "backup.fetch", &file).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
    ];
    Ok((headers, Body::from_stream(tokio_util::io::ReaderStream::new(open))).into_response())
}

/// `DELETE /api/v1/admin/backups/{file}`
pub(super) async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(file): Path<String>,
) -> Answer<StatusCode> {
    tokio::fs::remove_file(path(&app, &file)?).await.map_err(|e| trouble(&e))?;
    record(&app, &actor, "backup.remove", &file).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn record(app: &App, actor: &Actor, action: &str, file: &str) -> Answer<()> {
    let mut tx = app.db.write().await?;
    audit(&mut tx, Audit { actor, action, project: None, subject: file, detail: json!({}) }).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backups_are_named() {
        assert!(is_name("slipway-20261122T082345Z.tar.zst"));
        for other in ["", "slipway-.tar.zst", "slipway-../x.tar.zst", "slipway.db", "slipway-1.tar.zst.part"]
        {
            assert!(!is_name(other), "{other}");
        }
    }
}
