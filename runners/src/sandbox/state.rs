//! A job's layers on disk, their use by the next job, and the removal of those whose `ci` died.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::recycle::{Kept, settle};
use super::{Error, Mount, Sandbox};

/// Where what is kept in a state directory. The child knows it as well.
pub(super) struct Layout(PathBuf);

impl Layout {
    pub(super) fn new(state: &Path) -> Self {
        Self(state.to_owned())
    }

    /// Mount point of the new root; stays empty on the host.
    pub(super) fn stage(&self) -> PathBuf {
        self.0.join("stage")
    }

    pub(super) fn root_upper(&self) -> PathBuf {
        self.0.join("root/upper")
    }

    pub(super) fn root_work(&self) -> PathBuf {
        self.0.join("root/work")
    }

    /// Mount point for short names of layers.
    pub(super) fn names(&self) -> PathBuf {
        self.0.join("names")
    }

    /// Where it is noted that a workspace of so many lower layers has been given to its user.
    pub(super) fn given(&self, layers: usize) -> PathBuf {
        self.0.join(format!("given-{layers}"))
    }

    /// The job's own version of a file of /etc.
    pub(super) fn etc(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The job's own directory that covers `path`.
    pub(super) fn scratch(&self, path: &Path) -> PathBuf {
        use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
        let mut name = Vec::new();
        for &byte in path.as_os_str().as_bytes() {
            match byte {
                b'/' => name.extend_from_slice(b"%2F"),
                b'%' => name.extend_from_slice(b"%25"),
                other => name.push(other),
            }
        }
        self.0.join(SCRATCH).join(std::ffi::OsString::from_vec(name))
    }

    fn lock(&self) -> PathBuf {
        self.0.join(LOCK)
    }
}

/// Held while a state directory is made or swept, so that no sweep meets one that isn't locked yet.
const ROOT_LOCK: &str = ".lock";
const TRASH: &str = ".trash";
const LOCK: &str = "lock";
const SCRATCH: &str = "scratch";
/// The job's own directories, which it sees as they are.
const ARRANGED: &str = "builds";
/// In every state directory, with their modes: an overlay's top directory has that of its upper one.
const DIRECTORIES: [&str; 8] =
    ["stage", "scratch", "root", "root/upper", "root/work", "workspace", "workspace/upper", "workspace/work"];
const OPEN: u32 = 0o755;
/// What the kernel leaves in there is looked after when it is mounted again.
const SPARED: [&str; 3] = [LOCK, "root/work", "workspace/work"];
/// Modes of a lock file: nobody uses the directory and it is as new, or it is used, or was when `ci` died.
const UNUSED: u32 = 0o444;
const USED: u32 = 0o644;

/// A job's directory of layers: what it changed in the root, in its workspace, in /tmp. One job, one directory;
/// every step of the job (and the collection of artifacts after it) uses the same. Locked while this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
    arranged: Vec<Kept>,
}

impl StateDir {
    /// Makes `root/name`, empty, with the directories of a sandbox in it.
    ///
    /// `root` must be on a file system that overlays can write to; it belongs to sandboxes alone.
    pub fn create(root: &Path, name: &str) -> Result<Self, Error> {
        let path = root.join(name);
        let doing = format!("making state directory `{}`", path.display());
        Self::make(root, path).map_err(Error::io(doing))
    }

    fn make(root: &Path, path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let _exclusive = lock_root(root)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Self::adopt(path).ok_or(error);
            }
            made => made?,
        }
        let lock = File::create_new(Layout::new(&path).lock())?;
        lock.lock()?;
        let state = Self { path, lock, arranged: Vec::new() };
        DIRECTORIES.iter().try_for_each(|name| make_open_dir(&state.path.join(name)))?;
        Ok(state)
    }

    /// Takes a directory that an earlier job has [released](Self::release).
    fn adopt(path: PathBuf) -> Option<Self> {
        let lock = File::open(Layout::new(&path).lock()).ok()?;
        lock.try_lock().ok()?;
        let unused = is_unused(&lock).ok()?;
        let state = Self { path, lock, arranged: Vec::new() };
        (unused && state.mark(USED).is_ok()).then_some(state)
    }

    fn mark(&self, mode: u32) -> io::Result<()> {
        self.lock.set_permissions(fs::Permissions::from_mode(mode))
    }

    /// The first numbered directory below `root` that nobody has, and its number. Numbers of dead jobs come back when they
    /// are swept.
    pub fn claim(root: &Path) -> Result<(u32, Self), Error> {
        for number in 0..u32::MAX {
            match Self::create(root, &number.to_string()) {
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|state| (number, state)),
            }
        }
        Err(Error::io(format!("making a directory in `{}`", root.display()))(
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// Makes a directory of exactly these directories with their modes, each behind its parents: itself, by the name
    /// of nothing, is the first.
    pub(crate) fn arrange(&mut self, directories: &[(PathBuf, u32)]) -> io::Result<PathBuf> {
        let top = self.path.join(ARRANGED);
        fs::create_dir_all(&top)?;
        settle(&top, directories, &[])?;
        let all = directories.iter().map(|(path, mode)| (Path::new(ARRANGED).join(path), *mode));
        self.arranged.extend(all);
        Ok(top)
    }

    /// The directory, for [`Spec`](super::Spec).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The workspace: `lower` (uppermost first) under this job's own layer, at `target` inside.
    pub fn workspace(&self, lower: Vec<PathBuf>, target: &Path) -> Mount {
        Mount::Overlay {
            lower,
            upper: self.path.join("workspace/upper"),
            work: self.path.join("workspace/work"),
            target: target.to_owned(),
        }
    }

    /// Deletes what the job has left and lets the next one have the directory; where that can't be, deletes it.
    /// Nothing may run in it any more.
    pub async fn release(mut self, sandbox: &Sandbox) -> Result<(), Error> {
        let (path, arranged) = (self.path.clone(), std::mem::take(&mut self.arranged));
        let emptied = tokio::task::spawn_blocking(move || empty(&path, arranged)).await;
        if matches!(emptied, Ok(Ok(()))) && self.mark(UNUSED).is_ok() {
            Ok(())
        } else {
            self.remove(sandbox).await
        }
    }

    /// Deletes the directory. Nothing may run in it any more.
    pub async fn remove(self, sandbox: &Sandbox) -> Result<(), Error> {
        let doing = format!("removing state directory `{}`", self.path.display());
        let Some(root) = self.path.parent().map(Path::to_owned) else { return Ok(()) };
        let trashed = {
            let _exclusive = lock_root(&root).map_err(Error::io(doing.clone()))?;
            move_to_trash(&root, &self.path).map_err(Error::io(doing))?
        };
        drop(self);
        // a process for that would cost more than the container itself did; ids that aren't ours need one
        let ours = trashed.clone();
        let deleted = tokio::task::spawn_blocking(move || delete_ours(&ours)).await;
        if matches!(deleted, Ok(Ok(()))) { Ok(()) } else { sandbox.delete(&trashed).await }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // closing alone leaves the lock with a child that another thread has forked and that hasn't executed yet
        let _unlocked_by_closing_then = self.lock.unlock();
    }
}

fn empty(state: &Path, arranged: Vec<(PathBuf, u32)>) -> io::Result<()> {
    let mut kept: Vec<Kept> = DIRECTORIES.iter().map(|name| (name.into(), OPEN)).collect();
    for entry in fs::read_dir(state.join(SCRATCH))? {
        let name = entry?.file_name();
        let mode = if ["%2Ftmp", "%2Fvar%2Ftmp"].iter().any(|open| name == *open) { 0o1777 } else { OPEN };
        kept.push((Path::new(SCRATCH).join(name), mode));
    }
    kept.extend(arranged);
    settle(state, &kept, &SPARED)
}

/// Deletes what this user may delete.
fn delete_ours(trashed: &Path) -> io::Result<()> {
    let layout = Layout::new(&trashed.join("state"));
    for work in [layout.root_work(), trashed.join("state/workspace/work")] {
        // the kernel's own directory in there lets nobody look into it
        let _not_used = fs::set_permissions(work.join("work"), fs::Permissions::from_mode(0o700));
    }
    fs::remove_dir_all(trashed)
}

fn make_open_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(OPEN))
}

fn lock_root(root: &Path) -> io::Result<File> {
    let lock = File::options().create(true).append(true).open(root.join(ROOT_LOCK))?;
    lock.lock()?;
    Ok(lock)
}

/// Renaming is instant, and deleting many files right before making many is slow on ext4: that comes later.
fn move_to_trash(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let trash = root.join(TRASH);
    DirBuilder::new().recursive(true).mode(0o700).create(&trash)?;
    let unique = tempfile::Builder::new().prefix("").tempdir_in(&trash)?.keep();
    fs::rename(path, unique.join("state"))?;
    Ok(unique)
}

/// Deletes what dead `ci`s left below `root`: state directories that nobody holds, and unfinished deletions.
///
/// Returns how many were deleted. Safe beside running jobs, and beside other sweeps.
pub async fn sweep(sandbox: &Sandbox, root: &Path) -> Result<usize, Error> {
    let doing = format!("sweeping `{}`", root.display());
    if !root.exists() {
        return Ok(0);
    }
    let dead = collect_dead(root).map_err(Error::io(doing))?;
    for path in &dead {
        sandbox.delete(path).await?;
    }
    Ok(dead.len())
}

fn collect_dead(root: &Path) -> io::Result<Vec<PathBuf>> {
    let _exclusive = lock_root(root)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != TRASH && is_dead(&entry.path())? {
            move_to_trash(root, &entry.path())?;
        }
    }
    match fs::read_dir(root.join(TRASH)) {
        Ok(trash) => trash.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_unused(lock: &File) -> io::Result<bool> {
    Ok(lock.metadata()?.mode() & 0o777 == UNUSED)
}

fn is_dead(state: &Path) -> io::Result<bool> {
    match File::open(Layout::new(state).lock()) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => is_unused(&lock).map(|unused| !unused),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
        // died while making it; the lock of the root says that nobody is making it now
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
