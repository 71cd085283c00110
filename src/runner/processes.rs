//! The jobs' processes (`ci __job`): started, counted, found again after the runner or the server was started anew, and
//! swept. Each has a directory of its own with a `lock` that it holds as long as it lives, so that it is never taken
//! for another one that got its number.

use super::Order;
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The hidden command.
pub const COMMAND: &str = "__job";
/// What a process of a job gets of our environment: nothing that could be a secret of the server.
const PASSED_ON: [&str; 30] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "SLIPWAY_HOME",
    "SLIPWAY_LOG",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "CONTAINER_HOST",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "DBUS_SESSION_BUS_ADDRESS",
    "RUST_BACKTRACE",
];
/// Of the bucket of caches, whose secrets come from here and from nowhere else.
const PASSED_ON_PREFIX: &str = "AWS_";
/// How often it is looked whether a process that is not our child has ended.
const LOOK: Duration = Duration::from_secs(1);

/// The processes whose directories lie in one place.
#[derive(Clone, Debug)]
pub struct Processes {
    directory: PathBuf,
    /// `SLIPWAY_HOME` of theirs; none: as ours.
    home: Option<PathBuf>,
    /// Names of those that were started from here and have not ended.
    children: Arc<Mutex<HashSet<String>>>,
}

/// How a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It told the server how its job ended.
    Told,
    /// It was killed, or could not tell.
    Silent,
}

impl Processes {
    /// Those below `directory`.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(directory: PathBuf, home: Option<PathBuf>) -> io::Result<Processes> {
        std::fs::create_dir_all(&directory)?;
        Ok(Processes { directory, home, children: Arc::default() })
    }

    /// The directory of a process.
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn children(&self) -> MutexGuard<'_, HashSet<String>> {
        // a set of names is whole at any time
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all that live and are not our children, and of those that have died without removing their directory,
    /// which stays until [`Processes::remove`]. Those that were never begun are in neither list, and never will be begun.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn sweep(&self) -> io::Result<(Vec<String>, Vec<String>)> {
        let (mut alive, mut dead) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.directory)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if self.children().contains(&name) {
                continue;
            }
            let path = self.place(&name);
            // with the lock in our hands a process that is late can't begin any more
            let unbegun = File::create_new(path.join("lock")).ok().filter(|lock| lock.try_lock().is_ok());
            match unbegun {
                Some(_lock) => std::fs::remove_dir_all(&path)?,
                None if is_locked(&path.join("lock")) => alive.push(name),
                None => dead.push(name),
            }
        }
        Ok((alive, dead))
    }

    /// Removes what a process left that ended [`Ended::Silent`]: only once that is written down, or else who comes after us
    /// takes its job for one that was never begun.
    pub fn remove(&self, name: &str) {
        // what stays is found by the next sweep
        let _ = std::fs::remove_dir_all(self.place(name));
    }

    /// Waits for the end of a process that is not our child. It removes its directory when it has told the server.
    pub async fn outlived(&self, name: &str) -> Ended {
        let path = self.place(name);
        while is_locked(&path.join("lock")) {
            tokio::time::sleep(LOOK).await;
        }
        if path.exists() { Ended::Silent } else { Ended::Told }
    }

    /// Starts the process of a job, in a session of its own, and gives it its order. The answer is its end.
    ///
    /// # Errors
    /// It can't be started; nothing is left then.
    pub async fn start(&self, name: &str, order: Order) -> io::Result<impl Future<Output = Ended> + use<>> {
        let path = self.place(name);
        std::fs::create_dir_all(&path)?;
        self.children().insert(name.to_owned());
        let started = self.spawn(&path, order).await;
        let forget = {
            let (processes, name) = (self.clone(), name.to_owned());
            move || {
                processes.children().remove(&name);
            }
        };
        let mut child = started.inspect_err(|_| {
            forget();
            self.remove(name);
        })?;
        let (processes, name) = (self.clone(), name.to_owned());
        Ok(async move {
            let told = child.wait().await.is_ok_and(|status| status.success());
            forget();
            if !told {
                return Ended::Silent;
            }
            processes.remove(&name);
            Ended::Told
        })
    }

    async fn spawn(&self, path: &Path, order: Order) -> io::Result<tokio::process::Child> {
        let log = File::create(path.join("process.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).env_clear().current_dir(path);
        command.envs(std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|name| PASSED_ON.contains(&name) || name.starts_with(PASSED_ON_PREFIX))
        }));
        if let Some(home) = &self.home {
            command.env("SLIPWAY_HOME", home);
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let text = serde_json::to_vec(&order)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&text).await?;
            stdin.shutdown().await?;
        }
        Ok(child)
    }
}

/// Does a living process hold the lock of this file?
pub(crate) fn is_locked(file: &Path) -> bool {
    match File::open(file).map(|file| file.try_lock()) {
        Ok(Ok(())) | Err(_) => false,
        Ok(Err(TryLockError::WouldBlock)) => true,
        Ok(Err(TryLockError::Error(error))) => {
            tracing::warn!("looking at the lock of `{}`: {error}", file.display());
            true
        }
    }
}

/// Takes the lock of the directory: as long as it is held, the process counts as alive. Its number is in it, for people.
///
/// # Errors
/// The directory can't be written, or another process has it.
pub fn hold(directory: &Path) -> io::Result<File> {
    let path = directory.join("lock");
    let mut lock = File::create(path)?;
    lock.try_lock().map_err(|_| io::Error::other("another process runs this job"))?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_living_are_counted_and_the_dead_are_swept() {
        let dir = tempfile::tempdir().expect("a directory");
        let processes = Processes::new(dir.path().join("jobs"), None).expect("a place");
        for name in ["1", "2", "3"] {
            std::fs::create_dir(processes.place(name)).expect("a directory");
        }
        let held = hold(&processes.place("1")).expect("a lock");
        drop(hold(&processes.place("2")).expect("a lock"));
        assert!(hold(&processes.place("1")).is_err(), "one process for one job");
        let (alive, dead) = processes.sweep().expect("swept");
        assert_eq!((alive, dead), (vec!["1".to_owned()], vec!["2".to_owned()]));
        assert!(!processes.place("3").exists(), "nothing comes of what was never begun");
        assert_eq!(
            processes.sweep().expect("swept").1,
            ["2"],
            "until somebody has written down that it is lost"
        );
        processes.remove("2");
        assert_eq!(processes.sweep().expect("swept").1, [""; 0]);
        assert!(hold(&processes.place("3")).is_err(), "who is late does not begin");
        drop(held);
        assert_eq!(processes.outlived("1").await, Ended::Silent);
        processes.remove("1");
        assert_eq!(processes.outlived("1").await, Ended::Told, "it has cleared up itself");
    }
}
