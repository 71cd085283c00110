//! The project's files for the language: the work tree as it is, or a commit.

use super::Project;
use crate::sources::Sources;
use git2::{ObjectType, Oid, Status, StatusOptions, StatusShow, Tree};
use pipelines::request::{Elsewhere, FetchError, Fetched, Files};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Files of a project, read when they are asked for.
pub struct ProjectFiles<'p> {
    project: &'p Project,
    /// The commit's tree; none: the work tree with its uncommitted changes.
    tree: Option<Tree<'p>>,
    paths: OnceCell<Vec<String>>,
    /// The work tree.
    directory: OnceCell<Option<File>>,
    sources: Sources,
}

impl<'p> ProjectFiles<'p> {
    /// The work tree, uncommitted changes included.
    pub fn work_tree(project: &'p Project) -> ProjectFiles<'p> {
        ProjectFiles {
            project,
            tree: None,
            paths: OnceCell::new(),
            directory: OnceCell::new(),
            sources: Sources::default(),
        }
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// There is no such commit.
    pub fn commit(project: &'p Project, sha: &str) -> Result<ProjectFiles<'p>, git2::Error> {
        let commit = project.repository().find_commit(Oid::from_str(sha)?)?;
        let files = ProjectFiles::work_tree(project);
        Ok(ProjectFiles { tree: Some(commit.tree()?), ..files })
    }

    /// Where files come from that are not in the project.
    #[must_use]
    pub fn with_sources(self, sources: Sources) -> ProjectFiles<'p> {
        ProjectFiles { sources, ..self }
    }

    fn work_tree_paths(&self) -> Result<Vec<String>, git2::Error> {
        let index = self.project.repository().index()?;
        let mut paths: Vec<String> =
            index.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).exclude_submodules(true);
        // what is staged is in the index; comparing that with the last commit would read all of its trees
        options.show(StatusShow::Workdir);
        for entry in self.project.repository().statuses(Some(&mut options))?.iter() {
            let Ok(path) = entry.path() else { continue };
            if entry.status().contains(Status::WT_NEW) {
                paths.push(path.to_owned());
            } else if entry.status().contains(Status::WT_DELETED) {
                paths.retain(|p| p != path);
            }
        }
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    /// The file below the work tree, if the path can't lead out of it.
    fn open(&self, path: &str) -> std::io::Result<Option<File>> {
        let root = self.directory.get_or_init(|| File::open(self.project.root()).ok());
        let Some(root) = root.as_ref().filter(|_| is_plain(path)) else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Ok(file) => {
                let file = File::from(file);
                Ok(file.metadata()?.is_file().then_some(file))
            }
            Err(Errno::NOENT) => Ok(None),
            // links, and kernels that do not know the call
            Err(_) => self.inside(path).map(File::open).transpose(),
        }
    }

    /// The path below the work tree, if it can't lead out of it.
    fn inside(&self, path: &str) -> Option<PathBuf> {
        let full = self.project.root().join(path);
        let real = full.canonicalize().ok()?;
        let root = self.project.root().canonicalize().ok()?;
        (is_plain(path) && real.starts_with(root) && real.is_file()).then_some(full)
    }
}

/// Does it only go down?
fn is_plain(path: &str) -> bool {
    Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
}

/// All paths of a tree, sorted.
pub(crate) fn tree_paths(tree: &Tree<'_>) -> Vec<String> {
    let mut paths = Vec::new();
    // the callback never fails, so neither does the walk of a readable tree
    let _ = tree.walk(git2::TreeWalkMode::PreOrder, |parent, entry| {
        if entry.kind() == Some(ObjectType::Blob) {
            paths.push(format!("{parent}{}", String::from_utf8_lossy(entry.name_bytes())));
        }
        git2::TreeWalkResult::Ok
    });
    paths.sort_unstable();
    paths
}

impl Files for ProjectFiles<'_> {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        let bytes = match &self.tree {
            Some(tree) => {
                let Ok(entry) = tree.get_path(Path::new(path)) else { return Ok(None) };
                let blob = self.project.repository().find_blob(entry.id());
                blob.map_err(|e| format!("reading `{path}` from the commit: {}", e.message()))?
                    .content()
                    .to_vec()
            }
            None => {
                let failed = |e: std::io::Error| format!("reading `{path}`: {e}");
                let Some(mut file) = self.open(path).map_err(failed)? else { return Ok(None) };
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(failed)?;
                bytes
            }
        };
        let text = String::from_utf8(bytes).map_err(|e| {
            format!(
                "`{path}` is not UTF-8 text (byte {} is not part of a character)",
                e.utf8_error().valid_up_to()
            )
        })?;
        Ok(Some(text.into()))
    }

    fn paths(&self) -> &[String] {
        self.paths.get_or_init(|| match &self.tree {
            Some(tree) => tree_paths(tree),
            None => self.work_tree_paths().unwrap_or_default(),
        })
    }

    fn blob_id(&self, path: &str) -> Option<String> {
        match &self.tree {
            Some(tree) => tree.get_path(Path::new(path)).ok().map(|entry| entry.id().to_string()),
            None => Oid::hash_file(ObjectType::Blob, self.inside(path)?).ok().map(|id| id.to_string()),
        }
    }

    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        self.sources.fetch(what)
    }

    fn list(&self, project: &str, reference: Option<&str>) -> Result<Arc<[String]>, FetchError> {
        self.sources.list(project, reference)
    }

    fn advice(&self, what: &Elsewhere) -> Option<String> {
        self.sources.advice(what)
    }
}
