//! A trigger job: creates a pipeline, runs it, and takes over its status as far as `strategy` says.

use super::child::{self, Configuration, Refused};
use super::forward::{Forwarded, forwarded};
use super::pipeline::{Pipeline, start};
use crate::dispatch::{self, Cancel, DispatchError, JobRun, Options, Recorder, RunEnd, name_below};
use pipelines::event::EventKind;
use pipelines::plan::{Job, Plan};
use pipelines::schedule::Outcome;
use pipelines::status::{FailureReason, Status};
use pipelines::variables::{Unknown, expand};
use runners::artifacts::{self, Index};
use runners::job::{JobSources, JobSpec, Run};
use runners::log::{JobLog, JobLogOptions, Tone};
use serde_json::Value as Json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// GitLab's limit: pipelines below the first one.
const DEEPEST: u32 = 2;
/// Bytes of a configuration file in an artifact; GitLab has 5 MiB.
const LONGEST_ARTIFACT: u64 = 5 * 1024 * 1024;

/// `trigger:strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// The job is done when the pipeline exists.
    None,
    Depend,
    Mirror,
}

/// A pipeline that was created.
struct Child {
    pipeline: Arc<Pipeline>,
    plan: Arc<Plan>,
}

/// Runs a trigger job.
pub(super) async fn run(above: Arc<Pipeline>, job: JobRun) -> Outcome {
    let options = JobLogOptions {
        job: job.job().name.clone(),
        path: spec(&above, &job).log(),
        limit: Run::OUTPUT_LIMIT,
        events: job.events.clone(),
    };
    let mut log = match JobLog::open(options) {
        Ok(log) => log,
        Err(error) => return failed(FailureReason::RunnerSystemFailure, format!("writing its log: {error}")),
    };
    let secrets = above.request.project_variables.iter().filter(|v| v.masked);
    secrets.for_each(|v| log.hide(&v.value));
    let created = create(&above, &job, &mut log).await;
    if let Err((_, message)) = &created {
        log.line(Tone::Error, &format!("ERROR: no pipeline was created: {message}"));
    }
    let masked = created.map_err(|(reason, message)| (reason, log.masked(&message)));
    // a log that can't be written does not stop the pipeline
    let _ = log.finish();
    match masked {
        Ok(child) => follow(child, job).await,
        Err((reason, message)) => failed(reason, message),
    }
}

/// Runs the pipeline, or leaves it running.
async fn follow(child: Child, job: JobRun) -> Outcome {
    let name = job.job().name.clone();
    let strategy = strategy(job.job());
    let (events, token) = (job.events.clone(), job.token.clone());
    let running = dispatch_child(child, name.clone(), job.events, job.stop);
    if strategy != Strategy::None {
        return match running.await {
            Ok(end) => outcome(strategy, end.status, &name),
            Err(error) => failed(FailureReason::DownstreamPipelineFailure, error.to_string()),
        };
    }
    tokio::spawn(async move {
        let message = match running.await {
            Ok(end) if end.exit_code() == 0 => None,
            Ok(end) => Some(format!(
                "its pipeline came out as {}; without `trigger:strategy` that does not count here",
                end.status.name()
            )),
            Err(error) => Some(format!("its pipeline did not run: {error}")),
        };
        if let Some(message) = message {
            // nobody listens after an interrupted run
            let _ = events.send(EventKind::Notice { job: Some(name), message });
        }
        drop(token);
    });
    Outcome::Success
}

async fn dispatch_child(
    child: Child,
    name: String,
    events: mpsc::UnboundedSender<EventKind>,
    stop: watch::Receiver<Cancel>,
) -> Result<RunEnd, DispatchError> {
    let Child { pipeline, plan } = child;
    let options = Options {
        slots: pipeline.slots.clone(),
        manual: pipeline.manual.clone(),
        run: pipeline.run.id,
        reference: pipeline.request.reference.clone(),
        sha: pipeline.request.commit.sha.clone(),
        dirty: false,
    };
    let (sender, interrupts) = mpsc::unbounded_channel();
    let recorder = Recorder::Above { events, job: name };
    let end = dispatch::dispatch(plan, options, recorder, interrupts, |job| start(pipeline.clone(), job));
    tokio::select! {
        end = end => end,
        never = pass_on(stop, sender) => match never {},
    }
}

/// Cancelling the trigger job cancels its pipeline, with the same urgency.
async fn pass_on(mut stop: watch::Receiver<Cancel>, interrupts: mpsc::UnboundedSender<()>) -> Infallible {
    for level in [Cancel::Graceful, Cancel::Kill] {
        // without a sender nobody can cancel any more
        if stop.wait_for(|now| *now >= level).await.is_ok() {
            let _ = interrupts.send(());
        }
    }
    std::future::pending().await
}

async fn create(
    above: &Arc<Pipeline>,
    job: &JobRun,
    log: &mut JobLog,
) -> Result<Child, (FailureReason, String)> {
    let name = &job.job().name;
    let trigger = job.job().work.trigger.clone().unwrap_or_default();
    let Some(include) = trigger.get("include") else {
        let project = trigger.get("project").and_then(Json::as_str).unwrap_or_default();
        let message = format!("pipelines of other projects (`{project}`) are not run by this version");
        return Err((FailureReason::RunnerUnsupported, message));
    };
    let refused = |message: String| (FailureReason::DownstreamPipelineFailure, message);
    if above.depth >= DEEPEST {
        return Err(refused(format!(
            "child pipelines can be nested {DEEPEST} deep, and this would be one more"
        )));
    }
    let dotenv = dotenv(above, job).map_err(refused)?;
    let known = |name: &str| known(above, job.job(), name);
    let forwarded = forwarded(job.job(), &above.request, &dotenv, &known);
    let read = |job: &str, file: &str| {
        let full = |text: &str| expand(text, Unknown::Remove, &known);
        read_artifact(&above.run, &full(job), &full(file))
    };
    let configuration = Configuration::new(name, include, &read).map_err(refused)?;
    let names: Vec<&str> = forwarded.variables.iter().map(|(key, _)| key.as_str()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    log.line(Tone::Plain, &format!("Creating a child pipeline; variables: {names}"));
    let (pipeline, plan) = plan(above, forwarded, configuration).await.map_err(|why| {
        log.output(why.details.as_bytes());
        refused(why.message)
    })?;
    let child = below(above, name, pipeline, plan);
    log.line(Tone::Good, &format!("Created child pipeline {}", child.pipeline.run.id));
    Ok(child)
}

async fn plan(
    above: &Arc<Pipeline>,
    forwarded: Forwarded,
    configuration: Configuration,
) -> Result<(pipelines::request::Request, Plan), Refused> {
    let request = child::request(&above.request, forwarded);
    let checkout = above.run.checkout.clone();
    let planned = tokio::task::spawn_blocking(move || {
        let plan = child::plan(&checkout, &request, configuration);
        plan.map(|plan| (request, plan))
    });
    let panicked = |_| Refused { message: "planning it panicked".to_owned(), details: String::new() };
    let (request, mut plan) = planned.await.map_err(panicked)??;
    above.overrides.apply(&mut plan);
    Ok((request, plan))
}

/// The pipeline of the trigger job `name`.
fn below(above: &Arc<Pipeline>, name: &str, request: pipelines::request::Request, plan: Plan) -> Child {
    let plan = Arc::new(plan);
    let project = request.project_variables.iter().map(|v| v.key.clone());
    let run = Run {
        id: above.next_id(),
        parent: Some(above.run.clone()),
        dir: above.run.job_dir(name).join("pipeline"),
        plan: plan.clone(),
        fixed: request.variables.keys().cloned().chain(project).collect(),
        ..Run::clone(&above.run)
    };
    let manual = above.manual.iter().filter_map(|wanted| name_below(name, wanted)).map(str::to_owned);
    let pipeline = Pipeline {
        run: Arc::new(run),
        executor: above.executor.clone(),
        ids: above.ids.clone(),
        slots: above.slots.clone(),
        locks: above.locks.clone(),
        manual: manual.collect(),
        overrides: above.overrides.clone(),
        snapshot: above.snapshot.clone(),
        git_tag: above.git_tag,
        depth: above.depth + 1,
        request,
    };
    Child { pipeline: Arc::new(pipeline), plan }
}

/// Variables that a trigger job knows beside those of the plan.
fn known(above: &Pipeline, job: &Job, name: &str) -> Option<String> {
    if name == "CI_PIPELINE_ID" {
        return Some(above.run.id.to_string());
    }
    job.environment_variables.iter().rfind(|v| v.key == name).map(|v| v.value.clone())
}

/// Variables that the jobs before hand over.
fn dotenv(above: &Pipeline, job: &JobRun) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for source in artifacts::sources(&job.plan, job.job()) {
        let index = Index::newest(&above.run.job_dir(&source.name));
        let index = index.map_err(|e| format!("reading the artifacts of `{}`: {e}", source.name))?;
        variables.extend(index.into_iter().flat_map(|(_, index)| index.dotenv));
    }
    Ok(variables)
}

fn read_artifact(run: &Run, job: &str, file: &str) -> Result<String, String> {
    match artifacts::read_text(&run.job_dir(job), file, LONGEST_ARTIFACT) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!(
            "job `{job}` has left no artifact `{file}`: it must have run before, with `{file}` in `artifacts:paths`"
        )),
        Err(error) => Err(format!("reading artifact `{file}` of job `{job}`: {error}")),
    }
}

fn spec(above: &Pipeline, job: &JobRun) -> JobSpec {
    JobSpec {
        id: 0,
        job: job.job().clone(),
        attempt: job.attempt,
        run: above.run.clone(),
        sources: JobSources::default(),
    }
}

fn strategy(job: &Job) -> Strategy {
    match job.work.trigger.as_ref().and_then(|t| t.get("strategy")).and_then(Json::as_str) {
        Some("depend") => Strategy::Depend,
        Some("mirror") => Strategy::Mirror,
        _ => Strategy::None,
    }
}

/// What becomes of the trigger job when its pipeline has ended, or waits for a person.
fn outcome(strategy: Strategy, status: Status, name: &str) -> Outcome {
    match status {
        Status::Success => Outcome::Success,
        Status::Canceled => Outcome::Canceled,
        Status::Manual => Outcome::Blocked {
            message: format!("its pipeline waits for a manual job: run again with --manual '{name} > JOB'"),
        },
        Status::Skipped if strategy == Strategy::Mirror => Outcome::Skipped,
        other => failed(
            FailureReason::DownstreamPipelineFailure,
            format!("its pipeline came out as {}", other.name()),
        ),
    }
}

fn failed(reason: FailureReason, message: String) -> Outcome {
    Outcome::Failed { reason, exit_code: None, message: Some(message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_take_over_the_status() {
        use Strategy::{Depend, Mirror};
        let word = |strategy, status| match outcome(strategy, status, "child") {
            Outcome::Success => "success",
            Outcome::Failed { reason: FailureReason::DownstreamPipelineFailure, .. } => "failed",
            Outcome::Failed { .. } => "other",
            Outcome::Canceled => "canceled",
            Outcome::Blocked { .. } => "manual",
            Outcome::Skipped => "skipped",
        };
        let table = [
            (Status::Success, "success", "success"),
            (Status::Failed, "failed", "failed"),
            (Status::Canceled, "canceled", "canceled"),
            (Status::Skipped, "failed", "skipped"),
            (Status::Manual, "manual", "manual"),
        ];
        for (status, depend, mirror) in table {
            assert_eq!((word(Depend, status), word(Mirror, status)), (depend, mirror), "{status:?}");
        }
    }
}
