//! What a command can end with besides success, and the exit codes that scripts rely on.

use std::fmt;

/// Everything went well, or there was nothing to do.
pub const EXIT_OK: u8 = 0;
/// The work failed: a job failed, the configuration is invalid, a deployment failed (the old version serves).
pub const EXIT_FAILED: u8 = 1;
/// The command could not be carried out: wrong arguments, no git repository, an unreadable file.
pub const EXIT_USAGE: u8 = 2;
/// Refused before anything was changed.
pub const EXIT_REFUSED: u8 = 3;
/// Failed after the point of no return and rolled back or restarted into the old version.
pub const EXIT_ROLLED_BACK: u8 = 4;
/// Cancelled by Ctrl-C (128 + SIGINT), as shells count.
pub const EXIT_CANCELED: u8 = 130;

/// Why a command ended without success.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What was being done, and what went wrong. Empty: it has been said already.
    pub message: String,
    /// What to do.
    pub hints: Vec<String>,
}

/// Kinds of errors; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// [`EXIT_FAILED`]
    Failed,
    /// [`EXIT_USAGE`]
    Usage,
    /// [`EXIT_REFUSED`]
    Refused,
    /// [`EXIT_ROLLED_BACK`]
    RolledBack,
    /// [`EXIT_CANCELED`]
    Canceled,
    /// A wrapped command's own exit code.
    Code(u8),
}

impl CliError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> CliError {
        CliError { kind, message: message.into(), hints: Vec::new() }
    }

    /// The command can't be carried out like this.
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(ErrorKind::Usage, message)
    }

    /// The work failed.
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError::new(ErrorKind::Failed, message)
    }

    /// Ends with a kind; everything has been said.
    pub fn silent(kind: ErrorKind) -> CliError {
        CliError::new(kind, "")
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hints.push(hint.into());
        self
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Failed => EXIT_FAILED,
            ErrorKind::Usage => EXIT_USAGE,
            ErrorKind::Refused => EXIT_REFUSED,
            ErrorKind::RolledBack => EXIT_ROLLED_BACK,
            ErrorKind::Canceled => EXIT_CANCELED,
            ErrorKind::Code(code) => code,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Result of a command.
pub type CliResult<T = ()> = Result<T, CliError>;
