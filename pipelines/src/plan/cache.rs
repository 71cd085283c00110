//! Cache keys from the contents of files.

use super::Cache;
use crate::config::{CacheConfig, CacheKey};
use crate::request::{Commit, Files};
use regex::Regex;
use sha1::{Digest, Sha1};

/// The cache with its key resolved as far as files go. `index` is its place in the job's list.
pub(super) fn resolve(config: &CacheConfig, index: usize, files: &dyn Files, commit: &Commit) -> Cache {
    let key = match &config.key {
        None => "default".to_owned(),
        Some(CacheKey::Text(text)) => text.clone(),
        Some(CacheKey::Files { files: names, prefix, commits }) => {
            let prefix = prefix.clone().unwrap_or_else(|| automatic_prefix(index, names, *commits));
            let ids = if *commits { commit_ids(names, files, commit) } else { blob_ids(names, files) };
            let digest = digest(ids).unwrap_or_else(|| "default".to_owned());
            if prefix.trim().is_empty() { digest } else { format!("{prefix}-{digest}") }
        }
    };
    Cache { key, ..config.cache.clone() }
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
