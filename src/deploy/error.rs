//! What a deployment fails with.

use serde::Serialize;

/// How a deployment ended, as its exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done, or there was nothing to do.
    Done,
    /// Failed; what ran before still runs, with its state.
    Failed,
    /// Refused before anything was sent.
    Refused,
    /// Failed after the node was changed: it restarted into the old version, or does not run as it should.
    Restarted,
    /// The new version ran, was found wanting, and was taken back: the old version serves again.
    #[serde(rename = "rolled_back")]
    RolledBack,
}

impl Outcome {
    /// As it is written in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Restarted => "restarted",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Why a deployment did not succeed, and what to do about it.
#[derive(Clone, Debug, thiserror::Error, Serialize)]
#[error("{message}")]
pub struct Error {
    /// What state the target is left in.
    pub outcome: Outcome,
    /// What went wrong, with what.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Error {
    /// A failure that leaves what ran before running.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, message: message.into(), help: None }
    }

    /// A refusal: nothing was sent.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, ..Self::failed(message) }
    }

    /// A failure after the node was changed.
    pub fn restarted(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::Restarted, ..Self::failed(message) }
    }

    /// A new version that was taken back.
    pub fn rolled_back(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::RolledBack, ..Self::failed(message) }
    }

    /// The same with advice.
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same, but with what is known about the target's state.
    pub fn and(self, state: &str) -> Self {
        Self { message: format!("{}; {state}", self.message), ..self }
    }
}
