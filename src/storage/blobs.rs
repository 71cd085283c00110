//! Archives by the digest of their content, `artifacts/AA/DIGEST.tar.zst`: each is in a project once, whichever jobs and
//! runs made it. Those refer to it by hard links, so the file system counts how many do.

use super::artifacts::{Kept, of_run};
use runners::artifacts::Stored;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const STORE: &str = "artifacts";

/// Makes the run's archives links of those that the project has already, and keeps those that are new to it.
pub(super) fn share(project: &Path, run: &Path) -> io::Result<()> {
    for kept in of_run(run)? {
        for (file, stored) in archives(&kept) {
            if let Some(start) = stored.digest.get(..2) {
                let blob = project.join(STORE).join(start).join(format!("{}.tar.zst", stored.digest));
                share_one(&file, &blob)?;
            }
        }
    }
    Ok(())
}

fn archives(kept: &Kept) -> impl Iterator<Item = (PathBuf, &Stored)> {
    let all = kept.index.archive.iter().chain(kept.index.reports.values());
    all.map(|stored| (kept.dir.join(&stored.file), stored))
}

fn share_one(own: &Path, blob: &Path) -> io::Result<()> {
    if let Some(directory) = blob.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::hard_link(own, blob) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // new here; or a file system without links, where each has its own file
        _ => return Ok(()),
    }
    let (Ok(a), Ok(b)) = (fs::metadata(own), fs::metadata(blob)) else { return Ok(()) };
    if (a.dev(), a.ino()) == (b.dev(), b.ino()) {
        return Ok(());
    }
    // the name of the archive never is without a file
    let temporary = own.with_extension("shared");
    match fs::hard_link(blob, &temporary) {
        Ok(()) => fs::rename(&temporary, own),
        // swept meanwhile
        Err(_) => Ok(()),
    }
}

/// Removes what no run refers to any more.
///
/// # Errors
/// The disk refuses.
pub fn sweep_artifacts(project: &Path) -> io::Result<()> {
    for directory in fs::read_dir(project.join(STORE)).into_iter().flatten().flatten() {
        for blob in fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            // whoever links to it just now has the file, not the name
            if blob.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1) {
                match fs::remove_file(blob.path()) {
                    // another command sweeps as well
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
            }
        }
    }
    Ok(())
}

/// Bytes of the run's archives that [`super::inventory::disk_size`] counts for the store's own links: the run's, too.
pub(super) fn unseen(kept: &[Kept]) -> u64 {
    let share = |file: PathBuf| {
        let found = fs::metadata(file).ok().filter(|found| found.nlink() > 1)?;
        let bytes = found.blocks() * 512;
        Some(bytes / (found.nlink() - 1) - bytes / found.nlink())
    };
    kept.iter()
        .flat_map(archives)
        .filter(|(_, stored)| !stored.digest.is_empty())
        .filter_map(|(file, _)| share(file))
        .sum()
}
