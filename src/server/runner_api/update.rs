//! `PUT jobs/ID`: a job says how it stands, and ends.

use super::dependencies::{all_variables, planned};
use super::identity::{answer, job, read};
use super::trace::{with, writer};
use crate::server::app::Changed;
use crate::server::db::now;
use crate::server::engine;
use crate::server::releases;
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use crate::wire::runner::feature;
use crate::wire::update::{JobState, Output, UpdateJob, failure};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;

/// A log that was sent so often and still is another is kept as it is.
const RESTARTS: u32 = 3;

pub(super) async fn update(
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let update: UpdateJob = read(&body)?;
    let job = job(&app, &headers, update.token.expose(), id).await?;
    engine::heard(&app, &job).await?;
    if matches!(update.state, JobState::Running | JobState::Pending) {
        return answer(&app, &job, StatusCode::OK).await;
    }
    if !log_is_whole(&app, &headers, &job, &update).await? {
        return answer(&app, &job, StatusCode::PRECONDITION_FAILED).await;
    }
    let response = answer(&app, &job, StatusCode::OK).await?;
    if let Err(problem) = tell_coverage(&app, &job).await {
        tracing::warn!("reading the coverage of job {id}: {problem}");
    }
    let mut outcome = outcome(&job, &update);
    if let (Outcome::Success, Some(why)) = (&outcome, unreleased(&app, &job).await?) {
        let message = Some(format!("the release can't be made: {why}"));
        outcome = Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: None, message };
    }
    engine::finished(&app, id, outcome).await?;
    app.logs.close(id);
    app.changed(Changed::Log { job: id });
    Ok(response)
}

/// Is the log that is here the one that was sent? If not, it is forgotten, and the runner sends it again.
async fn log_is_whole(app: &App, headers: &HeaderMap, job: &Job, update: &UpdateJob) -> Answer<bool> {
    let writer = writer(app, headers, job).await?;
    let output = update.output.clone().filter(|output| !output.checksum.is_empty());
    let output = output.filter(|_| update.info.can(feature::TRACE_RESET));
    let id = job.id;
    let (whole, size) = with(app, id, writer, move |writer| {
        writer.flush(now())?;
        let here = Output::new(writer.crc32(), i64::try_from(writer.received()).unwrap_or(i64::MAX));
        // a size of zero is one that was not told
        let same = |sent: &Output| {
            sent.checksum == here.checksum && (sent.bytesize == 0 || sent.bytesize == here.bytesize)
        };
        if output.as_ref().is_none_or(same) {
            return Ok((true, writer.received()));
        }
        if writer.restarts() >= RESTARTS {
            tracing::warn!(
                "the log of job {id} is another than its runner says, after {RESTARTS} repetitions"
            );
            return Ok((true, writer.received()));
        }
        writer.restart()?;
        Ok((false, 0))
    })
    .await?;
    let query = sqlx::query("UPDATE jobs SET log_size = $1 WHERE id = $2");
    query.bind(i64::try_from(size).unwrap_or(i64::MAX)).bind(id).execute(&app.db.pool).await?;
    Ok(whole)
}

/// What a runner's word means. A job whose end was wished has been cancelled, however it ended.
fn outcome(job: &Job, update: &UpdateJob) -> Outcome {
    if job.cancel != 0 || (update.state == JobState::Failed && update.failure_reason == failure::CANCELED) {
        return Outcome::Canceled;
    }
    if update.state == JobState::Success {
        return Outcome::Success;
    }
    let exit_code = update.exit_code.and_then(|code| i32::try_from(code).ok());
    let reason = reason(&update.failure_reason);
    let message = match (reason, exit_code) {
        (FailureReason::ScriptFailure, Some(code)) => Some(format!("exit code {code}")),
        (FailureReason::RunnerSystemFailure, _) if update.failure_reason != failure::RUNNER_SYSTEM => {
            Some(update.failure_reason.chars().filter(|c| c.is_ascii_graphic()).take(100).collect())
        }
        _ => None,
    };
    Outcome::Failed { reason, exit_code, message }
}

fn reason(text: &str) -> FailureReason {
    let own = [
        FailureReason::ScriptFailure,
        FailureReason::RunnerSystemFailure,
        FailureReason::JobExecutionTimeout,
        FailureReason::MissingDependencyFailure,
        FailureReason::RunnerUnsupported,
        FailureReason::ImagePullFailure,
        FailureReason::DataIntegrityFailure,
    ];
    match text {
        // runners before 11 send none
        "" => FailureReason::ScriptFailure,
        failure::CONFIGURATION | failure::EXTERNAL_DEPENDENCY | failure::INTERRUPTED => {
            FailureReason::RunnerSystemFailure
        }
        text => own.into_iter().find(|reason| reason.name() == text).unwrap_or(FailureReason::UnknownFailure),
    }
}

/// Why the release that the job asks for can't be made, before its success is believed.
async fn unreleased(app: &App, job: &Job) -> Answer<Option<String>> {
    let context = engine::context(app, job.id).await?;
    let Some(asked) = planned(&context)?.work.release.clone() else { return Ok(None) };
    let variables = all_variables(app, &context).await?;
    Ok(releases::record(app, &context, &asked, &variables).await?.err())
}

/// The coverage that the log tells, and the mean of the pipeline's jobs that have one.
async fn tell_coverage(app: &App, job: &Job) -> Answer<()> {
    let context = engine::context(app, job.id).await?;
    let Some(pattern) = planned(&context)?.work.coverage.clone() else { return Ok(()) };
    let path = app.logs.path(job.id);
    let found = tokio::task::spawn_blocking(move || runners::log::coverage(&path, &pattern)).await;
    let found = found.map_err(|e| Problem::internal("reading the coverage", &e))?;
    let Some(percent) = found.map_err(|e| Problem::internal("reading the coverage", &e))? else {
        return Ok(());
    };
    let query = sqlx::query("UPDATE jobs SET coverage = $1 WHERE id = $2");
    query.bind(&percent).bind(job.id).execute(&app.db.pool).await?;
    let query = sqlx::query_scalar(
        "SELECT coverage FROM jobs WHERE pipeline_id = $1 AND newest = 1 AND coverage IS NOT NULL",
    );
    let all: Vec<String> = query.bind(job.pipeline_id).fetch_all(&app.db.pool).await?;
    let numbers: Vec<f64> = all.iter().filter_map(|text| text.parse().ok()).collect();
    if !numbers.is_empty() {
        let mean = format!("{:.2}", numbers.iter().sum::<f64>() / numbers.len() as f64);
        let query = sqlx::query("UPDATE pipelines SET coverage = $1 WHERE id = $2");
        query.bind(mean).bind(job.pipeline_id).execute(&app.db.pool).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_runners_have_a_meaning() {
        let table = [
            ("script_failure", FailureReason::ScriptFailure),
            ("", FailureReason::ScriptFailure),
            ("job_execution_timeout", FailureReason::JobExecutionTimeout),
            ("image_pull_failure", FailureReason::ImagePullFailure),
            ("runner_interrupted", FailureReason::RunnerSystemFailure),
            ("runner_configuration_error", FailureReason::RunnerSystemFailure),
            ("downstream_pipeline_failure", FailureReason::UnknownFailure),
            ("something_new", FailureReason::UnknownFailure),
        ];
        for (text, expected) in table {
            assert_eq!(reason(text), expected, "{text}");
        }
    }
}
