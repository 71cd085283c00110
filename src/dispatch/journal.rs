//! The stream of events: numbered, dated, kept in a file, handed to whoever listens.

use pipelines::event::{Event, EventKind};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

/// The stream of events of one run.
pub struct Journal {
    file: File,
    failed: bool,
    seq: u64,
    at: u64,
    subscribers: Vec<mpsc::Sender<Arc<Event>>>,
}

impl Journal {
    /// A journal in a new file, a JSON document a line.
    ///
    /// # Errors
    /// The file exists already or can't be created.
    pub fn create(path: &Path) -> io::Result<Journal> {
        let file = File::options().append(true).create_new(true).open(path)?;
        // tells readers that the run is alive; the kernel lets go of it however this process ends. A file system
        // without locks only makes runs look ended
        let _ = file.try_lock();
        Ok(Journal { file, failed: false, seq: 0, at: 0, subscribers: Vec::new() })
    }

    /// Every event from now on. A slow reader delays nobody; the channel closes after the run.
    pub fn subscribe(&mut self) -> mpsc::Receiver<Arc<Event>> {
        let (sender, receiver) = mpsc::channel();
        self.subscribers.push(sender);
        receiver
    }

    /// Adds an event.
    pub(super) fn record(&mut self, kind: EventKind) {
        self.seq += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        // a clock that is set back must not make durations negative
        self.at = self.at.max(u64::try_from(now).unwrap_or(u64::MAX));
        let event = Arc::new(Event { seq: self.seq, at: self.at, kind });
        let written = self.write(&event);
        self.subscribers.retain(|s| s.send(Arc::clone(&event)).is_ok());
        if let Err(error) = written
            && !std::mem::replace(&mut self.failed, true)
        {
            let message = format!("the journal of this run is incomplete: writing it failed: {error}");
            self.record(EventKind::Notice { job: None, message });
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        // one write a line, so that a reader never sees half an event in front of a whole one
        self.file.write_all(&line)
    }
}

/// Is the run that writes this journal still alive?
pub fn is_being_written(path: &Path) -> bool {
    let locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(path).is_ok_and(locked)
}

/// The events of a stored journal. A last line without an end (the machine stopped while it was written) is left
/// out.
///
/// # Errors
/// The file can't be read, or a line is not an event.
pub fn read_journal(path: &Path) -> io::Result<Vec<Event>> {
    let text = std::fs::read_to_string(path)?;
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).map_err(io::Error::from)).collect()
}
