//! A running task, seen from `ci`.

use std::io;

use rustix::net::Shutdown;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::Error;
use super::Health;
use super::wire::{Status, TERMINATE};

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// The code that a shell would report: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A task that runs in a sandbox. Dropping it kills everything inside.
#[derive(Debug)]
pub struct Process {
    socket: UnixStream,
    /// Bytes of status lines that aren't complete yet; here, so that a dropped `wait` loses nothing.
    received: Vec<u8>,
    /// The job's output, when [`Streams`](super::Streams) asked for a pipe.
    pub stdout: Option<pipe::Receiver>,
    /// The job's error output, when [`Streams`](super::Streams) asked for a pipe.
    pub stderr: Option<pipe::Receiver>,
    /// The process that serves networks, if that is the task.
    router: Option<u32>,
    killed: bool,
    ended: Option<Status>,
    notes: Vec<String>,
    out_of_memory: bool,
    health: watch::Sender<Health>,
}

impl Process {
    pub(super) fn new(
        socket: UnixStream,
        stdout: Option<pipe::Receiver>,
        stderr: Option<pipe::Receiver>,
    ) -> Self {
        Self {
            socket,
            received: Vec::new(),
            stdout,
            stderr,
            router: None,
            killed: false,
            ended: None,
            notes: Vec::new(),
            out_of_memory: false,
            health: watch::Sender::default(),
        }
    }

    /// For the router, which is spoken to: its process id, its socket, its output.
    pub(super) fn into_router(self) -> Option<(u32, UnixStream, Option<pipe::Receiver>)> {
        Some((self.router?, self.socket, self.stdout))
    }

    /// Returns when the task runs, or with the reason why it doesn't.
    pub(super) async fn started(&mut self) -> Result<(), Error> {
        loop {
            match self.next_status().await? {
                Status::Started | Status::OutOfMemory => return Ok(()),
                Status::Routing(pid) => {
                    self.router = Some(pid);
                    return Ok(());
                }
                Status::Noted(note) => self.notes.push(note),
                Status::Health(health) => drop(self.health.send_replace(health)),
                Status::Failed(failure) => {
                    self.last_words().await;
                    return Err(Error::Setup(failure));
                }
                end @ (Status::Exited(_) | Status::Signaled(_)) => {
                    self.ended = Some(end);
                    return Ok(());
                }
            }
        }
    }

    /// What is not as it was asked for: "memory is not limited: ...".
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the check of a [`Task::Serve`](super::Task::Serve) has found. It changes only while somebody waits.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Whether, after the end, the kernel has killed a process because the limit of memory was reached.
    pub fn out_of_memory(&self) -> bool {
        self.out_of_memory
    }

    /// Waits for the end of the task. When it returns, no process of the sandbox is left.
    ///
    /// May be dropped and called again. Read the pipes meanwhile: a task blocks on a full one.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        while self.ended.is_none() {
            match self.next_status().await {
                Ok(Status::Started | Status::Routing(_) | Status::Noted(_)) => {}
                Ok(Status::Health(health)) => drop(self.health.send_replace(health)),
                Ok(end) => self.ended = Some(end),
                Err(Error::Lost) if self.killed => self.ended = Some(Status::Signaled(libc::SIGKILL)),
                Err(error) => return Err(error),
            }
        }
        self.last_words().await;
        match &self.ended {
            Some(Status::Exited(code)) => Ok(ExitStatus::Code(*code)),
            Some(Status::Signaled(signal)) => Ok(ExitStatus::Signal(*signal)),
            Some(Status::Failed(failure)) => Err(Error::Setup(failure.clone())),
            _ => Err(Error::Lost),
        }
    }

    /// What the supervisor says after the end, until it has ended itself.
    async fn last_words(&mut self) {
        while let Ok(status) = self.next_status().await {
            self.out_of_memory |= status == Status::OutOfMemory;
        }
    }

    async fn next_status(&mut self) -> Result<Status, Error> {
        let doing = "reading the status of a sandbox";
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| Error::io(doing)(error.into()));
            }
            self.socket.readable().await.map_err(Error::io(doing))?;
            match self.socket.try_read_buf(&mut self.received) {
                Ok(0) => return Err(Error::Lost),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Error::Lost),
                Err(error) => return Err(Error::io(doing)(error)),
            }
        }
    }

    /// Sends SIGTERM to everything inside. Returns at once; a task may ignore it.
    pub fn terminate(&self) {
        // one byte into an empty buffer; failing means that the supervisor has ended already
        let _ended = self.socket.try_write(&[TERMINATE]);
    }

    /// Kills everything inside. Returns at once; `wait` then says `Signal(9)` unless the task ended before.
    pub fn kill(&mut self) {
        self.killed = true;
        // the end of what we say is the supervisor's sign; it still tells us when all inside is dead
        let _ended = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }
}
