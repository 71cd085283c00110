//! The embedded executor: every job in containers of our own, see [`crate::sandbox`]. The sources are the lower
//! layer of the project directory, so nothing is copied; every step, and every archive, gets fresh processes over
//! the same layers.

use crate::archive::{Packed, Selection, Unpacked};
use crate::executor::{Directory, ExecutorError, Exit, Place, Running, Site, Step, Stop};
use crate::sandbox::{
    Access, Command, Error, ExitStatus, Mount, Process, Sandbox, Spec, StateDir, Streams, Task,
};
use crate::script::DETECT_SHELL;
use crate::shell::script_file;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// `CI_BUILDS_DIR` of every job.
const BUILDS: &str = "/builds";

/// Runs jobs in sandboxes.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// How sandboxes are started.
    pub sandbox: Sandbox,
    /// Directory of all state directories, see [`StateDir::create`].
    pub states: PathBuf,
    /// The executable that jobs find as `ci`.
    pub ci: PathBuf,
}

/// One job's layers.
#[derive(Debug)]
pub struct EmbeddedExecution {
    sandbox: Sandbox,
    state: StateDir,
    /// Without the project directory.
    base: Spec,
    site: Site,
    /// The sources, and what lies over them, the uppermost last.
    sources: Vec<PathBuf>,
    /// The layers below the job's own: nothing before the sources have come in.
    lower: Vec<PathBuf>,
}

impl Embedded {
    pub(crate) async fn prepare(&self, place: Place) -> Result<EmbeddedExecution, ExecutorError> {
        let doing = format!("making a sandbox in `{}`", self.states.display());
        let failed = |error: io::Error| ExecutorError::system(&doing, error);
        let plain = |component| matches!(component, Component::Normal(_));
        if place.project.is_empty() || !Path::new(&place.project).components().all(plain) {
            return Err(ExecutorError::system(&doing, format!("`{}` is not a project path", place.project)));
        }
        let (slot, state) = free_state(&self.states)?;
        let site = Site {
            builds: PathBuf::from(BUILDS),
            project: Path::new(BUILDS).join(&place.project),
            temporary: Path::new(BUILDS).join(format!("{}.tmp", place.project)),
            slot,
            disposable: true,
        };
        let builds = state.path().join("builds");
        let make = |mode, path: &Path| DirBuilder::new().recursive(true).mode(mode).create(path);
        make(0o755, &builds.join(&place.project)).map_err(failed)?;
        make(0o700, &builds.join(format!("{}.tmp", place.project))).map_err(failed)?;
        let mut base = Spec::host(state.path(), &self.ci);
        base.mounts.push(Mount::Bind {
            source: builds,
            target: PathBuf::from(BUILDS),
            access: Access::ReadWrite,
        });
        let sandbox = self.sandbox.clone();
        let sources = place.checkout.into_iter().chain(place.overlays).collect();
        Ok(EmbeddedExecution { sandbox, state, base, site, sources, lower: Vec::new() })
    }
}

/// The first number that no other job has. Numbers of dead jobs come back when they are swept.
fn free_state(states: &Path) -> Result<(u32, StateDir), ExecutorError> {
    for slot in 0..u32::MAX {
        match StateDir::create(states, &slot.to_string()) {
            Ok(state) => return Ok((slot, state)),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(system(error)),
        }
    }
    Err(ExecutorError::system("making a sandbox", "every number is taken"))
}

impl EmbeddedExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) fn get_sources(&mut self) {
        self.lower.extend(self.sources.drain(..).rev());
    }

    fn spec(&self) -> Spec {
        let mut spec = self.base.clone();
        spec.mounts.push(self.state.workspace(self.lower.clone(), &self.site.project));
        spec
    }

    pub(crate) async fn start(&mut self, step: Step) -> Result<Running, ExecutorError> {
        let starting = |error: io::Error| ExecutorError::system("starting a shell", error);
        let script = script_file(&step.script).map_err(starting)?;
        // one pipe for both, so that their order is kept
        let (reader, writer) = io::pipe().map_err(starting)?;
        let streams = Streams {
            stdin: Some(OwnedFd::from(script)),
            stdout: Stdio::from(writer.try_clone().map_err(starting)?),
            stderr: Stdio::from(writer),
        };
        // a job that sets PATH or HOME itself has them once
        let environment: BTreeMap<String, String> =
            Spec::host_env().into_iter().chain(step.environment).collect();
        let task = Task::Run(Command {
            argv: ["/bin/sh", "-c", DETECT_SHELL].map(str::to_owned).to_vec(),
            env: environment.into_iter().collect(),
            cwd: self.site.builds.clone(),
            uid: 0,
            gid: 0,
        });
        let process = self.sandbox.start(&self.spec(), task, streams).await.map_err(system)?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(starting)?;
        let (stop, stops) = mpsc::unbounded_channel();
        let (exited, exit) = oneshot::channel();
        tokio::spawn(watch(process, stops, exited));
        Ok(Running { output: Box::new(output), exit, stop })
    }

    pub(crate) async fn pack(
        &mut self,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        let task = Task::Archive { dir: self.site.project.clone(), selection };
        let streams = Streams { stdin: None, stdout: Stdio::from(archive), stderr: Stdio::piped() };
        let mut process = self.sandbox.start(&self.spec(), task, streams).await.map_err(system)?;
        let told = process.stderr.take();
        finish(process, told, "packing files").await
    }

    pub(crate) async fn unpack(&mut self, into: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        let dir = match into {
            Directory::Project => self.site.project.clone(),
            Directory::Temporary => self.site.temporary.clone(),
        };
        let archive = Some(OwnedFd::from(archive));
        let streams = Streams { stdin: archive, stdout: Stdio::piped(), stderr: Stdio::null() };
        let task = Task::Restore { dir };
        let mut process = self.sandbox.start(&self.spec(), task, streams).await.map_err(system)?;
        let told = process.stdout.take();
        finish(process, told, "unpacking files").await
    }

    pub(crate) async fn cleanup(self) -> Result<(), ExecutorError> {
        self.state.remove(&self.sandbox).await.map_err(system)
    }
}

/// Waits for file work inside, and reads what it tells about itself.
async fn finish<T: serde::de::DeserializeOwned>(
    mut process: Process,
    told: Option<impl AsyncReadExt + Unpin>,
    doing: &str,
) -> Result<T, ExecutorError> {
    let mut text = Vec::new();
    if let Some(mut told) = told {
        told.read_to_end(&mut text).await.map_err(|error| ExecutorError::system(doing, error))?;
    }
    process.wait().await.map_err(system)?;
    serde_json::from_slice(&text).map_err(|error| ExecutorError::system(doing, error))
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
        ExitStatus::Code(code) => Exit::Code(code),
        ExitStatus::Signal(signal) => Exit::Signal(signal),
    });
    // the job may have gone; there is nobody to tell then
    let _ = exited.send(exit);
}

fn system(error: Error) -> ExecutorError {
    let reason = pipelines::status::FailureReason::RunnerSystemFailure;
    ExecutorError { reason, message: error.to_string() }
}
