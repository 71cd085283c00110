//! What a job task is given.

use pipelines::event::EventKind;
use pipelines::plan::{Job, Plan};
use pipelines::schedule::JobId;
use runners::job::Cancel;
use std::convert::Infallible;
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
    pub stop: watch::Receiver<Cancel>,
    /// Takes what the job has to tell: phases, the growth of its log, notices. Never blocks.
    pub events: mpsc::UnboundedSender<EventKind>,
    /// Kept by what goes on after the job's end (the pipeline of a trigger job): the run waits until it is dropped.
    pub token: mpsc::Sender<Infallible>,
}

impl JobRun {
    /// The job itself.
    pub fn job(&self) -> &Job {
        &self.plan.jobs[self.id.0]
    }
}
