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
    /// A trigger job has created its pipeline. Jobs of that pipeline are named `TRIGGER JOB > JOB`, here and in all
    /// later events; so are those of its own trigger jobs, and so on.
    DownstreamStarted {
        /// The trigger job.
        job: String,
        /// What will run.
        plan: Box<Plan>,
    },
    /// The pipeline of a trigger job has ended.
    DownstreamFinished {
        /// The trigger job.
        job: String,
        /// The pipeline's state.
        status: Status,
    },
    /// A job asked for one of its caches.
    JobCache {
        /// Job name.
        job: String,
        /// The key that was found, or else the first that was looked for.
        key: String,
        /// Was there one?
        hit: bool,
    },
    /// A successful job's output tells its test coverage.
    JobCoverage {
        /// Job name.
        job: String,
        /// Per cent, as the output has it.
        percent: String,
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

impl EventKind {
    /// The event of a pipeline as the pipeline above it tells it: `name` is the trigger job between them.
    #[must_use]
    pub fn below(self, name: &str) -> EventKind {
        let inner = |job: &str| downstream_name(name, job);
        match self {
            EventKind::RunStarted { mut plan, .. } => {
                plan.jobs.iter_mut().for_each(|job| job.name = inner(&job.name));
                EventKind::DownstreamStarted { job: name.to_owned(), plan }
            }
            EventKind::DownstreamStarted { job, mut plan } => {
                plan.jobs.iter_mut().for_each(|job| job.name = inner(&job.name));
                EventKind::DownstreamStarted { job: inner(&job), plan }
            }
            EventKind::RunFinished { status } => {
                EventKind::DownstreamFinished { job: name.to_owned(), status }
            }
            EventKind::DownstreamFinished { job, status } => {
                EventKind::DownstreamFinished { job: inner(&job), status }
            }
            EventKind::JobStatus { job, status, attempt, reason, exit_code, allowed_to_fail, message } => {
                let job = inner(&job);
                EventKind::JobStatus { job, status, attempt, reason, exit_code, allowed_to_fail, message }
            }
            EventKind::JobPhase { job, phase } => EventKind::JobPhase { job: inner(&job), phase },
            EventKind::JobLog { job, path, length } => EventKind::JobLog { job: inner(&job), path, length },
            EventKind::JobCache { job, key, hit } => EventKind::JobCache { job: inner(&job), key, hit },
            EventKind::JobCoverage { job, percent } => EventKind::JobCoverage { job: inner(&job), percent },
            EventKind::Notice { job, message } => {
                let job = Some(job.map_or_else(|| name.to_owned(), |job| inner(&job)));
                EventKind::Notice { job, message }
            }
        }
    }
}

/// Name that a downstream pipeline's job has in the pipeline above.
pub fn downstream_name(trigger: &str, job: &str) -> String {
    format!("{trigger} > {job}")
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
