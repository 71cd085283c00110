//! A job for the tests: a checkout of two files, and layers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runners::sandbox::{Command, ExitStatus, Process, Sandbox, Spec, StateDir, Streams, Task};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

pub(crate) const PROJECT: &str = "/builds/group/project";

/// A job: a checkout of two files, and layers.
pub(crate) struct Job {
    pub(crate) dir: TempDir,
    pub(crate) state: StateDir,
    pub(crate) spec: Spec,
    pub(crate) sandbox: Sandbox,
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::with_init(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Job {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let checkout = dir.path().join("checkout");
        fs::create_dir_all(checkout.join("src")).unwrap();
        fs::write(checkout.join("src/main.txt"), "original\n").unwrap();
        fs::write(checkout.join("README"), "read me\n").unwrap();
        let state = StateDir::create(&dir.path().join("states"), "job").unwrap();
        let mut spec = Spec::host(state.path(), Path::new(env!("CARGO_BIN_EXE_sandbox-init")));
        spec.mounts.push(state.workspace(vec![checkout], Path::new(PROJECT)));
        Self { dir, state, spec, sandbox: sandbox() }
    }

    pub(crate) fn command(script: &str) -> Task {
        Task::Run(Command {
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            env: Spec::host_env(),
            cwd: PROJECT.into(),
        })
    }

    pub(crate) async fn start(&self, script: &str) -> Process {
        self.sandbox.start(&self.spec, Self::command(script), Streams::piped()).await.unwrap()
    }

    /// Status, and stdout with stderr behind it.
    pub(crate) async fn run(&self, script: &str) -> (ExitStatus, String) {
        let mut process = self.start(script).await;
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)).unwrap();
        (process.wait().await.unwrap(), out + &err)
    }

    /// stdout and stderr of a script that must succeed.
    pub(crate) async fn output(&self, script: &str) -> String {
        let (status, text) = self.run(script).await;
        assert_eq!(status, ExitStatus::Code(0), "{script}: {text}");
        text
    }

    pub(crate) async fn finish(self) {
        self.state.remove(&self.sandbox).await.unwrap();
    }
}

pub(crate) async fn first_line(process: &mut Process) -> String {
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).await.unwrap();
    line
}

/// Whether a process of the machine has `text` among its arguments.
pub(crate) fn runs(text: &str) -> bool {
    pid_of(text).is_some()
}

pub(crate) fn pid_of(text: &str) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let has_it = cmdline.split(|byte| *byte == 0).any(|argument| argument == text.as_bytes());
        if has_it { entry.file_name().to_str()?.parse().ok() } else { None }
    })
}

/// A number of seconds to sleep that no other process of the machine sleeps.
pub(crate) fn unique_sleep() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("1000.{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap();
}
