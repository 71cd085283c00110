//! The terminal of the person who runs `ci`, lent to a shell where a job has failed.

use crate::executor::ExecutorError;
use crate::running::system;
use crate::sandbox::{Error, Process, Streams};
use rustix::fs::OFlags;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use tokio::net::unix::pipe;

/// The terminal, passing on every key; as it was before when dropped.
pub(crate) struct Terminal {
    file: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// Standard input, which has to be one.
    pub(crate) fn take() -> Result<Terminal, ExecutorError> {
        let take = || {
            let file = io::stdin().as_fd().try_clone_to_owned()?;
            let before = tcgetattr(&file)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&file, OptionalActions::Flush, &raw)?;
            Ok(Terminal { file, before })
        };
        take().map_err(failed)
    }

    /// For a task that has a terminal of its own inside.
    pub(crate) fn streams(&self) -> Result<Streams, ExecutorError> {
        let stdin = Some(self.file.try_clone().map_err(failed)?);
        Ok(Streams { stdin, stdout: Stdio::inherit(), stderr: Stdio::inherit() })
    }

    /// Until the person has left the shell.
    pub(crate) async fn lend(self, started: Result<Process, Error>) -> Result<(), ExecutorError> {
        let mut process = started.map_err(system)?;
        process.wait().await.map_err(system).map(drop)
    }

    /// What the person types. Opened anew: that it does not block must not be seen by whoever shares the terminal.
    pub(crate) fn keys(&self) -> Result<pipe::Receiver, ExecutorError> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
        let keys = File::options().read(true).custom_flags(flags).open("/proc/self/fd/0");
        // for the runtime a terminal is read as a pipe is
        keys.and_then(pipe::Receiver::from_file_unchecked).map_err(failed)
    }

    /// Rows and columns, if it tells.
    pub(crate) fn size(&self) -> Option<Winsize> {
        tcgetwinsize(&self.file).ok()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // a terminal that has gone needs no restoring
        let _ = tcsetattr(&self.file, OptionalActions::Flush, &self.before);
    }
}

pub(crate) fn failed(error: io::Error) -> ExecutorError {
    ExecutorError::system("using the terminal", error)
}
