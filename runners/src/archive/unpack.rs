//! From a compressed tar stream to files, without ever leaving the directory: every path is opened relative to
//! the directory's own descriptor, and the kernel (`openat2`, `RESOLVE_BENEATH`) refuses what leads out of it.

use super::state::Entries;
use super::{ArchiveError, State};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unpacked {
    /// Files and links.
    pub files: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// How they stand now, if that is known.
    pub state: Option<State>,
}

/// Unpacks `archive` into `root`, which exists. Existing files are replaced, directories are kept. Links are
/// made as they are stored; an entry below a link that leads out of `root` is an error, as are `..` and
/// absolute paths. Device nodes and other special entries are ignored: [`super::pack`] never writes any.
///
/// # Errors
/// The archive is damaged, an entry would escape, or a file can't be written. What came before stays.
pub fn unpack(root: &Path, archive: impl Read) -> Result<Unpacked, ArchiveError> {
    let reading = ArchiveError::archive("reading");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, root, flags, Mode::empty())
        .map_err(|errno| ArchiveError::file("opening directory", root)(errno.into()))?;
    let tree = Tree { root: fd };
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).map_err(&reading)?);
    let mut unpacked = Unpacked::default();
    let mut entries = Entries::default();
    // set last: writing into a directory changes its time, and its mode may forbid writing
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(&reading)? {
        let mut entry = entry.map_err(&reading)?;
        let path = safe_path(&entry.path_bytes())?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let time = entry.header().mtime().unwrap_or(0);
        let written = match entry.header().entry_type() {
            tar::EntryType::Regular => tree.file(&path, mode, time, &mut entry).map(|bytes| {
                entries.file(&path, mode, time, bytes);
                unpacked.files += 1;
                unpacked.bytes += bytes;
            }),
            tar::EntryType::Directory => {
                entries.directory(&path, mode, time);
                tree.directory(&path).map(|_| directories.push((path.clone(), mode, time)))
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
                entries.link(&path, &target);
                tree.link(&path, &target).map(|()| unpacked.files += 1)
            }
            _ => Ok(()),
        };
        written.map_err(|error| failed(&path, error))?;
    }
    for (path, mode, time) in directories.into_iter().rev() {
        tree.finish_directory(&path, mode, time).map_err(|error| failed(&path, error))?;
    }
    unpacked.state = Some(entries.state());
    Ok(unpacked)
}

fn failed(path: &Path, error: io::Error) -> ArchiveError {
    if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) {
        return ArchiveError::Escape { path: path.display().to_string() };
    }
    ArchiveError::file("writing", path)(error)
}

fn safe_path(bytes: &[u8]) -> Result<PathBuf, ArchiveError> {
    let path = Path::new(OsStr::from_bytes(bytes));
    let mut safe = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => safe.push(part),
            Component::CurDir => {}
            _ => return Err(ArchiveError::Escape { path: path.display().to_string() }),
        }
    }
    Ok(safe)
}

struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Opens a directory below the root, made with its parents when it is not there.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_directory(path) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(self.open_directory(path)?),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // a rename elsewhere in the system made the kernel unsure; it asks to try again
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name.to_owned()))
    }

    /// Parent and name, with whatever file or link stood there removed.
    fn vacant(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok((parent, name)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn file(&self, path: &Path, mode: u32, time: u64, content: &mut impl Read) -> io::Result<u64> {
        let (parent, name) = self.vacant(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // private until the content is complete: file variables are unpacked this way too
        let mut file = File::from(rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600))?);
        let bytes = io::copy(content, &mut file)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::futimens(&file, &times(time))?;
        Ok(bytes)
    }

    fn link(&self, path: &Path, target: &[u8]) -> io::Result<()> {
        let (parent, name) = self.vacant(path)?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), &parent, &name)?)
    }

    fn finish_directory(&self, path: &Path, mode: u32, time: u64) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // a later entry may have put a link here: then it is not our directory any more
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(directory) => {
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))?;
                Ok(rustix::fs::futimens(&directory, &times(time))?)
            }
            Err(Errno::LOOP | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use super::super::{Selection, pack};
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn everything() -> Selection {
        Selection { paths: vec![".".into()], ..Selection::default() }
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let long = "l".repeat(90) + "/" + &"m".repeat(90);
        fs::create_dir_all(from.path().join(&long)).unwrap();
        fs::write(from.path().join(&long).join("file"), [0u8, 255, 10]).unwrap();
        fs::write(from.path().join("run"), "#!").unwrap();
        fs::set_permissions(from.path().join("run"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("/no/where", from.path().join("absolute")).unwrap();
        fs::create_dir(from.path().join("shut")).unwrap();
        fs::write(from.path().join("shut/in"), "x").unwrap();
        fs::set_permissions(from.path().join("shut"), fs::Permissions::from_mode(0o555)).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(from.path().join("socket")).unwrap();
        let mut archive = Vec::new();
        let packed = pack(from.path(), &everything(), &mut archive).unwrap();
        drop(socket);
        assert!(packed.warnings.iter().any(|warning| warning.contains("`socket`")), "{packed:?}");
        fs::write(to.path().join("run"), "old and longer").unwrap();
        unpack(to.path(), &archive[..]).unwrap();
        assert_eq!(fs::read(to.path().join(&long).join("file")).unwrap(), [0u8, 255, 10]);
        assert_eq!(fs::read(to.path().join("run")).unwrap(), b"#!");
        let (before, after) = (from.path().join("run"), to.path().join("run"));
        let (before, after) = (fs::metadata(before).unwrap(), fs::metadata(after).unwrap());
        assert_eq!((before.mode(), before.mtime()), (after.mode(), after.mtime()));
        assert_eq!(fs::read_link(to.path().join("absolute")).unwrap(), Path::new("/no/where"));
        assert_eq!(fs::metadata(to.path().join("shut")).unwrap().mode() & 0o777, 0o555);
        assert_eq!(fs::read(to.path().join("shut/in")).unwrap(), b"x");
    }

    /// An archive with entries as an attacker would write them: names go in unchecked.
    fn hostile(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(zstd::Encoder::new(Vec::new(), 0).unwrap());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            if *kind == tar::EntryType::Symlink || *kind == tar::EntryType::Link {
                header.set_link_name(content).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn nothing_leaves_the_directory() {
        use tar::EntryType::{Link, Regular, Symlink};
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "kept").unwrap();
        let there = outside.path().display().to_string();
        let file = target.display().to_string();
        let cases: Vec<Vec<(&str, tar::EntryType, &str)>> = vec![
            vec![("../target", Regular, "evil")],
            vec![("a/../../target", Regular, "evil")],
            vec![(&file, Regular, "evil")],
            vec![("link", Symlink, &there), ("link/target", Regular, "evil")],
            vec![("up", Symlink, ".."), ("up/target", Regular, "evil")],
            vec![("in", Symlink, "."), ("deep", Symlink, "in/.."), ("deep/target", Regular, "evil")],
        ];
        for case in cases {
            let root = outside.path().join("root");
            fs::create_dir_all(&root).unwrap();
            let result = unpack(&root, &hostile(&case)[..]);
            assert!(matches!(result, Err(ArchiveError::Escape { .. })), "{case:?}: {result:?}");
            assert_eq!(fs::read(&target).unwrap(), b"kept", "{case:?}");
            fs::remove_dir_all(&root).unwrap();
        }
        // a link itself is replaced, not written through; hard links are not made
        let root = outside.path().join("root");
        fs::create_dir_all(&root).unwrap();
        unpack(&root, &hostile(&[("l", Symlink, &file), ("l", Regular, "new"), ("h", Link, &file)])[..])
            .unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(fs::read(root.join("l")).unwrap(), b"new");
        assert!(!root.join("h").exists());
    }

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), vec![7u8; 100_000]).unwrap();
        let mut archive = Vec::new();
        pack(dir.path(), &everything(), &mut archive).unwrap();
        let half = archive.len() / 2;
        assert!(matches!(
            unpack(dir.path(), &archive[..half]),
            Err(ArchiveError::File { .. } | ArchiveError::Archive { .. })
        ));
        assert!(unpack(dir.path(), &b"not zstd"[..]).is_err());
    }
}
