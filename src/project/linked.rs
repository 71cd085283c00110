//! Trees of hard links: a copy that costs a directory entry for each file. Both sides are read only by convention.

use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Links every file and symbolic link below `from` into `to`, which exists, but for the relative paths in `skip`.
/// Directories without files are made only below `.git`, where git wants them: work trees have none.
///
/// # Errors
/// A file can't be read or linked; the message names it.
pub(super) fn link_tree(from: &Path, to: &Path, skip: &HashSet<PathBuf>) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let mut made = directory.as_os_str().is_empty();
        for entry in fs::read_dir(from.join(&directory)).map_err(named(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            if skip.contains(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                if path.starts_with(".git") {
                    fs::create_dir_all(to.join(&path)).map_err(named(&path))?;
                }
                waiting.push(path);
                continue;
            }
            if !made {
                fs::create_dir_all(to.join(&directory)).map_err(named(&directory))?;
                made = true;
            }
            link(&entry.path(), &to.join(&path)).map_err(named(&path))?;
        }
    }
    Ok(())
}

/// A hard link; a copy where the file systems differ, or where the kernel guards files of others.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::CrossesDevices | ErrorKind::PermissionDenied | ErrorKind::TooManyLinks
            ) =>
        {
            if from.is_symlink() {
                return std::os::unix::fs::symlink(fs::read_link(from)?, to);
            }
            fs::copy(from, to).map(drop)
        }
        linked => linked,
    }
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("linking `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn files_are_shared_and_empty_directories_stay_behind() {
        let (from, to) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for path in ["a", "d/b", "gone/c", ".git/refs/x"] {
            let path = from.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, "x").expect("a file");
        }
        fs::create_dir_all(from.path().join(".git/objects/info")).expect("a directory");
        std::os::unix::fs::symlink("no/where", from.path().join("d/l")).expect("a link");
        link_tree(from.path(), to.path(), &HashSet::from([PathBuf::from("gone/c")])).expect("linked");
        let inode = |root: &Path| fs::symlink_metadata(root.join("d/b")).expect("a file").ino();
        assert_eq!(inode(from.path()), inode(to.path()));
        assert_eq!(fs::read_link(to.path().join("d/l")).expect("a link"), Path::new("no/where"));
        assert!(!to.path().join("gone").exists() && to.path().join(".git/objects/info").is_dir());
    }
}
