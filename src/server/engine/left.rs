//! What jobs left behind, for trigger jobs: files in archives, dotenv reports. Blobs are `blobs/AA/SHA256` in the data
//! directory.

use crate::server::mirror::blocking;
use crate::server::{Answer, App, Problem};
use pipelines::plan::{Job, Plan};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of a configuration file in an artifact; GitLab's limit.
const LONGEST: u64 = 5 << 20;

/// Where a blob is.
pub(super) fn blob(app: &App, sha256: &str) -> PathBuf {
    app.dir("blobs").join(sha256.get(..2).unwrap_or("xx")).join(sha256)
}

/// The archives of a pipeline's jobs by their names: of the last attempt that left one.
pub(super) async fn archives(app: &App, pipeline: i64) -> Answer<HashMap<String, PathBuf>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT j.name, a.sha256 FROM artifacts a JOIN jobs j ON j.id = a.job_id WHERE j.pipeline_id = $1 \
         AND j.newest = 1 AND a.file_type = 'archive' ORDER BY a.id",
    )
    .bind(pipeline)
    .fetch_all(&app.db.pool)
    .await?;
    Ok(rows.into_iter().map(|(name, sha)| (name, blob(app, &sha))).collect())
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

/// Variables that the jobs before hand over to `job`.
pub(super) async fn dotenv(
    app: &App,
    pipeline: i64,
    plan: &Plan,
    job: &Job,
) -> Answer<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for source in runners::artifacts::sources(plan, job) {
        let reports: Vec<(String, String)> = sqlx::query_as(
            "SELECT a.sha256, a.file_format FROM artifacts a JOIN jobs j ON j.id = a.job_id WHERE j.pipeline_id = $1 \
             AND j.name = $2 AND j.newest = 1 AND a.file_type = 'dotenv' ORDER BY a.id",
        )
        .bind(pipeline)
        .bind(&source.name)
        .fetch_all(&app.db.pool)
        .await?;
        for (sha, format) in reports {
            let path = blob(app, &sha);
            let parsed = blocking(move || parse(&path, &format)).await?;
            variables.extend(parsed.map_err(|e| {
                Problem::bad(format!("reading the dotenv report of job `{}`: {e}", source.name))
            })?);
        }
    }
    Ok(variables)
}

fn parse(path: &Path, format: &str) -> Result<Vec<(String, String)>, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let most = runners::dotenv::MAX_BYTES as u64;
    let mut content = Vec::new();
    match format {
        "gzip" => flate2::read::MultiGzDecoder::new(file).take(most).read_to_end(&mut content),
        _ => file.take(most).read_to_end(&mut content),
    }
    .map_err(|e| e.to_string())?;
    runners::dotenv::parse(&content).map_err(|e| e.to_string())
}
