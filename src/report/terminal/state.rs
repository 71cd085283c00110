//! The run as the events so far tell it.

use super::order::Order;
use super::text;
use pipelines::event::{Event, EventKind, Phase};
use pipelines::plan::Plan;
use pipelines::status::{FailureReason, Status};
use std::collections::HashMap;
use std::path::PathBuf;

/// A run.
#[derive(Debug, Default)]
pub(in crate::report) struct RunState {
    /// Jobs in the plan's order.
    pub(in crate::report) jobs: Vec<JobState>,
    index: HashMap<String, usize>,
    /// Who waits for whom in the first pipeline, whose jobs are the first in `jobs`.
    pub(in crate::report) order: Order,
    /// Run number in the project.
    pub(in crate::report) number: u64,
    /// Milliseconds since the epoch.
    pub(in crate::report) started: u64,
    /// Time of the last event.
    pub(in crate::report) now: u64,
    /// Set at the end.
    pub(in crate::report) status: Option<Status>,
}

/// A job of the run.
#[derive(Debug)]
pub(in crate::report) struct JobState {
    pub(in crate::report) name: String,
    pub(in crate::report) stage: String,
    pub(in crate::report) status: Status,
    pub(in crate::report) attempt: u32,
    pub(in crate::report) reason: Option<FailureReason>,
    pub(in crate::report) exit_code: Option<i32>,
    pub(in crate::report) allowed_to_fail: bool,
    pub(in crate::report) message: Option<String>,
    /// Of the last attempt.
    pub(in crate::report) started: Option<u64>,
    pub(in crate::report) ended: Option<u64>,
    pub(in crate::report) phase: Option<Phase>,
    /// Time of the last attempt's phases: kind, milliseconds.
    spent: Vec<(Part, u64)>,
    /// When `phase` began.
    phase_since: u64,
    /// Caches asked for: was there one?
    pub(in crate::report) caches: Vec<bool>,
    /// Log file and its length.
    pub(in crate::report) log: Option<(PathBuf, u64)>,
    /// Per cent of the code that the job's tests ran.
    pub(in crate::report) coverage: Option<String>,
}

impl RunState {
    /// The job's index. Events may name jobs that the plan does not have; these are left out.
    pub(in crate::report) fn find(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Takes an event in.
    pub(in crate::report) fn apply(&mut self, event: &Event) {
        self.now = event.at;
        match &event.kind {
            EventKind::RunStarted { run, plan, .. } => {
                *self = RunState { number: *run, started: event.at, now: event.at, ..RunState::of(plan) };
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
                    self.jobs[index].enter(Some(*phase), event.at);
                }
            }
            EventKind::JobCache { job, hit, .. } => {
                if let Some(index) = self.find(job) {
                    self.jobs[index].caches.push(*hit);
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
        let mut run = RunState { order: Order::of(plan), ..RunState::default() };
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
            spent: Vec::new(),
            phase_since: 0,
            caches: Vec::new(),
            log: None,
            coverage: None,
        };
        for planned in &plan.jobs {
            self.index.entry(planned.name.clone()).or_insert(self.jobs.len());
            self.jobs.push(job(planned));
        }
    }

    /// How many jobs have that status.
    pub(in crate::report) fn count(&self, status: Status) -> usize {
        self.jobs.iter().filter(|j| j.status == status).count()
    }
}

impl JobState {
    fn change(&mut self, status: Status, at: u64) {
        match status {
            Status::Running => {
                self.started = Some(at);
                self.ended = None;
                (self.phase, self.phase_since) = (None, at);
                self.spent.clear();
                self.caches.clear();
            }
            Status::Success | Status::Failed | Status::Canceled => {
                self.enter(None, at);
                self.ended = Some(at);
            }
            // a new attempt, or a wait for one
            Status::Pending | Status::WaitingForResource | Status::Created => {
                (self.started, self.ended) = (None, None);
            }
            Status::Canceling | Status::Skipped | Status::Manual | Status::Scheduled => {}
        }
        self.status = status;
    }

    /// Ends the phase that the job was in.
    fn enter(&mut self, phase: Option<Phase>, at: u64) {
        if self.started.is_some() {
            let part = self.phase.map_or(Part::Prepare, Part::of);
            self.spent.push((part, at.saturating_sub(self.phase_since)));
        }
        (self.phase, self.phase_since) = (phase, at);
    }

    /// Milliseconds that the last attempt spent so.
    pub(in crate::report) fn spent(&self, part: Part) -> u64 {
        self.spent.iter().filter(|(of, _)| *of == part).map(|(_, time)| time).sum()
    }

    /// Milliseconds that the last attempt took, or has taken until `now`.
    pub(in crate::report) fn elapsed(&self, now: u64) -> Option<u64> {
        self.started.map(|started| self.ended.unwrap_or(now).saturating_sub(started))
    }

    /// Does the job have a slot?
    pub(in crate::report) fn is_active(&self) -> bool {
        matches!(self.status, Status::Running | Status::Canceling)
    }

    /// Why the last attempt failed: `exit code 1`, `image_pull_failure`.
    pub(in crate::report) fn cause(&self) -> Option<String> {
        match (self.reason?, self.exit_code) {
            (FailureReason::ScriptFailure, Some(code)) => Some(format!("exit code {code}")),
            (reason, Some(code)) => Some(format!("{}, exit code {code}", reason.name())),
            (reason, None) => Some(reason.name().to_owned()),
        }
    }

    /// The status with what belongs to it: `failed (exit code 1, allowed)`.
    pub(in crate::report) fn verdict(&self) -> String {
        let allowed = self.allowed_to_fail.then(|| "allowed".to_owned());
        let cause = self.cause().filter(|_| self.status == Status::Failed);
        let details: Vec<String> = cause.into_iter().chain(allowed).collect();
        let name = self.status.name().replace('_', " ");
        if details.is_empty() { name } else { format!("{name} ({})", details.join(", ")) }
    }
}

/// What a job spends its time with, in words for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Part {
    /// The container, made and removed.
    Prepare,
    Sources,
    Cache,
    Artifacts,
    Script,
}

impl Part {
    pub(in crate::report) const ALL: [(Part, &'static str); 5] = [
        (Part::Prepare, "prepare"),
        (Part::Sources, "sources"),
        (Part::Cache, "cache"),
        (Part::Artifacts, "artifacts"),
        (Part::Script, "script"),
    ];

    fn of(phase: Phase) -> Part {
        match phase {
            Phase::Prepare | Phase::Cleanup => Part::Prepare,
            Phase::GetSources => Part::Sources,
            Phase::RestoreCache | Phase::ArchiveCache => Part::Cache,
            Phase::DownloadArtifacts | Phase::UploadArtifacts => Part::Artifacts,
            Phase::Script | Phase::AfterScript => Part::Script,
        }
    }
}

/// gitlab-runner's name of a phase, for people.
pub(in crate::report) fn phase_name(phase: Phase) -> &'static str {
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
