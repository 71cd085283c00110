//! A place in the queue for a resource: a file that is locked while its owner lives.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Waits as long as it is not dropped, and the process lives.
pub(super) struct Ticket {
    queue: PathBuf,
    name: String,
    _file: File,
}

impl Ticket {
    /// Queues up with a pipeline that was created then (milliseconds since the epoch).
    ///
    /// # Errors
    /// The directory `queue` can't be made or written.
    pub(super) fn take(queue: &Path, created: u64) -> io::Result<Ticket> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(queue)?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{created:020}-{:010}-{number:06}", std::process::id());
        // locked before it has its name: nobody takes it for one of a dead process
        let making = queue.join(format!(".{name}"));
        let file = File::create(&making)?;
        file.lock()?;
        fs::rename(&making, queue.join(&name))?;
        Ok(Ticket { queue: queue.to_owned(), name, _file: file })
    }

    /// Is it the first of all that wait, or with `newest` the last? Tickets of dead processes are taken away.
    ///
    /// # Errors
    /// The queue can't be read.
    pub(super) fn is_next(&self, newest: bool) -> io::Result<bool> {
        for entry in fs::read_dir(&self.queue)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let before = if newest { name > self.name } else { name < self.name };
            if !before || name.starts_with('.') {
                continue;
            }
            // it may have gone meanwhile
            let Ok(file) = File::open(entry.path()) else { continue };
            match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => drop(fs::remove_file(entry.path())),
            }
        }
        Ok(true)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // what stays is taken away by the next who looks
        let _ = fs::remove_file(self.queue.join(&self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_or_the_newest_is_next_and_the_dead_do_not_count() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let queue = dir.path().join("queue");
        let tickets: Vec<Ticket> =
            [5, 9, 7].map(|created| Ticket::take(&queue, created).expect("a ticket")).into();
        fs::write(queue.join(format!("{:020}-dead", 1)), "").expect("a file");
        fs::write(queue.join(format!("{:020}-dead", 99)), "").expect("a file");
        let next = |newest| -> Vec<bool> {
            tickets.iter().map(|ticket| ticket.is_next(newest).expect("readable")).collect()
        };
        assert_eq!(next(false), [true, false, false]);
        assert_eq!(next(true), [false, true, false]);
        assert_eq!(fs::read_dir(&queue).expect("there").count(), 3, "those of the dead have gone");
        let [first, rest @ ..] = tickets.as_slice() else { panic!("there are three") };
        assert!(first.is_next(false).expect("readable") && rest.len() == 2);
        drop(tickets);
        assert_eq!(fs::read_dir(&queue).expect("there").count(), 0);
    }
}
