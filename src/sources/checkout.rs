//! The files of a project: at a commit, or of a directory that is no repository.

use super::revision::Found;
use git2::{ObjectType, Repository};
use pipelines::request::FetchError;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A project as it is at one ref.
pub(super) enum Checkout {
    /// Of a repository.
    Commit(Repository, Found),
    /// It stands for every ref.
    Directory(PathBuf),
}

impl Checkout {
    /// Text of a file.
    pub(super) fn read(&self, path: &str) -> Result<Arc<str>, FetchError> {
        let failed = |e: &dyn std::fmt::Display| FetchError::Other(format!("reading `{path}`: {e}"));
        let bytes = match self {
            Checkout::Commit(repository, found) => {
                let tree = repository.find_commit(found.commit).and_then(|commit| commit.tree());
                let tree = tree.map_err(|e| failed(&e.message()))?;
                let entry = tree.get_path(Path::new(path)).map_err(|_| FetchError::NoFile)?;
                if entry.kind() != Some(ObjectType::Blob) {
                    return Err(FetchError::NoFile);
                }
                let blob = repository.find_blob(entry.id()).map_err(|e| failed(&e.message()))?;
                blob.content().to_vec()
            }
            Checkout::Directory(root) => {
                let file = inside(root, path).ok_or(FetchError::NoFile)?;
                std::fs::read(file).map_err(|e| failed(&e))?
            }
        };
        let text = String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8 text"))?;
        Ok(text.into())
    }

    /// All paths, sorted.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = match self {
            Checkout::Commit(repository, found) => {
                let tree = repository.find_commit(found.commit).and_then(|commit| commit.tree());
                tree.map(|tree| crate::project::tree_paths(&tree)).unwrap_or_default()
            }
            Checkout::Directory(root) => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths);
                paths
            }
        };
        paths.sort_unstable();
        paths
    }

    /// The commit, if it is one.
    pub(super) fn sha(&self) -> Option<String> {
        match self {
            Checkout::Commit(_, found) => Some(found.commit.to_string()),
            Checkout::Directory(_) => None,
        }
    }

    /// The version that a component's version became.
    pub(super) fn version(&self) -> Option<String> {
        match self {
            Checkout::Commit(_, found) => found.version.clone(),
            Checkout::Directory(_) => None,
        }
    }
}

/// The file below a directory, if neither its path nor a link leads out of it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let plain = Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let real = root.join(path).canonicalize().ok()?;
    (plain && real.starts_with(root.canonicalize().ok()?) && real.is_file()).then_some(real)
}

fn walk(dir: &Path, prefix: &str, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &format!("{path}/"), paths),
            Ok(_) => paths.push(path),
            Err(_) => {}
        }
    }
}
