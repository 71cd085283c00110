//! The loop between scheduler and job tasks.

use super::job_run::JobRun;
use super::recorder::Recorder;
use pipelines::event::EventKind;
use pipelines::plan::Plan;
use pipelines::schedule::{self, Action, Change, Input, JobId, Outcome, Scheduler};
use pipelines::status::{FailureReason, Status};
use runners::job::Cancel;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};

/// How to run a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// A permit for each job that may run at once; shared by all pipelines of a run. Trigger jobs need none.
    pub slots: Arc<Semaphore>,
    /// Manual jobs to play, by name; the name of a parallel job stands for all its instances. Names of jobs in
    /// downstream pipelines (`TRIGGER JOB > JOB`) are theirs to check.
    pub manual: Vec<String>,
    /// Run number in the project.
    pub run: u64,
    /// Ref that is run.
    pub reference: String,
    /// Commit.
    pub sha: String,
    /// Does the run include uncommitted changes?
    pub dirty: bool,
}

/// Why a run can't begin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// The plan contradicts itself.
    #[error(transparent)]
    Plan(#[from] schedule::PlanError),
    /// A job to play does not exist.
    #[error("can't play `{0}`: this run has no manual job of that name")]
    NotManual(String),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The pipeline's status; `manual` when it is blocked by a job that nobody played.
    pub status: Status,
    /// Did a person interrupt it?
    pub interrupted: bool,
}

impl RunEnd {
    /// What `ci run` ends with: 0 success (optional manual jobs may be left), 130 cancelled, else 1 - also for a
    /// blocked pipeline, which has not succeeded.
    pub fn exit_code(self) -> u8 {
        match self.status {
            Status::Success | Status::Skipped => 0,
            Status::Canceled => 130,
            _ if self.interrupted => 130,
            _ => 1,
        }
    }
}

/// Runs the plan to its end, or until it is blocked. `start` makes the future that runs one attempt of a job.
///
/// The first message of `interrupts` cancels the run, the second kills the running jobs, the third abandons their
/// tasks. A panic in a task fails its job as `runner_system_failure`.
///
/// # Errors
/// The run can't begin; nothing has been started or recorded then.
pub async fn dispatch<S, F>(
    plan: Arc<Plan>,
    options: Options,
    recorder: impl Into<Recorder>,
    mut interrupts: mpsc::UnboundedReceiver<()>,
    start: S,
) -> Result<RunEnd, DispatchError>
where
    S: Fn(JobRun) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut dispatcher = Dispatcher::new(plan, options, recorder.into(), start)?;
    dispatcher.begin();
    let mut interruptible = true;
    while dispatcher.advance() {
        let slots = Arc::clone(&dispatcher.options.slots);
        let waits = !dispatcher.queue.is_empty();
        tokio::select! {
            Some(event) = dispatcher.events.recv() => dispatcher.recorder.record(event),
            Ok(slot) = slots.acquire_owned(), if waits => dispatcher.run_next(slot),
            Some(ended) = dispatcher.tasks.join_next_with_id() => dispatcher.ended(ended),
            Some(Ok(job)) = dispatcher.timers.join_next() => dispatcher.inputs.push_back(Input::TimerFired(job)),
            None = dispatcher.work.recv(), if dispatcher.scheduler.is_finished() => break,
            interrupt = interrupts.recv(), if interruptible => match interrupt {
                Some(()) => dispatcher.interrupt(),
                None => interruptible = false,
            },
        }
    }
    Ok(dispatcher.finish())
}

/// What a job's task leaves: how it ended, and its slot.
type Ended = (Outcome, Option<OwnedSemaphorePermit>);

struct Dispatcher<S> {
    scheduler: Scheduler,
    options: Options,
    recorder: Recorder,
    start: S,
    inputs: VecDeque<Input>,
    /// Jobs that wait for a slot, by attempt and rank: for GitLab, a job's next attempt is a new job.
    queue: BTreeMap<(u32, usize), JobId>,
    /// Of each job, its place in [`Plan::queue_order`].
    ranks: Vec<usize>,
    running: BTreeMap<JobId, watch::Sender<Cancel>>,
    /// Of trigger jobs that have ended; their pipelines may go on.
    left: Vec<watch::Sender<Cancel>>,
    /// Handed to every job; closes when nothing that a job has begun goes on. None: no job will begin any more.
    token: Option<mpsc::Sender<Infallible>>,
    work: mpsc::Receiver<Infallible>,
    tasks: JoinSet<Ended>,
    job_of_task: HashMap<task::Id, JobId>,
    timers: JoinSet<JobId>,
    sender: mpsc::UnboundedSender<EventKind>,
    events: mpsc::UnboundedReceiver<EventKind>,
    interrupts: u32,
}

impl<S, F> Dispatcher<S>
where
    S: Fn(JobRun) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    fn new(plan: Arc<Plan>, options: Options, recorder: Recorder, start: S) -> Result<Self, DispatchError> {
        let is_manual = |name: &&String| {
            let manual = plan.jobs.iter().filter(|j| j.when == pipelines::plan::When::Manual);
            manual.into_iter().any(|j| schedule::names(j, name))
        };
        let is_below = |name: &&String| plan.jobs.iter().any(|j| name_below(&j.name, name).is_some());
        if let Some(name) = options.manual.iter().find(|name| !is_manual(name) && !is_below(name)) {
            return Err(DispatchError::NotManual(name.clone()));
        }
        let (sender, events) = mpsc::unbounded_channel();
        let (token, work) = mpsc::channel(1);
        let mut ranks = vec![0; plan.jobs.len()];
        plan.queue_order().into_iter().enumerate().for_each(|(rank, job)| ranks[job] = rank);
        Ok(Dispatcher {
            scheduler: Scheduler::new(plan)?,
            options,
            recorder,
            start,
            inputs: VecDeque::new(),
            queue: BTreeMap::new(),
            ranks,
            running: BTreeMap::new(),
            left: Vec::new(),
            token: Some(token),
            work,
            tasks: JoinSet::new(),
            job_of_task: HashMap::new(),
            timers: JoinSet::new(),
            sender,
            events,
            interrupts: 0,
        })
    }

    fn begin(&mut self) {
        self.recorder.record(EventKind::RunStarted {
            run: self.options.run,
            reference: self.options.reference.clone(),
            sha: self.options.sha.clone(),
            dirty: self.options.dirty,
            plan: Box::new(Plan::clone(self.scheduler.plan())),
        });
        self.inputs.push_back(Input::Start);
    }

    /// Does all that can be done without waiting. Is there something left to wait for?
    fn advance(&mut self) -> bool {
        loop {
            while let Some(input) = self.inputs.pop_front() {
                for action in self.scheduler.handle(input) {
                    self.act(action);
                }
            }
            if !self.queue.is_empty()
                && let Ok(slot) = Arc::clone(&self.options.slots).try_acquire_owned()
            {
                self.run_next(slot);
                continue;
            }
            if self.scheduler.is_finished() {
                self.token = None;
            }
            return !self.scheduler.is_finished() || self.goes_on();
        }
    }

    /// Has a job begun something that has not ended?
    fn goes_on(&mut self) -> bool {
        self.interrupts < 3 && !matches!(self.work.try_recv(), Err(mpsc::error::TryRecvError::Disconnected))
    }

    fn run_next(&mut self, slot: OwnedSemaphorePermit) {
        if let Some(((attempt, _), job)) = self.queue.pop_first() {
            self.run(job, attempt, Some(slot));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::StartJob { job, attempt } if self.scheduler.job(job).work.trigger.is_some() => {
                self.run(job, attempt, None);
            }
            Action::StartJob { job, attempt } => drop(self.queue.insert((attempt, self.ranks[job.0]), job)),
            Action::CancelJob(job) => {
                self.queue.retain(|_, queued| *queued != job);
                self.stop(job, Cancel::Graceful);
            }
            Action::SetTimer { job, after } => {
                self.timers.spawn(async move {
                    tokio::time::sleep(after).await;
                    job
                });
            }
            Action::StatusChanged(change) => self.changed(change),
            // the first is of interest to servers, the second is asked of the scheduler when all is done
            Action::PipelineChanged(_) | Action::PipelineFinished(_) => {}
        }
    }

    fn changed(&mut self, change: Change) {
        let job = self.scheduler.job(change.job);
        let asked_for = |name: &String| schedule::names(job, name);
        // a trigger job whose pipeline is blocked comes back as manual: playing it again would not help
        let first = change.attempt == 0;
        if first && change.status == Status::Manual && self.options.manual.iter().any(asked_for) {
            self.inputs.push_back(Input::Play(change.job));
        }
        self.recorder.record(EventKind::JobStatus {
            job: job.name.clone(),
            status: change.status,
            attempt: change.attempt,
            reason: change.reason,
            exit_code: change.exit_code,
            allowed_to_fail: change.allowed_to_fail,
            message: change.message,
        });
    }

    fn run(&mut self, id: JobId, attempt: u32, slot: Option<OwnedSemaphorePermit>) {
        let Some(token) = self.token.clone() else { return };
        let (stop, stopped) = watch::channel(Cancel::No);
        let events = self.sender.clone();
        let plan = Arc::clone(self.scheduler.plan());
        let job = (self.start)(JobRun { plan, id, attempt, stop: stopped, events, token });
        let task = self.tasks.spawn(async move {
            // the slot is free when the dispatcher knows of the end: what the end lets begin may come first then
            (job.await, slot)
        });
        self.job_of_task.insert(task.id(), id);
        self.running.insert(id, stop);
        self.inputs.push_back(Input::JobStarted(id));
    }

    fn ended(&mut self, ended: Result<(task::Id, Ended), JoinError>) {
        // what the job told before it ended comes before its end
        while let Ok(event) = self.events.try_recv() {
            self.recorder.record(event);
        }
        let (task, outcome) = match ended {
            Ok((task, (outcome, _slot))) => (task, outcome),
            Err(error) if error.is_cancelled() => (error.id(), Outcome::Canceled),
            Err(error) => (error.id(), panicked()),
        };
        if let Some(job) = self.job_of_task.remove(&task) {
            let stop = self.running.remove(&job);
            self.left.extend(stop.filter(|stop| !stop.is_closed()));
            self.inputs.push_back(Input::JobFinished(job, outcome));
        }
    }

    fn stop(&self, job: JobId, stop: Cancel) {
        if let Some(sender) = self.running.get(&job) {
            raise(sender, stop);
        }
    }

    fn interrupt(&mut self) {
        self.interrupts += 1;
        let message = match self.interrupts {
            1 => {
                self.inputs.push_back(Input::CancelAll);
                self.left.iter().for_each(|left| raise(left, Cancel::Graceful));
                "cancelling: jobs may run their after_script; interrupt again to kill them"
            }
            2 => {
                self.running.values().chain(&self.left).for_each(|job| raise(job, Cancel::Kill));
                "killing the running jobs; interrupt again to leave without cleaning up"
            }
            _ => {
                self.tasks.abort_all();
                "leaving without cleaning up"
            }
        };
        if self.recorder.is_journal() {
            self.recorder.record(EventKind::Notice { job: None, message: message.to_owned() });
        }
    }

    fn finish(mut self) -> RunEnd {
        while let Ok(event) = self.events.try_recv() {
            self.recorder.record(event);
        }
        let status = self.scheduler.pipeline_status();
        self.recorder.record(EventKind::RunFinished { status });
        RunEnd { status, interrupted: self.interrupts > 0 }
    }
}

fn raise(sender: &watch::Sender<Cancel>, stop: Cancel) {
    sender.send_if_modified(|now| {
        let more = stop > *now;
        *now = stop.max(*now);
        more
    });
}

/// What a job of the pipeline below `trigger` is called there.
pub fn name_below<'n>(trigger: &str, name: &'n str) -> Option<&'n str> {
    name.strip_prefix(trigger)?.strip_prefix(" > ")
}

fn panicked() -> Outcome {
    let message = "the runner's own code panicked while it ran this job".to_owned();
    Outcome::Failed { reason: FailureReason::RunnerSystemFailure, exit_code: None, message: Some(message) }
}
