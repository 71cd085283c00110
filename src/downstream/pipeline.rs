//! What the jobs of one pipeline share, and how each is run.

use super::{bridge, resource};
use crate::dispatch::{JobRun, Overrides};
use pipelines::plan::Job;
use pipelines::request::Request;
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;
use runners::executor::Executor;
use runners::job::{JobSpec, Run};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// A pipeline under way.
pub struct Pipeline {
    /// What asked for it.
    pub request: Request,
    /// What its jobs share.
    pub run: Arc<Run>,
    /// Where they run.
    pub executor: Arc<Executor>,
    /// The last number given to a job or a pipeline of the whole run.
    pub ids: Arc<AtomicU64>,
    /// See [`crate::dispatch::Options`].
    pub slots: Arc<Semaphore>,
    /// Directory of the project's locks, one for each resource group.
    pub locks: PathBuf,
    /// Manual jobs to play.
    pub manual: Vec<String>,
    /// Changes to all jobs.
    pub overrides: Overrides,
    /// Pipelines above this one.
    pub depth: u32,
}

/// One attempt of a job.
pub type Attempt = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Pipeline {
    /// A number that nothing else in this run has.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Runs one attempt of any job of the pipeline.
pub fn start(pipeline: Arc<Pipeline>, run: JobRun) -> Attempt {
    if run.job().work.trigger.is_some() {
        return Box::pin(bridge::run(pipeline, run));
    }
    if mirrors(run.job()) {
        let message =
            "it mirrors the pipeline of another project (`needs:pipeline`), which is not known here";
        return Box::pin(std::future::ready(Outcome::Failed {
            reason: FailureReason::RunnerUnsupported,
            exit_code: None,
            message: Some(message.to_owned()),
        }));
    }
    Box::pin(run_job(pipeline, run))
}

/// Is it a job with nothing to run, that only takes over a status from elsewhere?
fn mirrors(job: &Job) -> bool {
    job.work.script.is_empty() && job.work.run.is_none()
}

async fn run_job(pipeline: Arc<Pipeline>, mut run: JobRun) -> Outcome {
    let _held = match resource::group(run.job()) {
        None => None,
        Some(group) => match resource::hold(&group, &pipeline.locks, &mut run).await {
            Ok(Some(held)) => Some(held),
            Ok(None) => return Outcome::Canceled,
            Err(error) => {
                return Outcome::Failed {
                    reason: FailureReason::RunnerSystemFailure,
                    exit_code: None,
                    message: Some(format!("taking resource group `{group}`: {error}")),
                };
            }
        },
    };
    let spec = JobSpec {
        id: pipeline.next_id(),
        job: run.job().clone(),
        attempt: run.attempt,
        run: pipeline.run.clone(),
    };
    runners::job::run(spec, &pipeline.executor, run.events, run.stop).await
}
