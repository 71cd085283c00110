//! What can go wrong: in the child while it builds the sandbox, and in the parent.

use std::io;

use serde::{Deserialize, Serialize};

/// One step of the set-up that failed, as the child tells it. It never carries values of the job's variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done to what: "mounting an overlay for `/builds/a/b`".
    pub doing: String,
    /// The system's reason.
    pub cause: String,
    /// What to do about it; empty where nothing is known.
    pub help: String,
}

impl Failure {
    pub(super) fn new(doing: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { doing: doing.into(), cause: cause.into(), help: String::new() }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.help) }
    }
}

/// Adds "what was being done" to a system error.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what(), error.into().to_string()))
    }
}

/// Why a sandbox could not do its work. A script that fails is none of these: it is an
/// [`ExitStatus`](super::ExitStatus).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The child could not build the sandbox, or could not do a list, pack or unpack task.
    #[error("sandbox: {0}")]
    Setup(Failure),
    /// `__init` could not be started or spoken to.
    #[error("sandbox: {doing}: {source}")]
    Io {
        /// What was being done to what.
        doing: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The child went away without saying how the task ended: somebody killed it from outside.
    #[error("sandbox: the supervisor of the sandbox died before the task ended (killed, or out of memory?)")]
    Lost,
}

impl Error {
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
