//! How much of a script's output is kept.

/// GitLab's default: 4 MiB.
pub const DEFAULT_LIMIT: u64 = 4 * 1024 * 1024;

/// Lets so many bytes through, then nothing.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    left: u64,
    cut: bool,
}

impl Limit {
    /// Lets `limit` bytes through.
    pub fn new(limit: u64) -> Limit {
        Limit { left: limit, cut: false }
    }

    /// The part of `bytes` that is kept; true once: when this call cuts for the first time.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> (&'a [u8], bool) {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let kept = &bytes[..bytes.len().min(room)];
        self.left -= kept.len() as u64;
        let cuts = kept.len() < bytes.len();
        let first = cuts && !self.cut;
        self.cut |= cuts;
        (kept, first)
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
}
