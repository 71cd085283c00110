//! What a job gets of other jobs: archives, and the variables of their dotenv reports.

use crate::server::artifacts::blobs;
use crate::server::db::now;
use crate::server::engine::Context;
use crate::server::{Answer, App, Problem};
use pipelines::plan::{Job, JobVariable};
use runners::variables::Variables;
use std::collections::HashMap;

/// A job that another one gets artifacts of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The attempt.
    pub id: i64,
    /// Name of the job.
    pub name: String,
    /// Its archive; none: it made none.
    pub archive: Option<Archive>,
    /// Where the blobs of its dotenv reports are.
    pub dotenv: Vec<String>,
}

/// An archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Name of the file.
    pub filename: String,
    /// Bytes.
    pub size: i64,
    /// Its time is over.
    pub expired: bool,
}

/// The planned job of an attempt.
///
/// # Errors
/// The plan has no such position.
pub fn planned(context: &Context) -> Answer<&Job> {
    let position = usize::try_from(context.row.position).ok();
    let job = position.and_then(|position| context.plan.jobs.get(position));
    job.ok_or_else(|| Problem::internal("finding the job in its plan", &format!("job {}", context.row.id)))
}

/// The jobs that it gets artifacts of, in the order of the plan; then those of earlier pipelines of the family.
///
/// # Errors
/// The database does not answer.
pub async fn sources(app: &App, context: &Context) -> Answer<Vec<Source>> {
    let job = planned(context)?;
    let names: Vec<&str> =
        runners::artifacts::sources(&context.plan, job).iter().map(|source| source.name.as_str()).collect();
    let mut found = Vec::new();
    if !names.is_empty() {
        let newest = newest(app, context.pipeline.id).await?;
        for name in names {
            if let Some(id) = newest.get(name) {
                found.push(source(app, *id, name).await?);
            }
        }
    }
    let variables = variables(job);
    for need in &job.work.pipeline_needs {
        let (pipeline, name) = (variables.expand(&need.pipeline), variables.expand(&need.job));
        if let Some(id) = above(app, context, &pipeline, &name).await? {
            found.push(source(app, id, &name).await?);
        }
    }
    Ok(found)
}

/// The variables that a job has when it is handed out.
pub(super) fn variables(job: &Job) -> Variables {
    let mut variables = Variables::default();
    job.environment_variables.iter().for_each(|variable| variables.set(variable.clone()));
    variables
}

async fn newest(app: &App, pipeline: i64) -> Answer<HashMap<String, i64>> {
    let query = sqlx::query_as("SELECT name, id FROM jobs WHERE pipeline_id = $1 AND newest = 1");
    let rows: Vec<(String, i64)> = query.bind(pipeline).fetch_all(&app.db.pool).await?;
    Ok(rows.into_iter().collect())
}

/// `needs:pipeline:job`: only of a pipeline of the same project that this one comes from.
async fn above(app: &App, context: &Context, pipeline: &str, name: &str) -> Answer<Option<i64>> {
    let Ok(asked) = pipeline.parse::<i64>() else { return Ok(None) };
    let mut parent = context.pipeline.parent_job;
    // a family deeper than this was not made by the engine
    for _ in 0..16 {
        let Some(job) = parent else { return Ok(None) };
        let query = "SELECT p.id, p.project_id, p.parent_job FROM pipelines p JOIN jobs j ON j.pipeline_id = p.id \
                     WHERE j.id = $1";
        let row: Option<(i64, i64, Option<i64>)> =
            sqlx::query_as(query).bind(job).fetch_optional(&app.db.pool).await?;
        let Some((id, project, next)) = row else { return Ok(None) };
        if id == asked && project == context.pipeline.project_id {
            return Ok(newest(app, id).await?.get(name).copied());
        }
        parent = next;
    }
    Ok(None)
}

async fn source(app: &App, job: i64, name: &str) -> Answer<Source> {
    let query =
        "SELECT file_type, filename, size, sha256, expires_at FROM artifacts WHERE job_id = $1 ORDER BY id";
    let rows: Vec<(String, String, i64, String, Option<i64>)> =
        sqlx::query_as(query).bind(job).fetch_all(&app.db.pool).await?;
    let mut source = Source { id: job, name: name.to_owned(), archive: None, dotenv: Vec::new() };
    let at = now();
    for (kind, filename, size, sha256, expires_at) in rows {
        match kind.as_str() {
            "archive" => {
                let expired = expires_at.is_some_and(|end| end <= at) || !blobs::path(app, &sha256).is_file();
                source.archive = Some(Archive { filename, size, expired });
            }
            "dotenv" => source.dotenv.push(sha256),
            _ => {}
        }
    }
    Ok(source)
}

/// Variables of the dotenv reports of these jobs; later ones win. Those of the pipeline and of the project stay what they
/// are.
///
/// # Errors
/// A report can't be read.
pub async fn dotenv(app: &App, context: &Context, sources: &[Source]) -> Answer<Vec<(String, String)>> {
    let request = &context.request;
    let fixed = |name: &str| {
        request.variables.contains_key(name) || request.project_variables.iter().any(|v| v.key == name)
    };
    let all = reported(app, sources).await?;
    Ok(all.into_iter().filter(|(key, _)| !fixed(key)).collect())
}

/// All that a job has, but what only its runner knows.
pub(super) async fn all_variables(app: &App, context: &Context) -> Answer<Variables> {
    let mut all = variables(planned(context)?);
    for (key, value) in dotenv(app, context, &sources(app, context).await?).await? {
        all.set(JobVariable { key, value, file: false, masked: false, raw: true });
    }
    Ok(all)
}

async fn reported(app: &App, sources: &[Source]) -> Answer<Vec<(String, String)>> {
    let paths: Vec<_> =
        sources.iter().flat_map(|s| &s.dotenv).map(|sha256| blobs::path(app, sha256)).collect();
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        for path in paths {
            // one that is gone has expired; GitLab hands over nothing then
            match std::fs::File::open(path) {
                Ok(file) => all.extend(blobs::dotenv(file).map_err(|why| why.to_string())?),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(all)
    });
    let read = read.await.map_err(|e| Problem::internal("reading dotenv reports", &e))?;
    read.map_err(|why| Problem::unavailable(format!("reading a dotenv report: {why}")))
}
