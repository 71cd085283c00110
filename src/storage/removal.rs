//! Removing: renamed into the trash, which is instant, then deleted. What an interrupted deletion leaves there goes
//! with the next.

use super::Item;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

/// Moves what belongs to the item into `trash`. False: somebody uses it.
///
/// # Errors
/// The disk refuses.
pub fn remove(item: &Item, trash: &Path) -> io::Result<bool> {
    let lock = item.lock.as_ref().and_then(|path| File::open(path).ok());
    if let Some(lock) = &lock {
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    fs::create_dir_all(trash)?;
    let place = tempfile::Builder::new().prefix("").tempdir_in(trash)?.keep();
    for path in &item.paths {
        match fs::rename(path, place.join(path.file_name().unwrap_or_default())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(true)
}

/// Deletes what is in the trash, until `deadline`.
///
/// # Errors
/// Something can't be deleted.
pub fn empty_trash(trash: &Path, deadline: Option<Instant>) -> io::Result<()> {
    for entry in fs::read_dir(trash).into_iter().flatten().flatten() {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break;
        }
        match fs::remove_dir_all(entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                make_writable(&entry.path())?;
                fs::remove_dir_all(entry.path())?;
            }
            // another command empties the same trash
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn make_writable(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(path)? {
            make_writable(&entry?.path())?;
        }
    }
    Ok(())
}
