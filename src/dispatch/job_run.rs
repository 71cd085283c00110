//! What a job task is given.

use pipelines::event::{EventKind, Phase};
use pipelines::plan::{Job, Plan};
use pipelines::schedule::JobId;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// One attempt to run a job.
pub struct JobRun {
    /// The plan that the job is of.
    pub plan: Arc<Plan>,
    /// Which job.
    pub id: JobId,
    /// From 1.
    pub attempt: u32,
    /// Changes when the job is to end.
    pub stop: watch::Receiver<Stop>,
    /// Takes what the job has to tell.
    pub events: JobEvents,
}

impl JobRun {
    /// The job itself.
    pub fn job(&self) -> &Job {
        &self.plan.jobs[self.id.0]
    }
}

/// Is the job to end, and how? Only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// No.
    #[default]
    No,
    /// End the script, run `after_script`, clean up; the outcome is then `Canceled`.
    Graceful,
    /// End everything at once; only clean up.
    Kill,
}

/// Where a running job sends what it has to tell. Never blocks.
#[derive(Clone, Debug)]
pub struct JobEvents {
    pub(super) job: String,
    pub(super) sender: mpsc::UnboundedSender<EventKind>,
}

impl JobEvents {
    /// A phase begins.
    pub fn phase(&self, phase: Phase) {
        self.send(EventKind::JobPhase { job: self.job.clone(), phase });
    }

    /// The log file has grown to `length` bytes.
    pub fn log(&self, path: &Path, length: u64) {
        self.send(EventKind::JobLog { job: self.job.clone(), path: path.display().to_string(), length });
    }

    /// Something that a person should know and that fails nothing.
    pub fn notice(&self, message: impl Into<String>) {
        self.send(EventKind::Notice { job: Some(self.job.clone()), message: message.into() });
    }

    /// An event that somebody else made for this job.
    pub fn send(&self, kind: EventKind) {
        // only a run that is over has no receiver
        let _ = self.sender.send(kind);
    }
}
