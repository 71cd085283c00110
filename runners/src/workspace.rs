//! Directories for jobs that run directly on this machine: numbered slots below one directory, each locked while
//! a job has it, so that paths stay the same from run to run (compilers' caches depend on them) and no two jobs
//! ever share one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// A slot that is ours until it is dropped. Its directory was empty when we got it.
#[derive(Debug)]
pub struct Workspace {
    /// Number of the slot, from 0.
    pub slot: u32,
    /// `ROOT/SLOT`: what jobs know as `CI_BUILDS_DIR`.
    pub builds: PathBuf,
    /// Where the sources go; exists, and is empty.
    pub project: PathBuf,
    root: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Takes the first free slot below `root` and empties it of what a killed run may have left. `project` is
    /// the project's path: `group/name`. Blocks.
    ///
    /// # Errors
    /// The directories can't be made, or `project` is no plain relative path.
    pub fn claim(root: &Path, project: &str) -> io::Result<Workspace> {
        let plain = |component| matches!(component, Component::Normal(_));
        if project.is_empty() || !Path::new(project).components().all(plain) {
            let text = format!("`{project}` is not a project path");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let (slot, lock) = free_slot(&root)?;
        let builds = root.join(slot.to_string());
        let project = builds.join(project);
        let workspace = Workspace { slot, builds, project, root, _lock: lock };
        workspace.empty()?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&workspace.project)?;
        fs::DirBuilder::new().mode(0o700).create(workspace.temporary())?;
        Ok(workspace)
    }

    /// `PROJECT.tmp`: file variables live here.
    pub fn temporary(&self) -> PathBuf {
        let mut name = self.project.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        self.project.with_file_name(name)
    }

    /// Where things go that are being removed.
    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join(format!("{}.trash", self.slot))
    }

    /// Removes everything in the slot. Renamed first, so that the slot is empty even when deleting is
    /// interrupted; what is left in the trash goes the next time. Blocks.
    ///
    /// # Errors
    /// The directory can't be moved away or deleted.
    pub fn empty(&self) -> io::Result<()> {
        let trash = self.trash();
        remove(&trash)?;
        match fs::rename(&self.builds, &trash) {
            Ok(()) => remove(&trash),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn free_slot(root: &Path) -> io::Result<(u32, File)> {
    for slot in 0.. {
        let path = root.join(format!("{slot}.lock"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => return Ok((slot, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other("every slot is taken"))
}

/// Deletes a tree, also below directories that their owner may not write to.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_writable(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        make_writable(&entry?.path())?;
    }
    Ok(())
}

/// Copies the tree `from` into the existing directory `to`, over what is there: modes, times and links are kept; on file systems that
/// can, contents are shared until somebody writes. Blocks.
///
/// # Errors
/// A file can't be read or written; the message names it.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(from.join(&directory)).map_err(named(&directory))? {
            let path = directory.join(entry?.file_name());
            if copy_entry(&from.join(&path), &to.join(&path)).map_err(named(&path))? {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("copying `{}`: {error}", path.display()))
}

/// Copies one file, link or (empty) directory; true for a directory.
fn copy_entry(from: &Path, to: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(from)?;
    if found.is_dir() {
        // the owner must be able to fill it and to work in it, whatever the snapshot's mode says
        let mode = found.permissions().mode() & 0o777 | 0o700;
        return match fs::DirBuilder::new().mode(mode).create(to) {
            // a hook that runs before the sources come in may have made it
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => Ok(true),
            made => made.map(|()| true),
        };
    }
    if to.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
        fs::remove_file(to)?;
    }
    if found.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if found.is_file() {
        fs::copy(from, to)?;
        let mode = found.permissions().mode() & 0o777 | 0o200;
        let file = File::open(to)?;
        file.set_modified(found.modified()?)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_exclusive_reused_and_empty() {
        let root = tempfile::tempdir().unwrap();
        let first = Workspace::claim(root.path(), "group/app").unwrap();
        let second = Workspace::claim(root.path(), "group/app").unwrap();
        assert_eq!((first.slot, second.slot), (0, 1));
        fs::write(first.project.join("left over"), "").unwrap();
        let read_only = first.project.join("shut");
        fs::create_dir(&read_only).unwrap();
        fs::write(read_only.join("f"), "").unwrap();
        fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
        let project = first.project.clone();
        drop(first);
        let again = Workspace::claim(root.path(), "group/app").unwrap();
        assert_eq!(again.project, project);
        assert_eq!(fs::read_dir(&again.project).unwrap().count(), 0);
        assert_eq!(again.temporary(), again.builds.join("group/app.tmp"));
        again.empty().unwrap();
        assert!(!again.builds.exists());
    }

    #[test]
    fn project_paths_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        for project in ["", "../x", "/etc", "a/../../b"] {
            assert!(Workspace::claim(root.path(), project).is_err(), "{project}");
        }
    }

    #[test]
    fn a_copy_keeps_modes_times_and_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("d")).unwrap();
        fs::write(from.path().join("d/run"), "#!").unwrap();
        fs::set_permissions(from.path().join("d/run"), fs::Permissions::from_mode(0o555)).unwrap();
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(from.path().join("d/run")).unwrap().set_modified(then).unwrap();
        std::os::unix::fs::symlink("nowhere", from.path().join("l")).unwrap();
        copy_tree(from.path(), to.path()).unwrap();
        let copy = fs::metadata(to.path().join("d/run")).unwrap();
        assert_eq!((copy.permissions().mode() & 0o777, copy.modified().unwrap()), (0o755, then));
        assert_eq!(fs::read_link(to.path().join("l")).unwrap(), Path::new("nowhere"));
    }
}
