//! The scheduler's state and its rules.

use super::graph::{Graph, PlanError};
use super::input::{Action, Change, Input, JobId, Outcome};
use super::retry;
use crate::plan::{Job, Plan, When};
use crate::status::{FailureReason, Status, Weight, WeightSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Decides what runs next; the only place where statuses are decided. See the [module](super).
#[derive(Clone, Debug)]
pub struct Scheduler {
    plan: Arc<Plan>,
    graph: Graph,
    jobs: Vec<State>,
    /// Weights of the jobs of each stage.
    stages: Vec<Tally>,
    /// Weights of all jobs.
    all: Tally,
    /// All stages before this one are complete; at most the number of stages.
    frontier: usize,
    /// The stage jobs of the stages before this one have been looked at.
    opened: usize,
    groups: Vec<Group>,
    /// Jobs with needs, of which one has changed.
    touched: VecDeque<usize>,
    /// Jobs that something will still happen to by itself: a slot, an end, a timer, a resource.
    moving: usize,
    reported: Status,
    finished: bool,
    actions: Vec<Action>,
}

#[derive(Clone, Debug)]
struct State {
    status: Status,
    attempt: u32,
    /// `allow_failure` as it stands: exit codes may turn it on.
    allowed: bool,
    weight: Weight,
    /// Weights of the needs.
    needs: Tally,
}

/// How many jobs have each weight.
#[derive(Clone, Debug, Default)]
struct Tally {
    counts: [u32; Weight::COUNT],
    incomplete: u32,
}

impl Tally {
    fn add(&mut self, weight: Weight) {
        self.counts[weight.index()] += 1;
        self.incomplete += u32::from(!weight.is_complete());
    }

    fn replace(&mut self, old: Weight, new: Weight) {
        self.counts[old.index()] -= 1;
        self.incomplete -= u32::from(!old.is_complete());
        self.add(new);
    }

    fn set(&self) -> WeightSet {
        let mut set = WeightSet::default();
        (0..Weight::COUNT).filter(|i| self.counts[*i] > 0).for_each(|i| set.insert_index(i));
        set
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    holder: Option<usize>,
    waiting: VecDeque<usize>,
}

/// What a status change says beside the status.
#[derive(Default)]
struct Why {
    reason: Option<FailureReason>,
    exit_code: Option<i32>,
    message: Option<String>,
}

impl Why {
    fn message(text: impl Into<String>) -> Why {
        Why { message: Some(text.into()), ..Why::default() }
    }
}

impl Scheduler {
    /// A scheduler for all jobs of the plan (see [`super::select`] for running only some).
    ///
    /// # Errors
    /// The plan contradicts itself.
    pub fn new(plan: Arc<Plan>) -> Result<Scheduler, PlanError> {
        let graph = Graph::new(&plan)?;
        let created = Weight::Plain(Status::Created);
        let mut stages = vec![Tally::default(); graph.stages.len()];
        let mut all = Tally::default();
        let mut jobs = Vec::with_capacity(plan.jobs.len());
        for (job, node) in plan.jobs.iter().zip(&graph.nodes) {
            let mut needs = Tally::default();
            node.needs.iter().for_each(|_| needs.add(created));
            stages[node.stage].add(created);
            all.add(created);
            let allowed = retry::always_allowed(job);
            jobs.push(State { status: Status::Created, attempt: 0, allowed, weight: created, needs });
        }
        Ok(Scheduler {
            groups: vec![Group::default(); graph.groups],
            plan,
            graph,
            jobs,
            stages,
            all,
            frontier: 0,
            opened: 0,
            touched: VecDeque::new(),
            moving: 0,
            reported: Status::Created,
            finished: false,
            actions: Vec::new(),
        })
    }

    /// The plan that is scheduled.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The job itself. Panics on an id that is not of this scheduler.
    pub fn job(&self, id: JobId) -> &Job {
        &self.plan.jobs[id.0]
    }

    /// The job of that very name.
    pub fn find(&self, name: &str) -> Option<JobId> {
        self.graph.by_name.get(name).copied().map(JobId)
    }

    /// The job's status.
    pub fn status(&self, id: JobId) -> Status {
        self.jobs[id.0].status
    }

    /// The composite of all jobs: the pipeline's status.
    pub fn pipeline_status(&self) -> Status {
        self.all.set().composite()
    }

    /// Will nothing more happen by itself?
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes in what happened and says what is to be done, in this order.
    pub fn handle(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Start => {
                self.touched.extend((0..self.jobs.len()).filter(|j| self.graph.nodes[*j].by_needs))
            }
            Input::JobStarted(JobId(job)) => {
                if self.status_of(job) == Some(Status::Pending) {
                    self.change(job, Status::Running, Why::default());
                }
            }
            Input::JobFinished(JobId(job), outcome) => self.finish(job, outcome),
            Input::TimerFired(JobId(job)) => {
                if self.status_of(job) == Some(Status::Scheduled) {
                    self.enqueue(job, Why::default());
                }
            }
            Input::Play(JobId(job)) => {
                if matches!(self.status_of(job), Some(Status::Manual | Status::Scheduled)) {
                    self.enqueue(job, Why::default());
                    self.revive_dependants(job);
                }
            }
            Input::Retry(JobId(job)) => {
                if matches!(self.status_of(job), Some(Status::Success | Status::Failed | Status::Canceled)) {
                    self.jobs[job].allowed = retry::always_allowed(&self.plan.jobs[job]);
                    self.enqueue(job, Why::default());
                    self.revive_dependants(job);
                }
            }
            Input::RetryAll => self.retry_all(),
            Input::CancelJob(JobId(job)) => {
                if job < self.jobs.len() {
                    self.cancel(job, None);
                }
            }
            Input::CancelAll => self.cancel_all(None),
        }
        self.settle();
        std::mem::take(&mut self.actions)
    }

    fn status_of(&self, job: usize) -> Option<Status> {
        self.jobs.get(job).map(|j| j.status)
    }

    /// Looks at every created job whose predecessors may have become complete, until nothing changes.
    fn settle(&mut self) {
        loop {
            while let Some(job) = self.touched.pop_front() {
                if self.jobs[job].status == Status::Created {
                    let prior = self.jobs[job].needs.set().composite_of_needs();
                    self.consider(job, prior);
                }
            }
            while self.frontier < self.stages.len() && self.stages[self.frontier].incomplete == 0 {
                self.frontier += 1;
            }
            if self.opened > self.frontier || self.opened == self.stages.len() {
                break;
            }
            self.open_stage();
        }
        self.report();
    }

    /// Everything before the stage is complete: decides on its stage jobs.
    fn open_stage(&mut self) {
        let stage = self.opened;
        self.opened += 1;
        let earlier = self.stages[..stage].iter().map(Tally::set);
        let prior = earlier.fold(WeightSet::default(), WeightSet::union).composite();
        for job in self.graph.stages[stage].clone() {
            if !self.graph.nodes[job].by_needs && self.jobs[job].status == Status::Created {
                self.consider(job, prior);
            }
        }
    }

    /// Decides on a created job, given the composite of what it waits for.
    fn consider(&mut self, job: usize, prior: Status) {
        if !prior.is_complete() {
            return;
        }
        let by_needs = self.graph.nodes[job].by_needs;
        let runs = match self.plan.jobs[job].when {
            When::OnSuccess | When::Manual | When::Delayed => {
                prior == Status::Success || (prior == Status::Skipped && !by_needs)
            }
            When::OnFailure => prior == Status::Failed,
            When::Always => prior != Status::Canceled,
            When::Never => false,
        };
        if !runs {
            let before = if by_needs { "its needs" } else { "the earlier stages" };
            let text = format!("{} came out as {}", before, prior.name());
            return self.change(job, Status::Skipped, Why::message(text));
        }
        match self.plan.jobs[job].when {
            When::Manual => self.change(job, Status::Manual, Why::default()),
            When::Delayed => {
                self.change(job, Status::Scheduled, Why::default());
                let after = self.graph.nodes[job].delay;
                self.actions.push(Action::SetTimer { job: JobId(job), after });
            }
            _ => self.enqueue(job, Why::default()),
        }
    }

    /// A new attempt, as soon as the job's resource is free.
    fn enqueue(&mut self, job: usize, why: Why) {
        self.jobs[job].attempt += 1;
        let Some(group) = self.graph.nodes[job].group else { return self.start(job, why) };
        if self.groups[group].holder.is_none() {
            self.groups[group].holder = Some(job);
            return self.start(job, why);
        }
        self.groups[group].waiting.push_back(job);
        self.change(job, Status::WaitingForResource, why);
    }

    fn start(&mut self, job: usize, why: Why) {
        self.change(job, Status::Pending, why);
        self.actions.push(Action::StartJob { job: JobId(job), attempt: self.jobs[job].attempt });
    }

    /// The job no longer uses or wants its resource.
    fn release(&mut self, job: usize) {
        let Some(group) = self.graph.nodes[job].group else { return };
        let group = &mut self.groups[group];
        if group.holder != Some(job) {
            group.waiting.retain(|w| *w != job);
            return;
        }
        group.holder = group.waiting.pop_front();
        if let Some(next) = group.holder {
            self.start(next, Why::default());
        }
    }

    fn finish(&mut self, job: usize, outcome: Outcome) {
        let Some(status) = self.status_of(job) else { return };
        if !matches!(status, Status::Pending | Status::Running | Status::Canceling) {
            return;
        }
        match outcome {
            // the wish to cancel wins over what came of the job
            _ if status == Status::Canceling => self.change(job, Status::Canceled, Why::default()),
            Outcome::Canceled => self.change(job, Status::Canceled, Why::default()),
            Outcome::Success => self.change(job, Status::Success, Why::default()),
            Outcome::Blocked { message } => self.change(job, Status::Manual, Why::message(message)),
            Outcome::Skipped => self.change(job, Status::Skipped, Why::default()),
            Outcome::Failed { reason, exit_code, message } => {
                return self.fail(job, Why { reason: Some(reason), exit_code, message }, true);
            }
            Outcome::Lost { message } => {
                let reason = Some(FailureReason::RunnerSystemFailure);
                let again = self.plan.jobs[job].environment.is_none();
                return self.fail(job, Why { reason, exit_code: None, message: Some(message) }, again);
            }
        }
        self.release(job);
    }

    /// `again`: may the job's own rules have it run again?
    fn fail(&mut self, job: usize, why: Why, again: bool) {
        let plan = Arc::clone(&self.plan);
        let (reason, attempt) = (why.reason.unwrap_or(FailureReason::UnknownFailure), self.jobs[job].attempt);
        if again && retry::retries(&plan.jobs[job], attempt, reason, why.exit_code) {
            // nobody else ever sees it as failed; its resource goes to whoever waits already
            let again = format!("attempt {attempt} failed, the job is retried");
            let message = Some(why.message.map_or(again.clone(), |m| format!("{again}: {m}")));
            self.release(job);
            return self.enqueue(job, Why { message, ..why });
        }
        self.jobs[job].allowed = retry::allowed(&plan.jobs[job], why.exit_code);
        self.change(job, Status::Failed, why);
        let cancels = plan.auto_cancel.as_ref().and_then(|a| a.on_job_failure.as_deref()) == Some("all");
        if cancels && !self.jobs[job].allowed {
            self.cancel_all(Some(&format!(
                "job `{}` failed and on_job_failure is `all`",
                plan.jobs[job].name
            )));
        }
        self.release(job);
    }

    fn cancel_all(&mut self, message: Option<&str>) {
        // those that hold a slot or a resource last, so that nothing starts in between
        let holds = |job: &usize| matches!(self.jobs[*job].status, Status::Pending | Status::Running);
        let (last, first): (Vec<usize>, Vec<usize>) = (0..self.jobs.len()).partition(holds);
        first.into_iter().chain(last).for_each(|job| self.cancel(job, message));
    }

    fn cancel(&mut self, job: usize, message: Option<&str>) {
        let why = Why { message: message.map(str::to_owned), ..Why::default() };
        match self.jobs[job].status {
            Status::Running => {
                self.actions.push(Action::CancelJob(JobId(job)));
                self.change(job, Status::Canceling, why);
            }
            Status::Pending => {
                self.actions.push(Action::CancelJob(JobId(job)));
                self.change(job, Status::Canceled, why);
                self.release(job);
            }
            Status::Created | Status::Scheduled | Status::WaitingForResource => {
                self.change(job, Status::Canceled, why);
                self.release(job);
            }
            Status::Success
            | Status::Failed
            | Status::Canceling
            | Status::Canceled
            | Status::Skipped
            | Status::Manual => {}
        }
    }

    /// What failed or was cancelled is looked at again, as if it had never run.
    fn retry_all(&mut self) {
        let ended = |job: &usize| matches!(self.jobs[*job].status, Status::Failed | Status::Canceled);
        let again: Vec<usize> = (0..self.jobs.len()).filter(ended).collect();
        for job in &again {
            self.jobs[*job].allowed = retry::always_allowed(&self.plan.jobs[*job]);
            self.change(*job, Status::Created, Why::default());
            self.look_again(*job);
        }
        again.into_iter().for_each(|job| self.revive_dependants(job));
    }

    /// A created job that what it waits for decides about once more.
    fn look_again(&mut self, job: usize) {
        let node = &self.graph.nodes[job];
        if node.by_needs {
            self.touched.push_back(job);
        } else {
            self.opened = self.opened.min(node.stage);
        }
    }

    /// A job starts anew: those that were skipped behind it are looked at again, and so on from these.
    fn revive_dependants(&mut self, job: usize) {
        let node = &self.graph.nodes[job];
        let later = self.graph.stages[node.stage + 1..].iter().flatten();
        let by_stage = later.filter(|j| !self.graph.nodes[**j].by_needs);
        let mut open: VecDeque<usize> = node.dependants.iter().chain(by_stage).copied().collect();
        while let Some(job) = open.pop_front() {
            if self.jobs[job].status != Status::Skipped {
                continue;
            }
            self.change(job, Status::Created, Why::default());
            open.extend(&self.graph.nodes[job].dependants);
            self.look_again(job);
        }
    }

    /// The one place where a job's status is set.
    fn change(&mut self, job: usize, status: Status, why: Why) {
        let state = &mut self.jobs[job];
        let (old, new) = (state.weight, Weight::of(status, state.allowed));
        self.moving += usize::from(moves(status));
        self.moving -= usize::from(moves(state.status));
        state.status = status;
        state.weight = new;
        let change = Change {
            job: JobId(job),
            status,
            attempt: state.attempt,
            reason: why.reason,
            exit_code: why.exit_code,
            allowed_to_fail: status == Status::Failed && state.allowed,
            message: why.message,
        };
        self.actions.push(Action::StatusChanged(change));
        if old == new {
            return;
        }
        let node = &self.graph.nodes[job];
        self.all.replace(old, new);
        self.stages[node.stage].replace(old, new);
        if !new.is_complete() {
            self.frontier = self.frontier.min(node.stage);
        }
        for dependant in &node.dependants {
            self.jobs[*dependant].needs.replace(old, new);
            // only these two can make a composite complete
            if new.is_complete() && self.jobs[*dependant].status == Status::Created {
                self.touched.push_back(*dependant);
            }
        }
    }

    /// Says how the pipeline stands now.
    fn report(&mut self) {
        let status = self.pipeline_status();
        let changed = status != self.reported;
        if changed {
            self.reported = status;
            self.actions.push(Action::PipelineChanged(status));
        }
        let finished = self.moving == 0;
        if finished && (changed || !self.finished) {
            self.actions.push(Action::PipelineFinished(status));
        }
        self.finished = finished;
    }
}

/// Will something happen to the job by itself?
fn moves(status: Status) -> bool {
    matches!(
        status,
        Status::Pending
            | Status::Running
            | Status::Canceling
            | Status::WaitingForResource
            | Status::Scheduled
    )
}
