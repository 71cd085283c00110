//! The logs that are being written, and who watches which.

use super::Writer;
use super::writer::paths;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a log may have; a job with more fails.
pub const LIMIT: u64 = 512 << 20;

/// All logs of a server.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
    open: Mutex<HashMap<i64, Arc<Mutex<Writer>>>>,
    watched: Mutex<HashMap<i64, usize>>,
}

impl Logs {
    /// In a directory, which is made when the first log is.
    pub fn new(dir: PathBuf) -> Logs {
        Logs { dir, open: Mutex::default(), watched: Mutex::default() }
    }

    /// The file of a job's log; there is none before its first byte.
    pub fn path(&self, job: i64) -> PathBuf {
        let [log, ..] = paths(&self.dir, job);
        log
    }

    /// The directory of all.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The writer of a job's log, if it is open.
    pub fn writer(&self, job: i64) -> Option<Arc<Mutex<Writer>>> {
        locked(&self.open).get(&job).cloned()
    }

    /// The writer of a job's log, opened if it is not.
    ///
    /// # Errors
    /// The files can't be opened.
    pub fn open(&self, job: i64, secrets: &[String]) -> io::Result<Arc<Mutex<Writer>>> {
        let mut open = locked(&self.open);
        if let Some(writer) = open.get(&job) {
            return Ok(Arc::clone(writer));
        }
        let writer = Arc::new(Mutex::new(Writer::open(&self.dir, job, LIMIT, secrets)?));
        open.insert(job, Arc::clone(&writer));
        Ok(writer)
    }

    /// The log is not written any more, or must be opened again after an error.
    pub fn close(&self, job: i64) {
        locked(&self.open).remove(&job);
    }

    /// Jobs whose logs are open.
    pub fn open_jobs(&self) -> Vec<i64> {
        locked(&self.open).keys().copied().collect()
    }

    /// Somebody watches the log, until the answer is dropped.
    pub fn watch(self: &Arc<Logs>, job: i64) -> Watching {
        *locked(&self.watched).entry(job).or_default() += 1;
        Watching { logs: Arc::clone(self), job }
    }

    /// Does somebody watch the log?
    pub fn is_watched(&self, job: i64) -> bool {
        locked(&self.watched).contains_key(&job)
    }

    /// Removes the files of a job's log (retention).
    ///
    /// # Errors
    /// They are there and can't be removed.
    pub fn remove(&self, job: i64) -> io::Result<()> {
        self.close(job);
        for path in paths(&self.dir, job) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }
}

/// See [`Logs::watch`].
#[derive(Debug)]
pub struct Watching {
    logs: Arc<Logs>,
    job: i64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = locked(&self.logs.watched);
        if let Some(count) = watched.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                watched.remove(&self.job);
            }
        }
    }
}

/// A panic elsewhere leaves no half-made state in these maps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
