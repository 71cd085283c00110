//! Archives with the same content are one file: those of a job are compared with those of the run before. Times of
//! files don't count, they differ from run to run.

use super::artifacts::{Kept, of_run, runs};
use runners::artifacts::{Stored, content_digest};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Larger archives are not read again for this.
const LARGEST: u64 = 32_000_000;

/// Replaces archives of `newest` that the run before has as well by hard links, until `deadline`.
pub(super) fn share(project: &Path, newest: &Path, deadline: Instant) -> io::Result<()> {
    let Some((_, before)) = runs(project).into_iter().find(|(_, run)| run != newest) else { return Ok(()) };
    let before: HashMap<String, Kept> =
        of_run(&before)?.into_iter().map(|kept| (kept.job.clone(), kept)).collect();
    for kept in of_run(newest)? {
        let Some(other) = before.get(&kept.job) else { continue };
        for (own, old) in pairs(&kept, other) {
            if Instant::now() >= deadline {
                return Ok(());
            }
            share_one(&own, &old)?;
        }
    }
    Ok(())
}

/// Archives of two indexes that list the same files: perhaps with the same content.
fn pairs(own: &Kept, old: &Kept) -> Vec<(PathBuf, PathBuf)> {
    let alike = |a: &Stored, b: &Stored| a.files == b.files && a.size < LARGEST;
    let paths = |a: &Stored, b: &Stored| (own.dir.join(&a.file), old.dir.join(&b.file));
    let archives = own.index.archive.iter().zip(&old.index.archive);
    let reports =
        own.index.reports.iter().filter_map(|(kind, stored)| Some((stored, old.index.reports.get(kind)?)));
    archives.chain(reports).filter(|(a, b)| alike(a, b)).map(|(a, b)| paths(a, b)).collect()
}

fn share_one(own: &Path, old: &Path) -> io::Result<()> {
    let (Ok(a), Ok(b)) = (fs::metadata(own), fs::metadata(old)) else { return Ok(()) };
    if (a.dev(), a.ino()) == (b.dev(), b.ino()) || content_digest(own)? != content_digest(old)? {
        return Ok(());
    }
    // the name of the archive never is without a file
    let temporary = own.with_extension("shared");
    match fs::hard_link(old, &temporary) {
        Ok(()) => fs::rename(&temporary, own),
        // a file system without links: two files then
        Err(_) => Ok(()),
    }
}
