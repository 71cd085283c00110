//! Replaces secrets in a stream of bytes, wherever the stream is cut.

use super::encoding;

const MASKED: &[u8] = b"[MASKED]";

/// Finds secrets and their encoded forms; the longest at each place wins. Holds back only what may be the
/// beginning of one.
#[derive(Default)]
pub struct Masker {
    patterns: Vec<Vec<u8>>,
    by_first: Vec<Vec<usize>>,
    pending: Vec<u8>,
    same_length: bool,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} patterns)", self.patterns.len())
    }
}

impl Masker {
    /// One whose output has a byte for each byte that it took: what it hides becomes `[MASKED]`, cut or filled up with
    /// `*`, so that positions stay what they are to whoever sent the bytes.
    pub fn of_same_length() -> Masker {
        Masker { same_length: true, ..Masker::default() }
    }

    /// Also hides `value` from now on.
    pub fn add(&mut self, value: &str) {
        if self.by_first.is_empty() {
            self.by_first = vec![Vec::new(); 256];
        }
        for form in encoding::forms(value.as_bytes()) {
            if !self.patterns.contains(&form) {
                self.by_first[usize::from(form[0])].push(self.patterns.len());
                self.patterns.push(form);
            }
        }
    }

    /// Takes the next bytes; appends to `out` what is safe to show.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(bytes);
        let done = self.scan(&self.pending, false, out);
        self.pending.drain(..done);
    }

    /// The stream ends or pauses for good: appends what was held back.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        self.scan(&pending, true, out);
    }

    /// Hides secrets in one complete text.
    pub fn mask(&self, text: &str) -> String {
        let mut out = Vec::new();
        self.scan(text.as_bytes(), true, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Masks `data`; returns how much of it is decided. The rest may be the beginning of a secret.
    fn scan(&self, data: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let (mut at, mut plain) = (0, 0);
        while at < data.len() && !self.patterns.is_empty() {
            let rest = &data[at..];
            let mut longest = 0;
            let mut undecided = false;
            for pattern in self.by_first[usize::from(rest[0])].iter().map(|index| &self.patterns[*index]) {
                if rest.starts_with(pattern) {
                    longest = longest.max(pattern.len());
                } else {
                    undecided |= !last && pattern.starts_with(rest);
                }
            }
            if undecided {
                out.extend_from_slice(&data[plain..at]);
                return at;
            }
            if longest > 0 {
                out.extend_from_slice(&data[plain..at]);
                if self.same_length {
                    let filled = MASKED.iter().copied().chain(std::iter::repeat(b'*'));
                    out.extend(filled.take(longest));
                } else {
                    out.extend_from_slice(MASKED);
                }
                plain = at + longest;
            }
            at += longest.max(1);
        }
        out.extend_from_slice(&data[plain..]);
        data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(masker: &mut Masker, data: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in data.chunks(size) {
            masker.push(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    #[test]
    fn hides_across_every_chunk_border() {
        let data = b"a s3cr3t-value b \xff\x00 s3cr3t-valu s3cr3t-value-long s3cr3t-value";
        for size in 1..data.len() {
            let mut masker = Masker::default();
            masker.add("s3cr3t-value");
            masker.add("s3cr3t-value-long");
            let expected = b"a [MASKED] b \xff\x00 s3cr3t-valu [MASKED] [MASKED]";
            assert_eq!(chunked(&mut masker, data, size), expected, "chunks of {size}");
        }
    }

    #[test]
    fn may_keep_every_byte_at_its_place() {
        let data = b"a s3cr3t-value b s3cr3t-valu pin42 s3cr3t-value";
        for size in 1..data.len() {
            let mut masker = Masker::of_same_length();
            masker.add("s3cr3t-value");
            masker.add("pin42");
            let expected = b"a [MASKED]**** b s3cr3t-valu [MASK [MASKED]****";
            assert_eq!(chunked(&mut masker, data, size), expected, "chunks of {size}");
            assert_eq!(data.len(), expected.len());
        }
    }

    #[test]
    fn hides_base64_wherever_the_secret_stands() {
        // printf '%s' "${prefix}correct-horse" | base64, for prefixes of 0, 1 and 2 bytes
        for text in ["Y29ycmVjdC1ob3JzZQ==", "eGNvcnJlY3QtaG9yc2U=", "eHhjb3JyZWN0LWhvcnNl"] {
            let mut masker = Masker::default();
            masker.add("correct-horse");
            let masked = String::from_utf8(chunked(&mut masker, text.as_bytes(), 3)).unwrap();
            assert!(masked.contains("[MASKED]") && masked.len() <= "[MASKED]".len() + 6, "{text}: {masked}");
        }
    }

    #[test]
    fn a_private_key_is_hidden_line_by_line() {
        let mut masker = Masker::default();
        masker.add("-----BEGIN KEY-----\nabcdefgh12345678\n-----END KEY-----\n");
        let out = chunked(&mut masker, b"x\r\nabcdefgh12345678\r\ny", 4);
        assert_eq!(out, b"x\r\n[MASKED]\r\ny");
    }

    #[test]
    fn without_secrets_bytes_pass_at_once() {
        let mut out = Vec::new();
        let mut masker = Masker::default();
        masker.push(b"\x00\xffabc", &mut out);
        assert_eq!(out, b"\x00\xffabc");
        assert_eq!(masker.mask("plain"), "plain");
    }
}
