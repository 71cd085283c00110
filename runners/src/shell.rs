//! The shell executor: a job is a process group on this machine, as this user, in a directory of its own.
//! Nothing is isolated but the directory and the environment; a process that leaves its group (`setsid`) escapes.

use crate::archive::{self, Packed, Selection, Unpacked};
use crate::executor::{Directory, ExecutorError, Exit, Place, Running, Site, Step, Stop};
use crate::script::DETECT_SHELL;
use crate::workspace::{self, Workspace};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// Variables of this process that jobs see; everything else comes from the pipeline.
const PASSED_ON: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TMPDIR", "TZ"];

/// Runs jobs as processes on this machine.
#[derive(Clone, Debug)]
pub struct Shell {
    /// Directory of the slots.
    pub builds: PathBuf,
}

/// One job's directory and processes.
#[derive(Debug)]
pub struct ShellExecution {
    workspace: Workspace,
    site: Site,
    /// The sources, and what lies over them: copied in this order.
    sources: Vec<PathBuf>,
}

impl Shell {
    pub(crate) async fn prepare(&self, place: Place) -> Result<ShellExecution, ExecutorError> {
        let builds = self.builds.clone();
        let doing = format!("making a workspace in `{}`", builds.display());
        let project = place.project;
        let workspace = blocking(move || Workspace::claim(&builds, &project))
            .await?
            .map_err(|error| ExecutorError::system(&doing, error))?;
        let site = Site {
            builds: workspace.builds.clone(),
            project: workspace.project.clone(),
            temporary: workspace.temporary(),
            slot: workspace.slot,
            disposable: false,
        };
        let sources = place.checkout.into_iter().chain(place.overlays).collect();
        Ok(ShellExecution { workspace, site, sources })
    }
}

impl ShellExecution {
    pub(crate) fn site(&self) -> &Site {
        &self.site
    }

    pub(crate) async fn get_sources(&mut self) -> Result<(), ExecutorError> {
        let (sources, project) = (std::mem::take(&mut self.sources), self.site.project.clone());
        blocking(move || sources.iter().try_for_each(|from| workspace::copy_tree(from, &project)))
            .await?
            .map_err(|error| ExecutorError::system("getting the sources", error))
    }

    pub(crate) fn start(&mut self, step: &Step) -> Result<Running, ExecutorError> {
        spawn(step, &self.site).map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::ArgumentListTooLong {
                " (a variable is larger than 128 KiB, or all together are too large: make it a file variable)"
            } else {
                ""
            };
            ExecutorError::system("starting a shell", format!("{error}{hint}"))
        })
    }

    pub(crate) async fn pack(
        &mut self,
        selection: Selection,
        archive: File,
    ) -> Result<Packed, ExecutorError> {
        let project = self.site.project.clone();
        Ok(blocking(move || archive::pack(&project, &selection, archive)).await??)
    }

    pub(crate) async fn unpack(&mut self, into: Directory, archive: File) -> Result<Unpacked, ExecutorError> {
        let directory = match into {
            Directory::Project => self.site.project.clone(),
            Directory::Temporary => self.site.temporary.clone(),
        };
        Ok(blocking(move || archive::unpack(&directory, archive)).await??)
    }

    pub(crate) async fn cleanup(self) -> Result<(), ExecutorError> {
        let doing = format!("removing the workspace `{}`", self.site.builds.display());
        blocking(move || self.workspace.empty()).await?.map_err(|error| ExecutorError::system(&doing, error))
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ExecutorError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ExecutorError::system("working on files", error))
}

/// A script for a shell's standard input: a file without a name, so that there is nothing to clean up, nobody else
/// can read it, and no pipe has to be fed.
pub(crate) fn script_file(script: &str) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(script.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn spawn(step: &Step, site: &Site) -> io::Result<Running> {
    let script = script_file(&step.script)?;
    // one pipe for both, so that their order is kept
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", DETECT_SHELL]);
    command.env_clear();
    command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(step.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(&site.builds).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::from(script)).stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    // the command holds our copies of the writing end: the reader would never see the end
    drop(command);
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
    let (stop, stops) = mpsc::unbounded_channel();
    let (exited, exit) = oneshot::channel();
    tokio::spawn(watch(child, stops, exited));
    Ok(Running { output: Box::new(output), exit, stop })
}

/// Waits for the shell, passes signals on to its group, and lets nothing of the group outlive it.
async fn watch(
    mut child: Child,
    mut stops: mpsc::UnboundedReceiver<Stop>,
    exited: oneshot::Sender<Result<Exit, ExecutorError>>,
) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let signal = |signal| {
        if let Some(group) = group {
            // an error says that nobody is left, which is what was wanted
            let _ = kill_process_group(group, signal);
        }
    };
    let mut listening = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            stop = stops.recv(), if listening => match stop {
                Some(Stop::Terminate) => signal(Signal::TERM),
                Some(Stop::Kill) => signal(Signal::KILL),
                None => {
                    listening = false;
                    signal(Signal::KILL);
                }
            },
        }
    };
    signal(Signal::KILL);
    let result = status.map(exit_of).map_err(|error| ExecutorError::system("waiting for the shell", error));
    // the job may have gone; there is nobody to tell then
    let _ = exited.send(result);
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(status.into_raw()),
    }
}
