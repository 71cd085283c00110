//! Cache keys from the contents of files.

use super::Cache;
use crate::config::{CacheConfig, CacheKey};
use crate::request::{Commit, Files};
use regex::Regex;
use sha1::{Digest, Sha1};
use std::cell::RefCell;
use std::collections::HashMap;

/// Resolves the keys of caches; many jobs have the same files.
pub(super) struct Keys<'a> {
    files: &'a dyn Files,
    commit: &'a Commit,
    /// By the names in the YAML, and whether commits count.
    digests: RefCell<HashMap<(Vec<String>, bool), String>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(files: &'a dyn Files, commit: &'a Commit) -> Keys<'a> {
        Keys { files, commit, digests: RefCell::default() }
    }

    /// The cache with its key resolved as far as files go. `index` is its place in the job's list.
    pub(super) fn resolve(&self, config: &CacheConfig, index: usize) -> Cache {
        let key = match &config.key {
            None => "default".to_owned(),
            Some(CacheKey::Text(text)) => text.clone(),
            Some(CacheKey::Files { files: names, prefix, commits }) => {
                let prefix = prefix.clone().unwrap_or_else(|| automatic_prefix(index, names, *commits));
                let digest = self.digest(names, *commits);
                if prefix.trim().is_empty() { digest } else { format!("{prefix}-{digest}") }
            }
        };
        Cache { key, ..config.cache.clone() }
    }

    fn digest(&self, names: &[String], commits: bool) -> String {
        let make = || {
            let ids = if commits {
                commit_ids(names, self.files, self.commit)
            } else {
                blob_ids(names, self.files)
            };
            digest(ids).unwrap_or_else(|| "default".to_owned())
        };
        self.digests.borrow_mut().entry((names.to_vec(), commits)).or_insert_with(make).clone()
    }
}

/// The names of the files up to their first dot. GitLab leaves them out with `files_commits`.
fn automatic_prefix(index: usize, names: &[String], commits: bool) -> String {
    if commits {
        return index.to_string();
    }
    let stems: Vec<&str> = names.iter().map(|name| name.split('.').next().unwrap_or_default()).collect();
    format!("{index}_{}", stems.join("_"))
}

fn blob_ids(names: &[String], files: &dyn Files) -> Vec<String> {
    paths(names, files).iter().filter_map(|path| files.blob_id(path)).collect()
}

/// The last commit of each file is taken to be the pipeline's own: the history is not looked at here.
fn commit_ids(names: &[String], files: &dyn Files, commit: &Commit) -> Vec<String> {
    let exist = names.iter().any(|name| files.blob_id(name).is_some());
    exist.then(|| commit.sha.clone()).into_iter().collect()
}

/// Names with a `*` stand for the tracked files that they match; `**` also crosses directories.
fn paths(names: &[String], files: &dyn Files) -> Vec<String> {
    let expand = |name: &String| {
        if !name.contains('*') {
            return vec![name.clone()];
        }
        let pattern = regex::escape(name).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
        let Ok(regex) = Regex::new(&format!("^{pattern}$")) else { return Vec::new() };
        files.paths().iter().filter(|path| regex.is_match(path)).cloned().collect()
    };
    names.iter().flat_map(expand).collect()
}

/// SHA-1 over the sorted distinct ids; none without ids.
fn digest(mut ids: Vec<String>) -> Option<String> {
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        return None;
    }
    let hash = Sha1::digest(ids.join("-").as_bytes());
    Some(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}
