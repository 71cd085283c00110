//! What the jobs of one pipeline share, and how each is run.

use super::projects::Projects;
use super::tag::make_tag;
use super::{bridge, resource};
use crate::dispatch::{JobRun, Overrides};
use crate::project::{Snapshot, View};
use crate::settings::ResourceGroups;
use pipelines::event::EventKind;
use pipelines::plan::Job;
use pipelines::request::Request;
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;
use runners::executor::Executor;
use runners::job::{JobSources, JobSpec, Run};
use std::path::{Path, PathBuf};
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
    /// Who gets a resource next, where the project says it.
    pub resource_groups: ResourceGroups,
    /// When the first pipeline of the run was created, in milliseconds since the epoch.
    pub created: u64,
    /// Manual jobs to play.
    pub manual: Vec<String>,
    /// Changes to all jobs.
    pub overrides: Overrides,
    /// The sources, for jobs that want to see them in their own way.
    pub snapshot: Arc<Snapshot>,
    /// Do `release` jobs make their tags?
    pub git_tag: bool,
    /// Pipelines of the same project above this one, without a pipeline of another between.
    pub depth: u32,
    /// Project and ref of each pipeline up to this one that is no child pipeline.
    pub lineage: Vec<(String, String)>,
    /// Where other projects are.
    pub projects: Arc<Projects>,
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
        Some(group) => match resource::hold(&group, &pipeline, &mut run).await {
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
    let sources = match sources(&pipeline, run.job()).await {
        Ok(sources) => sources,
        Err(why) => {
            return Outcome::Failed {
                reason: FailureReason::RunnerSystemFailure,
                exit_code: None,
                message: Some(format!("getting the sources: {why}")),
            };
        }
    };
    let spec = JobSpec {
        id: pipeline.next_id(),
        job: run.job().clone(),
        attempt: run.attempt,
        run: pipeline.run.clone(),
        sources,
        courier: None,
    };
    let (attempt, events) = (spec.dir(), run.events.clone());
    let outcome = runners::job::run(spec, &pipeline.executor, run.events.clone(), run.stop.clone()).await;
    if pipeline.git_tag
        && outcome == runners::job::Outcome::Success
        && let Some(message) = tag(&pipeline.snapshot.repository, &attempt)
    {
        let notice = EventKind::Notice { job: Some(run.job().name.clone()), message };
        // nobody listening is no reason to stop a job
        let _ = events.send(notice);
    }
    outcome
}

fn tag(repository: &Path, attempt: &Path) -> Option<String> {
    make_tag(repository, attempt).unwrap_or_else(|why| Some(format!("the release has no tag: {why}")))
}

/// What the job sees of the sources.
async fn sources(pipeline: &Pipeline, job: &Job) -> Result<JobSources, String> {
    let view = View::of(&job.environment_variables)?;
    if view == View::default() && !pipeline.snapshot.has_lfs() {
        return Ok(JobSources::default());
    }
    let snapshot = pipeline.snapshot.clone();
    let made = tokio::task::spawn_blocking(move || snapshot.view(&view)).await;
    made.map_err(|e| e.to_string())?.map_err(|e| e.message)
}
