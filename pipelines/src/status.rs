//! Job and pipeline states, and GitLab's composite of several.

use serde::{Deserialize, Serialize};

/// State of a job, a stage or a pipeline, in GitLab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not looked at yet.
    Created,
    /// Its resource group is taken.
    WaitingForResource,
    /// Ready, waits for a slot.
    Pending,
    /// A runner has it.
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
    /// Being cancelled: after_script may still run.
    Canceling,
    /// Ended by a person, a newer pipeline, or a failure elsewhere.
    Canceled,
    /// Will not run.
    Skipped,
    /// Waits for a person.
    Manual,
    /// Waits for its time.
    Scheduled,
}

impl Status {
    /// Nothing more will happen by itself.
    pub fn is_complete(self) -> bool {
        matches!(self, Status::Success | Status::Failed | Status::Canceled | Status::Skipped)
    }
}

/// Why a job failed: GitLab's failure reasons, as `retry:when` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The script exited non-zero.
    ScriptFailure,
    /// The runner could not run the job.
    RunnerSystemFailure,
    /// The job took longer than its timeout.
    JobExecutionTimeout,
    /// Artifacts of a dependency are gone.
    MissingDependencyFailure,
    /// What the job asks for, this runner can't do.
    RunnerUnsupported,
    /// The image can't be had.
    ImagePullFailure,
    /// A trigger job's pipeline failed.
    DownstreamPipelineFailure,
    /// The data of the job are wrong (a bad variable, a bad artifact report).
    DataIntegrityFailure,
    /// None of the others.
    UnknownFailure,
}
