//! Reading logs by line, as fast for the last line as for the first.

use super::ansi::{self, Style};
use super::index::{Index, MARK, Mark, Section};
use super::writer::paths;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Lines in one answer.
pub const MOST_LINES: u64 = 5000;
/// Bytes of a line that are shown.
const LONGEST: usize = 16 << 10;
/// Bytes of log that one answer shows.
const MOST_BYTES: usize = 4 << 20;

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Line {
    /// From 1.
    pub line: u64,
    /// Byte in which it begins.
    pub offset: u64,
    /// When it arrived, to the second (ms since the epoch).
    pub at: Option<i64>,
    /// Safe HTML: text and `<span class="…">`, nothing else. Classes are `ansi-bold`, `ansi-dim`, `ansi-italic`,
    /// `ansi-underline`, `ansi-strike`, `ansi-fg-0` to `-15`, `ansi-bg-0` to `-15`.
    pub html: String,
    /// Sections that begin here; the line is their header.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub begins: Vec<String>,
    /// Sections that end here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<String>,
    /// It holds nothing but ends of sections.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bare: bool,
    /// It has not ended yet, and may come again with more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Some lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Lines {
    /// The lines, in order.
    pub lines: Vec<Line>,
    /// How many lines the log has, the one that has not ended among them.
    pub total: u64,
    /// Bytes of the log.
    pub size: u64,
    /// Byte after the last whole line of `lines`: events go on from there.
    pub next: u64,
}

/// `count` lines from the line `from` (1 is the first; 0 is taken for 1). No log is an empty one.
///
/// # Errors
/// The files can't be read.
pub fn lines(dir: &Path, job: i64, from: u64, count: u64) -> io::Result<Lines> {
    let Some(mut log) = Log::open(dir, job)? else { return Ok(Lines::default()) };
    let first = from.max(1) - 1;
    let total = log.total()?;
    let (known, offset) = log.index.before_line(first);
    let mut lines = log.collect(Start { line: known, offset, skip: first - known.min(first) }, count)?;
    lines.total = total;
    Ok(lines)
}

/// Lines from the one that holds the byte `offset`.
///
/// # Errors
/// The files can't be read.
pub fn lines_at(dir: &Path, job: i64, offset: u64, count: u64) -> io::Result<Lines> {
    let Some(mut log) = Log::open(dir, job)? else { return Ok(Lines::default()) };
    let total = log.total()?;
    let (line, start) = log.index.before_offset(offset);
    let (mut skip, mut begin) = (0, start);
    let mut walk = Walk::new(&mut log.file, start)?;
    while let Some(found) = walk.next()? {
        if found.offset + found.length > offset || !found.ended {
            break;
        }
        skip += 1;
        begin = found.offset + found.length;
    }
    let mut lines = log.collect(Start { line: line + skip, offset: begin, skip: 0 }, count)?;
    lines.total = total;
    Ok(lines)
}

/// Sections of a log.
///
/// # Errors
/// The files can't be read.
pub fn sections(dir: &Path, job: i64) -> io::Result<Vec<Section>> {
    Ok(Log::open(dir, job)?.map_or(Vec::new(), |log| log.index.sections()))
}

struct Log {
    file: File,
    size: u64,
    index: Index,
}

/// Where [`Log::collect`] begins: line and offset that belong together, and lines to pass over from there.
struct Start {
    line: u64,
    offset: u64,
    skip: u64,
}

impl Log {
    fn open(dir: &Path, job: i64) -> io::Result<Option<Log>> {
        let [log, index, _] = paths(dir, job);
        let file = match File::open(log) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        Ok(Some(Log { file, size, index: Index::read(&index, size)? }))
    }

    fn total(&mut self) -> io::Result<u64> {
        let (mut lines, offset) = self.index.before_line(u64::MAX);
        let mut walk = Walk::new(&mut self.file, offset)?;
        while walk.next()?.is_some() {
            lines += 1;
        }
        Ok(lines)
    }

    fn collect(&mut self, start: Start, count: u64) -> io::Result<Lines> {
        let mut lines = Lines { size: self.size, next: start.offset, ..Lines::default() };
        let mut style = Style::default();
        let mut walk = Walk::new(&mut self.file, start.offset)?;
        let (mut number, mut shown) = (start.line, 0);
        while let Some(found) = walk.next()? {
            number += 1;
            let mut line = render(&found, &mut style);
            if found.ended {
                lines.next = found.offset + found.length;
            }
            if number <= start.line + start.skip {
                continue;
            }
            if lines.lines.len() as u64 >= count.min(MOST_LINES) || shown > MOST_BYTES {
                lines.next = found.offset;
                break;
            }
            shown += found.text.len();
            line.line = number;
            line.at = self.index.time(found.offset);
            lines.lines.push(line);
        }
        Ok(lines)
    }
}

fn render(found: &Found, style: &mut Style) -> Line {
    let mut line = Line {
        line: 0,
        offset: found.offset,
        at: None,
        html: String::new(),
        begins: Vec::new(),
        ends: Vec::new(),
        bare: false,
        partial: !found.ended,
    };
    for mark in MARK.captures_iter(&found.text).map(|mark| Mark::of(&mark)) {
        let list = if mark.begins { &mut line.begins } else { &mut line.ends };
        list.push(mark.name);
    }
    let marked = !line.begins.is_empty() || !line.ends.is_empty();
    let text = if marked { MARK.replace_all(&found.text, &b""[..]) } else { found.text.as_slice().into() };
    line.html = ansi::html(last_written(&text), style);
    let left_out = found.length.saturating_sub(found.text.len() as u64 + 1);
    if left_out > 0 {
        line.html.push_str(&format!(" … ({left_out} more bytes of this line are in the raw log)"));
    }
    line.bare = line.begins.is_empty() && !line.ends.is_empty() && line.html.is_empty();
    line
}

/// What a terminal shows of a line that was written over with carriage returns.
fn last_written(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.rsplit(|byte| *byte == b'\r').find(|part| !part.is_empty()).unwrap_or(b"")
}

/// A line in the file.
struct Found {
    offset: u64,
    /// With its end.
    length: u64,
    /// Without its end; cut at [`LONGEST`].
    text: Vec<u8>,
    ended: bool,
}

/// Goes from line to line.
struct Walk<'a> {
    file: &'a mut File,
    buffer: Vec<u8>,
    /// What of the buffer is not used yet.
    at: usize,
    filled: usize,
    offset: u64,
}

impl<'a> Walk<'a> {
    fn new(file: &'a mut File, offset: u64) -> io::Result<Walk<'a>> {
        file.seek(SeekFrom::Start(offset))?;
        Ok(Walk { file, buffer: vec![0; 64 << 10], at: 0, filled: 0, offset })
    }

    fn next(&mut self) -> io::Result<Option<Found>> {
        let mut found = Found { offset: self.offset, length: 0, text: Vec::new(), ended: false };
        loop {
            if self.at == self.filled {
                (self.at, self.filled) = (0, self.file.read(&mut self.buffer)?);
                if self.filled == 0 {
                    return Ok((found.length > 0).then_some(found));
                }
            }
            let piece = &self.buffer[self.at..self.filled];
            let end = piece.iter().position(|byte| *byte == b'\n');
            let text = &piece[..end.unwrap_or(piece.len())];
            found.text.extend_from_slice(&text[..text.len().min(LONGEST - found.text.len())]);
            let used = text.len() + usize::from(end.is_some());
            found.length += used as u64;
            self.at += used;
            self.offset += used as u64;
            if end.is_some() {
                found.ended = true;
                return Ok(Some(found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;

    fn log(text: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), 1, 1 << 30, &[]).unwrap();
        writer.append(0, text, 1000).unwrap();
        dir
    }

    fn html(lines: &Lines) -> Vec<&str> {
        lines.lines.iter().map(|line| line.html.as_str()).collect()
    }

    #[test]
    fn any_line_of_a_long_log_is_found() {
        let text: String = (1..=12_345).map(|n| format!("line {n}\n")).collect();
        let dir = log(text.as_bytes());
        for from in [1, 2, 999, 1000, 1001, 1002, 5000, 12_344] {
            let got = lines(dir.path(), 1, from, 2).unwrap();
            assert_eq!(html(&got), [format!("line {from}"), format!("line {}", from + 1)]);
            assert_eq!((got.lines[0].line, got.total, got.lines[0].at), (from, 12_345, Some(1000)));
            let at = lines_at(dir.path(), 1, got.lines[0].offset + 1, 1).unwrap();
            assert_eq!(at.lines[0], got.lines[0]);
            assert_eq!(lines_at(dir.path(), 1, at.next, 1).unwrap().lines[0], got.lines[1]);
        }
        assert!(lines(dir.path(), 1, 12_346, 5).unwrap().lines.is_empty());
        assert!(lines_at(dir.path(), 1, 10_000_000, 5).unwrap().lines.is_empty());
        assert_eq!(lines(dir.path(), 2, 1, 5).unwrap(), Lines::default());
    }

    #[test]
    fn an_unfinished_line_is_shown_and_comes_again() {
        let dir = log(b"a\nhalf");
        let got = lines_at(dir.path(), 1, 0, 10).unwrap();
        assert_eq!((html(&got), got.total, got.next), (vec!["a", "half"], 2, 2));
        assert!(got.lines[1].partial && !got.lines[0].partial);
        assert_eq!(html(&lines_at(dir.path(), 1, got.next, 10).unwrap()), ["half"]);
    }

    #[test]
    fn marks_and_overwritten_text_are_not_shown() {
        let dir = log(
            b"section_start:1:x\r\x1b[0K\x1b[36;1mHead\x1b[0;m\n10%\r50%\r100%\r\nsection_end:2:x\r\x1b[0K\n\x1b[31mred\non\n",
        );
        let got = lines(dir.path(), 1, 1, 10).unwrap();
        let red = "<span class=\"ansi-fg-1\">red</span>";
        let on = "<span class=\"ansi-fg-1\">on</span>";
        let head = "<span class=\"ansi-bold ansi-fg-6\">Head</span>";
        assert_eq!(html(&got), [head, "100%", "", red, on]);
        assert_eq!(got.lines[0].begins, ["x"]);
        assert!(got.lines[2].bare && got.lines[2].ends == ["x"]);
    }

    #[test]
    fn a_line_without_end_costs_no_more_than_others() {
        let mut text = vec![b'x'; 3 << 20];
        text.extend(b"\nend\n");
        let dir = log(&text);
        let got = lines(dir.path(), 1, 1, 10).unwrap();
        assert!(got.lines[0].html.len() < LONGEST + 100 && got.lines[0].html.contains("more bytes"));
        assert_eq!(got.lines[1].html, "end");
    }
}
