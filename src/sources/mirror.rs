//! Bare mirrors of git URLs: all branches and tags, below the state's `sources/`.

use super::credentials;
use super::revision::{self, Found, Wanted};
use super::smart_http::{SmartHttp, is_http};
use git2::{AutotagOption, ErrorClass, ErrorCode, FetchOptions, FetchPrune, Repository};
use pipelines::request::FetchError;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The mirrors of one command.
#[derive(Default)]
pub(super) struct Mirrors {
    /// How fetching each URL went in this command.
    fetched: RefCell<HashMap<String, Result<(), Refusal>>>,
    http: SmartHttp,
}

/// Why a URL could not be fetched.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) error: FetchError,
    pub(super) why: String,
}

impl Mirrors {
    /// The repository at `url` and what is wanted of it. The network is used where the mirror does not have it, or
    /// has it but it may have moved; never with `offline`.
    pub(super) fn find(
        &self,
        url: &str,
        wanted: &Wanted,
        dir: &Path,
        offline: bool,
    ) -> Result<(Repository, Option<Found>), Refusal> {
        let path = dir.join(mirror_name(url));
        if let Ok(repository) = Repository::open_bare(&path) {
            let found = revision::find(&repository, wanted);
            if offline || found.as_ref().is_some_and(|found| found.fixed) {
                return Ok((repository, found));
            }
        } else if offline {
            let why = "it was never fetched, and `--offline` uses only what was fetched before".to_owned();
            return Err(Refusal { error: FetchError::Other(why.clone()), why });
        }
        let known = self.fetched.borrow().get(url).cloned();
        let result = known.unwrap_or_else(|| self.fetch(url, &path));
        self.fetched.borrow_mut().insert(url.to_owned(), result.clone());
        result?;
        let repository = Repository::open_bare(&path).map_err(|e| refusal(&e))?;
        let found = revision::find(&repository, wanted);
        Ok((repository, found))
    }

    /// Brings the mirror up to date; makes it first where there is none.
    fn fetch(&self, url: &str, path: &Path) -> Result<(), Refusal> {
        let _lock = lock(path).map_err(|e| {
            let why = format!("locking the mirror `{}`: {e}", path.display());
            Refusal { error: FetchError::Other(why.clone()), why }
        })?;
        let new = !path.exists();
        let repository = Repository::open_bare(path).or_else(|_| Repository::init_bare(path));
        let result = repository.map_err(|e| refusal(&e)).and_then(|repository| match is_http(url) {
            true => self.http.fetch(url, &repository),
            false => update(url, &repository).map_err(|e| refusal(&e)),
        });
        if new && result.is_err() {
            // an empty mirror would look like a project without refs
            let _ = std::fs::remove_dir_all(path);
        }
        result
    }
}

/// `project-<digest of the URL>.git`.
fn mirror_name(url: &str) -> PathBuf {
    let digest = crate::digest::sha256_hex(url.as_bytes());
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
    let last = last.strip_suffix(".git").unwrap_or(last);
    let name: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    format!("{name}-{}.git", &digest[..16]).into()
}

/// Held while the mirror changes: other commands may fetch the same.
fn lock(path: &Path) -> std::io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = File::create(path.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

/// By libgit2: ssh, git and local paths.
fn update(url: &str, repository: &Repository) -> Result<(), git2::Error> {
    let mut remote = repository.remote_anonymous(url)?;
    let mut options = FetchOptions::new();
    options.remote_callbacks(credentials::callbacks());
    options.prune(FetchPrune::On).download_tags(AutotagOption::None).update_fetchhead(false);
    remote.fetch(&["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"], Some(&mut options), None)?;
    if let Ok(name) = remote.default_branch()
        && let Ok(name) = name.as_str()
    {
        repository.set_head(name)?;
    }
    Ok(())
}

fn refusal(error: &git2::Error) -> Refusal {
    let message = error.message();
    let no_access = error.code() == ErrorCode::Auth || error.code() == ErrorCode::NotFound;
    let why = match error.code() {
        ErrorCode::Certificate if error.class() == ErrorClass::Ssh => {
            format!("{message}: connect once with `ssh` to get its host key into `~/.ssh/known_hosts`")
        }
        _ => message.to_owned(),
    };
    let error = if no_access { FetchError::NoProject } else { FetchError::Other(why.clone()) };
    Refusal { error, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_ref_is_fetched_once_in_a_command() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let origin = Repository::init_bare(dir.path().join("origin")).expect("a repository");
        let tree = origin.treebuilder(None).and_then(|t| t.write()).expect("a tree");
        let tree = origin.find_tree(tree).expect("a tree");
        let who = git2::Signature::now("t", "t@localhost").expect("a signature");
        let mut last = None;
        let mut push = || {
            let parents: Vec<_> = last.iter().collect();
            let id = origin.commit(Some("refs/heads/main"), &who, &who, "more", &tree, &parents);
            let id = id.expect("a commit");
            last = Some(origin.find_commit(id).expect("a commit"));
            id
        };
        let url = format!("file://{}", dir.path().join("origin").display());
        let commit = |mirrors: &Mirrors, name: &str| {
            let wanted = Wanted::Reference(name.to_owned());
            let (_, found) = mirrors.find(&url, &wanted, dir.path(), false).expect("a mirror");
            found.map(|found| found.commit)
        };
        let first = push();
        let command = Mirrors::default();
        assert_eq!(commit(&command, "main"), Some(first));
        let second = push();
        assert_eq!(commit(&command, "main"), Some(first), "this command has asked already");
        assert_eq!(commit(&command, &second.to_string()), None, "nor does it ask for another ref");
        assert_eq!(commit(&Mirrors::default(), "main"), Some(second), "the next command asks again");
    }
}
