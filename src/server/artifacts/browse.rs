//! What is in a job's archive.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// Entries in one answer.
const MOST: usize = 5000;
/// Bytes of a file that is taken out of an archive.
const LARGEST: u64 = 512 << 20;

/// A file or a directory of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Entry {
    /// From the archive's root, without `/` at the end.
    pub path: String,
    /// Is it a directory?
    pub directory: bool,
    /// Bytes, unpacked; of a directory all below it.
    pub size: u64,
}

/// What is directly below a directory (`` is the root): directories first, then files, by name.
///
/// # Errors
/// The archive can't be read.
pub fn list(archive: &Path, below: &str) -> io::Result<Vec<Entry>> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(archive)?)).map_err(io::Error::other)?;
    let prefix = match below.trim_matches('/') {
        "" => String::new(),
        below => format!("{below}/"),
    };
    let mut found: BTreeMap<(bool, String), u64> = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(io::Error::other)?;
        // a path that leads out of the archive is not shown
        let Some(path) = entry.enclosed_name() else { continue };
        let path = path.to_string_lossy().into_owned();
        let Some(rest) = path.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
        let (name, directory) = match rest.split_once('/') {
            Some((first, _)) => (first, true),
            None => (rest, entry.is_dir()),
        };
        let size = if entry.is_dir() { 0 } else { entry.size() };
        if found.len() < MOST || found.contains_key(&(!directory, name.to_owned())) {
            *found.entry((!directory, name.to_owned())).or_default() += size;
        }
    }
    let entry = |((file, name), size): ((bool, String), u64)| Entry {
        path: format!("{prefix}{name}"),
        directory: !file,
        size,
    };
    Ok(found.into_iter().map(entry).collect())
}

/// A file of an archive, unpacked into a temporary file; none: there is no such file.
///
/// # Errors
/// The archive can't be read, or the file is larger than may be taken out.
pub fn extract(archive: &Path, path: &str) -> io::Result<Option<File>> {
    let mut archive = ZipArchive::new(BufReader::new(File::open(archive)?)).map_err(io::Error::other)?;
    let Some(index) = archive.index_for_name(path) else { return Ok(None) };
    let entry = archive.by_index(index).map_err(io::Error::other)?;
    if entry.is_dir() || entry.is_symlink() {
        return Ok(None);
    }
    let mut out = tempfile::tempfile()?;
    // the size that the archive tells may be a lie
    let written = io::copy(&mut entry.take(LARGEST + 1), &mut out)?;
    if written > LARGEST {
        return Err(io::Error::other(format!("`{path}` has more than {} MiB", LARGEST >> 20)));
    }
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use zip::write::SimpleFileOptions;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, text) in files {
            if name.ends_with('/') {
                zip.add_directory(*name, SimpleFileOptions::default()).unwrap();
            } else {
                zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                zip.write_all(text.as_bytes()).unwrap();
            }
        }
        zip.finish().unwrap();
        file
    }

    #[test]
    fn directories_are_walked_and_files_taken_out() {
        let zip = archive(&[
            ("out/", ""),
            ("out/a.txt", "abc"),
            ("out/deep/b.txt", "defg"),
            ("z", ""),
            ("../evil", "x"),
        ]);
        let names = |below: &str| -> Vec<_> {
            list(zip.path(), below).unwrap().into_iter().map(|e| (e.path, e.directory, e.size)).collect()
        };
        assert_eq!(names(""), [("out".to_owned(), true, 7), ("z".to_owned(), false, 0)]);
        assert_eq!(names("out"), [("out/deep".to_owned(), true, 4), ("out/a.txt".to_owned(), false, 3)]);
        assert!(names("nothing").is_empty());
        let mut file = extract(zip.path(), "out/deep/b.txt").unwrap().unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "defg");
        for absent in ["out", "out/", "nothing", "../z"] {
            assert!(extract(zip.path(), absent).unwrap().is_none(), "{absent}");
        }
        assert!(list(Path::new("/nonexistent"), "").is_err());
    }
}
