//! The kernel's file-descriptor mount API (Linux 5.12), and the new root that mounts are attached to.
//!
//! Targets are resolved by openat2 *inside the new root*, without magic links: a symbolic link in an image can't
//! lead a mount out of it. Sources are paths of the host.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::error::Doing;
use super::{Failure, sys};

/// An option of a file system: a flag, or a key with its value.
pub(super) type FsOption<'a> = (&'a str, Option<&'a OsStr>);

/// A new file system, mounted nowhere yet.
pub(super) fn new_fs(
    kind: &str,
    options: &[FsOption<'_>],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).doing(|| format!("opening file system `{kind}`"))?;
    let made = options
        .iter()
        .try_for_each(|(key, value)| match value {
            Some(value) => fsconfig_set_string(&fs, *key, *value),
            None => fsconfig_set_flag(&fs, *key),
        })
        .and_then(|()| fsconfig_create(&fs))
        .and_then(|()| fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes));
    made.map_err(|errno| {
        Failure::new(
            format!("creating file system `{kind}`"),
            format!("{}{}", io::Error::from(errno), kernel_says(&fs)),
        )
    })
}

/// The kernel's own explanation, which it leaves to be read from the file system's descriptor.
fn kernel_says(fs: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0; 512];
    while let Ok(len) = rustix::io::read(fs, &mut buffer) {
        text.push_str(&format!(" ({})", String::from_utf8_lossy(&buffer[..len]).trim_end()));
    }
    text
}

/// An overlay; `lower` has the uppermost first.
pub(super) fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    rootless: bool,
) -> Result<OwnedFd, Failure> {
    // what a volatile mount leaves behind so that nobody trusts its upper after a crash of the machine; such
    // state is swept, so an upper found here is one of this very boot's earlier steps
    let mark = work.join("work/incompat/volatile");
    match std::fs::remove_dir_all(&mark) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).doing(|| format!("removing `{}`", mark.display()));
        }
        _ => {}
    }
    let mut options: Vec<FsOption<'_>> =
        lower.iter().map(|layer| ("lowerdir+", Some(layer.as_os_str()))).collect();
    options.extend([
        ("upperdir", Some(upper.as_os_str())),
        ("workdir", Some(work.as_os_str())),
        ("volatile", None),
        ("index", Some(OsStr::new("off"))),
    ]);
    if rootless {
        options.push(("userxattr", None));
    }
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    new_fs("overlay", &options, attributes).or_else(|failure| {
        // before Linux 6.7 there is no `lowerdir+`
        let Some(joined) = joined_layers(lower) else { return Err(failure) };
        let older: Vec<FsOption<'_>> = std::iter::once(("lowerdir", Some(joined.as_os_str())))
            .chain(options.iter().filter(|(key, _)| *key != "lowerdir+").copied())
            .collect();
        new_fs("overlay", &older, attributes).map_err(|_| {
            failure.help(format!(
                "is `{}` on a file system that overlays can write to (ext4, xfs, btrfs, tmpfs), \
                 and not itself on an overlay?",
                upper.display()
            ))
        })
    })
}

/// The layers as the old option wants them; `None` for names that it can't express safely.
fn joined_layers(lower: &[PathBuf]) -> Option<std::ffi::OsString> {
    let mut joined = std::ffi::OsString::new();
    for layer in lower {
        if layer.to_str()?.contains([':', ',', '\\']) {
            return None;
        }
        if !joined.is_empty() {
            joined.push(":");
        }
        joined.push(layer);
    }
    Some(joined)
}

/// A copy of the host's mounts at `source` and below, attached nowhere yet: what a bind mount binds.
///
/// Always recursive: a user namespace may not look under mounts that it inherited.
pub(super) fn bind(source: &Path, attributes: MountAttrFlags) -> Result<OwnedFd, Failure> {
    bind_from(CWD, source, attributes).doing(|| format!("binding `{}`", source.display()))
}

fn bind_from(dir: BorrowedFd<'_>, path: &Path, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(dir, path, flags)?;
    if !attributes.is_empty() {
        sys::mount_set_attributes(tree.as_fd(), attributes.bits(), true)?;
    }
    Ok(tree)
}

/// The root file system that is being built.
pub(super) struct NewRoot {
    top: OwnedFd,
}

impl NewRoot {
    /// Attaches `tree` at `stage`, a directory of the host, as the new root.
    pub(super) fn attach_at(stage: &Path, tree: OwnedFd) -> Result<Self, Failure> {
        move_mount(tree.as_fd(), "", CWD, stage, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .doing(|| format!("mounting the new root on `{}`", stage.display()))?;
        let top = rustix::fs::open(stage, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("opening the new root `{}`", stage.display()))?;
        Ok(Self { top })
    }

    /// Opens something inside, as a place only.
    pub(super) fn find(&self, path: &Path) -> Result<Option<OwnedFd>, Failure> {
        match self.open(path, OFlags::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(errno).doing(|| format!("looking for `{}` in the new root", path.display())),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat2(
            &self.top,
            path,
            OFlags::PATH | OFlags::CLOEXEC | flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Opens a directory inside, making it and its parents when they are missing.
    pub(super) fn dir(&self, path: &Path) -> Result<OwnedFd, Failure> {
        match self.open(path, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => {
                return other.doing(|| format!("opening directory `{}` in the new root", path.display()));
            }
        }
        let (parent, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(read_only_root(errno, format!("making directory `{}`", path.display())));
            }
        }
        self.open(path, OFlags::DIRECTORY)
            .doing(|| format!("opening directory `{}` in the new root", path.display()))
    }

    /// Opens a file inside, making it (empty) and its parents when they are missing.
    fn file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))
            .map_err(|errno| read_only_root(errno, format!("making file `{}`", path.display())))?;
        self.open(path, OFlags::empty()).doing(|| format!("opening `{}` in the new root", path.display()))
    }

    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Failure> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.dir(parent)?, name)),
            _ => Err(Failure::new(format!("making `{}` in the new root", path.display()), "it has no name")),
        }
    }

    /// Attaches a detached mount of a directory.
    pub(super) fn attach_dir(&self, tree: OwnedFd, target: &Path) -> Result<(), Failure> {
        attach(tree, &self.dir(target)?, target)
    }

    /// Attaches a detached mount of a file.
    pub(super) fn attach_file(&self, tree: OwnedFd, target: &Path) -> Result<(), Failure> {
        attach(tree, &self.file(target)?, target)
    }

    /// Binds a file or directory of the host.
    pub(super) fn bind(
        &self,
        source: &Path,
        target: &Path,
        attributes: MountAttrFlags,
    ) -> Result<(), Failure> {
        let metadata = std::fs::metadata(source).doing(|| format!("binding `{}`", source.display()))?;
        let tree = bind(source, attributes)?;
        if metadata.is_dir() { self.attach_dir(tree, target) } else { self.attach_file(tree, target) }
    }

    /// Makes what is at `path` read only, if it is there.
    pub(super) fn make_read_only(&self, path: &Path) -> Result<(), Failure> {
        let Some(place) = self.find(path)? else { return Ok(()) };
        let tree = bind_from(place.as_fd(), Path::new(""), MountAttrFlags::MOUNT_ATTR_RDONLY)
            .doing(|| format!("making `{}` read only", path.display()))?;
        attach(tree, &place, path)
    }

    /// Makes a symbolic link; one that is there already stays.
    pub(super) fn symlink(&self, content: &Path, path: &Path) -> Result<(), Failure> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::symlinkat(content, &parent, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno).doing(|| format!("making link `{}` in the new root", path.display())),
        }
    }

    /// Makes this the root of the calling process and detaches the old one.
    pub(super) fn enter(self) -> Result<(), Failure> {
        let doing = || "changing to the new root".to_owned();
        rustix::process::fchdir(&self.top).doing(doing)?;
        rustix::process::pivot_root(".", ".").doing(doing)?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).doing(doing)?;
        rustix::process::chdir("/").doing(doing)
    }
}

fn attach(tree: OwnedFd, place: &OwnedFd, target: &Path) -> Result<(), Failure> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree.as_fd(), "", place.as_fd(), "", flags)
        .doing(|| format!("mounting on `{}`", target.display()))
}

fn read_only_root(errno: Errno, what: String) -> Failure {
    let failure = Failure::new(format!("{what} in the new root"), io::Error::from(errno).to_string());
    if errno == Errno::ROFS || errno == Errno::ACCESS {
        failure.help(
            "as an ordinary user the host's directories are read only inside: choose a target in a new \
             top-level directory such as `/builds`, or below `/tmp` or `/run`",
        )
    } else {
        failure
    }
}
