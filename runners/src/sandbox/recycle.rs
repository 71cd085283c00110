//! A used state directory becomes as good as a new one. Making and deleting directories is most of what a short job costs
//! on ext4, which moreover looks at every inode that was deleted in the last seconds before it gives out one.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A directory that stays, by its path below the top, and its mode.
pub(super) type Kept = (PathBuf, u32);

/// Extended attributes that say nothing about a job: overlayfs' own notes, and labels that the machine gives to everything.
const HARMLESS: [&[u8]; 4] =
    [b"trusted.overlay.impure", b"trusted.overlay.uuid", b"security.selinux", b"security.SMACK64"];

/// Makes what is in `top` exactly these directories (parents before children), empty but for one another and for what is
/// in `spared`, which is not looked into.
///
/// # Errors
/// Something can't be removed or made as it was: it is not to be used again.
pub(super) fn settle(top: &Path, kept: &[Kept], spared: &[&str]) -> io::Result<()> {
    empty(top, Path::new(""), kept, spared)?;
    for (below, mode) in kept {
        let path = top.join(below);
        match DirBuilder::new().mode(*mode).create(&path) {
            // the mask of `ci` itself is nothing that a job shall notice
            Ok(()) => fs::set_permissions(&path, Permissions::from_mode(*mode))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => as_new(&path, *mode)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn empty(top: &Path, below: &Path, kept: &[Kept], spared: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(top.join(below))? {
        let entry = entry?;
        let child = below.join(entry.file_name());
        if spared.iter().any(|spared| child == Path::new(spared)) {
            continue;
        }
        let is_dir = entry.file_type()?.is_dir();
        if is_dir && kept.iter().any(|(kept, _)| *kept == child) {
            empty(top, &child, kept, spared)?;
        } else if is_dir {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Owner, mode and attributes as those of a new directory.
fn as_new(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if (found.uid(), found.gid()) != (uid.as_raw(), gid.as_raw()) {
        std::os::unix::fs::lchown(path, Some(uid.as_raw()), Some(gid.as_raw()))?;
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    let mut names = [0; 1024];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut left = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    match left.find(|name| !HARMLESS.contains(name)) {
        None => Ok(()),
        Some(name) => {
            Err(io::Error::other(format!("{:?} is set", OsStr::new(&*String::from_utf8_lossy(name)))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(top: &Path) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let mut waiting = vec![top.to_owned()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                found.push((entry.path().strip_prefix(top).unwrap().display().to_string(), mode));
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn what_a_job_left_is_gone_and_the_rest_is_as_it_was() {
        let top = tempfile::tempdir().unwrap();
        let kept = [("a", 0o755), ("a/tmp", 0o1777), ("b", 0o700)].map(|(path, mode)| (path.into(), mode));
        settle(top.path(), &kept, &["lock", "a/spared"]).unwrap();
        let new = tree(top.path());
        assert_eq!(
            new,
            [("a", 0o755), ("a/tmp", 0o1777), ("b", 0o700)].map(|(path, mode)| (path.to_owned(), mode))
        );
        fs::write(top.path().join("a/tmp/file"), "").unwrap();
        fs::create_dir_all(top.path().join("b/deep/er")).unwrap();
        fs::create_dir_all(top.path().join("other/b")).unwrap();
        fs::set_permissions(top.path().join("a/tmp"), Permissions::from_mode(0o700)).unwrap();
        fs::remove_dir_all(top.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", top.path().join("b")).unwrap();
        settle(top.path(), &kept, &["lock", "a/spared"]).unwrap();
        assert_eq!(tree(top.path()), new);
        fs::write(top.path().join("lock"), "").unwrap();
        fs::create_dir_all(top.path().join("a/spared/inner")).unwrap();
        settle(top.path(), &kept, &["lock", "a/spared"]).unwrap();
        assert_eq!(tree(top.path()).len(), new.len() + 3);
    }

    #[test]
    fn a_directory_with_foreign_attributes_is_not_used_again() {
        let top = tempfile::tempdir_in("/var/tmp").unwrap();
        let kept = [(PathBuf::from("a"), 0o755)];
        settle(top.path(), &kept, &[]).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(top.path().join("a"), "user.mark", b"1", flags) {
            Err(rustix::io::Errno::OPNOTSUPP) => {}
            set => {
                set.unwrap();
                assert!(settle(top.path(), &kept, &[]).unwrap_err().to_string().contains("user.mark"));
            }
        }
    }
}
