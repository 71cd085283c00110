//! Another binary takes over without a refused connection.
//!
//! ```text
//! old: SIGUSR2 -> starts the executable on disk, the listening socket is its standard input
//! new: says `waiting` on standard output, waits for the data directory's lock
//! old: stops listening, answers what is open, ends: the lock is free
//! new: takes the lock, opens the database, answers what has queued up in the socket meanwhile
//! ```
//!
//! A new one that ends before it waits changes nothing: the old one goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set for the new one.
const TAKEOVER: &str = "SLIPWAY_TAKEOVER";

/// The data directory's lock; free when it is dropped, or its process gone.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// Takes the lock. Who takes over waits for it.
///
/// # Errors
/// Another server uses the directory.
pub fn lock(data: &Path) -> io::Result<Lock> {
    std::fs::create_dir_all(data)?;
    let path = data.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    if std::env::var_os(TAKEOVER).is_some() {
        println_waiting()?;
        file.lock()?;
        return Ok(Lock(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(_) => {
            let text =
                format!("another server uses `{}`; `--data DIR` names another directory", data.display());
            Err(io::Error::other(text))
        }
    }
}

fn println_waiting() -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"waiting\n")?;
    out.flush()
}

/// The socket of the one before; none: this is the first.
///
/// # Errors
/// Standard input is no socket.
pub fn inherited() -> io::Result<Option<TcpListener>> {
    if std::env::var_os(TAKEOVER).is_none() {
        return Ok(None);
    }
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let listener = TcpListener::from(socket);
    listener.local_addr()?;
    listener.set_nonblocking(true)?;
    Ok(Some(listener))
}

/// Starts the executable on disk with our arguments, and waits until it waits for us.
///
/// # Errors
/// It can't be started, or ended before; nothing has changed then.
pub fn start_next(listener: &OwnedFd) -> io::Result<u32> {
    let socket = listener.try_clone()?;
    let mut command = Command::new(executable()?);
    command.args(std::env::args_os().skip(1)).env(TAKEOVER, "1");
    let mut child = command.stdin(Stdio::from(socket)).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    if line.trim() == "waiting" {
        return Ok(child.id());
    }
    let status = child.wait()?;
    Err(io::Error::other(format!("the new server ended before it took over: {status}")))
}

/// Our executable's path; after it was replaced, the kernel says that the old one was deleted.
fn executable() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Tells systemd, if it started us, that the server is ready and which process is the service's. The old one says so before
/// it ends: a service whose process is gone is stopped, however soon another one speaks up.
pub fn tell_systemd(pid: u32) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let text = format!("READY=1\nMAINPID={pid}\n");
    let sent = UnixDatagram::unbound().and_then(|from| from.send_to(text.as_bytes(), socket));
    if let Err(error) = sent {
        tracing::warn!("telling systemd that the server is ready: {error}");
    }
}
