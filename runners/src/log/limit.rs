//! How much of a script's output is kept.

/// GitLab's default: 4 MiB.
pub const DEFAULT_LIMIT: u64 = 4 * 1024 * 1024;
/// This part of the limit again is kept of the end, where it says why a job failed: 64 KiB of 4 MiB.
const TAIL: u64 = 64;

/// Lets so many bytes through, then keeps the last ones in mind.
#[derive(Clone, Debug)]
pub struct Limit {
    left: u64,
    cut: bool,
    tail: Tail,
}

/// The end of what was not let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes before it that are lost.
    pub lost: u64,
    /// Whole lines, unless it is one long line.
    pub bytes: Vec<u8>,
    most: usize,
}

impl Limit {
    /// Lets `limit` bytes through.
    pub fn new(limit: u64) -> Limit {
        let most = usize::try_from(limit / TAIL).unwrap_or(usize::MAX);
        Limit { left: limit, cut: false, tail: Tail { most, ..Tail::default() } }
    }

    /// The part of `bytes` that is kept; true once: when this call cuts for the first time.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let (kept, rest) = bytes.split_at(bytes.len().min(room));
        self.left -= kept.len() as u64;
        let first = !rest.is_empty() && !self.cut;
        self.cut |= first;
        self.tail.push(rest);
        (kept, first)
    }

    /// What came last, if anything was cut since this was asked.
    pub fn tail(&mut self) -> Option<Tail> {
        let fresh = Tail { most: self.tail.most, ..Tail::default() };
        let mut tail = std::mem::replace(&mut self.tail, fresh);
        tail.shorten(tail.most);
        if tail.lost > 0 {
            let length = tail.bytes.len();
            let end = tail.bytes.iter().position(|byte| *byte == b'\n').filter(|end| end + 1 < length);
            tail.shorten(length - end.map_or(0, |end| end + 1));
        }
        (tail.lost > 0 || !tail.bytes.is_empty()).then_some(tail)
    }
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(self.most)..];
        if last.len() < bytes.len() {
            self.shorten(0);
        }
        self.lost += (bytes.len() - last.len()) as u64;
        self.bytes.extend_from_slice(last);
        // seldom: each time moves all that stays
        if self.bytes.len() > self.most.saturating_mul(2) {
            self.shorten(self.most);
        }
    }

    fn shorten(&mut self, length: usize) {
        let lost = self.bytes.len().saturating_sub(length);
        self.bytes.drain(..lost);
        self.lost += lost as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_the_byte_and_says_so_once() {
        let mut limit = Limit::new(5);
        assert_eq!(limit.take(b"abc"), (&b"abc"[..], false));
        assert_eq!(limit.take(b"def"), (&b"de"[..], true));
        assert_eq!(limit.take(b"g"), (&b""[..], false));
        let mut exact = Limit::new(2);
        assert_eq!(exact.take(b"ab"), (&b"ab"[..], false));
        assert_eq!(exact.take(b"c"), (&b""[..], true));
        assert_eq!(exact.take(b"c"), (&b""[..], false));
    }

    #[test]
    fn the_end_is_kept_in_whole_lines() {
        // 10 bytes of the end
        let filled = || {
            let mut limit = Limit::new(640);
            limit.take(&[b'.'; 640]);
            limit
        };
        assert_eq!(filled().tail(), None);
        let pieces: [(&[&[u8]], u64, &[u8]); 5] = [
            (&[b"all of it"], 0, b"all of it"),
            (&[b"one\n", b"two\n", b"three\n"], 8, b"three\n"),
            (&[b"one\ntwo\nthree\nfour\n"], 14, b"four\n"),
            (&[b"one line without an end"], 13, b"out an end"),
            (&[&[b'x'; 100], b"\n", b"end\n"], 101, b"end\n"),
        ];
        for (pieces, lost, bytes) in pieces {
            let mut limit = filled();
            for piece in pieces {
                limit.take(piece);
            }
            let tail = limit.tail().unwrap();
            assert_eq!((tail.lost, tail.bytes.as_slice()), (lost, bytes), "{pieces:?}");
            assert_eq!(limit.tail(), None, "once");
        }
    }
}
