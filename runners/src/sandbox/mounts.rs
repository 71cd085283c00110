//! The kernel's file-descriptor mount API (Linux 5.12), and the new root that mounts are attached to.
//!
//! Targets are resolved by openat2 *inside the new root*, without magic links: a symbolic link in an image can't
//! lead a mount out of it. Sources are paths of the host.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::error::Doing;
use super::names::Names;
use super::owner::mapped_bind;
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

/// The layers of an overlay that is to be mounted.
pub(super) struct Overlay<'a> {
    /// The uppermost first.
    pub(super) lower: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// A directory of the state directory for [`Names`], if those are needed.
    pub(super) names: &'a Path,
    pub(super) rootless: bool,
}

impl Overlay<'_> {
    /// Mounted nowhere yet.
    pub(super) fn mount(&self) -> Result<OwnedFd, Failure> {
        self.forget_crash()?;
        let mut options: Vec<FsOption<'_>> =
            self.lower.iter().map(|layer| ("lowerdir+", Some(layer.as_os_str()))).collect();
        options.extend([
            ("upperdir", Some(self.upper.as_os_str())),
            ("workdir", Some(self.work.as_os_str())),
            ("volatile", None),
            ("index", Some(OsStr::new("off"))),
        ]);
        if self.rootless {
            options.push(("userxattr", None));
        }
        new_fs("overlay", &options, MountAttrFlags::MOUNT_ATTR_NODEV).or_else(|failure| {
            // before Linux 6.7 there is no `lowerdir+`, and longer paths than 255 bytes don't fit
            self.by_names().map_err(|_| {
                failure.help(format!(
                    "is `{}` on a file system that overlays can write to (ext4, xfs, btrfs, tmpfs), \
                     and not itself on an overlay?",
                    self.upper.display()
                ))
            })
        })
    }

    fn by_names(&self) -> Result<OwnedFd, Failure> {
        let names = Names::new(self.names)?;
        for (index, layer) in self.lower.iter().enumerate() {
            names.link(&index.to_string(), layer)?;
        }
        names.link("upper", self.upper)?;
        names.link("work", self.work)?;
        names.overlay(&self.options("upper", "work"))
    }

    /// With all ids mapped by a user namespace. `upper` and `work` must lie in one directory.
    pub(super) fn mapped(&self, namespace: &OwnedFd) -> Result<OwnedFd, Failure> {
        self.forget_crash()?;
        let not_together = || Failure::new("mapping the owners of the workspace", "its layers lie apart");
        let (Some(parent), Some(upper), Some(work)) =
            (self.upper.parent(), self.upper.file_name(), self.work.file_name())
        else {
            return Err(not_together());
        };
        let (Some(upper), Some(work)) = (upper.to_str(), work.to_str()) else { return Err(not_together()) };
        if self.work.parent() != Some(parent)
            || [upper, work].iter().any(|name| name.contains([',', ':', '\\']))
        {
            return Err(not_together());
        }
        // first all that can fail: `names` changes the working directory
        let layers = self.lower.iter().map(|layer| mapped_bind(layer, namespace));
        let layers: Vec<OwnedFd> = layers.collect::<Result<_, _>>()?;
        let own = mapped_bind(parent, namespace)?;
        let names = Names::new(self.names)?;
        for (index, layer) in layers.iter().enumerate() {
            names.mount(&index.to_string(), layer)?;
        }
        names.mount("own", &own)?;
        names.overlay(&self.options(&format!("own/{upper}"), &format!("own/{work}")))
    }

    /// The options as one text, with names for the layers.
    fn options(&self, upper: &str, work: &str) -> String {
        let layers: Vec<String> = (0..self.lower.len()).map(|index| index.to_string()).collect();
        let userxattr = if self.rootless { ",userxattr" } else { "" };
        format!("lowerdir={},upperdir={upper},workdir={work},volatile,index=off{userxattr}", layers.join(":"))
    }

    /// Removes what a volatile mount leaves behind so that nobody trusts its upper after a crash of the machine;
    /// such state is swept, so an upper found here is one of this very boot's earlier steps.
    fn forget_crash(&self) -> Result<(), Failure> {
        let mark = self.work.join("work/incompat/volatile");
        match std::fs::remove_dir_all(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing `{}`", mark.display()))
            }
            _ => Ok(()),
        }
    }
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
        self.open_inside(path, OFlags::PATH | OFlags::CLOEXEC | flags)
    }

    /// openat2 inside the new root. The kernel gives up with EAGAIN when something is renamed or mounted anywhere
    /// on the machine while it looks at a `..` of a link; it is to be asked again then.
    fn open_inside(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        const TRIES: u32 = 10_000;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.top, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The text of a file inside; empty when it is missing or no file. An image's may be anything: a pipe, a
    /// device, gigabytes.
    pub(super) fn read(&self, path: &Path) -> String {
        const LIMIT: u64 = 4 << 20;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = self.open_inside(path, flags);
        let Ok(file) = opened.map(std::fs::File::from) else { return String::new() };
        let mut bytes = Vec::new();
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            // as much as could be read: a name that isn't found then is an error of its own
            let _partly = io::Read::read_to_end(&mut io::Read::take(&file, LIMIT), &mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
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

    /// Opens a directory inside for reading.
    pub(super) fn open_dir(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.open_inside(path, flags)
    }

    /// Opens a file inside, making it (empty) and its parents when they are missing.
    fn file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        if let Some(found) = self.find(path)? {
            return Ok(found);
        }
        let doing = || format!("making file `{}`", path.display());
        let mut path = path.to_owned();
        // an image's link that leads to a file of a running system (/etc/resolv.conf): it is made where it leads
        for _ in 0..8 {
            let (parent, name) = self.parent(&path)?;
            if let Ok(link) = rustix::fs::readlinkat(&parent, name, Vec::new()) {
                path = followed(&path, Path::new(OsStr::from_bytes(link.as_bytes())));
                continue;
            }
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))
                .map_err(|errno| read_only_root(errno, doing()))?;
            return self
                .open(&path, OFlags::empty())
                .doing(|| format!("opening `{}` in the new root", path.display()));
        }
        Err(Failure::new(doing(), "too many links"))
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

/// Where a link at `path` leads, `..` taken out.
fn followed(path: &Path, link: &Path) -> PathBuf {
    let mut parts = PathBuf::from("/");
    for part in path.parent().unwrap_or(path).join(link).components() {
        match part {
            Component::Normal(name) => parts.push(name),
            // the root's parent is the root
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts
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
