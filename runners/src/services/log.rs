//! What a service prints: to a file of its own, masked and limited; on demand into the job's log.

use super::start::Surroundings;
use crate::executor::{Place, Said, Voice};
use crate::log::{DEFAULT_LIMIT, Limit, Masker};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Lines that warnings about a service show.
const LAST_LINES: usize = 20;
/// A longer line is cut in pieces of this.
const LONGEST_LINE: usize = 4096;

/// The last lines of a log, shared with who writes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// For the end of a sentence.
    pub(super) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return "; it has printed nothing".to_owned();
        }
        lines.iter().fold("; its last lines:".to_owned(), |text, line| format!("{text}\n  {line}"))
    }
}

/// Writes what a service prints.
pub(crate) struct Log {
    name: String,
    file: File,
    masker: Masker,
    limit: Limit,
    tail: Tail,
    said: Option<Voice>,
    line: Vec<u8>,
}

impl Log {
    pub(super) fn new(name: &str, around: &Surroundings<'_>) -> io::Result<Log> {
        Log::open(name, &around.logs, around.masked, around.debug.then(|| around.said.clone()))
    }

    /// The log of a service of a job.
    pub(crate) fn of(name: &str, place: &Place) -> io::Result<Log> {
        let debug = place.variables.iter().find(|(key, _)| key == "CI_DEBUG_SERVICES");
        let debug = debug.is_some_and(|(_, value)| matches!(value.as_str(), "true" | "1"));
        Log::open(name, &place.service_logs, &place.masked, debug.then(|| place.said.clone()))
    }

    fn open(name: &str, logs: &Path, masked: &[String], said: Option<Voice>) -> io::Result<Log> {
        std::fs::create_dir_all(logs)?;
        // services of one name share a log
        let path = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(path)?;
        let mut masker = Masker::default();
        for value in masked {
            masker.add(value);
        }
        Ok(Log {
            name: name.to_owned(),
            file,
            masker,
            limit: Limit::new(DEFAULT_LIMIT),
            tail: Tail::default(),
            said,
            line: Vec::new(),
        })
    }

    pub(super) fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Until nobody has the output open any more.
    pub(crate) async fn follow(mut self, mut output: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        let mut shown = Vec::new();
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            self.masker.push(&buffer[..length], &mut shown);
            self.write(&shown);
            shown.clear();
        }
        self.masker.finish(&mut shown);
        self.write(&shown);
        self.end_line();
    }

    fn write(&mut self, shown: &[u8]) {
        let (kept, cut) = self.limit.take(shown);
        // a full disk must not end the service; the job meets it soon enough
        let _unwritten = self.file.write_all(kept);
        if cut {
            let _unwritten = self.file.write_all(b"\n(further output is not kept)\n");
        }
        for &byte in shown {
            if byte == b'\n' || self.line.len() >= LONGEST_LINE {
                self.end_line();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        self.tail.push(&line);
        if let Some(said) = &self.said {
            said.say(Said::Beside(format!("[service:{}] {line}", self.name)));
        }
    }
}
