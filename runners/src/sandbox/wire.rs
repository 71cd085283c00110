//! The messages between `ci` and the supervisor, on one stream socket: one [`Order`] down, [`Status`] lines up.
//!
//! A socket instead of an inherited file: nothing of the job (its variables are secrets) is in argv, the job's
//! stdin travels with it as a descriptor, and its closing by the kernel is the lifeline that works however `ci`
//! dies. PR_SET_PDEATHSIG can't be that lifeline, because it fires when the *thread* that spawned ends, and
//! tokio ends idle threads.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use super::{Failure, Health, Spec, Task};

/// What the supervisor shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) spec: Spec,
    pub(super) task: Task,
}

/// What the child says; the first of `Failed`, `Exited`, `Signaled` is the end of the story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// The sandbox stands and the task runs.
    Started,
    /// The sandbox could not be built, or the task is not a program and failed.
    Failed(Failure),
    Exited(i32),
    Signaled(i32),
    /// Something is not as it was asked for, and the task runs nevertheless.
    Noted(String),
    /// What the service's check has found.
    Health(Health),
    /// After the end: the kernel killed a process, because the limit of memory was reached.
    OutOfMemory,
}

/// A byte on the socket after the order: SIGTERM to everything inside.
pub(super) const TERMINATE: u8 = b'T';

/// The head of the order: its length, and with it the job's stdin.
pub(super) fn send_head(socket: &UnixStream, len: usize, stdin: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let len = u32::try_from(len).map_err(|_| io::Error::other("the order is larger than 4 GiB"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = stdin.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    // four bytes into an empty socket buffer: never partial
    rustix::net::sendmsg(socket, &[IoSlice::new(&len.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Reads the order and the job's stdin.
pub(super) fn receive_order(mut socket: &UnixStream) -> io::Result<(Order, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut head = [0; 4];
    let received = rustix::net::recvmsg(
        socket.as_fd(),
        &mut [IoSliceMut::new(&mut head)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )?;
    if received.bytes != head.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let stdin = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let mut body = vec![0; u32::from_ne_bytes(head) as usize];
    socket.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, stdin))
}

/// Sends one status line. A parent that is gone is no error: its going is what kills us.
pub(super) fn send_status(mut socket: &UnixStream, status: &Status) {
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        let _gone = socket.write_all(&line);
    }
}
