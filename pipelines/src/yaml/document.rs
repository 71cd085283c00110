//! One file to its YAML documents. GitLab splits the text first and parses the pieces, so the split is textual:
//! a `---` at the start of a line and white space after it.

use super::builder::Builder;
use super::{Node, Value};
use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Span};
use regex::Regex;
use std::sync::LazyLock;

/// A header and the content.
const MAX_DOCUMENTS: usize = 2;
/// Each costs a parse.
const MAX_REPAIRS: usize = 200;

static DIVIDER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^---[ \t\r\n\x0B\x0C]+").expect("the pattern is a constant"));

/// Parses a file into at most two documents, each a mapping. Blank documents are dropped, so the list may be empty.
/// Findings that are no errors are pushed to `hints`.
///
/// # Errors
/// The first thing that GitLab's loader would refuse: a syntax error, an unknown alias, a date, a class, a
/// document that is too big or no mapping.
pub fn parse(text: &str, file: FileId, hints: &mut Vec<Diagnostic>) -> Result<Vec<Node>, Diagnostic> {
    let mut documents = Vec::new();
    for (start, end) in split(text) {
        let (node, found) = build(Piece::new(&text[start..end], start, file));
        hints.extend(found);
        let node = node.map_err(|failure| failure.diagnose(text, file))?;
        if !is_blank(&node) {
            documents.push(node);
        }
        if documents.len() == MAX_DOCUMENTS {
            break;
        }
    }
    match documents.iter().find(|node| node.as_mapping().is_none()) {
        Some(node) => Err(Diagnostic::error("config-format", "Invalid configuration format")
            .at(node.span, "this is not a mapping")
            .help("write keywords and jobs as `name: value`")),
        None => Ok(documents),
    }
}

/// Builds one document, with the repairs that it needs.
fn build(mut piece: Piece<'_>) -> (Result<Node, Failure>, Vec<Diagnostic>) {
    for _ in 0..MAX_REPAIRS {
        let mut hints = Vec::new();
        match Builder::new(&piece, &mut hints).build() {
            Err(Failure { repaired: Some(repaired), .. }) => piece.repaired = Some(repaired),
            result => return (result, hints),
        }
    }
    let mut hints = Vec::new();
    let result = Builder::new(&piece, &mut hints).build();
    (result, hints)
}

/// A document in the text of its file.
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Where the piece begins in the file, in bytes.
    pub(super) start: usize,
    pub(super) file: FileId,
    /// Byte of each character; empty when the text is ASCII.
    offsets: Vec<u32>,
    /// What is parsed instead of the text, and the byte of the text for each of its characters.
    repaired: Option<(String, Vec<u32>)>,
}

impl<'a> Piece<'a> {
    fn new(text: &'a str, start: usize, file: FileId) -> Piece<'a> {
        let indices = || text.char_indices().map(|(i, _)| i as u32).collect();
        let offsets = if text.is_ascii() { Vec::new() } else { indices() };
        Piece { text, start, file, offsets, repaired: None }
    }

    /// What the parser gets.
    pub(super) fn parsed(&self) -> &str {
        self.repaired.as_ref().map_or(self.text, |(text, _)| text)
    }

    /// Byte of the text for a character of what the parser got.
    pub(super) fn local_byte(&self, index: usize) -> usize {
        let offsets = match &self.repaired {
            Some((_, offsets)) => offsets,
            None => &self.offsets,
        };
        if self.repaired.is_none() && offsets.is_empty() {
            return index.min(self.text.len());
        }
        offsets.get(index).map_or(self.text.len(), |&byte| byte as usize)
    }
}

/// What the builder stopped at.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Byte offsets in the file.
    pub(super) start: usize,
    pub(super) end: usize,
    /// A text that GitLab takes to be the same and that does not have this fault.
    pub(super) repaired: Option<(String, Vec<u32>)>,
    pub(super) help: Option<&'static str>,
}

impl Failure {
    fn diagnose(self, text: &str, file: FileId) -> Diagnostic {
        let message = if self.code == "yaml-syntax" {
            let before = text.get(..self.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            format!("(<unknown>): {} at line {line} column {column}", self.message)
        } else {
            self.message
        };
        let diagnostic = Diagnostic::error(self.code, message).at(Span::new(file, self.start, self.end), "");
        match self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

/// Byte ranges of the pieces; an empty leading one is dropped.
fn split(text: &str) -> Vec<(usize, usize)> {
    let mut start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    if !text.contains("---") {
        return vec![(start, text.len())];
    }
    let mut pieces = Vec::new();
    for divider in DIVIDER.find_iter(text) {
        if divider.start() > start {
            pieces.push((start, divider.start()));
        }
        start = divider.end();
    }
    pieces.push((start, text.len()));
    pieces
}

/// Rails' `blank?`: nothing, false, an empty text or collection.
fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.text.trim().is_empty(),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(mapping) => mapping.is_empty(),
        _ => false,
    }
}
