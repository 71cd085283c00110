//! A log that is being written.

use super::index::{self, EVERY, Index, MARK, Mark};
use runners::log::Masker;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How much of an unfinished line is searched for marks of sections.
const TAIL: usize = 4096;

/// What came of [`Writer::append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Taken; so many bytes were received altogether.
    Taken(u64),
    /// The piece does not begin where the log ends: at this byte.
    Elsewhere(u64),
    /// The log would have more bytes than it may.
    TooBig,
}

/// Writes one log.
#[derive(Debug)]
pub struct Writer {
    log: File,
    index: File,
    sum: File,
    masker: Masker,
    /// Bytes in the file.
    written: u64,
    /// Of what was sent for the bytes in the file.
    crc: crc32fast::Hasher,
    /// Sent, but perhaps the beginning of a secret.
    held: Vec<u8>,
    limit: u64,
    known: Index,
    /// Lines that have ended.
    lines: u64,
    /// The end of the line that has not ended.
    tail: Vec<u8>,
    /// When `now` was last written down.
    timed: i64,
    restarts: u32,
}

/// The three files of a log.
pub(super) fn paths(dir: &Path, job: i64) -> [PathBuf; 3] {
    ["log", "index", "sum"].map(|ending| dir.join(format!("{job}.{ending}")))
}

impl Writer {
    /// Opens a log, to go on where what is surely there ends. `secrets` are hidden.
    ///
    /// # Errors
    /// The files can't be opened or made.
    pub fn open(dir: &Path, job: i64, limit: u64, secrets: &[String]) -> io::Result<Writer> {
        std::fs::create_dir_all(dir)?;
        let [log_path, index_path, sum_path] = paths(dir, job);
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
        };
        let (log, sum) = (open(&log_path)?, open(&sum_path)?);
        let (size, crc) = surely(&log, &sum)?;
        log.set_len(size)?;
        let known = Index::read(&index_path, size)?;
        let index = open(&index_path)?;
        let mut masker = Masker::of_same_length();
        secrets.iter().filter(|secret| !secret.is_empty()).for_each(|secret| masker.add(secret));
        let mut writer = Writer {
            log,
            index,
            sum,
            masker,
            written: size,
            crc: crc32fast::Hasher::new_with_initial_len(crc, size),
            held: Vec::new(),
            limit,
            known,
            lines: 0,
            tail: Vec::new(),
            timed: 0,
            restarts: 0,
        };
        writer.recount()?;
        writer.rewrite_index()?;
        Ok(writer)
    }

    /// Counts the lines after the last that the index knows, which learns what it missed (a crash of the machine).
    fn recount(&mut self) -> io::Result<()> {
        let (lines, mut offset) = self.known.before_line(u64::MAX);
        self.lines = lines;
        self.log.seek(SeekFrom::Start(offset))?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.log.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            let piece = &buffer[..read];
            for (at, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                self.lines += 1;
                if self.lines.is_multiple_of(EVERY) {
                    self.known.lines.push((self.lines, offset + at as u64 + 1));
                }
            }
            keep_tail(&mut self.tail, piece);
            offset += read as u64;
        }
    }

    fn rewrite_index(&mut self) -> io::Result<()> {
        self.index.set_len(0)?;
        self.index.seek(SeekFrom::Start(0))?;
        self.index.write_all(self.known.text().as_bytes())
    }

    /// Bytes that were received.
    pub fn received(&self) -> u64 {
        self.written + self.held.len() as u64
    }

    /// Takes a piece that begins at `start`, at the time `now` (ms).
    ///
    /// # Errors
    /// The files can't be written. The log must be opened again before it goes on.
    pub fn append(&mut self, start: u64, bytes: &[u8], now: i64) -> io::Result<Appended> {
        if start != self.received() {
            return Ok(Appended::Elsewhere(self.received()));
        }
        if self.received() + bytes.len() as u64 > self.limit {
            return Ok(Appended::TooBig);
        }
        let mut shown = Vec::with_capacity(bytes.len() + self.held.len());
        self.masker.push(bytes, &mut shown);
        self.held.extend_from_slice(bytes);
        self.write(&shown, now)?;
        Ok(Appended::Taken(self.received()))
    }

    /// Nothing more comes: what was held back is no secret.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn flush(&mut self, now: i64) -> io::Result<()> {
        let mut shown = Vec::new();
        self.masker.finish(&mut shown);
        self.write(&shown, now)
    }

    /// CRC-32 of all that was received and written; call [`Writer::flush`] before.
    pub fn crc32(&self) -> u32 {
        self.crc.clone().finalize()
    }

    /// How often everything was forgotten since it was opened.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Forgets everything: the runner sends it all again.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.masker.finish(&mut Vec::new());
        self.held.clear();
        self.tail.clear();
        (self.written, self.lines, self.timed) = (0, 0, 0);
        self.restarts += 1;
        self.crc = crc32fast::Hasher::new();
        self.known = Index { lines: vec![(0, 0)], ..Index::default() };
        // first what says how much there is: after a kill in between, the rest is cut off
        self.write_sum()?;
        self.log.set_len(0)?;
        self.rewrite_index()
    }

    /// `shown` stands for the first bytes of what is held.
    fn write(&mut self, shown: &[u8], now: i64) -> io::Result<()> {
        if shown.is_empty() {
            return Ok(());
        }
        self.log.write_all_at(shown, self.written)?;
        let facts = self.facts(shown, now);
        self.index.write_all(facts.as_bytes())?;
        self.crc.update(&self.held[..shown.len()]);
        self.held.drain(..shown.len());
        self.written += shown.len() as u64;
        self.write_sum()
    }

    /// Size and checksum in one write, so that they fit each other.
    fn write_sum(&self) -> io::Result<()> {
        let mut record = [0; 12];
        record[..8].copy_from_slice(&self.written.to_le_bytes());
        record[8..].copy_from_slice(&self.crc.clone().finalize().to_le_bytes());
        self.sum.write_all_at(&record, 0)
    }

    /// What the index says of bytes that are appended.
    fn facts(&mut self, shown: &[u8], now: i64) -> String {
        let mut facts = String::new();
        if now - self.timed >= 1000 {
            self.timed = now;
            self.known.times.push((self.written, now));
            index::time(&mut facts, self.written, now);
        }
        self.find_marks(shown, &mut facts);
        for (at, _) in shown.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.lines += 1;
            if self.lines.is_multiple_of(EVERY) {
                let offset = self.written + at as u64 + 1;
                self.known.lines.push((self.lines, offset));
                index::line(&mut facts, self.lines, offset);
            }
        }
        keep_tail(&mut self.tail, shown);
        facts
    }

    /// Marks of sections, also those that began in an earlier piece.
    fn find_marks(&mut self, shown: &[u8], facts: &mut String) {
        let before = self.tail.len();
        let text = [self.tail.as_slice(), shown].concat();
        let (mut line, mut counted) = (self.lines, 0);
        for found in MARK.captures_iter(&text) {
            let Some(whole) = found.get(0).filter(|whole| whole.end() > before) else { continue };
            if self.known.is_full() {
                return;
            }
            line += count(&text[counted..whole.start()]);
            counted = whole.start();
            let offset = self.written + (whole.end() - before) as u64;
            let mark = Mark::of(&found);
            index::mark(facts, offset, line, &mark);
            self.known.marks.push((offset, line, mark));
        }
    }
}

fn count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The last bytes of the line that has not ended.
fn keep_tail(tail: &mut Vec<u8>, piece: &[u8]) {
    match piece.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => *tail = piece[end + 1..].to_vec(),
        None => tail.extend_from_slice(piece),
    }
    if tail.len() > TAIL {
        tail.drain(..tail.len() - TAIL);
    }
}

/// Size and checksum of what is surely there; nothing is, when they don't fit the file (a crash of the machine).
fn surely(log: &File, sum: &File) -> io::Result<(u64, u32)> {
    let mut record = [0; 12];
    match sum.read_exact_at(&mut record, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok((0, 0)),
        Err(error) => return Err(error),
    }
    let (mut size, mut crc) = ([0; 8], [0; 4]);
    size.copy_from_slice(&record[..8]);
    crc.copy_from_slice(&record[8..]);
    let (size, crc) = (u64::from_le_bytes(size), u32::from_le_bytes(crc));
    Ok(if log.metadata()?.len() >= size { (size, crc) } else { (0, 0) })
}

#[cfg(test)]
mod tests;
