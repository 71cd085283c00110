//! The index beside a log: text, a line a fact, appended as the log grows.
//!
//! ```text
//! L 1000 52311              1,000 lines end before byte 52311
//! T 52311 1795334400123     what begins at byte 52311 arrived then (ms); at most one a second
//! S 60 0 1795334400 NAME 1  a section begins in line 0, its header after byte 60; folded at first
//! E 900 12 1795334401 NAME  and ends in line 12
//! ```

use regex::bytes::{Captures, Regex};
use serde::Serialize;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

/// A fact is kept of every so many lines.
pub(super) const EVERY: u64 = 1000;
/// Sections beyond this are lines as all others.
const SECTIONS: usize = 10_000;

/// `section_start:TIME:NAME[OPTIONS]\r\e[0K`, `section_end:…`.
pub(super) static MARK: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"section_(start|end):([0-9]{1,12}):([A-Za-z0-9_.\-]{1,128})(\[[A-Za-z0-9_=,.\- ]{0,200}\])?\r\x1b\[0K";
    Regex::new(pattern).expect("the pattern is a constant")
});

/// One mark of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) begins: bool,
    /// Seconds.
    pub(super) at: i64,
    pub(super) name: String,
    pub(super) collapsed: bool,
}

impl Mark {
    pub(super) fn of(found: &Captures<'_>) -> Mark {
        let text =
            |group: usize| found.get(group).map_or("", |m| std::str::from_utf8(m.as_bytes()).unwrap_or(""));
        Mark {
            begins: text(1) == "start",
            at: text(2).parse().unwrap_or(0),
            name: text(3).to_owned(),
            collapsed: text(4).trim_matches(['[', ']']).split(',').any(|o| o.trim() == "collapsed=true"),
        }
    }
}

/// A section of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Section {
    /// As the job names it.
    pub name: String,
    /// Number of its first line.
    pub first: u64,
    /// Number of the line in which it ends; none: it has not ended.
    pub last: Option<u64>,
    /// Seconds since the epoch.
    pub started_at: i64,
    /// Seconds since the epoch.
    pub ended_at: Option<i64>,
    /// Is it to be shown folded?
    pub collapsed: bool,
}

/// What the index of a log says.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// `(lines, offset)`, from `(0, 0)`.
    pub(super) lines: Vec<(u64, u64)>,
    /// `(offset, ms)`.
    pub(super) times: Vec<(u64, i64)>,
    /// `(offset, line from 0, mark)`.
    pub(super) marks: Vec<(u64, u64, Mark)>,
}

impl Index {
    /// Of a file; what lies beyond `size` is left out. No file is an empty index.
    pub(super) fn read(path: &Path, size: u64) -> io::Result<Index> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut index = Index { lines: vec![(0, 0)], ..Index::default() };
        // a last line without its end was being written when the server was killed
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            index.take(line, size);
        }
        Ok(index)
    }

    /// A line that is none of ours is passed over.
    fn take(&mut self, line: &str, size: u64) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let first: u64 = words.next()?.parse().ok()?;
        let second: i64 = words.next()?.parse().ok()?;
        let unsigned = u64::try_from(second).ok()?;
        match kind {
            "L" if unsigned <= size => self.lines.push((first, unsigned)),
            "T" if first <= size => self.times.push((first, second)),
            "S" | "E" if first <= size => {
                let at = words.next()?.parse().ok()?;
                let name = words.next()?.to_owned();
                let collapsed = words.next() == Some("1");
                self.marks.push((first, unsigned, Mark { begins: kind == "S", at, name, collapsed }));
            }
            _ => {}
        }
        Some(())
    }

    /// As the file's text.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for (lines, offset) in self.lines.iter().skip(1) {
            line(&mut out, *lines, *offset);
        }
        for (offset, at) in &self.times {
            time(&mut out, *offset, *at);
        }
        for (offset, number, found) in &self.marks {
            mark(&mut out, *offset, *number, found);
        }
        out
    }

    /// The last known beginning of a line that is not after `number` (from 0).
    pub(super) fn before_line(&self, number: u64) -> (u64, u64) {
        let after = self.lines.partition_point(|(lines, _)| *lines <= number);
        self.lines[after.max(1) - 1]
    }

    /// As [`Index::before_line`], of a byte.
    pub(super) fn before_offset(&self, offset: u64) -> (u64, u64) {
        let after = self.lines.partition_point(|(_, start)| *start <= offset);
        self.lines[after.max(1) - 1]
    }

    /// When the byte arrived, to the second.
    pub(super) fn time(&self, offset: u64) -> Option<i64> {
        let after = self.times.partition_point(|(start, _)| *start <= offset);
        Some(self.times.get(after.checked_sub(1)?)?.1)
    }

    /// Sections with the lines that they reach over, in the order in which they begin. Lines count from 1.
    pub(super) fn sections(&self) -> Vec<Section> {
        let mut sections: Vec<Section> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for (_, line, mark) in &self.marks {
            if mark.begins {
                open.push(sections.len());
                let (name, collapsed) = (mark.name.clone(), mark.collapsed);
                let (first, started_at) = (line + 1, mark.at);
                sections.push(Section { name, first, last: None, started_at, ended_at: None, collapsed });
            } else if let Some(place) = open.iter().rposition(|index| sections[*index].name == mark.name) {
                let index = open.remove(place);
                sections[index].last = Some(line + 1);
                sections[index].ended_at = Some(mark.at);
            }
        }
        sections
    }

    pub(super) fn is_full(&self) -> bool {
        self.marks.len() >= SECTIONS
    }
}

pub(super) fn line(out: &mut String, lines: u64, offset: u64) {
    // writing into a text does not fail
    let _ = writeln!(out, "L {lines} {offset}");
}

pub(super) fn time(out: &mut String, offset: u64, at: i64) {
    let _ = writeln!(out, "T {offset} {at}");
}

pub(super) fn mark(out: &mut String, offset: u64, line: u64, mark: &Mark) {
    let (kind, collapsed) = (if mark.begins { 'S' } else { 'E' }, if mark.collapsed { " 1" } else { "" });
    let _ = writeln!(out, "{kind} {offset} {line} {} {}{collapsed}", mark.at, mark.name);
}
