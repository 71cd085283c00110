//! Files in and out of a sandbox. Runs inside it: whatever links a job made, they lead nowhere else.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::archive::Selection;

use super::error::Doing;
use super::{Entry, EntryKind, Failure};

const BUFFER: usize = 256 * 1024;

/// Writes an [`Entry`] for everything below `dir`, parents before their content, in the order of names.
pub(super) fn list(dir: &Path, out: BorrowedFd<'_>) -> Result<(), Failure> {
    let doing = || format!("listing `{}`", dir.display());
    let mut out = BufWriter::with_capacity(BUFFER, File::from(out.try_clone_to_owned().doing(doing)?));
    let mut pending = vec![PathBuf::new()];
    let mut record = Vec::new();
    while let Some(relative) = pending.pop() {
        let full = dir.join(&relative);
        let doing = || format!("listing `{}`", full.display());
        let mut entries: Vec<_> = fs::read_dir(&full).and_then(Iterator::collect).doing(doing)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let metadata = entry.metadata().doing(doing)?;
            let path = relative.join(entry.file_name());
            let kind = match metadata.file_type() {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Dir,
                kind if kind.is_symlink() => EntryKind::Symlink,
                _ => continue,
            };
            if kind == EntryKind::Dir {
                pending.push(path.clone());
            }
            let size = if kind == EntryKind::File { metadata.len() } else { 0 };
            record.clear();
            Entry { path, kind, size }.write(&mut record);
            out.write_all(&record).doing(doing)?;
        }
    }
    out.flush().doing(doing)
}

/// Writes `paths` as a tar stream.
pub(super) fn pack(dir: &Path, paths: &[PathBuf], out: BorrowedFd<'_>) -> Result<(), Failure> {
    let doing = || format!("packing files of `{}`", dir.display());
    let out = BufWriter::with_capacity(BUFFER, File::from(out.try_clone_to_owned().doing(doing)?));
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    archive.sparse(false);
    for path in paths {
        archive
            .append_path_with_name(dir.join(path), path)
            .doing(|| format!("packing `{}`", path.display()))?;
    }
    archive.into_inner().and_then(|mut out| out.flush()).doing(doing)
}

/// Packs what `selection` finds, and tells what that was.
pub(super) fn archive(dir: &Path, selection: &Selection) -> Result<(), Failure> {
    let doing = || format!("packing files of `{}`", dir.display());
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned().doing(doing)?);
    let out = BufWriter::with_capacity(BUFFER, out);
    let packed = crate::archive::pack(dir, selection, out)
        .map_err(|error| Failure::new(doing(), error.to_string()))?;
    let told = serde_json::to_writer(std::io::stderr().lock(), &packed);
    told.map_err(std::io::Error::from).doing(doing)
}

/// Unpacks an archive of [`archive`], and tells what that was.
pub(super) fn restore(dir: &Path, archive: Option<OwnedFd>) -> Result<(), Failure> {
    let doing = || format!("unpacking into `{}`", dir.display());
    let archive = File::from(archive.ok_or_else(|| Failure::new(doing(), "no archive was given"))?);
    let unpacked =
        crate::archive::unpack(dir, archive).map_err(|error| Failure::new(doing(), error.to_string()))?;
    let mut out = std::io::stdout().lock();
    let told = serde_json::to_writer(&mut out, &unpacked).map_err(std::io::Error::from);
    // flushed here: the task ends without Rust's own clean-up
    told.and_then(|()| out.flush()).doing(doing)
}

/// Unpacks a tar stream. Owners are the task's user (root inside); modes and times are kept.
pub(super) fn unpack(dir: &Path, input: OwnedFd) -> Result<(), Failure> {
    let doing = || format!("unpacking into `{}`", dir.display());
    fs::create_dir_all(dir).doing(doing)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, File::from(input)));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    archive.unpack(dir).doing(doing)
}
