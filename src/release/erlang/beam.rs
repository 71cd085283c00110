//! Compiled modules: `FOR1`, a length, `BEAM`, then chunks padded to four bytes.

use std::{collections::BTreeSet, io::Read};

use flate2::read::GzDecoder;
use md5::{Digest, Md5};

use super::{Term, external};

/// A module unzips to no more than this.
const MAX_BEAM: u64 = 256 << 20;

/// What the MD5 of a module is made of, in this order (`beam_lib:md5_chunks`; `Meta` from OTP 25 on).
const MD5_CHUNKS: [&[u8; 4]; 9] =
    [b"Atom", b"AtU8", b"Code", b"StrT", b"ImpT", b"ExpT", b"FunT", b"LitT", b"Meta"];

const SUPERVISORS: [&str; 2] = ["supervisor", "Elixir.Supervisor"];
const PROCESSES: [&str; 7] = [
    "gen_server",
    "gen_statem",
    "gen_event",
    "gen_fsm",
    "Elixir.GenServer",
    "Elixir.GenStage",
    "Elixir.GenEvent",
];

/// Bytes that are no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a whole BEAM file: {0}")]
pub struct BeamError(String);

/// What is known of a compiled module without running it.
#[derive(Debug, Clone, PartialEq)]
pub struct Beam {
    /// The module's name.
    pub module: String,
    /// What `Module:module_info(md5)` says of the loaded code: line numbers, compile paths and debug info
    /// do not count.
    pub md5: [u8; 16],
    /// Exported functions and their arity.
    pub exports: BTreeSet<(String, u32)>,
    /// Modules that it calls by name.
    pub imports: BTreeSet<String>,
    /// Attributes in the file's order; values are lists.
    pub attributes: Vec<(String, Term)>,
}

impl Beam {
    /// Reads a module, gzip'd or plain.
    ///
    /// # Errors
    /// The bytes are no whole BEAM file.
    pub fn parse(bytes: &[u8]) -> Result<Beam, BeamError> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut plain = Vec::new();
            GzDecoder::new(bytes)
                .take(MAX_BEAM)
                .read_to_end(&mut plain)
                .map_err(|_| bad("the gzip stream is broken"))?;
            return Self::parse_plain(&plain);
        }
        Self::parse_plain(bytes)
    }

    fn parse_plain(bytes: &[u8]) -> Result<Beam, BeamError> {
        let chunks = Chunks::parse(bytes)?;
        let atoms = chunks.atoms()?;
        let name = |index: u32| {
            let atom = usize::try_from(index).ok().and_then(|i| atoms.get(i.checked_sub(1)?));
            atom.cloned().ok_or_else(|| bad("an atom index is out of range"))
        };
        let mut exports = BTreeSet::new();
        for [function, arity, _] in chunks.table(b"ExpT")? {
            exports.insert((name(function)?, arity));
        }
        let mut imports = BTreeSet::new();
        for [module, ..] in chunks.table(b"ImpT")? {
            imports.insert(name(module)?);
        }
        Ok(Beam { module: name(1)?, md5: chunks.md5(), exports, imports, attributes: chunks.attributes()? })
    }

    /// The behaviours that the module declares, in either spelling.
    pub fn behaviours(&self) -> impl Iterator<Item = &str> {
        let declared = self.attributes.iter().filter(|(key, _)| key == "behaviour" || key == "behavior");
        declared.flat_map(|(_, value)| value.as_list().unwrap_or_default()).filter_map(Term::as_atom)
    }

    /// A supervisor by its declared behaviour.
    #[must_use]
    pub fn is_supervisor(&self) -> bool {
        self.behaviours().any(|name| SUPERVISORS.contains(&name))
    }

    /// A process that can convert its state: `code_change` or `system_code_change` is exported.
    #[must_use]
    pub fn has_code_change(&self) -> bool {
        [("code_change", 3), ("code_change", 4), ("system_code_change", 4)]
            .into_iter()
            .any(|(name, arity)| self.exports.contains(&(name.to_owned(), arity)))
    }

    /// A module that runs as a process with state, by behaviour or by its conversion function.
    #[must_use]
    pub fn is_process(&self) -> bool {
        self.has_code_change() || self.behaviours().any(|name| PROCESSES.contains(&name))
    }
}

fn bad(message: &str) -> BeamError {
    BeamError(message.to_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BeamError> {
    let word = bytes.get(at..at + 4).ok_or_else(|| bad("it is cut short"))?;
    Ok(word.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

struct Chunks<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Chunks<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Chunks<'a>, BeamError> {
        if bytes.get(..4) != Some(b"FOR1") || bytes.get(8..12) != Some(b"BEAM") {
            return Err(bad("the header is missing"));
        }
        let end = (u32_at(bytes, 4)? as usize).checked_add(8).filter(|end| *end <= bytes.len());
        let end = end.ok_or_else(|| bad("it is cut short"))?;
        let (mut at, mut chunks) = (12, Vec::new());
        while at < end {
            let size = u32_at(bytes, at + 4)? as usize;
            let data_end = (at + 8).checked_add(size).filter(|end| *end <= bytes.len());
            let data_end = data_end.ok_or_else(|| bad("a chunk is cut short"))?;
            chunks.push((&bytes[at..at + 4], &bytes[at + 8..data_end]));
            at = data_end.next_multiple_of(4);
        }
        Ok(Chunks(chunks))
    }

    fn get(&self, id: &[u8; 4]) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| found == id).map(|(_, data)| *data)
    }

    fn atoms(&self) -> Result<Vec<String>, BeamError> {
        let (data, utf8) = match (self.get(b"AtU8"), self.get(b"Atom")) {
            (Some(data), _) => (data, true),
            (None, Some(data)) => (data, false),
            (None, None) => return Err(bad("it has no atoms")),
        };
        // OTP 28 writes a negative count and packs the lengths like compact terms
        let count = u32_at(data, 0)? as i32;
        let (mut at, mut atoms) = (4, Vec::new());
        for _ in 0..count.unsigned_abs() {
            let first = usize::from(*data.get(at).ok_or_else(|| bad("an atom is cut short"))?);
            at += 1;
            let len = match (count < 0, first & 0b1000) {
                (false, _) => first,
                (true, 0) => first >> 4,
                (true, _) => {
                    let low = usize::from(*data.get(at).ok_or_else(|| bad("an atom is cut short"))?);
                    at += 1;
                    (first & 0xe0) << 3 | low
                }
            };
            let text = data.get(at..at + len).ok_or_else(|| bad("an atom is cut short"))?;
            at += len;
            atoms.push(if utf8 {
                String::from_utf8(text.to_vec()).map_err(|_| bad("an atom is not UTF-8"))?
            } else {
                text.iter().map(|b| char::from(*b)).collect()
            });
        }
        Ok(atoms)
    }

    fn table(&self, id: &[u8; 4]) -> Result<Vec<[u32; 3]>, BeamError> {
        let Some(data) = self.get(id) else { return Ok(Vec::new()) };
        let count = u32_at(data, 0)? as usize;
        if count > data.len() / 12 {
            return Err(bad("a table is cut short"));
        }
        let row = |i: usize| {
            let at = 4 + 12 * i;
            Ok([u32_at(data, at)?, u32_at(data, at + 4)?, u32_at(data, at + 8)?])
        };
        (0..count).map(row).collect()
    }

    fn md5(&self) -> [u8; 16] {
        let mut hash = Md5::new();
        for id in MD5_CHUNKS {
            match self.get(id) {
                Some(data) if id == b"FunT" && data.len() >= 4 => {
                    hash.update(&data[..4]);
                    for entry in data[4..].chunks(24) {
                        // the last word of an entry is an old hash of the fun, not code
                        hash.update(&entry[..entry.len().min(20)]);
                        hash.update(vec![0; entry.len().saturating_sub(20)]);
                    }
                }
                Some(data) => hash.update(data),
                None => {}
            }
        }
        hash.finalize().into()
    }

    fn attributes(&self) -> Result<Vec<(String, Term)>, BeamError> {
        let Some(data) = self.get(b"Attr").filter(|data| !data.is_empty()) else { return Ok(Vec::new()) };
        let term = external::decode(data).map_err(|e| BeamError(format!("its attributes: {e}")))?;
        let pairs = term.as_list().ok_or_else(|| bad("its attributes are no list"))?;
        Ok(pairs
            .iter()
            .filter_map(|pair| match pair.as_tuple()? {
                [key, value] => Some((key.as_atom()?.to_owned(), value.clone())),
                _ => None,
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        let no_atoms = b"FOR1\0\0\0\x04BEAM";
        let long_chunk = b"FOR1\0\0\0\x0cBEAMAtU8\xff\xff\xff\xff";
        for bytes in [&b""[..], b"FOR1", b"FOR1\0\0\0\xffBEAM", no_atoms, long_chunk, &[0x1f, 0x8b, 8]] {
            assert!(Beam::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(body: Vec<u8>) {
            let len = (body.len() as u32 + 12).to_be_bytes();
            let chunk = (body.len() as u32).to_be_bytes();
            for id in [b"AtU8", b"Attr"] {
                let _ = Beam::parse(&[b"FOR1", &len[..], b"BEAM", id, &chunk[..], &body].concat());
            }
        }
    }
}
