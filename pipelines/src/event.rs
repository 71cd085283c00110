//! What reporters see: the run as a stream of facts. A stored journal replayed gives the same report.

use crate::plan::Plan;
use crate::status::{FailureReason, Status};
use serde::{Deserialize, Serialize};

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps.
    pub seq: u64,
    /// Milliseconds since the epoch.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// First event: the whole plan.
    RunStarted {
        /// Run number in the project.
        run: u64,
        /// Ref that is run.
        reference: String,
        /// Commit.
        sha: String,
        /// Does the run include uncommitted changes?
        dirty: bool,
        /// What will run.
        plan: Box<Plan>,
    },
    /// A job changed its state.
    JobStatus {
        /// Job name.
        job: String,
        /// New state.
        status: Status,
        /// Attempt, from 1; 0 before the first.
        attempt: u32,
        /// Set with `failed`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<FailureReason>,
        /// Set when a script ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// Failed, but allowed to.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allowed_to_fail: bool,
        /// For people: why, in a sentence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// A phase of a running job began.
    JobPhase {
        /// Job name.
        job: String,
        /// gitlab-runner's name of the phase.
        phase: Phase,
    },
    /// The job's log file has grown.
    JobLog {
        /// Job name.
        job: String,
        /// Path of the log file, on this machine.
        path: String,
        /// Its length in bytes now.
        length: u64,
    },
    /// Something that a person should know and that fails nothing.
    Notice {
        /// Job concerned, if one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
        /// The sentence.
        message: String,
    },
    /// Last event.
    RunFinished {
        /// The pipeline's state.
        status: Status,
    },
}

/// Phases of a job, in order, as gitlab-runner names its stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The place to run is made.
    Prepare,
    /// The sources come in.
    GetSources,
    /// Caches come in.
    RestoreCache,
    /// Artifacts of earlier jobs come in.
    DownloadArtifacts,
    /// `before_script` and `script`.
    Script,
    /// `after_script`.
    AfterScript,
    /// Caches are saved.
    ArchiveCache,
    /// Artifacts are kept.
    UploadArtifacts,
    /// The place is removed.
    Cleanup,
}
