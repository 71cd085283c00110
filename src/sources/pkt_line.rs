//! Pkt-lines, the frames of git's protocol: four hexadecimal digits of length, then that much.

use std::io::{self, Read};

/// The longest line, with its four digits.
const LONGEST: usize = 65_520;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'b> {
    /// A line, its line feed included.
    Line(&'b [u8]),
    /// The end of a section.
    Flush,
    /// The end of everything.
    End,
}

/// Takes pkt-lines from a stream.
pub(super) struct Packets<R> {
    from: R,
    line: Vec<u8>,
}

impl<R: Read> Packets<R> {
    pub(super) fn new(from: R) -> Packets<R> {
        Packets { from, line: Vec::new() }
    }

    /// The next one.
    ///
    /// # Errors
    /// The stream breaks off inside of a line, or is something else.
    pub(super) fn next(&mut self) -> io::Result<Packet<'_>> {
        let Some(digits) = self.digits()? else { return Ok(Packet::End) };
        // a sign would be taken for part of the number
        let text = std::str::from_utf8(&digits).ok().filter(|text| !text.starts_with('+'));
        let length = text.and_then(|text| usize::from_str_radix(text, 16).ok());
        match length {
            Some(0) => Ok(Packet::Flush),
            Some(length @ 4..=LONGEST) => {
                self.line.resize(length - 4, 0);
                self.from.read_exact(&mut self.line)?;
                Ok(Packet::Line(&self.line))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is not in git's protocol")),
        }
    }

    fn digits(&mut self) -> io::Result<Option<[u8; 4]>> {
        let mut digits = [0; 4];
        let mut got = 0;
        while got < digits.len() {
            match self.from.read(&mut digits[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => got += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Some(digits))
    }
}

/// Appends a line.
pub(super) fn write(line: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(format!("{:04x}", line.len() + 4).as_bytes());
    to.extend_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        write("want x\n", &mut bytes);
        write("", &mut bytes);
        bytes.extend_from_slice(b"0000");
        let mut packets = Packets::new(bytes.as_slice());
        assert_eq!(packets.next().expect("a line"), Packet::Line(b"want x\n"));
        assert_eq!(packets.next().expect("a line"), Packet::Line(b""));
        assert_eq!(packets.next().expect("a flush"), Packet::Flush);
        assert_eq!(packets.next().expect("the end"), Packet::End);
    }

    #[test]
    fn what_breaks_off_or_is_something_else_is_an_error() {
        for bytes in ["00", "0008abc", "0001", "0003", "fff1", "ffff", "<htm", "+004", "\u{fc}\u{fc}"] {
            assert!(Packets::new(bytes.as_bytes()).next().is_err(), "{bytes}");
        }
    }
}
