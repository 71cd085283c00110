//! The sources that a run's jobs get: the files of a commit with a `.git`, and the uncommitted changes over them.
//! Made once per content and shared by all jobs; never changed afterwards. A snapshot is a whole directory, but
//! files that it has in common with an older one are hard links to that one's: a new commit costs what it changed.

use super::linked::link_tree;
use super::{Project, lfs};
use crate::error::{CliError, CliResult};
use git2::build::CheckoutBuilder;
use git2::{Oid, Repository, Status, StatusOptions};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A directory with the sources of one commit, or of a commit plus uncommitted changes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The directory. Read-only by convention.
    pub dir: PathBuf,
    /// The commit.
    pub sha: String,
    /// How many uncommitted paths went in.
    pub uncommitted: usize,
    /// The user's repository.
    pub repository: PathBuf,
    /// Shared: as long as it is held, no cleaning removes the directory.
    _used: Arc<File>,
}

impl Snapshot {
    /// May there be files in Git LFS?
    pub fn has_lfs(&self) -> bool {
        fs::read(self.dir.join(".gitattributes"))
            .is_ok_and(|text| text.windows(10).any(|part| part == b"filter=lfs"))
    }
}

struct Change {
    path: String,
    deleted: bool,
}

pub(super) fn making(what: &str, e: &dyn std::fmt::Display) -> CliError {
    CliError::usage(format!("making a snapshot of the sources: {what}: {e}"))
}

impl Project {
    /// The snapshot of a commit (`committed`) or of the work tree that stands on it, below `store`.
    ///
    /// # Errors
    /// git's files can't be read, or the disk refuses.
    pub fn snapshot(&self, sha: &str, committed: bool, store: &Path) -> CliResult<Snapshot> {
        let changes = if committed {
            Vec::new()
        } else {
            self.changes().map_err(|e| making("git status", &e.message()))?
        };
        let name = self.snapshot_name(sha, &changes).map_err(|e| making("hashing changed files", &e))?;
        fs::create_dir_all(store).map_err(|e| making(&format!("creating `{}`", store.display()), &e))?;
        let used = hold(store, &name).map_err(|e| making("locking it", &e))?;
        let snapshot = Snapshot {
            dir: store.join(&name),
            sha: sha.to_owned(),
            uncommitted: changes.len(),
            repository: self.repository().path().to_owned(),
            _used: Arc::new(used),
        };
        if snapshot.dir.is_dir() {
            return Ok(snapshot);
        }
        if changes.is_empty() {
            make(store, &snapshot.dir, |dir| self.commit_into(sha, store, dir))?;
        } else {
            let base = self.snapshot(sha, true, store)?;
            make(store, &snapshot.dir, |dir| self.changes_into(&base, &changes, dir))?;
        }
        Ok(snapshot)
    }

    fn commit_into(&self, sha: &str, store: &Path, dir: &Path) -> CliResult {
        let made = self.make_git_dir(sha, dir)?;
        let oid = Oid::from_str(sha).map_err(|e| making("reading the commit", &e.message()))?;
        let base = newest_commit(store)
            .and_then(|base| Some((hold(store, base.file_name()?.to_str()?).ok()?, base)));
        match base {
            Some((_held, base)) => check_out_over(&made, oid, &base, dir)?,
            None => check_out(&made, oid, None)?,
        }
        lfs::smudge(&made, self.repository(), dir)
    }

    fn changes_into(&self, base: &Snapshot, changes: &[Change], dir: &Path) -> CliResult {
        let skip: HashSet<PathBuf> = changes.iter().map(|change| PathBuf::from(&change.path)).collect();
        link_tree(&base.dir, dir, &skip).map_err(|e| making("sharing files with the commit's", &e))?;
        for change in changes.iter().filter(|change| !change.deleted) {
            self.lay_over(change, dir).map_err(|e| making(&format!("copying `{}`", change.path), &e))?;
        }
        Ok(())
    }

    fn changes(&self) -> Result<Vec<Change>, git2::Error> {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).exclude_submodules(true);
        let statuses = self.repository().statuses(Some(&mut options))?;
        let gone = Status::WT_DELETED;
        let mut changes: Vec<Change> = statuses
            .iter()
            .filter(|entry| !entry.status().is_ignored())
            .filter_map(|entry| {
                let path = entry.path().ok()?.to_owned();
                let missing = self.root().join(&path).symlink_metadata().is_err();
                Some(Change { path, deleted: missing || entry.status().contains(gone) })
            })
            .collect();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }

    /// Same name, same content: the commit, and a digest of all uncommitted paths with their modes and contents.
    fn snapshot_name(&self, sha: &str, changes: &[Change]) -> std::io::Result<String> {
        use std::os::unix::fs::PermissionsExt;
        if changes.is_empty() {
            return Ok(sha.to_owned());
        }
        let mut text = Vec::new();
        for change in changes {
            text.extend_from_slice(change.path.as_bytes());
            text.push(0);
            let full = self.root().join(&change.path);
            if change.deleted {
                text.extend_from_slice(b"deleted");
            } else if full.is_symlink() {
                text.extend_from_slice(fs::read_link(&full)?.as_os_str().as_encoded_bytes());
            } else if full.is_file() {
                let mode = full.metadata()?.permissions().mode() & 0o111;
                text.extend_from_slice(format!("{mode:o} ").as_bytes());
                text.extend_from_slice(crate::digest::sha256_hex(&fs::read(&full)?).as_bytes());
            }
            text.push(0);
        }
        Ok(format!("{sha}-{}", &crate::digest::sha256_hex(&text)[..16]))
    }

    fn lay_over(&self, change: &Change, dir: &Path) -> std::io::Result<()> {
        let (from, to) = (self.root().join(&change.path), dir.join(&change.path));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if from.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)
        } else if from.is_file() {
            fs::copy(&from, &to)?;
            // make and its kin compare times of sources with those of what was built from them
            File::open(&to)?.set_modified(from.metadata()?.modified()?)
        } else {
            // an untracked repository inside: git leaves it alone as well
            Ok(())
        }
    }
}

/// Fills a new directory in `store`, and moves it to `place` when it is complete.
pub(super) fn make(store: &Path, place: &Path, fill: impl FnOnce(&Path) -> CliResult) -> CliResult {
    let temporary = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(store)
        .map_err(|e| making(&format!("creating a directory in `{}`", store.display()), &e))?;
    let dir = temporary.path().join("sources");
    fs::create_dir(&dir).map_err(|e| making("creating its directory", &e))?;
    fill(&dir)?;
    match fs::rename(&dir, place) {
        // another run of the same project made it at the same time
        Err(_) if place.is_dir() => Ok(()),
        Err(e) => Err(making(&format!("moving it to `{}`", place.display()), &e)),
        Ok(()) => Ok(()),
    }
}

/// Keeps the snapshot `name` from being removed, and notes that it was used now.
fn hold(store: &Path, name: &str) -> std::io::Result<File> {
    let file = File::options().create(true).append(true).open(lock_of(&store.join(name)))?;
    file.lock_shared()?;
    file.set_modified(SystemTime::now())?;
    Ok(file)
}

/// The lock beside a snapshot; its time is when the snapshot was last used.
pub(super) fn lock_of(snapshot: &Path) -> PathBuf {
    let mut name = snapshot.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Is it the name of a commit's snapshot, without uncommitted changes?
pub(super) fn is_commit(name: &str) -> bool {
    name.len() >= 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The snapshot of a commit that was used last.
fn newest_commit(store: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(store).ok()?.flatten();
    let commits = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(is_commit) && entry.path().join(".git/index").is_file()
    });
    commits.map(|entry| entry.path()).max_by_key(|path| {
        fs::metadata(lock_of(path)).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    })
}

/// Writes files of a commit: all, or those of `paths`.
pub(super) fn check_out(made: &Repository, commit: Oid, paths: Option<&[PathBuf]>) -> CliResult {
    let mut checkout = CheckoutBuilder::new();
    checkout.force();
    if let Some(paths) = paths {
        checkout.disable_pathspec_match(true);
        for path in paths {
            checkout.path(path);
        }
    }
    let commit = made.find_commit(commit);
    commit
        .and_then(|commit| made.checkout_tree(commit.as_object(), Some(&mut checkout)))
        .map_err(|e| making("writing its files", &e.message()))
}

/// Shares the files of the snapshot `base` that the commit has as well, and writes the others.
fn check_out_over(made: &Repository, commit: Oid, base: &Path, dir: &Path) -> CliResult {
    let git = |e: git2::Error| making("comparing it with an older one", &e.message());
    let old = Repository::open(base).map_err(git)?;
    let old = old.head().and_then(|head| head.peel_to_tree()).map_err(git)?;
    let tree = made.find_commit(commit).and_then(|commit| commit.tree()).map_err(git)?;
    // an older snapshot may be of a commit that the user's repository has thrown away
    let Ok(old) = made.find_tree(old.id()) else { return check_out(made, commit, None) };
    let diff = made.diff_tree_to_tree(Some(&old), Some(&tree), None).map_err(git)?;
    let (mut skip, mut write, mut gone) = (HashSet::from([PathBuf::from(".git")]), Vec::new(), Vec::new());
    for delta in diff.deltas() {
        let (before, after) = (delta.old_file(), delta.new_file());
        skip.extend(before.path().map(Path::to_owned));
        match after.path().filter(|_| delta.status() != git2::Delta::Deleted) {
            Some(path) => write.push(path.to_owned()),
            None => gone.extend(before.path().map(Path::to_owned)),
        }
    }
    // attributes decide how files are written: all of them may be concerned
    if skip.iter().any(|path| path.ends_with(".gitattributes")) {
        return check_out(made, commit, None);
    }
    link_tree(base, dir, &skip).map_err(|e| making("sharing files with an older one", &e))?;
    fs::copy(base.join(".git/index"), dir.join(".git/index"))
        .map_err(|e| making("copying git's index", &e))?;
    let mut index = made.index().map_err(git)?;
    index.read(true).map_err(git)?;
    for path in gone {
        index.remove_path(&path).map_err(git)?;
    }
    for entry in index.iter().filter(|entry| entry.mode == SUBMODULE) {
        let path = dir.join(String::from_utf8_lossy(&entry.path).as_ref());
        fs::create_dir_all(path).map_err(|e| making("making a submodule's directory", &e))?;
    }
    index.write().map_err(git)?;
    if write.is_empty() { Ok(()) } else { check_out(made, commit, Some(&write)) }
}

/// Mode of a submodule in git's trees.
const SUBMODULE: u32 = 0o160000;
