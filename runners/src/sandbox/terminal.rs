//! A terminal inside a sandbox, for a person who looks around there. Its other end stays with us: we pass on what the
//! person types and what the shell writes, so that nothing inside can reach the person's own terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::error::Doing;
use super::first::execute_on_terminal;
use super::user::User;
use super::{Command, Failure, sys};

/// How often the person's terminal is asked for its size.
const PULSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Runs `command` on a terminal of its own; `stdin` and our standard output are the person's, in raw mode. Without
/// `user` it stays ours.
pub(super) fn serve(command: &Command, user: Option<&User>, stdin: Option<OwnedFd>) -> Result<(), Failure> {
    let doing = || "making a terminal".to_owned();
    let typed = stdin.ok_or_else(|| Failure::new(doing(), "there is no input"))?;
    let ours = File::options().read(true).write(true).open("/dev/ptmx").doing(doing)?;
    let theirs = sys::other_end_of_terminal(ours.as_fd()).doing(doing)?;
    if let Some(user) = user {
        rustix::fs::fchown(&theirs, Some(Uid::from_raw(user.uid)), None::<Gid>).doing(doing)?;
    }
    let shell = match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            drop(ours);
            let failure = sys::take_terminal(theirs)
                .doing(doing)
                .map_or_else(|failure| failure, |()| execute_on_terminal(command, user));
            let _told = writeln!(std::io::stderr(), "{failure}");
            sys::exit_now(127)
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop(theirs);
    pass_on(&ours, File::from(typed), shell);
    drop(ours);
    match waitpid(Some(shell), WaitOptions::empty()) {
        Err(Errno::CHILD) => Ok(()),
        ended => ended.doing(doing).map(drop),
    }
}

/// Until the shell has ended and what it wrote is shown. What it started in the background may still have the other end
/// open: that ends with the sandbox.
fn pass_on(mut ours: &File, mut typed: File, shell: Pid) {
    let mut screen = std::io::stdout();
    let mut buffer = [0; 4096];
    let mut typing = true;
    loop {
        if let Ok(size) = rustix::termios::tcgetwinsize(&typed) {
            // a terminal that can't be resized shows long lines oddly, no more
            let _as_it_was = rustix::termios::tcsetwinsize(ours, size);
        }
        let mut watched = vec![PollFd::new(&ours, PollFlags::IN)];
        if typing {
            watched.push(PollFd::new(&typed, PollFlags::IN));
        }
        match poll(&mut watched, Some(&PULSE)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            match ours.read(&mut buffer) {
                // EIO: the last program with the other end has gone
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let shown = screen.write_all(&buffer[..length]).and_then(|()| screen.flush());
                    if shown.is_err() {
                        return;
                    }
                }
            }
        }
        if !ready[0] && !matches!(waitpid(Some(shell), WaitOptions::NOHANG), Ok(None)) {
            return;
        }
        if ready.get(1) == Some(&true) {
            match typed.read(&mut buffer) {
                Ok(0) | Err(_) => typing = false,
                Ok(length) => typing = ours.write_all(&buffer[..length]).is_ok(),
            }
        }
    }
}
