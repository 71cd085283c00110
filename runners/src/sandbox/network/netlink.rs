//! Netlink messages and the sockets that they go through: what `ip` and `nft` do, without them.
//!
//! Every message asks for an answer, and the kernel answers in order; so a [`Socket`] is used like a function.
//! A socket keeps the network namespace that it was opened in.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with};

/// `nlmsghdr.nlmsg_flags`.
pub(super) const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400 | 0x200;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

/// One message: a header, a fixed part, attributes.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// `flags` beside "request"; `body` is the fixed part.
    pub(super) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        let mut message = Self(bytes);
        message.pad();
        message
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(value);
        self.close(start, kind);
        self
    }

    /// Adds an attribute that consists of attributes, with a fixed part (mostly empty) before them.
    pub(super) fn nest(mut self, kind: u16, body: &[u8], inner: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0.extend_from_slice(body);
        self.pad();
        let mut message = inner(self);
        message.close(start, kind | NESTED);
        message
    }

    fn close(&mut self, start: usize, kind: u16) {
        // attributes of ours are short: names, addresses
        let len = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32, ack: bool) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        if ack {
            let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | ACK;
            self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        }
        self.0
    }
}

/// Text as the kernel wants it.
pub(super) fn text(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// A netlink socket, blocking.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For links, addresses, routes, rules.
    pub(super) fn route() -> io::Result<Self> {
        // protocol 0
        Self::open(None)
    }

    /// For the packet filter.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends one message and waits for the kernel's yes or no.
    pub(super) fn ask(&mut self, message: Message) -> io::Result<()> {
        self.sequence += 1;
        let sequence = self.sequence;
        rustix::net::send(&self.fd, &message.finish(sequence, true), SendFlags::empty())?;
        self.answer(sequence)
    }

    /// Sends messages as one: all or none takes effect. The kernel answers the messages in the middle.
    pub(super) fn ask_all(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let (first, last) = (self.sequence + 1, messages.len().saturating_sub(1));
        let mut bytes = Vec::new();
        let mut asked = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            self.sequence += 1;
            let inner = index != 0 && index != last;
            if inner {
                asked.push(self.sequence);
            }
            bytes.extend(message.finish(self.sequence, inner));
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty())?;
        // a batch that can't even begin is answered as its first message
        asked.into_iter().try_for_each(|sequence| self.answer_of(|got| got == sequence || got == first))
    }

    fn answer(&mut self, sequence: u32) -> io::Result<()> {
        self.answer_of(|got| got == sequence)
    }

    fn answer_of(&mut self, ours: impl Fn(u32) -> bool) -> io::Result<()> {
        let mut buffer = [0u8; 8192];
        loop {
            let (len, _) = rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..len.min(8192)];
            while rest.len() >= HEADER + 4 {
                let long = number(&rest[0..4]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                if kind == ERROR && ours(number(&rest[8..12])) {
                    let errno = i32::from_ne_bytes([rest[16], rest[17], rest[18], rest[19]]);
                    return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) };
                }
                rest = rest.get(long.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_what_is_inside_and_padding_does_not_count() {
        let message =
            Message::new(16, 0, &[9; 4]).with(3, b"lo\0").nest(18, &[], |inner| inner.with(1, b"x"));
        let bytes = message.finish(7, true);
        let le = cfg!(target_endian = "little");
        assert!(le, "the bytes below are those of a little-endian machine");
        #[rustfmt::skip]
        let expected = [
            40, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0,
            9, 9, 9, 9,
            7, 0, 3, 0, b'l', b'o', 0, 0,
            12, 0, 18, 0x80, 5, 0, 1, 0, b'x', 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
    }
}
