//! The way out of the router's namespace: a user-mode network program of the machine. It runs in a pid namespace
//! under a guard of ours that dies with the router, because the program itself may shed its parent's death signal.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal, wait};
use rustix::thread::UnshareFlags;

use super::links;
use crate::sandbox::error::Doing;
use crate::sandbox::{Failure, sys};

/// Where both programs answer name queries, with the host's name servers behind.
pub(super) const NAME_SERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 3);

/// A program that connects a namespace with the host's network.
struct Program {
    name: &'static str,
    /// Both leave the host's own loopback alone.
    arguments: &'static [&'static str],
    /// It goes into the background when it is ready, and has the namespace as descriptor 0: it gives up the right to
    /// open that of another process. Else it says on descriptor 0 that it is ready.
    daemon: bool,
}

const PASTA: Program = Program {
    name: "pasta",
    arguments: &[
        "--quiet",
        "--config-net",
        "--ipv4-only",
        "--no-map-gw",
        // slirp4netns' numbers: with the machine's own address, as is pasta's way, the machine could not be reached
        "--address=10.0.2.100",
        "--netmask=24",
        "--gateway=10.0.2.2",
        "--tcp-ports=none",
        "--udp-ports=none",
        "--tcp-ns=none",
        "--udp-ns=none",
        "--ns-ifname=tap0",
        "--dns-forward=10.0.2.3",
        "--runas=0:0",
        "--netns-only",
        "--no-netns-quit",
        "--netns=/proc/self/fd/0",
    ],
    daemon: true,
};
const SLIRP4NETNS: Program = Program {
    name: "slirp4netns",
    arguments: &[
        "--configure",
        "--mtu=65520",
        "--disable-host-loopback",
        "--ready-fd=0",
        "--netns-type=path",
    ],
    daemon: false,
};

/// Makes the guard, in the network namespace of the caller, which is the host's. It waits for [`open`].
pub(super) fn fork_guard(rootless: bool) -> Result<PipeWriter, Failure> {
    let doing = || "starting the guard of the way out".to_owned();
    let (gate, open_gate) = std::io::pipe().doing(doing)?;
    let router = std::process::id();
    sys::unshare(UnshareFlags::NEWPID).doing(doing)?;
    match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            drop(open_gate);
            guard(gate, router, rootless)
        }
        sys::Fork::Parent(_) => Ok(open_gate),
    }
}

/// Prepares the router's namespace, which is the caller's, and lets the guard begin. What comes of it is told on
/// standard output, by one of both.
pub(super) fn open(mut gate: PipeWriter) {
    let prepared = links::masquerade().doing(|| "setting up address translation (nftables)".to_owned());
    match prepared {
        // a guard that is gone has told why
        Ok(()) => drop(gate.write_all(b"!")),
        Err(failure) => tell(&format!("down {failure}")),
    }
}

fn tell(line: &str) {
    let line = line.replace('\n', " ");
    // `ci` is gone then, and soon so are we
    let _unheard = writeln!(std::io::stdout(), "{line}");
}

fn guard(mut gate: PipeReader, router: u32, rootless: bool) -> ! {
    let tied = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if !tied || gate.read_exact(&mut [0]).is_err() {
        sys::exit_now(0);
    }
    let order = if rootless { [PASTA, SLIRP4NETNS] } else { [SLIRP4NETNS, PASTA] };
    let mut reasons = Vec::new();
    for program in order {
        match program.start(router) {
            Ok(()) => {
                tell(&format!("up {}", program.name));
                while wait(WaitOptions::empty()).is_ok() {}
                tell(&format!("down {} has ended", program.name));
                sys::exit_now(0);
            }
            Err(reason) => reasons.push(format!("{}: {reason}", program.name)),
        }
    }
    tell(&format!("down {}", reasons.join("; ")));
    sys::exit_now(0)
}

impl Program {
    /// Returns when the network is there, or with the reason why it isn't.
    fn start(&self, router: u32) -> Result<(), String> {
        let namespace = format!("/proc/{router}/ns/net");
        let text = |error: std::io::Error| error.to_string();
        let said = rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC).map_err(|e| e.to_string())?;
        let mut said = File::from(said);
        let (mut ready, tell_ready) = std::io::pipe().map_err(text)?;
        let mut command = Command::new(self.name);
        command.args(self.arguments);
        let descriptor = if self.daemon {
            OwnedFd::from(File::open(&namespace).map_err(text)?)
        } else {
            command.args([namespace.as_str(), links::EGRESS]);
            OwnedFd::from(tell_ready)
        };
        command
            .current_dir(Path::new("/"))
            .stdin(Stdio::from(descriptor))
            .stdout(Stdio::null())
            .stderr(Stdio::from(said.try_clone().map_err(text)?));
        let mut child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "not installed".to_owned(),
            _ => error.to_string(),
        })?;
        // our copy of the descriptor that tells
        drop(command);
        let up = if self.daemon {
            child.wait().map_err(text)?.success()
        } else {
            ready.read_exact(&mut [0]).is_ok()
        };
        if up {
            return Ok(());
        }
        let mut reason = String::new();
        let _nothing_said = said.rewind().and_then(|()| said.read_to_string(&mut reason));
        let last = reason.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed silently");
        Err(last.trim().to_owned())
    }
}
