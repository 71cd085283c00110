//! Starting tasks in sandboxes.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use super::spec::NewLayer;
use super::wire::{self, Order};
use super::{Command, Error, ExitStatus, INIT_ARG, Process, Spec, Task};

/// Starts sandboxes by running an executable whose `main` calls [`init_main`](super::init_main) for [`INIT_ARG`].
#[derive(Clone, Debug)]
pub struct Sandbox {
    init: PathBuf,
}

/// Where the streams of a task lead. An absent stdin is the null device.
#[derive(Debug)]
pub struct Streams {
    /// The task's input, handed over as it is.
    pub stdin: Option<OwnedFd>,
    /// [`Stdio::piped`] gives [`Process::stdout`].
    pub stdout: Stdio,
    /// [`Stdio::piped`] gives [`Process::stderr`].
    pub stderr: Stdio,
}

impl Streams {
    /// No input, output and errors to pipes.
    pub fn piped() -> Self {
        Self { stdin: None, stdout: Stdio::piped(), stderr: Stdio::piped() }
    }
}

impl Default for Sandbox {
    /// With the running executable, which stays the same file even if a newer one is installed meanwhile.
    fn default() -> Self {
        Self::with_init(PathBuf::from("/proc/self/exe"))
    }
}

impl Sandbox {
    /// With another executable: for tests, whose own `main` isn't ours.
    pub fn with_init(init: PathBuf) -> Self {
        Self { init }
    }

    /// Builds the sandbox and starts `task` in it. Returns when it runs (about 10 ms).
    ///
    /// Two tasks of one state directory must not run at the same time.
    pub async fn start(&self, spec: &Spec, task: Task, streams: Streams) -> Result<Process, Error> {
        let order = Order { spec: spec.clone(), task };
        let body =
            serde_json::to_vec(&order).map_err(|error| Error::io("writing the order")(error.into()))?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("making a socket pair"))?;
        let child = tokio::process::Command::new(&self.init)
            .arg0("ci-sandbox")
            .arg(INIT_ARG)
            .stdin(OwnedFd::from(theirs))
            .stdout(streams.stdout)
            .stderr(streams.stderr)
            .spawn()
            .map_err(Error::io(format!("starting `{} {INIT_ARG}`", self.init.display())))?;
        let doing = "speaking to the sandbox's supervisor";
        wire::send_head(&ours, body.len(), streams.stdin.as_ref().map(OwnedFd::as_fd))
            .map_err(Error::io(doing))?;
        drop(streams.stdin);
        ours.set_nonblocking(true).map_err(Error::io(doing))?;
        let mut socket = tokio::net::UnixStream::from_std(ours).map_err(Error::io(doing))?;
        // a supervisor that fails before it read everything has said why: that is worth more than EPIPE
        let _read_below = socket.write_all(&body).await;
        let mut process = Process::new(child, socket);
        process.started().await?;
        Ok(process)
    }

    /// Starts a program on this machine, without a sandbox, but under a supervisor: what it starts ends with it, and
    /// when this process ends.
    pub async fn start_plain(&self, command: Command, streams: Streams) -> Result<Process, Error> {
        self.start(&Spec::none(), Task::Plain(command), streams).await
    }

    /// The same on a terminal of its own, which is shown on the terminal that the streams are, in raw mode.
    pub(crate) async fn start_plain_terminal(
        &self,
        command: Command,
        streams: Streams,
    ) -> Result<Process, Error> {
        self.start(&Spec::none(), Task::PlainTerminal(command), streams).await
    }

    /// Deletes a directory of a dead sandbox. An ordinary user needs the user namespace for that: it has files of
    /// other ids, and the kernel's overlay directories have no permissions.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        let streams = Streams { stdin: None, stdout: Stdio::null(), stderr: Stdio::null() };
        finished(self.start(&Spec::none(), Task::Remove { path: path.to_owned() }, streams).await?).await
    }

    /// Unpacks the layer that `input` gives. Its answer is on the process's stdout.
    pub(crate) async fn unpack(&self, input: OwnedFd, into: &Path) -> Result<Process, Error> {
        let streams = Streams { stdin: Some(input), stdout: Stdio::piped(), stderr: Stdio::null() };
        self.start(&Spec::none(), Task::Unpack { into: into.to_owned() }, streams).await
    }

    /// Moves unpacked layers to where they stay.
    pub(crate) async fn settle(&self, below: Vec<PathBuf>, layers: Vec<NewLayer>) -> Result<(), Error> {
        let streams = Streams { stdin: None, stdout: Stdio::null(), stderr: Stdio::null() };
        finished(self.start(&Spec::none(), Task::Settle { below, layers }, streams).await?).await
    }
}

/// Waits for a task that is no program: anything but success has been told as a failure.
async fn finished(mut process: Process) -> Result<(), Error> {
    match process.wait().await? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(_) | ExitStatus::Signal(_) => Err(Error::Lost),
    }
}
