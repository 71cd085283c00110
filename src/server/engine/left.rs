//! Files that jobs made, for `trigger:include:artifact`.

use crate::server::artifacts::blobs;
use crate::server::{Answer, App};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Bytes of a configuration file in an artifact; GitLab's limit.
const LONGEST: u64 = 5 << 20;

/// The archives of a pipeline's jobs by their names: of the newest attempts.
pub(super) async fn archives(app: &App, pipeline: i64) -> Answer<HashMap<String, PathBuf>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT j.name, a.sha256 FROM artifacts a JOIN jobs j ON j.id = a.job_id WHERE j.pipeline_id = $1 \
         AND j.newest = 1 AND a.file_type = 'archive' ORDER BY a.id",
    )
    .bind(pipeline)
    .fetch_all(&app.db.pool)
    .await?;
    Ok(rows.into_iter().map(|(name, sha)| (name, blobs::path(app, &sha))).collect())
}

/// A text file in a job's archive. Blocks.
pub(super) fn read(archives: &HashMap<String, PathBuf>, job: &str, file: &str) -> Result<String, String> {
    let absent = || {
        format!(
            "job `{job}` has left no artifact `{file}`: it must have run before, with `{file}` in `artifacts:paths`"
        )
    };
    let failed = |e: &dyn std::fmt::Display| format!("reading artifact `{file}` of job `{job}`: {e}");
    let path = archives.get(job).ok_or_else(absent)?;
    let archive = File::open(path).map_err(|e| failed(&e))?;
    let mut archive = zip::ZipArchive::new(archive).map_err(|e| failed(&e))?;
    let name = file.strip_prefix("./").unwrap_or(file);
    let Ok(entry) = archive.by_name(name) else { return Err(absent()) };
    let mut text = String::new();
    entry.take(LONGEST + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    match text.len() as u64 > LONGEST {
        true => Err(failed(&"it is larger than 5 MiB")),
        false => Ok(text),
    }
}
