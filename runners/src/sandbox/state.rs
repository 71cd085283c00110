//! A job's layers on disk, and the removal of those whose `ci` died.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

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
        self.0.join("scratch").join(std::ffi::OsString::from_vec(name))
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

/// Held while a state directory is made or swept, so that no sweep meets one that isn't locked yet.
const ROOT_LOCK: &str = ".lock";
const TRASH: &str = ".trash";

/// A job's directory of layers: what it changed in the root, in its workspace, in /tmp. One job, one directory;
/// every step of the job (and the collection of artifacts after it) uses the same. Locked while this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: File,
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
        DirBuilder::new().mode(0o700).create(&path)?;
        let layout = Layout::new(&path);
        let lock = File::create_new(layout.lock())?;
        lock.lock()?;
        let state = Self { path, lock };
        // an overlay's top directory has the mode of its upper one
        for dir in [
            "stage",
            "scratch",
            "root",
            "root/upper",
            "root/work",
            "workspace",
            "workspace/upper",
            "workspace/work",
        ] {
            make_open_dir(&state.path.join(dir))?;
        }
        Ok(state)
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
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
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

fn is_dead(state: &Path) -> io::Result<bool> {
    match File::open(Layout::new(state).lock()) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
        // died while making it; the lock of the root says that nobody is making it now
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
