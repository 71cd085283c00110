//! Starting tasks in sandboxes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;

use super::spec::NewLayer;
use super::wire::{self, Call, Order};
use super::{Command, Error, ExitStatus, INIT_ARG, Process, Spec, Task};

/// Starts sandboxes by running an executable whose `main` calls [`init_main`](super::init_main) for [`INIT_ARG`]: once,
/// with the first task. It waits for the next ones until the last copy of this value is gone.
#[derive(Clone, Debug)]
pub struct Sandbox {
    init: PathBuf,
    zygote: Arc<Mutex<Option<Zygote>>>,
}

/// Where the streams of a task lead. An absent stdin is the null device.
#[derive(Debug)]
pub struct Streams {
    /// The task's input, handed over as it is.
    pub stdin: Option<OwnedFd>,
    /// [`Output::Pipe`] gives [`Process::stdout`].
    pub stdout: Output,
    /// [`Output::Pipe`] gives [`Process::stderr`].
    pub stderr: Output,
}

/// Where what a task writes goes.
#[derive(Debug)]
pub enum Output {
    /// To the null device.
    Null,
    /// To whoever has started the task.
    Pipe,
    /// Into a file, or whatever this is.
    To(OwnedFd),
}

impl<T: Into<OwnedFd>> From<T> for Output {
    fn from(file: T) -> Self {
        Self::To(file.into())
    }
}

impl Output {
    /// The task's end, and ours.
    fn open(self) -> io::Result<(OwnedFd, Option<pipe::Receiver>)> {
        match self {
            Self::Null => Ok((File::options().write(true).open("/dev/null")?.into(), None)),
            Self::To(file) => Ok((file, None)),
            Self::Pipe => {
                let (ours, theirs) = io::pipe()?;
                Ok((theirs.into(), Some(pipe::Receiver::from_owned_fd(ours.into())?)))
            }
        }
    }
}

impl Streams {
    /// No input, output and errors to pipes.
    pub fn piped() -> Self {
        Self { stdin: None, stdout: Output::Pipe, stderr: Output::Pipe }
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
        Self { init, zygote: Arc::default() }
    }

    /// Builds the sandbox and starts `task` in it. Returns when it runs (a few milliseconds).
    ///
    /// Two tasks of one state directory must not run at the same time.
    pub async fn start(&self, spec: &Spec, task: Task, streams: Streams) -> Result<Process, Error> {
        let order = Order { spec: spec.clone(), task };
        let order = wire::written(&order).map_err(Error::io("writing the order"))?;
        let doing = "speaking to the sandbox's supervisor";
        let (ours, theirs) = UnixStream::pair().map_err(Error::io(doing))?;
        let (out, stdout) = streams.stdout.open().map_err(Error::io("opening a task's output"))?;
        let (err, stderr) = streams.stderr.open().map_err(Error::io("opening a task's output"))?;
        self.call(&Call { socket: theirs.into(), stdout: out, stderr: err, stdin: streams.stdin })?;
        ours.set_nonblocking(true).map_err(Error::io(doing))?;
        let mut socket = tokio::net::UnixStream::from_std(ours).map_err(Error::io(doing))?;
        // a supervisor that fails before it read everything has said why: that is worth more than EPIPE
        let _read_below = socket.write_all(&order).await;
        let mut process = Process::new(socket, stdout, stderr);
        process.started().await?;
        Ok(process)
    }

    /// Has a supervisor made. A waiting process that somebody has killed is replaced.
    fn call(&self, call: &Call<OwnedFd>) -> Result<(), Error> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = zygote.as_ref()
            && waiting.call(call).is_ok()
        {
            return Ok(());
        }
        let doing = || Error::io(format!("starting `{} {INIT_ARG}`", self.init.display()));
        let fresh = Zygote::start(&self.init).map_err(doing())?;
        fresh.call(call).map_err(doing())?;
        *zygote = Some(fresh);
        Ok(())
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
        let streams = Streams { stdin: None, stdout: Output::Null, stderr: Output::Null };
        finished(self.start(&Spec::none(), Task::Remove { path: path.to_owned() }, streams).await?).await
    }

    /// Unpacks the layer that `input` gives. Its answer is on the process's stdout.
    pub(crate) async fn unpack(&self, input: OwnedFd, into: &Path) -> Result<Process, Error> {
        let streams = Streams { stdin: Some(input), stdout: Output::Pipe, stderr: Output::Null };
        self.start(&Spec::none(), Task::Unpack { into: into.to_owned() }, streams).await
    }

    /// Moves unpacked layers to where they stay.
    pub(crate) async fn settle(&self, below: Vec<PathBuf>, layers: Vec<NewLayer>) -> Result<(), Error> {
        let streams = Streams { stdin: None, stdout: Output::Null, stderr: Output::Null };
        finished(self.start(&Spec::none(), Task::Settle { below, layers }, streams).await?).await
    }
}

/// The process that waits. It ends when this is dropped.
#[derive(Debug)]
struct Zygote {
    socket: UnixStream,
    /// Kept for its end to be waited for, by the runtime.
    _process: tokio::process::Child,
}

impl Zygote {
    fn start(init: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let process = tokio::process::Command::new(init)
            .arg0("ci-sandbox")
            .arg(INIT_ARG)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket: ours, _process: process })
    }

    fn call(&self, call: &Call<OwnedFd>) -> io::Result<()> {
        let Call { socket, stdout, stderr, stdin } = call;
        let stdin = stdin.as_ref().map(OwnedFd::as_fd);
        let (socket, stdout, stderr) = (socket.as_fd(), stdout.as_fd(), stderr.as_fd());
        wire::send_call(&self.socket, &Call { socket, stdout, stderr, stdin })
    }
}

/// Waits for a task that is no program: anything but success has been told as a failure.
async fn finished(mut process: Process) -> Result<(), Error> {
    match process.wait().await? {
        ExitStatus::Code(0) => Ok(()),
        ExitStatus::Code(_) | ExitStatus::Signal(_) => Err(Error::Lost),
    }
}
