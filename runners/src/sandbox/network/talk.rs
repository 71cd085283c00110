//! What `ci` and the router say to each other after the order: a line of JSON each way, one after the other.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::Failure;

/// What the router shall do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Make a network for so many containers.
    Join(u32),
    /// Forget a network.
    Leave(u32),
    /// Connect to a container.
    Connect(Ipv4Addr, u16),
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The number of the network, and of each container the router's descriptor of its namespace, and its address.
    Joined(u32, Vec<(i32, Ipv4Addr)>),
    /// Done.
    Left,
    /// The connection comes along as a descriptor.
    Connected,
    /// Nobody listens.
    Refused,
    /// It could not be done.
    Failed(Failure),
}

/// Sends a whole reply.
pub(super) fn send(socket: impl AsFd, reply: &Reply, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let mut sent = rustix::net::sendmsg(&socket, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    while sent < line.len() {
        sent += rustix::net::send(&socket, &line[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives a piece of a reply into `line`.
pub(super) fn receive(
    socket: impl AsFd,
    line: &mut Vec<u8>,
    descriptor: &mut Option<OwnedFd>,
) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            *descriptor = descriptors.next();
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line.extend_from_slice(&buffer[..received.bytes]);
    Ok(())
}
