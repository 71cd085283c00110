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
        let piece = Piece { text: &text[start..end], start, file };
        let node = Builder::new(&piece, hints).build().map_err(|failure| failure.diagnose(text, file))?;
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

/// A document in the text of its file.
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Where the piece begins in the file, in bytes.
    pub(super) start: usize,
    pub(super) file: FileId,
}

/// What the builder stopped at.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) message: String,
    /// Byte offsets in the file.
    pub(super) start: usize,
    pub(super) end: usize,
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
