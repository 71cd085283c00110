//! `ci __init`: one process with one thread that waits beside `ci` and forks a supervisor for each task. A copy of a
//! process that stands costs a tenth of starting an executable of this size anew.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::error::Doing;
use super::wire::{self, Call, Status};
use super::{Failure, INIT_ARG, supervisor, sys};

/// What `ci` does when its first argument is [`INIT_ARG`](super::INIT_ARG). To be called first thing in `main`,
/// while the process has one thread: it forks. Ends when `ci` does; its supervisors have lifelines of their own.
///
/// Descriptor 0 is the socket from [`Sandbox`](super::Sandbox).
pub fn init_main() -> ExitCode {
    // a job must not be killed without grace by the Ctrl-C that `ci` itself handles
    let _already_leader = rustix::process::setsid();
    let served = take_socket().and_then(|socket| {
        sys::leave_no_zombies();
        serve(socket).doing(|| "waiting for calls of `ci`".to_owned())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = failure.help(format!("`{INIT_ARG}` is started by `ci` itself, not by hand"));
            // there is no socket to tell it on
            let _unheard = writeln!(std::io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Takes the socket away from where programs would inherit it.
fn take_socket() -> Result<UnixStream, Failure> {
    let doing = || "taking the socket of `ci`".to_owned();
    let socket = std::io::stdin().as_fd().try_clone_to_owned().doing(doing)?;
    let nothing = OwnedFd::from(File::open("/dev/null").doing(doing)?);
    sys::become_stream(nothing.as_fd(), 0).doing(doing)?;
    Ok(UnixStream::from(socket))
}

fn serve(socket: UnixStream) -> std::io::Result<()> {
    while let Some(call) = wire::receive_call(&socket)? {
        let Call { socket: own, stdout, stderr, stdin } = call;
        let own = UnixStream::from(own);
        match sys::fork() {
            Ok(sys::Fork::Child) => {
                // else `ci` would not hear of the end of the waiting process
                drop(socket);
                sys::expect_children();
                let streams = sys::become_stream(stdout.as_fd(), 1)
                    .and_then(|()| sys::become_stream(stderr.as_fd(), 2));
                drop((stdout, stderr));
                match streams.doing(|| "taking the streams of a task".to_owned()) {
                    Ok(()) => supervisor::run(&own, stdin),
                    Err(failure) => supervisor::fail(&own, failure),
                }
            }
            Ok(sys::Fork::Parent(_)) => {}
            Err(error) => {
                let failure = Failure::new("starting a supervisor", error.to_string());
                wire::send_status(&own, &Status::Failed(failure));
            }
        }
    }
    Ok(())
}
