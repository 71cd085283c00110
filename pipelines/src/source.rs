//! Where a piece of configuration came from: files, byte ranges, and lines for people.

use std::ops::Range;
use std::sync::Arc;

/// A file known to a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(u32);

/// A byte range in one file. `start == end` is a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The file that the bytes are in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes `start..end` of `file`.
    pub fn new(file: FileId, start: usize, end: usize) -> Span {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { file, start: clamp(start), end: clamp(end) }
    }

    /// As a range that indexes the file's text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One file: its name as a person knows it, its text, and what brought it in.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path relative to the project, URL, or `project:path@ref`.
    pub name: String,
    /// The whole text.
    pub text: Arc<str>,
    /// The `include` entry that brought the file in; none for the root file.
    pub included_from: Option<Span>,
    line_starts: Vec<u32>,
}

/// All files of one configuration, in the order in which they were read.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

/// A position for people: both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> SourceMap {
        SourceMap::default()
    }

    /// Takes in a file.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<Arc<str>>, from: Option<Span>) -> FileId {
        let text: Arc<str> = text.into();
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i as u32 + 1)).collect();
        let file = SourceFile { name: name.into(), text, included_from: from, line_starts: starts };
        self.files.push(file);
        FileId(self.files.len() as u32 - 1)
    }

    /// The file behind an id. Ids come from [`SourceMap::add`] of the same map.
    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// All files in the order of their reading.
    pub fn files(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        self.files.iter().enumerate().map(|(i, f)| (FileId(i as u32), f))
    }

    /// Line and column of a span's first byte.
    pub fn position(&self, span: Span) -> LineColumn {
        let file = self.file(span.file);
        let line = file.line_starts.partition_point(|&s| s <= span.start).max(1) - 1;
        let begin = file.line_starts[line] as usize;
        let end = (span.start as usize).min(file.text.len());
        let column = file.text.get(begin..end).map_or(0, |t| t.chars().count());
        LineColumn { line: line + 1, column: column + 1 }
    }
}
