//! The sources that a run's jobs get: a clone at the commit, with the uncommitted changes laid over it.
//! Made once per content and shared by all jobs; never changed afterwards.

use super::Project;
use crate::error::{CliError, CliResult};
use git2::build::{CheckoutBuilder, CloneLocal, RepoBuilder};
use git2::{Oid, Status, StatusOptions};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory with the sources of one commit, or of a commit plus uncommitted changes.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The directory. Read-only by convention.
    pub dir: PathBuf,
    /// How many uncommitted paths went in.
    pub uncommitted: usize,
}

struct Change {
    path: String,
    deleted: bool,
}

impl Project {
    /// The snapshot of a commit (`committed`) or of the work tree that stands on it, below `store`.
    ///
    /// # Errors
    /// git's files can't be read, or the disk refuses.
    pub fn snapshot(&self, sha: &str, committed: bool, store: &Path) -> CliResult<Snapshot> {
        let making = |what: &str, e: &dyn std::fmt::Display| {
            CliError::usage(format!("making a snapshot of the sources: {what}: {e}"))
        };
        let changes =
            if committed { Vec::new() } else { self.changes().map_err(|e| making("git status", &e))? };
        let name = self.snapshot_name(sha, &changes).map_err(|e| making("hashing changed files", &e))?;
        let snapshot = Snapshot { dir: store.join(name), uncommitted: changes.len() };
        if snapshot.dir.is_dir() {
            return Ok(snapshot);
        }
        fs::create_dir_all(store).map_err(|e| making(&format!("creating `{}`", store.display()), &e))?;
        let temporary = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(store)
            .map_err(|e| making(&format!("creating a directory in `{}`", store.display()), &e))?;
        let dir = temporary.path().join("sources");
        self.clone_at(sha, &dir).map_err(|e| making("cloning the repository", &e.message()))?;
        for change in &changes {
            self.lay_over(change, &dir).map_err(|e| making(&format!("copying `{}`", change.path), &e))?;
        }
        match fs::rename(&dir, &snapshot.dir) {
            // another run of the same project made it at the same time
            Err(_) if snapshot.dir.is_dir() => Ok(snapshot),
            Err(e) => Err(making(&format!("moving it to `{}`", snapshot.dir.display()), &e)),
            Ok(()) => Ok(snapshot),
        }
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

    fn clone_at(&self, sha: &str, dir: &Path) -> Result<(), git2::Error> {
        let from = self.repository().path();
        // a shallow or partial repository can't be cloned by libgit2's local transport; say which
        if self.repository().is_shallow() {
            return Err(git2::Error::from_str(
                "the repository is a shallow clone; run `git fetch --unshallow` first",
            ));
        }
        let mut nothing = CheckoutBuilder::new();
        nothing.dry_run();
        let clone = RepoBuilder::new()
            .clone_local(CloneLocal::Local)
            .with_checkout(nothing)
            .clone(&from.to_string_lossy(), dir)?;
        self.copy_refs(&clone)?;
        let commit = clone.find_commit(Oid::from_str(sha)?)?;
        clone.set_head_detached(commit.id())?;
        clone.checkout_tree(commit.as_object(), Some(CheckoutBuilder::new().force()))?;
        match self.repository().find_remote("origin").ok().and_then(|r| r.url().ok().map(without_password)) {
            Some(url) => clone.remote_set_url("origin", &url),
            None => clone.remote_delete("origin"),
        }
    }

    /// Branches of the user's repository are branches of the snapshot, too: scripts look them up.
    fn copy_refs(&self, clone: &git2::Repository) -> Result<(), git2::Error> {
        for reference in self.repository().references()? {
            let reference = reference?;
            let (Ok(name), Some(target)) = (reference.name(), reference.target()) else { continue };
            if name.starts_with("refs/heads/")
                || name.starts_with("refs/remotes/")
                || name.starts_with("refs/tags/")
            {
                clone.reference(name, target, true, "snapshot")?;
            }
        }
        Ok(())
    }

    fn lay_over(&self, change: &Change, dir: &Path) -> std::io::Result<()> {
        let (from, to) = (self.root().join(&change.path), dir.join(&change.path));
        if to.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
            fs::remove_file(&to)?;
        }
        if change.deleted {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if from.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&from)?, &to)
        } else if from.is_file() {
            fs::copy(&from, &to).map(|_| ())
        } else {
            // an untracked repository inside: git leaves it alone as well
            Ok(())
        }
    }
}

/// The URL without what gives access.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('@') {
            Some((user, host)) if !user.contains('/') && scheme.starts_with("http") => {
                format!("{scheme}://{host}")
            }
            _ => url.to_owned(),
        },
        None => url.to_owned(),
    }
}
