//! `ci __job`: one job, from its order to the server's last word on it.

use super::courier::Carrier;
use super::job_api::JobApi;
use super::trace::{Delivered, Trace};
use super::verdict::Verdict;
use super::{Order, identity, processes, translate};
use crate::error::{CliError, CliResult};
use crate::settings::{Settings, State};
use crate::storage::{Limits, empty_trash, inventory, remove, victims};
use pipelines::event::EventKind;
use pipelines::status::FailureReason;
use runners::executor::Executor;
use runners::job::{Cancel, Courier, JobSpec, Outcome};
use runners::log::{JobLog, JobLogOptions, Tone};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{oneshot, watch};

/// So long tidying up may hold up the end of the process.
const TIDYING: Duration = Duration::from_secs(2);

/// Runs the job. `executor` makes the place where jobs run; it is waited for while the server knows already that the
/// job is taken.
///
/// # Errors
/// The server was not told how the job ended.
pub async fn run(
    order: Order,
    settings: Settings,
    executor: impl AsyncFnOnce(&State, &Order, &Settings) -> CliResult<Executor>,
) -> CliResult {
    let id = order.job.id;
    let doing = |e: &dyn std::fmt::Display| CliError::failed(format!("running job {id}: {e}"));
    let _lock = processes::hold(&order.dir).map_err(|e| doing(&e))?;
    let state = State::of(&translate::state_name(&order))?;
    let info = identity::info(order.executor.or(settings.executor));
    let api = JobApi::new(order.address.clone(), id, order.job.token.clone(), info);
    let api = api.map_err(|e| doing(&e))?;
    let order = Arc::new(order);
    let (courier, errands) = Courier::new();
    let spec = translate::spec(&order, &state, &settings, courier);
    let carrier = Carrier {
        order: order.clone(),
        api: api.clone(),
        state: state.clone(),
        run: spec.run.dir.clone(),
        attempt: spec.dir(),
        held: None,
    };
    let carrying = tokio::spawn(carrier.serve(errands));
    let (cancel, canceled) = watch::channel(Cancel::No);
    let (grown, growth) = watch::channel(0);
    let (end, ended) = oneshot::channel();
    let trace = Trace::new(api, spec.log(), order.local, cancel.clone());
    let delivering = tokio::spawn(trace.follow(growth, ended));
    let interrupted = tokio::spawn(interruption(cancel));
    let (events, heard) = unbounded_channel();
    tokio::spawn(listen(heard, grown));
    let outcome = match executor(&state, &order, &settings).await {
        Ok(executor) => runners::job::run(spec, &executor, events, canceled).await,
        Err(error) => without_executor(&spec, events, &error),
    };
    let verdict = match outcome {
        Outcome::Canceled if interrupted.is_finished() => Verdict::interrupted(&order.job.features),
        outcome => Verdict::of(&outcome, &order.job.features),
    };
    // a trace that has ended knows that nobody wants to hear it
    let _ = end.send(verdict);
    let delivered = delivering.await;
    carrying.abort();
    tidy(&state, &settings);
    match delivered {
        Ok(Delivered::Yes | Delivered::Unwanted) => {
            // its log is with the server; a directory that stays is swept by the runner
            let _ = std::fs::remove_dir_all(&order.dir);
            Ok(())
        }
        _ => Err(doing(&"the server was not told how it ended")),
    }
}

/// Ends when somebody ends this process: its job is killed, and the server is told.
async fn interruption(cancel: watch::Sender<Cancel>) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    terminate.recv().await;
    cancel.send_replace(Cancel::Kill);
}

/// Passes on how far the log has grown.
async fn listen(mut events: UnboundedReceiver<EventKind>, grown: watch::Sender<u64>) {
    while let Some(event) = events.recv().await {
        if let EventKind::JobLog { length, .. } = event {
            grown.send_replace(length);
        }
    }
    // who waits for growth knows by a closed channel that there is none any more; the end comes another way
    grown.closed().await;
}

/// There is no place to run: the log says why.
fn without_executor(
    spec: &JobSpec,
    events: tokio::sync::mpsc::UnboundedSender<EventKind>,
    error: &CliError,
) -> Outcome {
    let path = spec.log();
    let options = JobLogOptions { job: spec.job.name.clone(), path, limit: spec.run.output_limit, events };
    if let Ok(mut log) = JobLog::open(options) {
        log.line(Tone::Error, &format!("ERROR: Job failed: {}", error.message));
        for hint in &error.hints {
            log.line(Tone::Plain, hint);
        }
        // the reason goes to the server in any case
        let _ = log.finish();
    }
    Outcome::Failed {
        reason: FailureReason::RunnerSystemFailure,
        exit_code: None,
        message: Some(error.message.clone()),
    }
}

/// Removes what is beyond the limits of the project: snapshots and caches.
fn tidy(state: &State, settings: &Settings) {
    let keep = &settings.keep;
    let limits = Limits { runs: None, age: Some(keep.age()), size: Some(keep.size()) };
    let items = inventory(&state.dir, false);
    let trash = state.trash();
    for index in victims(&items, &limits, SystemTime::now()) {
        if let Err(error) = remove(&items[index], &trash) {
            tracing::warn!("removing what is old: {error}");
        }
    }
    if let Err(error) = empty_trash(&trash, Some(Instant::now() + TIDYING)) {
        tracing::warn!("removing what is old: {error}");
    }
}
