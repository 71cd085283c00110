//! What a sandbox looks like and what runs in it. Sent to the child as JSON.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::archive::Selection;

/// The hidden first argument with which `ci` starts itself as supervisor of a sandbox.
pub const INIT_ARG: &str = "__init";

/// Directory inside every sandbox of [`Spec::host`] that holds our own executable, under the name `ci`.
pub const OWN_BIN_DIR: &str = "/run/slipway/bin";

/// A sandbox: its root file system, its layers, its mounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Where the root file system comes from.
    pub root: Root,
    /// The job's [`StateDir`](super::StateDir) on the host. The same directory again means the same files again.
    pub state: PathBuf,
    /// Mounted in this order, after the root and the hidden paths.
    pub mounts: Vec<Mount>,
    /// Directories covered by empty writable ones (files: by nothing). Those that don't exist are ignored.
    pub hidden: Vec<PathBuf>,
    /// Host name inside.
    pub hostname: String,
    /// Which network the job sees.
    pub network: Network,
    /// Lines of `/etc/hosts` beside the image's own.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// Text of `/etc/resolv.conf`; `None`: as the root file system has it.
    pub resolver: Option<String>,
    /// Whose task it is, as images write `USER`: `name`, `uid`, `name:group`, `uid:gid`; empty: root. A
    /// [`Mount::Overlay`] belongs to this user.
    pub user: String,
    /// What everything inside may use together.
    pub limits: Limits,
}

/// Limits of a sandbox; none: what the machine has. They hold where there are control groups that `ci` may use;
/// where not, [`Process::notes`](super::Process::notes) says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes, swap included.
    pub memory: Option<u64>,
    /// Processors, 1.5 is one and a half.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// The root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Root {
    /// The host's own. As root with a private writable layer over it; as an ordinary user read only, because
    /// the kernel refuses an overlay over `/` in a user namespace (`/tmp`, `/var/tmp`, `/run`, the hidden paths
    /// and the mounts stay writable).
    Host,
    /// An image's, with a private writable layer over it. `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`
    /// are the sandbox's own, as Docker's.
    Layers {
        /// Directories of the host as overlay wants them, the uppermost first.
        layers: Vec<PathBuf>,
    },
}

/// The network of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Network {
    /// The host's own network namespace.
    Host,
    /// A namespace of a [`JobNetwork`](super::JobNetwork), which must live as long as the sandbox.
    Joined(Joint),
}

/// A network namespace that a router holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// Process id of the router.
    pub(super) router: u32,
    /// Its descriptor of the namespace.
    pub(super) namespace: i32,
}

/// Whether the job may write through a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Writes fail with EROFS.
    ReadOnly,
    /// Writes reach the source.
    ReadWrite,
}

/// Something of the host inside the sandbox. Targets are absolute paths inside, made when they are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mount {
    /// A file or directory of the host.
    Bind {
        /// Path on the host.
        source: PathBuf,
        /// Path inside.
        target: PathBuf,
        /// Read only or not.
        access: Access,
    },
    /// Read-only directories under a writable layer: a checkout, and what the job changes in it.
    Overlay {
        /// Directories on the host, the uppermost first. Empty: `upper` alone is mounted.
        lower: Vec<PathBuf>,
        /// The writable layer, on the host.
        upper: PathBuf,
        /// The kernel's work directory, empty, on the same file system as `upper`.
        work: PathBuf,
        /// Path inside.
        target: PathBuf,
    },
}

/// What runs inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Build the sandbox and leave: shows that it can be built.
    Check,
    /// A program.
    Run(Command),
    /// A program, and a check that tells whether it is ready; see [`Process::health`](super::Process::health).
    Serve(Command, Check),
    /// A program on a terminal of its own, which is shown on the terminal that the streams are, in raw mode.
    Terminal(Command),
    /// The selected files below `dir` as [`crate::archive::pack`] writes them, on stdout; on stderr, as JSON, what
    /// it packed.
    Archive {
        /// Absolute path inside.
        dir: PathBuf,
        /// What to take.
        selection: Selection,
    },
    /// The archive on stdin, unpacked below `dir` by [`crate::archive::unpack`]; on stdout, as JSON, what that was.
    Restore {
        /// Absolute path inside.
        dir: PathBuf,
    },
    /// A program on this machine, as this user, without any sandbox; what it starts ends with it.
    Plain(Command),
    /// The same on a terminal of its own, as [`Task::Terminal`].
    PlainTerminal(Command),
    /// A layer of an image (tar, plain or with gzip or zstd) on stdin, unpacked into a directory *of the host*; on
    /// stdout, as JSON, an [`UnpackedLayer`]. Builds no sandbox, but is shut into the directory.
    Unpack {
        /// An empty directory, absolute.
        into: PathBuf,
    },
    /// Moves unpacked layers to where they stay, with the rights of the sandbox's user namespace. Builds no sandbox.
    Settle {
        /// Directories of the layers below, the lowest first.
        below: Vec<PathBuf>,
        /// The lowest first.
        layers: Vec<NewLayer>,
    },
    /// Deletes a directory *of the host* with the rights of the sandbox's user namespace, where all files of a
    /// dead sandbox can be deleted. Builds no sandbox.
    Remove {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// Serves networks until `ci` is gone, see [`Router`](super::Router). Builds no sandbox.
    Route {
        /// Shall the networks reach the world?
        egress: bool,
    },
}

/// How a service is asked whether it is ready: run beside it, again and again, until one succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Program and arguments; exit code 0: ready.
    pub argv: Vec<String>,
    /// Of one check, which is killed then.
    pub timeout: Duration,
    /// Failures after this time make it unhealthy.
    pub patience: Duration,
}

/// What a [`Check`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Nothing yet.
    #[default]
    Starting,
    /// A check has succeeded; there are no more.
    Healthy,
    /// The last check failed, for this reason: "fails with exit code 1".
    Failing(String),
    /// Patience is over; there are no more checks.
    Unhealthy(String),
}

/// What [`Task::Unpack`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackedLayer {
    /// Digest of the uncompressed archive: `sha256:...`.
    pub diff_id: String,
    /// Bytes in its files.
    pub bytes: u64,
    /// Directories that the archive has no entry for, absolute inside the layer.
    pub implied: Vec<OsString>,
}

/// A layer for [`Task::Settle`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewLayer {
    /// Where it was unpacked.
    pub from: PathBuf,
    /// Where it stays; must not be there yet.
    pub to: PathBuf,
    /// Its directories that are to look as in the layers below.
    pub implied: Vec<OsString>,
}

/// A program to run inside.
#[derive(Clone, Serialize, Deserialize)]
pub struct Command {
    /// Program (looked up in `PATH` of `env` when it has no slash) and arguments.
    pub argv: Vec<String>,
    /// The whole environment, but for `HOME`: that of the user when it is not given.
    pub env: Vec<(String, String)>,
    /// Working directory inside, made when it is missing.
    pub cwd: PathBuf,
}

impl fmt::Debug for Command {
    /// Names of variables only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("argv", &self.argv)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish()
    }
}

impl Spec {
    /// A sandbox of the host's own files: our executable in [`OWN_BIN_DIR`]; the caller's home, `/root` and the
    /// directory of all state directories are hidden.
    ///
    /// `state` is a [`StateDir`](super::StateDir)'s path, `ci` the executable to offer inside.
    pub fn host(state: &Path, ci: &Path) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.parent().is_some());
        let hidden = [Some(PathBuf::from("/root")), home, state.parent().map(Path::to_owned)];
        let own_executable = Mount::Bind {
            source: ci.to_owned(),
            target: Path::new(OWN_BIN_DIR).join("ci"),
            access: Access::ReadOnly,
        };
        let mut spec = Self {
            root: Root::Host,
            state: state.to_owned(),
            mounts: vec![own_executable],
            hidden: Vec::new(),
            hostname: "slipway".to_owned(),
            ..Self::none()
        };
        for path in hidden.into_iter().flatten() {
            if !spec.hidden.contains(&path) {
                spec.hidden.push(path);
            }
        }
        spec
    }

    /// A sandbox of an image's files.
    ///
    /// `state` is a [`StateDir`](super::StateDir)'s path.
    pub fn image(state: &Path, layers: Vec<PathBuf>) -> Self {
        Self {
            root: Root::Layers { layers },
            state: state.to_owned(),
            hostname: "slipway".to_owned(),
            ..Self::none()
        }
    }

    /// For tasks that build no sandbox.
    pub(super) fn none() -> Self {
        Self {
            root: Root::Host,
            state: PathBuf::new(),
            mounts: Vec::new(),
            hidden: Vec::new(),
            hostname: String::new(),
            network: Network::Host,
            hosts: Vec::new(),
            resolver: None,
            user: String::new(),
            limits: Limits::default(),
        }
    }

    /// The variables of the host that a job with image `host` gets, and no others: `PATH` (with
    /// [`OWN_BIN_DIR`] in front) and `LANG`; `HOME` is `/root`, as in a Docker image.
    pub fn host_env() -> Vec<(String, String)> {
        let path = std::env::var("PATH")
            .unwrap_or_else(|_| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        let mut env = vec![
            ("PATH".to_owned(), format!("{OWN_BIN_DIR}:{path}")),
            ("HOME".to_owned(), "/root".to_owned()),
        ];
        env.extend(std::env::var("LANG").map(|lang| ("LANG".to_owned(), lang)));
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_values() {
        let command = Command {
            argv: vec!["sh".into()],
            env: vec![("TOKEN".into(), "s3cret".into())],
            cwd: "/".into(),
        };
        let text = format!("{:?}", Task::Run(command));
        assert!(text.contains("TOKEN") && !text.contains("s3cret"), "{text}");
    }
}
