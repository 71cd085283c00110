//! The contract between a job and the place where it runs.
//!
//! An [`Executor`] is one configured way to run jobs; it has no state of its own and any number of jobs may use
//! it at once. [`Executor::prepare`] makes an [`Execution`]: one job's own place, with an empty project directory
//! and an empty temporary directory beside it. The calls on an execution come one after the other, in this order:
//!
//! 1. [`Execution::get_sources`] at most once: the project directory then holds the sources.
//! 2. [`Execution::unpack`] any number of times: caches, artifacts, file variables.
//! 3. [`Execution::start`] any number of times. Only one [`Running`] step exists at a time. What a step wrote is
//!    there for the next step; what it left running is not.
//! 4. [`Execution::pack`] any number of times.
//! 5. [`Execution::cleanup`] exactly once, whatever happened before. It is not under the job's cancellation or
//!    timeout. Afterwards nothing of the job runs and its place is gone.
//!
//! After an `Err` of any call only `cleanup` may follow on behalf of the job's own steps; `pack` may be tried.
//! A dropped execution (the process is going down) stops its step and frees its place as far as that goes without
//! waiting; what is left on disk is removed later, by the next job in the same place or by the sweep at start.
//!
//! `Err` means that the runner failed. A step that ends by itself, with whatever code or signal, is `Ok`: the
//! outcome of the job, and none of the executor's business. Cancellation and timeouts are the caller's: it sends
//! [`Stop::Terminate`] or [`Stop::Kill`] to the running step, which reach *everything* that the step started.

use crate::archive::{ArchiveError, Packed, Selection, Unpacked};
use crate::{docker, embedded, fake, shell};
use pipelines::plan::{Image, Service};
use pipelines::status::FailureReason;
use std::fs::File;
use std::path::PathBuf;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

/// One configured way to run jobs.
#[derive(Clone, Debug)]
pub enum Executor {
    /// Runs nothing; obeys `FAKE_*` variables.
    Fake(fake::Fake),
    /// Processes on this machine, as this user.
    Shell(shell::Shell),
    /// Our own containers.
    Embedded(embedded::Embedded),
    /// Containers of a Docker or Podman engine.
    Docker(docker::Docker),
}

/// What a job needs of a place.
#[derive(Clone, Default)]
pub struct Place {
    /// Path of the project: `group/name`.
    pub project: String,
    /// The sources, read only; none: the project directory stays empty (`GIT_STRATEGY: none` or `empty`).
    pub checkout: Option<PathBuf>,
    /// Directories with files that lie over the sources, the uppermost last.
    pub overlays: Vec<PathBuf>,
    /// Image, its name expanded.
    pub image: Option<Image>,
    /// Services, expanded.
    pub services: Vec<Service>,
    /// Name and value of the variables that are known before there is a place.
    pub variables: Vec<(String, String)>,
    /// Those of them that hold nothing masked and are no files, expanded: what services and entrypoints get.
    pub public: Vec<(String, String)>,
    /// Attempt of the job, from 1.
    pub attempt: u32,
    /// Values that no log shows.
    pub masked: Vec<String>,
    /// Directory of the services' logs: `NAME.log`.
    pub service_logs: PathBuf,
    /// Where the executor says what the job's log shall tell.
    pub said: Voice,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Place")
            .field("project", &self.project)
            .field("image", &self.image)
            .field("services", &self.services.iter().map(|service| &service.image.name).collect::<Vec<_>>())
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// Tells what is being done.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.said.say(Said::Line(text.into()));
    }

    /// Tells what may be wrong.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.said.say(Said::Warning(text.into()));
    }
}

/// Where an executor says something; by default nobody listens.
#[derive(Clone, Debug, Default)]
pub struct Voice(Option<mpsc::UnboundedSender<Said>>);

impl Voice {
    /// Somebody listens at the other end.
    pub fn new() -> (Voice, mpsc::UnboundedReceiver<Said>) {
        let (voice, said) = mpsc::unbounded_channel();
        (Voice(Some(voice)), said)
    }

    /// Says it. A listener that has gone is none.
    pub fn say(&self, said: Said) {
        if let Some(voice) = &self.0 {
            let _gone = voice.send(said);
        }
    }
}

/// What an executor has to say beside the output of the job's scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// For the log.
    Line(String),
    /// For the log and for whoever watches the run.
    Warning(String),
    /// For the log, between the lines of a script: the output of a service.
    Beside(String),
}

/// Where a job finds itself; all paths as the job sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// `CI_BUILDS_DIR`.
    pub builds: PathBuf,
    /// `CI_PROJECT_DIR`.
    pub project: PathBuf,
    /// `CI_PROJECT_DIR.tmp`: file variables.
    pub temporary: PathBuf,
    /// `CI_CONCURRENT_ID`: different for jobs that run at once.
    pub slot: u32,
    /// Is the place made for this job and thrown away after it?
    pub disposable: bool,
}

/// The two directories that archives are unpacked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directory {
    /// The project directory.
    Project,
    /// The directory of file variables.
    Temporary,
}

/// A script to run: a shell reads `script` from its standard input.
#[derive(Clone, Default)]
pub struct Step {
    /// Made by [`crate::script::generate`].
    pub script: String,
    /// The job's variables.
    pub environment: Vec<(String, String)>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Step").field("script", &self.script).field("environment", &names).finish()
    }
}

/// How a step ended by itself or was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The shell exited with this code.
    Code(i32),
    /// A signal ended the shell.
    Signal(i32),
    /// The shell exited with this code, and a process of the step was killed because the step's limit of memory was
    /// reached.
    OutOfMemory(i32),
}

impl Exit {
    /// The code a shell would report: 128 + signal for signals.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) | Exit::OutOfMemory(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Asks a running step to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM to everything in the step.
    Terminate,
    /// SIGKILL to everything in the step.
    Kill,
}

/// A step that runs. Dropping it kills it.
pub struct Running {
    /// Standard output and standard error, in the order in which they were written; ends when nobody has them
    /// open any more.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Comes once, when the shell has ended.
    pub exit: oneshot::Receiver<Result<Exit, ExecutorError>>,
    /// Closing it kills the step.
    pub stop: mpsc::UnboundedSender<Stop>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

/// The runner failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExecutorError {
    /// For `retry:when`.
    pub reason: FailureReason,
    /// What was being done, and what the system said.
    pub message: String,
}

impl ExecutorError {
    /// A failure of the runner's own system: `doing` is "starting a shell".
    pub fn system(doing: &str, source: impl std::fmt::Display) -> ExecutorError {
        ExecutorError { reason: FailureReason::RunnerSystemFailure, message: format!("{doing}: {source}") }
    }
}

impl From<ArchiveError> for ExecutorError {
    fn from(error: ArchiveError) -> ExecutorError {
        ExecutorError { reason: FailureReason::RunnerSystemFailure, message: error.to_string() }
    }
}

/// One job's place to run. See the module for the order of calls.
#[derive(Debug)]
pub enum Execution {
    /// No place at all.
    Fake(fake::FakeExecution),
    /// A directory on this machine.
    Shell(shell::ShellExecution),
    /// Layers of a container.
    Embedded(Box<embedded::EmbeddedExecution>),
    /// A container of an engine.
    Docker(Box<docker::DockerExecution>),
}

impl Executor {
    /// GitLab's name of the kind of executor.
    pub fn name(&self) -> &'static str {
        match self {
            Executor::Fake(_) => "fake",
            Executor::Shell(_) => "shell",
            Executor::Embedded(_) => "embedded",
            Executor::Docker(docker) => docker.engine.kind.name(),
        }
    }

    /// Makes a place for one job.
    ///
    /// # Errors
    /// There is no place, with the reason; nothing is left of it then.
    pub async fn prepare(&self, place: Place) -> Result<Execution, ExecutorError> {
        match self {
            Executor::Fake(fake) => fake.prepare(&place).map(Execution::Fake),
            Executor::Shell(shell) => shell.prepare(place).await.map(Execution::Shell),
            Executor::Embedded(embedded) => {
                embedded.prepare(place).await.map(|made| Execution::Embedded(Box::new(made)))
            }
            Executor::Docker(docker) => {
                docker.prepare(place).await.map(|made| Execution::Docker(Box::new(made)))
            }
        }
    }
}

impl Execution {
    /// Where the job finds itself.
    pub fn site(&self) -> &Site {
        match self {
            Execution::Fake(fake) => fake.site(),
            Execution::Shell(shell) => shell.site(),
            Execution::Embedded(embedded) => embedded.site(),
            Execution::Docker(docker) => docker.site(),
        }
    }

    /// Puts the sources into the project directory.
    ///
    /// # Errors
    /// They can't be read or written.
    pub async fn get_sources(&mut self) -> Result<(), ExecutorError> {
        match self {
            Execution::Fake(_) => Ok(()),
            Execution::Shell(shell) => shell.get_sources().await,
            Execution::Embedded(embedded) => {
                embedded.get_sources();
                Ok(())
            }
            Execution::Docker(docker) => docker.get_sources().await,
        }
    }

    /// Starts a shell with a script.
    ///
    /// # Errors
    /// The shell can't be started.
    pub async fn start(&mut self, step: Step) -> Result<Running, ExecutorError> {
        match self {
            Execution::Fake(fake) => Ok(fake.start(&step)),
            Execution::Shell(shell) => shell.start(step).await,
            Execution::Embedded(embedded) => embedded.start(step).await,
            Execution::Docker(docker) => docker.start(step).await,
        }
    }

    /// Opens a shell for a person on the terminal of this process, in what the job's steps have left; comes back
    /// when the person has left it. Between steps only.
    ///
    /// # Errors
    /// There is no terminal, or the shell can't be started in it.
    pub async fn debug(&mut self, mut environment: Vec<(String, String)>) -> Result<(), ExecutorError> {
        environment.push(("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())));
        match self {
            Execution::Fake(_) => Ok(()),
            Execution::Shell(shell) => shell.debug(environment).await,
            Execution::Embedded(embedded) => embedded.debug(environment).await,
            Execution::Docker(docker) => docker.debug(environment).await,
        }
    }

    /// Writes files of the project directory to `archive`, see [`crate::archive::pack`].
    ///
    /// # Errors
    /// As there.
    pub async fn pack(&mut self, selection: Selection, archive: File) -> Result<Packed, ExecutorError> {
        match self {
            Execution::Fake(_) => Ok(Packed::default()),
            Execution::Shell(shell) => shell.pack(selection, archive).await,
            Execution::Embedded(embedded) => embedded.pack(selection, archive).await,
            Execution::Docker(docker) => docker.pack(selection, archive).await,
        }
    }

    /// Unpacks an archive, see [`crate::archive::unpack`].
    ///
    /// # Errors
    /// As there.
    pub async fn unpack(&mut self, directory: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        match self {
            Execution::Fake(_) => Ok(Unpacked::default()),
            Execution::Shell(shell) => shell.unpack(directory, archive).await,
            Execution::Embedded(embedded) => embedded.unpack(directory, archive).await,
            Execution::Docker(docker) => docker.unpack(directory, archive).await,
        }
    }

    /// Removes the place.
    ///
    /// # Errors
    /// Something is left; the message says what and where.
    pub async fn cleanup(self) -> Result<(), ExecutorError> {
        match self {
            Execution::Fake(_) => Ok(()),
            Execution::Shell(shell) => shell.cleanup().await,
            Execution::Embedded(embedded) => embedded.cleanup().await,
            Execution::Docker(docker) => docker.cleanup().await,
        }
    }
}
