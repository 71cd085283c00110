//! Git LFS: files that git holds as pointers. Their contents come from the user's own store, `.git/lfs/objects`;
//! nothing is downloaded.

use crate::error::{CliError, CliResult};
use git2::{AttrCheckFlags, Repository};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The first line of every pointer.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";
/// A pointer is smaller than this, says the specification.
const LONGEST_POINTER: u64 = 1024;

/// Replaces pointers in `dir` by what they stand for, where the user's repository has it.
pub(super) fn smudge(made: &Repository, of_user: &Repository, dir: &Path) -> CliResult {
    let objects = of_user.commondir().join("lfs/objects");
    if !objects.is_dir() {
        return Ok(());
    }
    let failed = |path: &str, e: &dyn std::fmt::Display| {
        CliError::usage(format!("making a snapshot of the sources: the LFS file `{path}`: {e}"))
    };
    let mut index = made.index().map_err(|e| failed("index", &e.message()))?;
    for path in tracked_by_lfs(made)? {
        if !replace(&dir.join(&path), &objects).map_err(|e| failed(&path, &e))? {
            continue;
        }
        let found = dir.join(&path).symlink_metadata().map_err(|e| failed(&path, &e))?;
        if let Some(mut entry) = index.get_path(Path::new(&path), 0) {
            // git takes a file for unchanged by its size and time: it never sees the pointer again
            entry.file_size = u32::try_from(found.size() & 0xffff_ffff).unwrap_or(u32::MAX);
            let nanoseconds = u32::try_from(found.mtime_nsec()).unwrap_or(0);
            entry.mtime = git2::IndexTime::new(i32::try_from(found.mtime()).unwrap_or(i32::MAX), nanoseconds);
            entry.ino = u32::try_from(found.ino() & 0xffff_ffff).unwrap_or(u32::MAX);
            index.add(&entry).map_err(|e| failed(&path, &e.message()))?;
        }
    }
    index.write().map_err(|e| failed("index", &e.message()))
}

/// Writes the pointers whose contents are in the snapshot `dir` below `to`.
pub(super) fn write_pointers(snapshot: &Repository, dir: &Path, to: &Path) -> CliResult {
    for path in tracked_by_lfs(snapshot)? {
        let failed = |e: &dyn std::fmt::Display| CliError::usage(format!("the LFS pointer of `{path}`: {e}"));
        if read_pointer(&dir.join(&path)).map_err(|e| failed(&e))?.is_some() {
            continue;
        }
        let index = snapshot.index().map_err(|e| failed(&e.message()))?;
        let Some(entry) = index.get_path(Path::new(&path), 0) else { continue };
        let blob = snapshot.find_blob(entry.id).map_err(|e| failed(&e.message()))?;
        let file = to.join(&path);
        fs::create_dir_all(file.parent().unwrap_or(to)).map_err(|e| failed(&e))?;
        fs::write(file, blob.content()).map_err(|e| failed(&e))?;
    }
    Ok(())
}

/// Paths that are pointers in the snapshot `dir`, because the user has not fetched their contents.
pub(super) fn missing(snapshot: &Repository, dir: &Path) -> CliResult<Vec<String>> {
    let mut missing = tracked_by_lfs(snapshot)?;
    missing.retain(|path| read_pointer(&dir.join(path)).is_ok_and(|pointer| pointer.is_some()));
    Ok(missing)
}

/// Paths with the attribute `filter=lfs`.
fn tracked_by_lfs(made: &Repository) -> CliResult<Vec<String>> {
    let failed = |e: git2::Error| CliError::usage(format!("looking for LFS files: {}", e.message()));
    let index = made.index().map_err(failed)?;
    let mentions = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains("filter=lfs"));
    let root = made.workdir().unwrap_or_else(|| made.path());
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let attributes =
        index.iter().map(|entry| text(&entry.path)).filter(|path| path.ends_with(".gitattributes"));
    // asking git about every path is slow: only where some file says so
    if !attributes.into_iter().any(|path| mentions(&root.join(path))) {
        return Ok(Vec::new());
    }
    let is_lfs = |path: &String| {
        let value = made.get_attr(Path::new(path), "filter", AttrCheckFlags::FILE_THEN_INDEX);
        value.is_ok_and(|value| value == Some("lfs"))
    };
    Ok(index.iter().map(|entry| text(&entry.path)).filter(is_lfs).collect())
}

/// Puts the object in the place of its pointer; the mode stays. False: it is no pointer, or there is no object.
fn replace(file: &Path, objects: &Path) -> io::Result<bool> {
    let Some(pointer) = read_pointer(file)? else { return Ok(false) };
    let Some(object) = object(&pointer, objects).filter(|object| object.is_file()) else { return Ok(false) };
    let mode = file.metadata()?.permissions();
    // a new file: this one may be shared with another snapshot
    fs::remove_file(file)?;
    fs::copy(object, file)?;
    fs::set_permissions(file, mode)?;
    // older than git's index, or git would look into the file and find no pointer
    let then = SystemTime::now() - Duration::from_secs(10);
    File::open(file)?.set_modified(then)?;
    Ok(true)
}

/// The text, when the file is a pointer.
fn read_pointer(file: &Path) -> io::Result<Option<String>> {
    match file.symlink_metadata() {
        Ok(found) if found.is_file() && found.len() < LONGEST_POINTER => {}
        _ => return Ok(None),
    }
    let text = String::from_utf8(fs::read(file)?).unwrap_or_default();
    Ok(text.starts_with(VERSION).then_some(text))
}

/// Where the content of a pointer is kept.
fn object(pointer: &str, objects: &Path) -> Option<PathBuf> {
    let id = pointer.lines().find_map(|line| line.strip_prefix("oid sha256:"))?;
    let plain = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| objects.join(&id[..2]).join(&id[2..4]).join(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_names_its_object() {
        let id = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let pointer = format!("{VERSION}\noid sha256:{id}\nsize 12345\n");
        let path = object(&pointer, Path::new("/o"));
        assert_eq!(path, Some(PathBuf::from(format!("/o/4d/7a/{id}"))));
        assert_eq!(object(&format!("{VERSION}\noid sha256:../../etc/passwd\n"), Path::new("/o")), None);
    }
}
