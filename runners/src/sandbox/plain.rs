//! A program without a sandbox, for the shell executor: on this machine, as this user, but with the lifeline. When it
//! ends, or when `ci` does, everything that it started ends too, whatever session or group that is in.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, kill_process, set_child_subreaper, set_parent_process_death_signal,
    wait,
};

use super::error::Doing;
use super::first::{not_executed, outcome};
use super::wire::{self, Status};
use super::{Command, Failure, sys, terminal};

/// Runs `command` to its end, and tells that.
pub(super) fn run(socket: &UnixStream, command: &Command, stdin: Option<OwnedFd>) -> Result<(), Failure> {
    let signals = adopt()?;
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Err(Failure::new("starting the task", "its argv is empty"));
    };
    let mut shell = std::process::Command::new(program);
    shell.args(arguments).env_clear().envs(command.env.iter().map(|(name, value)| (name, value)));
    shell.current_dir(&command.cwd).process_group(0).stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    sys::start_clean_and_die_with_us(&mut shell);
    let child = shell.spawn().map_err(|error| not_executed(program, &error))?;
    drop(shell);
    to_its_end(socket, &signals, Pid::from_child(&child))
}

/// The same on a terminal of its own, which is shown on that of `stdin`.
pub(super) fn run_on_terminal(
    socket: &UnixStream,
    command: &Command,
    stdin: Option<OwnedFd>,
) -> Result<(), Failure> {
    let doing = || "starting a terminal".to_owned();
    let signals = adopt()?;
    let server = match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            let tied = set_parent_process_death_signal(Some(Signal::KILL)).doing(doing);
            let served = tied.and_then(|()| terminal::serve(command, None, stdin));
            let code = i32::from(served.is_err());
            if let Err(failure) = served {
                wire::send_status(socket, &Status::Failed(failure));
            }
            sys::exit_now(code)
        }
        sys::Fork::Parent(pid) => pid,
    };
    to_its_end(socket, &signals, server)
}

/// Orphans become our children instead of the system's; tells when one of our children has died.
fn adopt() -> Result<OwnedFd, Failure> {
    let us = Some(rustix::process::getpid());
    set_child_subreaper(us).doing(|| "adopting orphans".to_owned())?;
    sys::child_signals().doing(|| "watching processes".to_owned())
}

fn to_its_end(socket: &UnixStream, signals: &OwnedFd, program: Pid) -> Result<(), Failure> {
    wire::send_status(socket, &Status::Started);
    let status = watch(socket, signals, program);
    end_all();
    wire::send_status(socket, &status?);
    Ok(())
}

/// Until the program ends, or `ci` wants it to.
fn watch(mut socket: &UnixStream, signals: &OwnedFd, program: Pid) -> Result<Status, Failure> {
    loop {
        let mut watched = [PollFd::new(signals, PollFlags::IN), PollFd::new(&socket, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "watching the script".to_owned()),
        }
        let [died, spoken] = watched.map(|fd| !fd.revents().is_empty());
        if died {
            let _any_number_of_deaths = rustix::io::read(signals, &mut [0; 1024]);
            if let Some(status) = reap(program) {
                return Ok(outcome(status));
            }
        }
        if spoken {
            let mut order = [0];
            match socket.read(&mut order) {
                Ok(1) if order[0] == wire::TERMINATE => signal_all(Signal::TERM),
                _ => return Ok(Status::Signaled(Signal::KILL.as_raw())),
            }
        }
    }
}

/// Takes leave of all dead children; the status of `program` if it is among them.
fn reap(program: Pid) -> Option<WaitStatus> {
    let mut status = None;
    while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            status = Some(ended);
        }
    }
    status
}

/// Kills until nobody is left. Whoever starts processes faster than we find them loses when its parent dies.
fn end_all() {
    loop {
        match wait(WaitOptions::NOHANG) {
            // all orphans are ours: without children there are no descendants, and no need to look for them
            Err(Errno::CHILD) => return,
            Ok(None) => {
                signal_all(Signal::KILL);
                // killed, but not dead yet
                if let Err(Errno::CHILD) = wait(WaitOptions::empty()) {
                    return;
                }
            }
            _ => {}
        }
    }
}

fn signal_all(signal: Signal) {
    for pid in descendants(std::process::id(), &parents()) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ended_meanwhile = kill_process(pid, signal);
        }
    }
}

/// Every process of the machine with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // the name before may hold anything, also parentheses
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    };
    entries.filter_map(number).filter_map(parent).collect()
}

fn descendants(of: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let children = parents.iter().filter(|(pid, above)| *above == parent && !found.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_children_and_theirs() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 4), (7, 7)];
        let mut found = descendants(2, &parents);
        found.sort_unstable();
        assert_eq!(found, [3, 4, 6]);
        assert_eq!(descendants(9, &parents), [0; 0]);
        assert!(parents_of_this_test().is_some());
    }

    fn parents_of_this_test() -> Option<u32> {
        parents().into_iter().find(|(pid, _)| *pid == std::process::id()).map(|(_, parent)| parent)
    }
}
