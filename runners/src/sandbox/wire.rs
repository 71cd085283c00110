//! The messages. To the waiting `__init`: a [`Call`] for each task, which it forks a supervisor for. Between `ci` and
//! the supervisor, on a stream socket of their own that came with the call: one [`Order`] down, [`Status`] lines up.
//!
//! A socket instead of an inherited file: nothing of the job (its variables are secrets) is in argv, the job's
//! streams travel as descriptors, and its closing by the kernel is the lifeline that works however `ci`
//! dies. PR_SET_PDEATHSIG can't be that lifeline, because it fires when the *thread* that spawned ends, and
//! tokio ends idle threads.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
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
    /// Networks are served, by the process of this number.
    Routing(u32),
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

/// What a supervisor is born with.
#[derive(Debug)]
pub(super) struct Call<T> {
    /// Its end of the socket for its order.
    pub(super) socket: T,
    /// The task's output.
    pub(super) stdout: T,
    /// The task's errors.
    pub(super) stderr: T,
    /// The task's input, if it has one.
    pub(super) stdin: Option<T>,
}

/// Descriptors of a call at most.
const DESCRIPTORS: usize = 4;

/// Asks the waiting process for a supervisor.
pub(super) fn send_call(waiting: &UnixStream, call: &Call<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [Some(call.socket), Some(call.stdout), Some(call.stderr), call.stdin];
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.into_iter().flatten().collect();
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    // a byte, because nothing can't be sent; the kernel keeps the descriptors of each byte apart
    rustix::net::sendmsg(waiting, &[IoSlice::new(b"!")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the next call; `None`: `ci` is gone.
pub(super) fn receive_call(socket: &UnixStream) -> io::Result<Option<Call<OwnedFd>>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    match (descriptors.next(), descriptors.next(), descriptors.next()) {
        (Some(socket), Some(stdout), Some(stderr)) => {
            Ok(Some(Call { socket, stdout, stderr, stdin: descriptors.next() }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The order as it goes over the socket: its length, then itself.
pub(super) fn written(order: &Order) -> io::Result<Vec<u8>> {
    let mut text = vec![0; 4];
    serde_json::to_writer(&mut text, order)?;
    let length = u32::try_from(text.len() - 4).map_err(|_| io::Error::other("it is larger than 4 GiB"))?;
    text[..4].copy_from_slice(&length.to_ne_bytes());
    Ok(text)
}

/// Reads the order.
pub(super) fn receive_order(mut socket: &UnixStream) -> io::Result<Order> {
    let mut head = [0; 4];
    socket.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_ne_bytes(head) as usize];
    socket.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Sends one status line. A parent that is gone is no error: its going is what kills us.
pub(super) fn send_status(mut socket: &UnixStream, status: &Status) {
    if let Ok(mut line) = serde_json::to_vec(status) {
        line.push(b'\n');
        let _gone = socket.write_all(&line);
    }
}
