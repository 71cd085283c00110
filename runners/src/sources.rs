//! Snapshots of the sources: one plain directory for each commit or tree, made once, read only by convention.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A snapshot can't be had.
#[derive(Debug, thiserror::Error)]
#[error("making the snapshot of `{id}` in `{store}`: {source}")]
pub struct SnapshotError {
    id: String,
    store: String,
    source: io::Error,
}

/// The directory with the sources of `id` (a commit or tree) below `store`. When it is not there yet, `fill`
/// writes them into an empty directory that becomes the snapshot only when `fill` succeeds. Runs of this or
/// other processes that want the same one wait, and get the one that is made. Blocks.
///
/// # Errors
/// `id` is no object id, `fill` failed, or the store can't be written.
pub fn snapshot(
    store: &Path,
    id: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<PathBuf, SnapshotError> {
    let failed = |source| SnapshotError { id: id.to_owned(), store: store.display().to_string(), source };
    make(store, id, fill).map_err(failed)
}

fn make(store: &Path, id: &str, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || !id.chars().all(safe) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an object id"));
    }
    let done = store.join(id);
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(store)?;
    let _lock = lock(&store.join(format!("{id}.lock")))?;
    // somebody else may have made it while we waited
    if done.is_dir() {
        return Ok(done);
    }
    let unfinished = store.join(format!("{id}.part"));
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir(&unfinished)?;
    fill(&unfinished)?;
    fs::rename(&unfinished, &done)?;
    Ok(done)
}

/// Held until the file is dropped, and no longer than this process lives.
fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_snapshot_is_made_once_whoever_asks() {
        let store = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let fill = |dir: &Path| {
            made.fetch_add(1, Ordering::SeqCst);
            fs::write(dir.join("f"), "x")
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(snapshot(store.path(), "abc1", fill).unwrap().join("f").is_file()));
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_one_leaves_nothing_and_can_be_made_again() {
        let store = tempfile::tempdir().unwrap();
        let failing = snapshot(store.path(), "abc2", |dir| {
            fs::write(dir.join("half"), "")?;
            Err(io::Error::other("disk on fire"))
        });
        assert!(failing.unwrap_err().to_string().contains("`abc2`"));
        let path = snapshot(store.path(), "abc2", |dir| fs::write(dir.join("f"), "")).unwrap();
        assert!(!path.join("half").exists());
        assert!(snapshot(store.path(), "../x", |_| Ok(())).is_err());
    }
}
