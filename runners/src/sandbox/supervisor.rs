//! `ci __init`: the process between `ci` and a sandbox. It stays outside of the sandbox's namespaces (but for the
//! user namespace), holds the lifeline, and ends when everything inside has ended.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use rustix::thread::UnshareFlags;

use super::cgroup::Cgroup;
use super::error::Doing;
use super::spec::NewLayer;
use super::wire::{self, Order, Status};
use super::{Failure, INIT_ARG, Network, Task, first, network, plain, privilege, sys, unpack, userns};

/// What `ci` does when its first argument is [`INIT_ARG`](super::INIT_ARG). To be called first thing in `main`,
/// while the process has one thread: it forks.
///
/// Descriptor 0 is the socket from [`Sandbox`](super::Sandbox). The outcome goes there and not into the exit code.
pub fn init_main() -> ExitCode {
    // a job must not be killed without grace by the Ctrl-C that `ci` itself handles
    let _already_leader = rustix::process::setsid();
    let (socket, order, stdin) = match receive() {
        Ok(received) => received,
        Err(failure) => {
            // there is no socket to tell it on
            let _unheard = writeln!(std::io::stderr(), "{failure}");
            return ExitCode::FAILURE;
        }
    };
    match supervise(&socket, order, stdin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            wire::send_status(&socket, &Status::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

fn receive() -> Result<(UnixStream, Order, Option<OwnedFd>), Failure> {
    let doing = || "reading the order of `ci`".to_owned();
    let by_hand =
        |failure: Failure| failure.help(format!("`{INIT_ARG}` is started by `ci` itself, not by hand"));
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().doing(doing)?);
    let (order, stdin) = wire::receive_order(&socket).doing(doing).map_err(by_hand)?;
    Ok((socket, order, stdin))
}

fn supervise(socket: &UnixStream, order: Order, stdin: Option<OwnedFd>) -> Result<(), Failure> {
    match &order.task {
        Task::Plain(command) => return plain::run(socket, command, stdin),
        Task::PlainTerminal(command) => return plain::run_on_terminal(socket, command, stdin),
        _ => {}
    }
    let rootless = !privilege::is_root_of_host();
    match &order.spec.network {
        Network::Joined(joint) => network::enter(joint, rootless)?,
        Network::Host if rootless => userns::enter()?,
        Network::Host => {}
    }
    if let Task::Route { egress } = order.task {
        return network::serve(socket, egress, rootless);
    }
    if let Task::Remove { path } = &order.task {
        match std::fs::remove_dir_all(path) {
            // two sweeps may delete the same trash
            Err(_) if !path.exists() => {}
            other => other.doing(|| format!("deleting `{}`", path.display()))?,
        }
        wire::send_status(socket, &Status::Exited(0));
        return Ok(());
    }
    if let Task::Settle { below, layers } = &order.task {
        settle(below.clone(), layers)?;
        wire::send_status(socket, &Status::Exited(0));
        return Ok(());
    }
    let (cgroup, unlimited) = Cgroup::create(&order.spec.limits);
    if !unlimited.is_empty() {
        let text = format!("limits can't be set here: {}", unlimited.join("; "));
        wire::send_status(socket, &Status::Noted(text));
    }
    sys::unshare(UnshareFlags::NEWPID).doing(|| "creating a pid namespace".to_owned())?;
    let (gate, open_gate) = std::io::pipe().doing(|| "making a pipe".to_owned())?;
    match sys::fork().doing(|| "starting the first process".to_owned())? {
        sys::Fork::Child => {
            drop(open_gate);
            first::run(first::Setup { socket, order, stdin, rootless, gate })
        }
        sys::Fork::Parent(pid) => {
            drop((stdin, gate));
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(|| "watching the sandbox".to_owned())?;
            if let Err(error) = cgroup.add(pid) {
                wire::send_status(socket, &Status::Noted(format!("limits can't be set: {error}")));
            }
            let _opened = (&open_gate).write_all(b"!");
            watch(socket, pid, &pidfd)?;
            if cgroup.out_of_memory() {
                wire::send_status(socket, &Status::OutOfMemory);
            }
            Ok(())
        }
    }
}

fn settle(mut below: Vec<PathBuf>, layers: &[NewLayer]) -> Result<(), Failure> {
    for layer in layers {
        unpack::settle(&layer.from, &layer.implied, &below)?;
        below.push(layer.from.clone());
    }
    // the lowest first: whoever dies in between leaves whole layers
    for NewLayer { from, to, .. } in layers {
        std::fs::rename(from, to).doing(|| format!("moving a layer to `{}`", to.display()))?;
    }
    Ok(())
}

/// Until the first process ends: obeys bytes from `ci`, kills when `ci` is gone. With the first process the
/// kernel kills all others of its pid namespace, and lets us know only after they are gone.
fn watch(mut socket: &UnixStream, pid: Pid, pidfd: &OwnedFd) -> Result<(), Failure> {
    let mut parent_there = true;
    loop {
        let mut watched = vec![PollFd::new(pidfd, PollFlags::IN)];
        if parent_there {
            watched.push(PollFd::new(&socket, PollFlags::IN));
        }
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "watching the sandbox".to_owned()),
        }
        if !watched[0].revents().is_empty() {
            break;
        }
        if watched.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            let mut command = [0];
            let signal = match socket.read(&mut command) {
                Ok(1) if command[0] == wire::TERMINATE => Signal::TERM,
                _ => {
                    parent_there = false;
                    Signal::KILL
                }
            };
            let _ended_meanwhile = pidfd_send_signal(pidfd, signal);
        }
    }
    let ended = waitpid(Some(pid), WaitOptions::empty()).doing(|| "waiting for the sandbox".to_owned())?;
    if let Some(signal) = ended.and_then(|(_, status)| status.terminating_signal()) {
        wire::send_status(socket, &Status::Signaled(signal));
    }
    Ok(())
}
