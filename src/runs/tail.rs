//! The events of a run as they are written.

use super::stored::StoredRun;
use pipelines::event::Event;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

/// How often the journal of a running run is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Yields what has happened, then waits for what happens, until the run is over.
pub struct Tail {
    run: StoredRun,
    journal: BufReader<File>,
    line: String,
}

impl Tail {
    /// From the first event on.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn of(run: &StoredRun) -> io::Result<Tail> {
        let journal = BufReader::new(File::open(run.journal())?);
        Ok(Tail { run: run.clone(), journal, line: String::new() })
    }

    /// The next whole line that is an event; none while there is no more.
    fn read(&mut self) -> Option<Event> {
        loop {
            if self.journal.read_line(&mut self.line).ok()? == 0 || !self.line.ends_with('\n') {
                return None;
            }
            let event = serde_json::from_str(&self.line).ok();
            self.line.clear();
            if event.is_some() {
                return event;
            }
        }
    }
}

impl Iterator for Tail {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            // asked before reading: the last lines may come between
            let running = self.run.is_running();
            if let Some(event) = self.read() {
                return Some(event);
            }
            if !running {
                return None;
            }
            std::thread::sleep(EVERY);
        }
    }
}
