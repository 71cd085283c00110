//! The decoder of the external term format: what `term_to_binary/1,2` writes.
//!
//! Source: "External Term Format" of the ERTS user's guide. Pids, ports, references and funs come out as
//! text that is good for printing and comparing only.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::Term;

const MAX_DEPTH: usize = 200;
/// A compressed term may not unfold to more than this.
const MAX_UNCOMPRESSED: u64 = 256 << 20;
/// Larger integers are refused: decimal conversion is quadratic.
const MAX_INTEGER: usize = 4096;

/// Bytes that are not one whole external term.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalError {
    /// The bytes end inside a term.
    #[error("the external term is cut short at byte {0}")]
    Truncated(usize),
    /// More bytes follow the term.
    #[error("{0} bytes follow the external term")]
    Trailing(usize),
    /// No version byte, an unknown tag, a wrong length, ...
    #[error("not an external term: {0}")]
    Malformed(String),
}

/// Decodes one term that fills `bytes` exactly.
///
/// # Errors
/// Anything else: cut short, followed by more, not a term.
pub fn decode(bytes: &[u8]) -> Result<Term, ExternalError> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    if reader.byte()? != 131 {
        return Err(malformed("the version byte 131 is missing"));
    }
    if bytes.get(1) == Some(&80) {
        return decode_compressed(bytes);
    }
    reader.whole()
}

fn decode_compressed(bytes: &[u8]) -> Result<Term, ExternalError> {
    let mut reader = Reader { bytes, at: 2, depth: 0 };
    let size = u64::from(reader.u32()?);
    if size > MAX_UNCOMPRESSED {
        return Err(malformed(format!("{size} bytes uncompressed are more than {MAX_UNCOMPRESSED}")));
    }
    let mut inflater = ZlibDecoder::new(&bytes[reader.at..]);
    let mut plain = Vec::new();
    // the stream's own end tells more than the announced size, which only bounds it
    inflater
        .by_ref()
        .take(size + 1)
        .read_to_end(&mut plain)
        .map_err(|_| ExternalError::Truncated(bytes.len()))?;
    if plain.len() as u64 != size {
        return Err(malformed(format!("{size} bytes are announced, {} came out", plain.len())));
    }
    let used = usize::try_from(inflater.total_in()).unwrap_or(usize::MAX).saturating_add(reader.at);
    if used < bytes.len() {
        return Err(ExternalError::Trailing(bytes.len() - used));
    }
    Reader { bytes: &plain, at: 0, depth: 0 }.whole()
}

fn malformed(message: impl Into<String>) -> ExternalError {
    ExternalError::Malformed(message.into())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn whole(mut self) -> Result<Term, ExternalError> {
        let term = self.term()?;
        match self.bytes.len() - self.at {
            0 => Ok(term),
            more => Err(ExternalError::Trailing(more)),
        }
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], ExternalError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(ExternalError::Truncated(self.bytes.len()))?;
        let slice = &self.bytes[self.at..end];
        self.at = end;
        Ok(slice)
    }

    fn byte(&mut self) -> Result<u8, ExternalError> {
        Ok(self.slice(1)?[0])
    }

    fn u16(&mut self) -> Result<usize, ExternalError> {
        Ok(self.slice(2)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn u32(&mut self) -> Result<u32, ExternalError> {
        Ok(self.slice(4)?.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }

    fn length(&mut self) -> Result<usize, ExternalError> {
        Ok(self.u32()? as usize)
    }

    fn terms(&mut self, count: usize) -> Result<Vec<Term>, ExternalError> {
        // each term takes a byte at least, so a false count can't make us reserve memory
        if count > self.bytes.len() - self.at {
            return Err(ExternalError::Truncated(self.bytes.len()));
        }
        (0..count).map(|_| self.term()).collect()
    }

    fn term(&mut self) -> Result<Term, ExternalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(malformed(format!("terms nest deeper than {MAX_DEPTH}")));
        }
        let tag = self.byte()?;
        let term = self.tagged(tag)?;
        self.depth -= 1;
        Ok(term)
    }

    fn tagged(&mut self, tag: u8) -> Result<Term, ExternalError> {
        Ok(match tag {
            97 => Term::Int(i64::from(self.byte()?)),
            98 => Term::Int(i64::from(self.u32()? as i32)),
            110 => {
                let len = usize::from(self.byte()?);
                self.integer(len)?
            }
            111 => {
                let len = self.length()?;
                self.integer(len)?
            }
            70 => {
                let bits = self.slice(8)?.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                Term::Float(f64::from_bits(bits))
            }
            99 => {
                let text = String::from_utf8_lossy(self.slice(31)?).into_owned();
                let value = text.trim_end_matches('\0').parse();
                Term::Float(value.map_err(|_| malformed("a float is not a number"))?)
            }
            100 | 115 | 118 | 119 => Term::Atom(self.atom_text(tag)?),
            104 => {
                let count = usize::from(self.byte()?);
                Term::Tuple(self.terms(count)?)
            }
            105 => {
                let count = self.length()?;
                Term::Tuple(self.terms(count)?)
            }
            106 => Term::List(Vec::new()),
            107 => {
                let len = self.u16()?;
                byte_list(self.slice(len)?)
            }
            108 => self.list()?,
            109 => {
                let len = self.length()?;
                Term::Binary(self.slice(len)?.to_vec())
            }
            77 => return Err(malformed("bit strings are not supported")),
            116 => {
                let count = self.length()?;
                if count > (self.bytes.len() - self.at) / 2 {
                    return Err(ExternalError::Truncated(self.bytes.len()));
                }
                Term::Map((0..count).map(|_| Ok((self.term()?, self.term()?))).collect::<Result<_, _>>()?)
            }
            _ => self.opaque(tag)?,
        })
    }

    fn list(&mut self) -> Result<Term, ExternalError> {
        let count = self.length()?;
        let items = self.terms(count)?;
        Ok(match self.term()? {
            Term::List(tail) if tail.is_empty() => Term::List(items),
            tail => Term::Improper(items, Box::new(tail)),
        })
    }

    fn atom_text(&mut self, tag: u8) -> Result<String, ExternalError> {
        let len = if matches!(tag, 100 | 118) { self.u16()? } else { usize::from(self.byte()?) };
        let bytes = self.slice(len)?;
        if matches!(tag, 100 | 115) {
            return Ok(bytes.iter().map(|b| char::from(*b)).collect());
        }
        String::from_utf8(bytes.to_vec()).map_err(|_| malformed("an atom is not UTF-8"))
    }

    fn integer(&mut self, len: usize) -> Result<Term, ExternalError> {
        let negative = self.byte()? != 0;
        if len > MAX_INTEGER {
            return Err(malformed(format!("an integer of {len} bytes")));
        }
        let digits = decimal(self.slice(len)?);
        let text = if negative { format!("-{digits}") } else { digits };
        Ok(text.parse().map(Term::Int).unwrap_or(Term::Big(text)))
    }

    fn opaque(&mut self, tag: u8) -> Result<Term, ExternalError> {
        let text = match tag {
            88 | 103 => {
                let node = self.term()?;
                let (id, serial) = (self.u32()?, self.u32()?);
                format!("<{node}.{id}.{serial}.{}>", self.creation(tag == 88)?)
            }
            89 | 102 => {
                let node = self.term()?;
                let id = self.u32()?;
                format!("#Port<{node}.{id}.{}>", self.creation(tag == 89)?)
            }
            120 => {
                let node = self.term()?;
                let id = u64::from(self.u32()?) << 32 | u64::from(self.u32()?);
                format!("#Port<{node}.{id}.{}>", self.creation(true)?)
            }
            90 | 114 => {
                let count = self.u16()?;
                let node = self.term()?;
                let creation = self.creation(tag == 90)?;
                let ids: Vec<String> =
                    (0..count).map(|_| self.u32().map(|id| id.to_string())).collect::<Result<_, _>>()?;
                format!("#Ref<{node}.{creation}.{}>", ids.join("."))
            }
            113 => {
                let (module, function, arity) = (self.term()?, self.term()?, self.term()?);
                format!("fun {module}:{function}/{arity}")
            }
            112 => {
                let size = self.length()?;
                let body = self.slice(size.saturating_sub(4))?;
                let mut reader = Reader { bytes: body, at: 25, depth: self.depth };
                if body.len() < 25 {
                    return Err(ExternalError::Truncated(self.bytes.len()));
                }
                format!("#Fun<{}>", reader.term()?)
            }
            tag => return Err(malformed(format!("unknown tag {tag}"))),
        };
        Ok(Term::Opaque(text))
    }

    fn creation(&mut self, wide: bool) -> Result<u32, ExternalError> {
        if wide { self.u32() } else { Ok(u32::from(self.byte()?)) }
    }
}

/// Erlang packs any list of bytes as a string; only the printable ones were meant as text.
fn byte_list(bytes: &[u8]) -> Term {
    let printable =
        |b: &u8| matches!(b, b'\n' | b'\r' | b'\t' | b' '..=b'~' | 0xa0..=0xff) && !bytes.is_empty();
    if !bytes.is_empty() && bytes.iter().all(printable) {
        Term::Str(bytes.iter().map(|b| char::from(*b)).collect())
    } else {
        Term::List(bytes.iter().map(|b| Term::Int(i64::from(*b))).collect())
    }
}

/// Little-endian bytes as decimal digits.
fn decimal(bytes: &[u8]) -> String {
    let mut limbs: Vec<u32> = vec![0];
    for byte in bytes.iter().rev() {
        let mut carry = u64::from(*byte);
        for limb in &mut limbs {
            carry += u64::from(*limb) << 8;
            *limb = (carry % 1_000_000_000) as u32;
            carry /= 1_000_000_000;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let mut text = limbs.pop().unwrap_or(0).to_string();
    for limb in limbs.iter().rev() {
        text.push_str(&format!("{limb:09}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_of_every_kind_are_decoded() {
        let cases: &[(&[u8], &str)] = &[
            (&[131, 97, 7], "7"),
            (&[131, 98, 255, 255, 255, 254], "-2"),
            (&[131, 110, 8, 0, 0, 0, 0, 0, 0, 0, 0, 128], "9223372036854775808"),
            (&[131, 110, 1, 1, 5], "-5"),
            (&[131, 119, 2, b'o', b'k'], "ok"),
            (&[131, 100, 0, 1, b'a'], "a"),
            (&[131, 104, 2, 97, 1, 106], "{1,[]}"),
            (&[131, 107, 0, 2, b'h', b'i'], "\"hi\""),
            (&[131, 107, 0, 2, 1, 2], "[1,2]"),
            (&[131, 108, 0, 0, 0, 1, 97, 1, 97, 2], "[1|2]"),
            (&[131, 109, 0, 0, 0, 1, b'x'], "<<\"x\">>"),
            (&[131, 116, 0, 0, 0, 1, 97, 1, 97, 2], "#{1 => 2}"),
            (&[131, 70, 63, 248, 0, 0, 0, 0, 0, 0], "1.5"),
            (&[131, 88, 119, 1, b'n', 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 3], "<n.9.0.3>"),
            (&[131, 113, 119, 1, b'm', 119, 1, b'f', 97, 2], "fun m:f/2"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode(bytes).unwrap().to_string(), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn every_cut_and_every_extra_byte_is_refused() {
        let whole = [131, 104, 2, 107, 0, 2, b'h', b'i', 108, 0, 0, 0, 1, 119, 1, b'a', 106];
        assert!(decode(&whole).is_ok());
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "cut at {len}");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(decode(&longer), Err(ExternalError::Trailing(1)));
        assert!(decode(&[131, 108, 255, 255, 255, 255, 106]).is_err());
        assert!(decode(&[&[131][..], &[104, 1].repeat(10_000)].concat()).is_err());
    }

    #[test]
    fn a_compressed_term_is_inflated_and_bounded() {
        use std::io::Write as _;
        let plain: Vec<u8> = [&[109, 0, 0, 1, 0][..], &[b'z'; 256]].concat();
        let mut deflater = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflater.write_all(&plain).unwrap();
        let packed = deflater.finish().unwrap();
        let with_size = |size: u32| [&[131, 80][..], &size.to_be_bytes(), &packed].concat();
        assert_eq!(decode(&with_size(plain.len() as u32)), Ok(Term::Binary(vec![b'z'; 256])));
        assert!(decode(&with_size(10)).is_err());
        assert!(decode(&with_size(u32::MAX)).is_err());
        let cut = with_size(plain.len() as u32);
        assert!(decode(&cut[..cut.len() - 6]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, 131);
            let _ = decode(&bytes);
        }
    }
}
