//! A trigger job: creates a pipeline, runs it, and takes over its status as far as `strategy` says.

use super::create::{Child, create};
use super::pipeline::{Pipeline, start};
use crate::dispatch::{self, Cancel, DispatchError, JobRun, Options, Recorder, RunEnd};
use pipelines::event::EventKind;
use pipelines::plan::Job;
use pipelines::schedule::Outcome;
use pipelines::status::{FailureReason, Status};
use runners::job::{JobSources, JobSpec, Run};
use runners::log::{JobLog, JobLogOptions, Tone};
use serde_json::Value as Json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// `trigger:strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// The job is done when the pipeline exists.
    None,
    Depend,
    Mirror,
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
    if let Err(message) = &created {
        log.line(Tone::Error, &format!("ERROR: no pipeline was created: {message}"));
    }
    let masked = created.map_err(|message| log.masked(&message));
    // a log that can't be written does not stop the pipeline
    let _ = log.finish();
    match masked {
        Ok(child) => follow(child, job).await,
        Err(message) => failed(FailureReason::DownstreamPipelineFailure, message),
    }
}

/// Runs the pipeline, or leaves it running.
async fn follow(child: Child, job: JobRun) -> Outcome {
    let name = job.job().name.clone();
    let strategy = strategy(job.job());
    let (events, token) = (job.events.clone(), job.token.clone());
    let prefix = child.prefix.clone();
    let running = dispatch_child(child, job.events, job.stop);
    if strategy != Strategy::None {
        return match running.await {
            Ok(end) => outcome(strategy, end.status, &prefix),
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
    events: mpsc::UnboundedSender<EventKind>,
    stop: watch::Receiver<Cancel>,
) -> Result<RunEnd, DispatchError> {
    let Child { pipeline, plan, prefix } = child;
    let options = Options {
        slots: pipeline.slots.clone(),
        manual: pipeline.manual.clone(),
        run: pipeline.run.id,
        reference: pipeline.request.reference.clone(),
        sha: pipeline.request.commit.sha.clone(),
        dirty: false,
    };
    let (sender, interrupts) = mpsc::unbounded_channel();
    let recorder = Recorder::Above { events, job: prefix };
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

fn spec(above: &Pipeline, job: &JobRun) -> JobSpec {
    JobSpec {
        id: 0,
        job: job.job().clone(),
        attempt: job.attempt,
        run: above.run.clone(),
        sources: JobSources::default(),
        courier: None,
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
fn outcome(strategy: Strategy, status: Status, prefix: &str) -> Outcome {
    match status {
        Status::Success => Outcome::Success,
        Status::Canceled => Outcome::Canceled,
        Status::Manual => Outcome::Blocked {
            message: format!("its pipeline waits for a manual job: run again with --manual '{prefix} > JOB'"),
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
            Outcome::Failed { .. } | Outcome::Lost { .. } => "other",
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
