//! What can go wrong between a project and a package.

use std::path::{Path, PathBuf};

use super::{Finding, erlang::text::TextError};

/// An error of the release domain or of the build side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error("{doing} `{}` failed: {source}", path.display())]
    Io {
        /// What was being done, in a few words.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An archive that is not whole, or not safe to unpack.
    #[error("the package `{}` is not usable: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of terms that doesn't parse, or holds another term than it should.
    #[error("`{file}` can't be read: {reason}")]
    Document {
        /// The file, within its archive or project.
        file: String,
        /// Where and why.
        reason: String,
    },
    /// The project can't be built the way it is; the text says what to change.
    #[error("{0}")]
    Project(String),
    /// The old version is neither built nor tagged.
    #[error(
        "version `{version}` of `{name}` is not there to upgrade from: no package of it in the build \
         directory, and no tag {tried} in git; fetch the tags (`git fetch --tags`, in CI `GIT_DEPTH: 0`) or \
         tag the commit that was released"
    )]
    OldVersionMissing {
        /// The release.
        name: String,
        /// The version asked for.
        version: String,
        /// The tags that were looked for, in backticks.
        tried: String,
    },
    /// Git said no.
    #[error("{doing} in the repository `{}` failed: {source}", path.display())]
    Git {
        /// What was being done.
        doing: String,
        /// The repository.
        path: PathBuf,
        /// The cause.
        source: git2::Error,
    },
    /// A program could not be started, or failed.
    #[error("`{command}` in `{}` {outcome}{}", directory.display(), tail_text(tail))]
    Command {
        /// The exact command, quoted for a shell.
        command: String,
        /// Where it ran.
        directory: PathBuf,
        /// `exited with 1`, `could not be started: ...`.
        outcome: String,
        /// The last lines that it printed.
        tail: Vec<String>,
    },
    /// Both versions build, but there is no sound hot upgrade between them; a restart would do.
    #[error("no hot upgrade of `{name}` from `{from}` to `{to}`:{}", finding_text(findings))]
    NoHotUpgrade {
        /// The release.
        name: String,
        /// The old version.
        from: String,
        /// The new version.
        to: String,
        /// Why, all of it.
        findings: Vec<Finding>,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }

    pub(super) fn document(file: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Document { file: file.into(), reason: reason.into() }
    }

    pub(super) fn text(file: &str, source: &TextError) -> Error {
        Error::document(file, source.to_string())
    }
}

fn tail_text(tail: &[String]) -> String {
    tail.iter().map(|line| format!("\n  {line}")).collect()
}

fn finding_text(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n  {finding}")).collect()
}
