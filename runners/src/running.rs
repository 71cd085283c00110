//! A shell under a supervisor of ours, as the contract wants to see it: the same for `shell` and `embedded`.

use crate::executor::{ExecutorError, Exit, Running, Stop};
use crate::sandbox::{Error, ExitStatus, Process, Streams};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, PipeReader, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// A script for a shell's standard input: a file in memory, so that there is nothing to clean up, nobody else can read
/// it, and no pipe has to be fed.
fn script_file(script: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("script", MemfdFlags::CLOEXEC)?);
    file.write_all(script.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// The streams of a shell that reads `script`, and the other end of its output.
pub(crate) fn streams(script: &str) -> Result<(Streams, PipeReader), ExecutorError> {
    let make = || {
        let script = script_file(script)?;
        // one pipe for both, so that their order is kept
        let (reader, writer) = io::pipe()?;
        let stdout = writer.try_clone()?.into();
        Ok((Streams { stdin: Some(OwnedFd::from(script)), stdout, stderr: writer.into() }, reader))
    };
    make().map_err(|error: io::Error| ExecutorError::system("starting a shell", error))
}

/// Watches a shell that was started with [`streams`].
pub(crate) fn running(process: Process, output: PipeReader) -> Result<Running, ExecutorError> {
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))
        .map_err(|error| ExecutorError::system("starting a shell", error))?;
    let notes: String = process.notes().iter().map(|note| format!("WARNING: {note}\n")).collect();
    let (stop, stops) = mpsc::unbounded_channel();
    let (exited, exit) = oneshot::channel();
    tokio::spawn(watch(process, stops, exited));
    Ok(Running { output: Box::new(io::Cursor::new(notes.into_bytes()).chain(output)), exit, stop })
}

/// Waits for the script and passes on what it shall do.
async fn watch(
    mut process: Process,
    mut stops: mpsc::UnboundedReceiver<Stop>,
    exited: oneshot::Sender<Result<Exit, ExecutorError>>,
) {
    let mut listening = true;
    let status = loop {
        tokio::select! {
            status = process.wait() => break status,
            stop = stops.recv(), if listening => match stop {
                Some(Stop::Terminate) => process.terminate(),
                Some(Stop::Kill) => process.kill(),
                None => {
                    listening = false;
                    process.kill();
                }
            },
        }
    };
    let exit = status.map_err(system).map(|status| match status {
        status if status.code() != 0 && process.out_of_memory() => Exit::OutOfMemory(status.code()),
        ExitStatus::Code(code) => Exit::Code(code),
        ExitStatus::Signal(signal) => Exit::Signal(signal),
    });
    // the job may have gone; there is nobody to tell then
    let _ = exited.send(exit);
}

/// A failure of the sandbox is one of the runner's system.
pub(crate) fn system(error: Error) -> ExecutorError {
    let reason = pipelines::status::FailureReason::RunnerSystemFailure;
    ExecutorError { reason, message: error.to_string() }
}
