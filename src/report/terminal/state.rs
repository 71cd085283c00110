//! The run as the events so far tell it.

use super::text;
use pipelines::event::{Event, EventKind, Phase};
use pipelines::plan::Plan;
use pipelines::status::{FailureReason, Status};
use std::collections::HashMap;
use std::path::PathBuf;

/// A run.
#[derive(Debug, Default)]
pub(super) struct RunState {
    /// Jobs in the plan's order.
    pub(super) jobs: Vec<JobState>,
    index: HashMap<String, usize>,
    /// Milliseconds since the epoch.
    pub(super) started: u64,
    /// Time of the last event.
    pub(super) now: u64,
    /// Set at the end.
    pub(super) status: Option<Status>,
}

/// A job of the run.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) name: String,
    pub(super) stage: String,
    pub(super) status: Status,
    pub(super) attempt: u32,
    pub(super) reason: Option<FailureReason>,
    pub(super) exit_code: Option<i32>,
    pub(super) allowed_to_fail: bool,
    pub(super) message: Option<String>,
    /// Of the last attempt.
    pub(super) started: Option<u64>,
    pub(super) ended: Option<u64>,
    pub(super) phase: Option<Phase>,
    /// Log file and its length.
    pub(super) log: Option<(PathBuf, u64)>,
    /// Per cent of the code that the job's tests ran.
    pub(super) coverage: Option<String>,
}

impl RunState {
    /// The job's index. Events may name jobs that the plan does not have; these are left out.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Takes an event in.
    pub(super) fn apply(&mut self, event: &Event) {
        self.now = event.at;
        match &event.kind {
            EventKind::RunStarted { plan, .. } => {
                *self = RunState { started: event.at, now: event.at, ..RunState::of(plan) };
            }
            EventKind::JobStatus { job, status, attempt, reason, exit_code, allowed_to_fail, message } => {
                let Some(index) = self.find(job) else { return };
                let job = &mut self.jobs[index];
                job.change(*status, event.at);
                job.attempt = *attempt;
                job.reason = *reason;
                job.exit_code = *exit_code;
                job.allowed_to_fail = *allowed_to_fail;
                let told = message.as_deref().map(text::plain);
                job.message = told.filter(|told| Some(told) != job.cause().as_ref());
            }
            EventKind::JobPhase { job, phase } => {
                if let Some(index) = self.find(job) {
                    self.jobs[index].phase = Some(*phase);
                }
            }
            EventKind::JobLog { job, path, length } => {
                if let Some(index) = self.find(job) {
                    self.jobs[index].log = Some((PathBuf::from(path), *length));
                }
            }
            EventKind::DownstreamStarted { plan, .. } => self.add(plan),
            EventKind::JobCoverage { job, percent } => {
                if let Some(index) = self.find(job) {
                    self.jobs[index].coverage = Some(text::plain(percent));
                }
            }
            EventKind::Notice { .. } | EventKind::DownstreamFinished { .. } => {}
            EventKind::RunFinished { status } => self.status = Some(*status),
        }
    }

    fn of(plan: &Plan) -> RunState {
        let mut run = RunState::default();
        run.add(plan);
        run
    }

    /// The jobs of a plan; of one name the first counts.
    fn add(&mut self, plan: &Plan) {
        let job = |job: &pipelines::plan::Job| JobState {
            name: text::plain(&job.name),
            stage: text::plain(&job.stage),
            status: Status::Created,
            attempt: 0,
            reason: None,
            exit_code: None,
            allowed_to_fail: false,
            message: None,
            started: None,
            ended: None,
            phase: None,
            log: None,
            coverage: None,
        };
        for planned in &plan.jobs {
            self.index.entry(planned.name.clone()).or_insert(self.jobs.len());
            self.jobs.push(job(planned));
        }
    }

    /// How many jobs have that status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.jobs.iter().filter(|j| j.status == status).count()
    }
}

impl JobState {
    fn change(&mut self, status: Status, at: u64) {
        match status {
            Status::Running => {
                self.started = Some(at);
                self.ended = None;
                self.phase = None;
            }
            Status::Success | Status::Failed | Status::Canceled => self.ended = Some(at),
            // a new attempt, or a wait for one
            Status::Pending | Status::WaitingForResource | Status::Created => {
                (self.started, self.ended) = (None, None);
            }
            Status::Canceling | Status::Skipped | Status::Manual | Status::Scheduled => {}
        }
        self.status = status;
    }

    /// Milliseconds that the last attempt took, or has taken until `now`.
    pub(super) fn elapsed(&self, now: u64) -> Option<u64> {
        self.started.map(|started| self.ended.unwrap_or(now).saturating_sub(started))
    }

    /// Does the job have a slot?
    pub(super) fn is_active(&self) -> bool {
        matches!(self.status, Status::Running | Status::Canceling)
    }

    /// Why the last attempt failed: `exit code 1`, `image_pull_failure`.
    pub(super) fn cause(&self) -> Option<String> {
        match (self.reason?, self.exit_code) {
            (FailureReason::ScriptFailure, Some(code)) => Some(format!("exit code {code}")),
            (reason, Some(code)) => Some(format!("{}, exit code {code}", reason.name())),
            (reason, None) => Some(reason.name().to_owned()),
        }
    }

    /// The status with what belongs to it: `failed (exit code 1, allowed)`.
    pub(super) fn verdict(&self) -> String {
        let allowed = self.allowed_to_fail.then(|| "allowed".to_owned());
        let cause = self.cause().filter(|_| self.status == Status::Failed);
        let details: Vec<String> = cause.into_iter().chain(allowed).collect();
        let name = self.status.name().replace('_', " ");
        if details.is_empty() { name } else { format!("{name} ({})", details.join(", ")) }
    }
}

/// gitlab-runner's name of a phase, for people.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::GetSources => "get sources",
        Phase::RestoreCache => "restore cache",
        Phase::DownloadArtifacts => "download artifacts",
        Phase::Script => "script",
        Phase::AfterScript => "after_script",
        Phase::ArchiveCache => "archive cache",
        Phase::UploadArtifacts => "upload artifacts",
        Phase::Cleanup => "cleanup",
    }
}
