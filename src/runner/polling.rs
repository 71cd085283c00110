//! `ci runner run`: asks for jobs as long as there is room, and starts a process for each.

use super::asking::{Asked, Server};
use super::config::{Config, Registered};
use super::job_api::{Address, JobApi};
use super::patience::Patience;
use super::processes::{Ended, Processes};
use super::verdict::Verdict;
use super::{Order, identity};
use crate::wire::job::Job;
use pipelines::status::FailureReason;
use runners::job::Outcome;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Between two requests to a server that does not hold them.
const CHECK: Duration = Duration::from_secs(3);
/// A request that was held longer than this was a long poll.
const HELD: Duration = Duration::from_secs(1);
/// So often a server is told of a job whose process was killed.
const TELLING: u32 = 20;

/// What the askers share.
#[derive(Clone)]
struct Work {
    processes: Processes,
    /// How many jobs run.
    busy: Arc<watch::Sender<usize>>,
    slots: usize,
    system_id: String,
    hidden: Vec<PathBuf>,
    stop: CancellationToken,
    running: TaskTracker,
}

/// Takes jobs until `stop`, then waits for those that run. What is dropped before that goes on by itself.
///
/// # Errors
/// The directory of the jobs can't be read, or there is no client for the network.
pub async fn run(
    config: Config,
    system_id: String,
    processes: Processes,
    hidden: Vec<PathBuf>,
    stop: CancellationToken,
) -> Result<(), String> {
    let work = Work {
        processes,
        busy: Arc::new(watch::Sender::new(0)),
        slots: config.slots(),
        system_id,
        hidden,
        stop,
        running: TaskTracker::new(),
    };
    let (alive, dead) =
        work.processes.sweep().map_err(|e| format!("looking for jobs that still run: {e}"))?;
    for name in dead {
        // nobody has the token any more; the server notices by the lease
        work.processes.remove(&name);
    }
    for name in alive {
        tracing::info!("job {name} still runs");
        let (busy, processes) = (Busy::new(&work.busy), work.processes.clone());
        work.running.spawn(async move {
            processes.outlived(&name).await;
            processes.remove(&name);
            drop(busy);
        });
    }
    let mut asking = Vec::new();
    for runner in config.runners {
        let server = Server::new(&runner, &work.system_id, identity::info(runner.executor))?;
        asking.push(tokio::spawn(ask(work.clone(), runner, server)));
    }
    for asker in asking {
        // one that panicked has said so
        let _ = asker.await;
    }
    work.running.close();
    work.running.wait().await;
    Ok(())
}

/// One job more, as long as it is held.
struct Busy(Arc<watch::Sender<usize>>);

impl Busy {
    fn new(count: &Arc<watch::Sender<usize>>) -> Busy {
        count.send_modify(|count| *count += 1);
        Busy(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

async fn ask(work: Work, runner: Registered, mut server: Server) {
    let mut patience = Patience::new(Duration::from_secs(1), Duration::from_secs(60));
    let mut count = work.busy.subscribe();
    let mut troubled = false;
    loop {
        let asked = async {
            // the sender is ours: it does not close
            let _ = count.wait_for(|count| *count < work.slots).await;
            let begun = Instant::now();
            (server.ask().await, begun.elapsed())
        };
        let (asked, held) = tokio::select! {
            () = work.stop.cancelled() => return,
            asked = asked => asked,
        };
        let pause = match asked {
            Asked::Job(job) => {
                start(&work, &runner, *job).await;
                Duration::ZERO
            }
            Asked::Nothing if held > HELD => Duration::ZERO,
            Asked::Nothing => CHECK,
            Asked::Later(why, after) => {
                troubled = true;
                tracing::warn!("{}: asking for a job: {why}", runner.name);
                work.paused(patience.wait(after)).await;
                continue;
            }
            Asked::Refused(why) => {
                troubled = true;
                tracing::error!("{}: no jobs: {why}", runner.name);
                work.paused(patience.wait(Some(Duration::from_secs(60)))).await;
                continue;
            }
        };
        if std::mem::take(&mut troubled) {
            tracing::info!("{}: {} answers again", runner.name, runner.url);
        }
        patience.reset();
        work.paused(pause).await;
    }
}

impl Work {
    async fn paused(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Starts the process of a job.
async fn start(work: &Work, runner: &Registered, job: Job) {
    let whose = crate::digest::sha256_hex(runner.url.as_bytes());
    let name = format!("{}-{}", &whose[..8], job.id);
    tracing::info!("{}: job {} begins", runner.name, job.id);
    let order = Order {
        address: Address::Url(super::asking::base(&runner.url)),
        origin: runner.url.clone(),
        runner: runner.name.clone(),
        dir: work.processes.place(&name),
        executor: runner.executor,
        mirror: None,
        hidden: work.hidden.clone(),
        local: false,
        job: job.clone(),
    };
    let busy = Busy::new(&work.busy);
    let started = work.processes.start(&name, order).await;
    let (runner, processes) = (runner.clone(), work.processes.clone());
    work.running.spawn(async move {
        let _busy = busy;
        let why = match started {
            Ok(ended) => match ended.await {
                Ended::Told => return tracing::info!("{}: job {} has ended", runner.name, job.id),
                Ended::Silent => "its process was killed".to_owned(),
            },
            Err(error) => format!("its process can't be started: {error}"),
        };
        tracing::error!("{}: job {} is lost: {why}", runner.name, job.id);
        tell(&runner, &job).await;
        processes.remove(&name);
    });
}

/// Tells the server that nothing more comes of a job.
async fn tell(runner: &Registered, job: &Job) {
    let outcome =
        Outcome::Failed { reason: FailureReason::RunnerSystemFailure, exit_code: None, message: None };
    let verdict = Verdict::of(&outcome, &job.features);
    let address = Address::Url(super::asking::base(&runner.url));
    let info = identity::info(runner.executor);
    let Ok(api) = JobApi::new(address, job.id, job.token.clone(), info) else { return };
    let mut patience = Patience::new(Duration::from_secs(1), Duration::from_secs(60));
    for _ in 0..TELLING {
        match api.update(verdict.update()).await {
            // whatever else it says, it has heard it
            Ok(reply) if !super::job_api::passes(reply.status) => return,
            _ => tokio::time::sleep(patience.wait(None)).await,
        }
    }
}
