//! Asking for jobs; logs, states and artifacts on their way back.

use super::runner::Info;
use super::{Secret, nullable};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Header with the token of a job's attempt.
pub const JOB_TOKEN_HEADER: &str = "JOB-TOKEN";
/// Header of answers to what a job sends: [`JobStatus`].
pub const JOB_STATUS_HEADER: &str = "Job-Status";
/// Header: seconds until the next piece of log is wanted.
pub const INTERVAL_HEADER: &str = "X-GitLab-Trace-Update-Interval";
/// Header of 204: what the next [`JobRequest`] says as `last_update`.
pub const LAST_UPDATE_HEADER: &str = "X-GitLab-Last-Update";

/// `POST jobs/request`: 201 with a [`super::job::Job`], or 204.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobRequest {
    /// Who asks.
    #[serde(deserialize_with = "nullable")]
    pub info: Info,
    /// The runner's token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Which of the machines that share the token.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub system_id: String,
    /// What [`LAST_UPDATE_HEADER`] said.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub last_update: String,
}

/// `PUT jobs/ID`: 200; 202 (say it again later), 412 (send the whole log again), 403 (it is not yours any more).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateJob {
    /// Who.
    #[serde(deserialize_with = "nullable")]
    pub info: Info,
    /// The attempt's token.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// How it stands.
    pub state: JobState,
    /// Of a failure: see [`failure`].
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub failure_reason: String,
    /// As in `output` (older runners).
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// The log that was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// Of the script; none: 0 or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
}

/// The log that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    /// `crc32:%08x` of all bytes of the log.
    #[serde(deserialize_with = "nullable")]
    pub checksum: String,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub bytesize: i64,
}

impl Output {
    /// Of a log with that CRC-32 (IEEE).
    pub fn new(crc32: u32, bytesize: i64) -> Output {
        Output { checksum: format!("crc32:{crc32:08x}"), bytesize }
    }
}

/// How a runner says that a job stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Taken, not begun (keeps it alive).
    Pending,
    /// It goes on.
    #[default]
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
}

/// How the server says that a job stands: the value of [`JOB_STATUS_HEADER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Handed out, not heard of.
    Pending,
    /// Go on.
    Running,
    /// End the script, run `after_script`, then say `failed`.
    Canceling,
    /// Abort.
    Canceled,
    /// Abort.
    Failed,
    /// Over.
    Success,
}

impl JobStatus {
    /// The header's text.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Pending => "pending",
            JobStatus::Running => "running",
            JobStatus::Canceling => "canceling",
            JobStatus::Canceled => "canceled",
            JobStatus::Failed => "failed",
            JobStatus::Success => "success",
        }
    }

    /// Of a header; unknown texts are none.
    pub fn of(text: &str) -> Option<JobStatus> {
        let all =
            [Self::Pending, Self::Running, Self::Canceling, Self::Canceled, Self::Failed, Self::Success];
        all.into_iter().find(|status| status.as_str() == text.trim())
    }

    /// Must the job be aborted now?
    pub fn aborts(self) -> bool {
        matches!(self, JobStatus::Canceled | JobStatus::Failed)
    }
}

/// `failure_reason`s that runners send.
#[expect(missing_docs, reason = "GitLab's names")]
pub mod failure {
    pub const SCRIPT: &str = "script_failure";
    pub const RUNNER_SYSTEM: &str = "runner_system_failure";
    pub const TIMEOUT: &str = "job_execution_timeout";
    pub const IMAGE_PULL: &str = "image_pull_failure";
    pub const UNKNOWN: &str = "unknown_failure";
    pub const CONFIGURATION: &str = "runner_configuration_error";
    pub const EXTERNAL_DEPENDENCY: &str = "runner_external_dependency_failure";
    pub const INTERRUPTED: &str = "runner_interrupted";
    pub const CANCELED: &str = "job_canceled";
    /// All of them: what our server lists in a job's features.
    pub const ALL: &[&str] = &[
        SCRIPT,
        RUNNER_SYSTEM,
        TIMEOUT,
        IMAGE_PULL,
        UNKNOWN,
        CONFIGURATION,
        EXTERNAL_DEPENDENCY,
        INTERRUPTED,
        CANCELED,
    ];
}

/// `Content-Range` of `PATCH jobs/ID/trace`: `START-END`, the end inclusive. Very old runners say one more, so the
/// server reckons the end from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

impl ContentRange {
    /// Of a piece that is not empty.
    pub fn new(start: u64, length: u64) -> ContentRange {
        ContentRange { start, end: start + length.saturating_sub(1) }
    }

    /// Of the header.
    pub fn of(text: &str) -> Option<ContentRange> {
        let (start, end) = pair(text)?;
        Some(ContentRange { start, end })
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// `Range` of answers 202 and 416: `0-SIZE`, how much the server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored(pub u64);

impl Stored {
    /// Of the header.
    pub fn of(text: &str) -> Option<Stored> {
        pair(text).map(|(_, size)| Stored(size))
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0-{}", self.0)
    }
}

fn pair(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.trim().split_once('-')?;
    // Rust takes `+1`; the header has digits only
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((digits(start)?, digits(end)?))
}

/// Query (or form fields) of `POST jobs/ID/artifacts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadQuery {
    /// `zip`, `gzip`, `raw`.
    pub artifact_format: Option<String>,
    /// `archive`, `junit` …
    pub artifact_type: Option<String>,
    /// `1 day`.
    pub expire_in: Option<String>,
}
