//! What goes into the scheduler and what comes out.

use crate::status::{FailureReason, Status};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A job of the scheduled plan: its place in `plan.jobs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub usize);

/// Something happened. An input that does not fit the job's status (a timer of a job that was cancelled) changes
/// nothing.
///
/// Stored, in order, they are all that is needed to have a scheduler's state again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// First input.
    Start,
    /// A job that was to start has a slot and runs.
    JobStarted(JobId),
    /// A job ended.
    JobFinished(JobId, Outcome),
    /// The time of [`Action::SetTimer`] has passed.
    TimerFired(JobId),
    /// A person starts a manual job, or a delayed one before its time.
    Play(JobId),
    /// A person runs a job again that succeeded, failed or was cancelled.
    Retry(JobId),
    /// A person runs again all that failed or was cancelled, each job when what it waits for is complete again.
    RetryAll,
    /// A person ends a job.
    CancelJob(JobId),
    /// A person ends the pipeline. Manual jobs stay manual, as in GitLab.
    CancelAll,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Well.
    Success,
    /// Badly.
    Failed {
        /// Why.
        reason: FailureReason,
        /// Of the script, if one ended.
        exit_code: Option<i32>,
        /// For people, where the reason does not say it all.
        message: Option<String>,
    },
    /// Nobody knows: whoever ran it is gone. It counts as `runner_system_failure`, but what may have changed an
    /// environment is never run again by itself.
    Lost {
        /// For people.
        message: String,
    },
    /// By somebody's wish.
    Canceled,
    /// A trigger job whose pipeline waits for a person: `manual`.
    Blocked {
        /// For people.
        message: String,
    },
    /// A trigger job that mirrors a pipeline of which nothing ran.
    Skipped,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the job as soon as there is a slot; answer with [`Input::JobStarted`] and [`Input::JobFinished`].
    StartJob {
        /// The job.
        job: JobId,
        /// From 1.
        attempt: u32,
    },
    /// End the job: if it still waits for a slot, forget it without an answer; if it runs, ask it to end and
    /// answer with [`Input::JobFinished`].
    CancelJob(JobId),
    /// Answer with [`Input::TimerFired`] after that time.
    SetTimer {
        /// The job.
        job: JobId,
        /// How long.
        after: Duration,
    },
    /// A job's status changed.
    StatusChanged(Change),
    /// The pipeline's status changed.
    PipelineChanged(Status),
    /// Nothing more will happen by itself. The status is `manual` when the pipeline is blocked. A later
    /// [`Input::Play`] or [`Input::Retry`] goes on, and this action comes again.
    PipelineFinished(Status),
}

/// A job's new status and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The job.
    pub job: JobId,
    /// New status.
    pub status: Status,
    /// From 1; 0 before the first.
    pub attempt: u32,
    /// Why it failed; also when it is about to be retried.
    pub reason: Option<FailureReason>,
    /// Of the script.
    pub exit_code: Option<i32>,
    /// Failed, but allowed to.
    pub allowed_to_fail: bool,
    /// Why, in a sentence for people.
    pub message: Option<String>,
}
