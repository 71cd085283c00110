//! The first process of a sandbox's pid namespace: builds the sandbox, gives up its powers, starts the task,
//! then is its init: reaps orphans and forwards signals.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal, wait};
use rustix::thread::UnshareFlags;

use super::error::Doing;
use super::health::Checks;
use super::user::User;
use super::wire::{self, Order, Status};
use super::{Command, Failure, Task, archive, privilege, root, seccomp, sys, terminal, unpack};

/// What the supervisor hands over by forking.
pub(super) struct Setup<'a> {
    pub(super) socket: &'a UnixStream,
    pub(super) order: Order,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) rootless: bool,
    /// Opened by a byte once the supervisor watches; its end without one means that the supervisor is dead.
    pub(super) gate: PipeReader,
}

/// The whole life of the first process.
pub(super) fn run(setup: Setup<'_>) -> ! {
    let socket = setup.socket;
    let status = live(setup).unwrap_or_else(Status::Failed);
    wire::send_status(socket, &status);
    sys::exit_now(0)
}

fn live(mut setup: Setup<'_>) -> Result<Status, Failure> {
    // before the gate: a supervisor that dies earlier shuts the gate, one that dies later sends the signal
    set_parent_process_death_signal(Some(Signal::KILL)).doing(|| "tying us to the supervisor".to_owned())?;
    setup.gate.read_exact(&mut [0]).doing(|| "waiting for the supervisor".to_owned())?;

    if let Task::Unpack { into } = &setup.order.task {
        wire::send_status(setup.socket, &Status::Started);
        return unpack::unpack(into, setup.stdin.take(), setup.rootless).map(|()| Status::Exited(0));
    }
    let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(namespaces).doing(|| "creating mount, IPC and UTS namespaces".to_owned())?;
    // hides the host's cgroup paths, no more; old kernels and some containers refuse it
    let _optional = sys::unshare(UnshareFlags::NEWCGROUP);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let user = root::build(&setup.order.spec, setup.rootless)?;

    if let Task::Run(command) | Task::Serve(command, _) | Task::Terminal(command) = &setup.order.task {
        // while we still are root of a root file system that may be an image's
        let made = std::fs::create_dir_all(&command.cwd);
        made.doing(|| format!("making the working directory `{}`", command.cwd.display()))?;
    }
    // before the capabilities go, so that no_new_privs isn't needed
    sys::load_seccomp(&seccomp::program()).doing(|| "loading the seccomp filter".to_owned())?;
    privilege::drop_capabilities()?;
    sys::block_signals().doing(|| "blocking signals".to_owned())?;

    let task = start_task(&mut setup, &user)?;
    wire::send_status(setup.socket, &Status::Started);
    let checks = match &setup.order.task {
        Task::Serve(command, check) => Some(Checks::new(command, check, &user, setup.socket)),
        _ => None,
    };
    reap_until(task, checks)
}

/// Forks the task and waits until it runs: a program that can't be executed is a failure, not an exit code.
fn start_task(setup: &mut Setup<'_>, user: &User) -> Result<Pid, Failure> {
    let doing = || "starting the task".to_owned();
    let (mut trouble, tell_trouble) = std::io::pipe().doing(doing)?;
    let pid = match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            drop(trouble);
            let failure = match &setup.order.task {
                Task::Run(command) | Task::Serve(command, _) => execute(command, user, setup.stdin.take()),
                other => {
                    // nothing to execute: it has begun
                    drop(tell_trouble);
                    let code = perform(other, user, setup.stdin.take(), setup.socket);
                    sys::exit_now(code);
                }
            };
            if let Ok(text) = serde_json::to_vec(&failure) {
                let _told = (&tell_trouble).write_all(&text);
            }
            sys::exit_now(127)
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop(tell_trouble);
    setup.stdin = None;
    let mut text = Vec::new();
    trouble.read_to_end(&mut text).doing(doing)?;
    if text.is_empty() {
        return Ok(pid);
    }
    Err(serde_json::from_slice(&text).unwrap_or_else(|error| Failure::new(doing(), error.to_string())))
}

/// Becomes the program; comes back only with the reason why not.
pub(super) fn execute(command: &Command, user: &User, stdin: Option<OwnedFd>) -> Failure {
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Failure::new("starting the task", "its argv is empty");
    };
    // no controlling terminal: nothing inside can type into the user's shell
    let _always_works = rustix::process::setsid();
    if let Err(failure) = leave_ours(command, Some(user)) {
        return failure;
    }
    let error = program_of(command, Some(user), program, arguments)
        .stdin(stdin.map_or_else(Stdio::null, Stdio::from))
        .exec();
    not_executed(program, &error)
}

/// The same on a terminal that is ours already.
pub(super) fn execute_on_terminal(command: &Command, user: Option<&User>) -> Failure {
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Failure::new("starting the task", "its argv is empty");
    };
    if let Err(failure) = leave_ours(command, user) {
        return failure;
    }
    not_executed(program, &program_of(command, user, program, arguments).exec())
}

fn program_of(
    command: &Command,
    user: Option<&User>,
    program: &str,
    arguments: &[String],
) -> std::process::Command {
    let mut made = std::process::Command::new(program);
    made.args(arguments).env_clear().envs(user.map(|user| ("HOME", &user.home)));
    made.envs(command.env.iter().map(|(name, value)| (name, value)));
    made
}

/// Why a program could not be executed.
pub(super) fn not_executed(program: &str, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("executing `{program}`"), error.to_string());
    if error.kind() == std::io::ErrorKind::ArgumentListTooLong {
        return failure
            .help("a variable is larger than 128 KiB, or all together are too large: use file variables");
    }
    failure
}

/// Sheds what the program shall not inherit from us: user, directory, blocked signals, files.
fn leave_ours(command: &Command, user: Option<&User>) -> Result<(), Failure> {
    let cwd: &Path = &command.cwd;
    // while we are root: a directory that the user may not enter is the image's mistake, as under Docker
    rustix::process::chdir(cwd).doing(|| format!("changing to the working directory `{}`", cwd.display()))?;
    user.map_or(Ok(()), become_user)?;
    sys::reset_signals().doing(|| "resetting signals".to_owned())?;
    sys::close_on_exec_all().doing(|| "closing our files".to_owned())
}

fn become_user(user: &User) -> Result<(), Failure> {
    let doing = || format!("becoming user {}, group {}", user.uid, user.gid);
    let uid = rustix::fs::Uid::from_raw(user.uid);
    let gid = rustix::fs::Gid::from_raw(user.gid);
    let groups: Vec<_> = user.groups.iter().copied().map(rustix::fs::Gid::from_raw).collect();
    if rustix::thread::set_thread_groups(&groups).is_err() && user.uid != 0 {
        return Err(Failure::new(doing(), "only one user id is mapped in this user namespace").help(
            "install newuidmap (package uidmap) and give this user a range in /etc/subuid and /etc/subgid",
        ));
    }
    let not_mapped = |failure: Failure| failure.help(root::NO_SUCH_ID);
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing(doing).map_err(not_mapped)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing(doing).map_err(not_mapped)
}

/// Does a task that is no program; its failure is told at once, the code is for pid 1 only.
fn perform(task: &Task, user: &User, stdin: Option<OwnedFd>, socket: &UnixStream) -> i32 {
    let done = match task {
        Task::Archive { dir, selection } => archive::archive(dir, selection),
        Task::Terminal(command) => terminal::serve(command, Some(user), stdin),
        // what comes in is the user's, as what the script writes
        Task::Restore { dir } => become_user(user).and_then(|()| archive::restore(dir, stdin)),
        Task::Check
        | Task::Run(_)
        | Task::Serve(..)
        | Task::Plain(_)
        | Task::PlainTerminal(_)
        | Task::Remove { .. }
        | Task::Route { .. }
        | Task::Settle { .. }
        | Task::Unpack { .. } => Ok(()),
    };
    match done {
        Ok(()) => 0,
        Err(failure) => {
            wire::send_status(socket, &Status::Failed(failure));
            1
        }
    }
}

/// Serves as init until `task` ends. Our own end then takes down whatever the task left running.
fn reap_until(task: Pid, mut checks: Option<Checks<'_>>) -> Result<Status, Failure> {
    loop {
        let idle = checks.as_ref().and_then(Checks::idle);
        match sys::next_signal(idle).doing(|| "waiting for signals".to_owned())? {
            Some(libc::SIGCHLD) => {
                while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                    if pid == task {
                        return Ok(outcome(status));
                    }
                    if let Some(checks) = &mut checks {
                        checks.ended(pid, status);
                    }
                }
            }
            Some(signal @ (libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT)) => {
                sys::signal_everyone(signal);
            }
            _ => {}
        }
        if let Some(checks) = &mut checks {
            checks.proceed();
        }
    }
}

/// The end of a program, to be told.
pub(super) fn outcome(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Status::Exited(code),
        (None, Some(signal)) => Status::Signaled(signal),
        // wait was not asked for stopped or continued children
        (None, None) => Status::Exited(-1),
    }
}
