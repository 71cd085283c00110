//! What a job task is given.

use pipelines::event::EventKind;
use pipelines::plan::{Job, Plan};
use pipelines::schedule::JobId;
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
    /// Takes what the job has to tell: phases, the growth of its log, notices. Never blocks.
    pub events: mpsc::UnboundedSender<EventKind>,
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
