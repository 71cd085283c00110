//! Caches of a project: one `KEY.tar.zst` per key in the project's cache directory. A cache is written to a
//! temporary file and renamed, so jobs that run at once read whole caches, old or new; the last writer wins.

use crate::variables::Variables;
use pipelines::plan::Cache;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Longer file names are shortened to this and a digest; the file system's limit is 255 with the suffix.
const LONGEST_NAME: usize = 150;

/// What a job may do with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Restored before the script.
    pub pull: bool,
    /// Saved after it.
    pub push: bool,
}

/// The policy, variables expanded.
///
/// # Errors
/// It is none of GitLab's three; the text names it.
pub fn policy(cache: &Cache, variables: &Variables) -> Result<Policy, String> {
    match variables.expand(&cache.policy).as_str() {
        "pull-push" | "" => Ok(Policy { pull: true, push: true }),
        "pull" => Ok(Policy { pull: true, push: false }),
        "push" => Ok(Policy { pull: false, push: true }),
        other => Err(format!("unknown cache policy `{other}`: use `pull-push`, `pull` or `push`")),
    }
}

/// The key that the cache is saved under, and those that are tried for restoring, in order. None: after
/// expansion nothing is left of the key, and the cache is not used.
pub fn keys(cache: &Cache, variables: &Variables) -> Option<Vec<String>> {
    let suffix = suffix(cache, variables);
    let full = |key: &str| Some(sanitize(&variables.expand(key))? + suffix);
    let main = full(&cache.key)?;
    // GitLab keeps the caches of protected refs from jobs of others: this variable is no way around that
    let global = variables.get("CACHE_FALLBACK_KEY").filter(|key| !key.ends_with("-protected"));
    let global = global.and_then(|key| sanitize(&variables.expand(key)));
    let mut keys = vec![main];
    for key in cache.fallback_keys.iter().filter_map(|key| full(key)).chain(global) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Some(keys)
}

/// Jobs of refs that are not protected can't write what those of protected ones read.
fn suffix(cache: &Cache, variables: &Variables) -> &'static str {
    let protected = variables.get("CI_COMMIT_REF_PROTECTED") == Some("true");
    if protected && !cache.unprotect { "-protected" } else { "-non_protected" }
}

/// A key as gitlab-runner makes it safe: a relative path without dots, or nothing.
fn sanitize(key: &str) -> Option<String> {
    let mut plain = key.to_owned();
    for (encoded, character) in [("%2f", "/"), ("%2F", "/"), ("%2e", "."), ("%2E", "."), ("\\", "/")] {
        plain = plain.replace(encoded, character);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in plain.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let joined = parts.join("/").trim_end().to_owned();
    (!joined.is_empty()).then_some(joined)
}

/// Opens the first of `keys` that there is a cache for. It counts as used now: cleaning takes the others first.
///
/// # Errors
/// A cache is there and can't be opened.
pub fn open(directory: &Path, keys: &[String]) -> io::Result<Option<(String, File)>> {
    for key in keys {
        match File::open(path(directory, key)) {
            Ok(file) => {
                // the time of last use is a comfort, not worth failing for
                let _ = File::create(used(directory, key));
                return Ok(Some((key.clone(), file)));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A file to write a new cache into. Dropped without [`save`], it leaves nothing.
///
/// # Errors
/// The directory can't be written.
pub fn create(directory: &Path) -> io::Result<NamedTempFile> {
    std::fs::create_dir_all(directory)?;
    tempfile::Builder::new().prefix(".new-").tempfile_in(directory)
}

/// Makes a written file the cache of `key`.
///
/// # Errors
/// The directory can't be written.
pub fn save(directory: &Path, key: &str, file: NamedTempFile) -> io::Result<()> {
    file.persist(path(directory, key)).map(|_| ()).map_err(|error| error.error)
}

/// An empty file whose time says when a cache was last restored.
fn used(directory: &Path, key: &str) -> PathBuf {
    directory.join(file_name(key) + ".used")
}

/// The archive of a key.
pub(crate) fn path(directory: &Path, key: &str) -> PathBuf {
    directory.join(file_name(key))
}

/// One flat file name for each key.
pub(crate) fn file_name(key: &str) -> String {
    let mut name = String::new();
    for byte in key.bytes() {
        // a leading dot would collide with files that are being written
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && !name.is_empty()) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.len() > LONGEST_NAME {
        let digest = Sha256::digest(key.as_bytes());
        name.truncate(LONGEST_NAME);
        // `%` starts nothing that the loop above writes with a non-hexadecimal letter: no collision
        name.push_str(&format!("%_{}", crate::digest::hex(&digest[..16])));
    }
    name + ".tar.zst"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::{Read, Write};

    fn cache(key: &str, fallback: &[&str], policy: &str) -> Cache {
        Cache {
            key: key.into(),
            paths: vec!["p".into()],
            untracked: None,
            fallback_keys: fallback.iter().map(|key| (*key).to_owned()).collect(),
            policy: policy.into(),
            when: "on_success".into(),
            unprotect: false,
        }
    }

    fn variables() -> Variables {
        let mut variables = Variables::default();
        variables.put("CI_COMMIT_REF_SLUG", "main");
        variables.put("P", "pull");
        variables
    }

    #[test]
    fn keys_are_expanded_and_made_safe() {
        let table = [
            ("default", Some("default")),
            ("$CI_COMMIT_REF_SLUG-x", Some("main-x")),
            ("$NOTHING", None),
            ("..", None),
            ("../../etc", Some("etc")),
            ("a%2F..%2f%2E%2e/b", Some("b")),
            ("a\\b ", Some("a/b")),
            ("é ü", Some("é ü")),
        ];
        for (key, expected) in table {
            let got = keys(&cache(key, &[], ""), &variables()).map(|keys| keys[0].clone());
            assert_eq!(got, expected.map(|key| format!("{key}-non_protected")), "{key}");
        }
    }

    #[test]
    fn fallback_keys_come_in_order_and_the_global_one_last() {
        let mut variables = variables();
        variables.put("CACHE_FALLBACK_KEY", "global");
        let cache = cache("k", &["$CI_COMMIT_REF_SLUG", "k"], "");
        assert_eq!(keys(&cache, &variables).unwrap(), ["k-non_protected", "main-non_protected", "global"]);
        variables.put("CACHE_FALLBACK_KEY", "x-protected");
        assert_eq!(keys(&cache, &variables).unwrap(), ["k-non_protected", "main-non_protected"]);
    }

    #[test]
    fn protected_refs_have_caches_of_their_own() {
        let mut variables = variables();
        variables.put("CI_COMMIT_REF_PROTECTED", "true");
        let shared = Cache { unprotect: true, ..cache("k", &[], "") };
        assert_eq!(keys(&cache("k", &["f"], ""), &variables).unwrap(), ["k-protected", "f-protected"]);
        assert_eq!(keys(&shared, &variables).unwrap(), ["k-non_protected"]);
    }

    #[test]
    fn policies_may_be_variables() {
        assert_eq!(policy(&cache("k", &[], "$P"), &variables()), Ok(Policy { pull: true, push: false }));
        assert!(policy(&cache("k", &[], "sometimes"), &variables()).unwrap_err().contains("`sometimes`"));
    }

    #[test]
    fn every_key_has_its_own_file() {
        let long = "x".repeat(300);
        let keys = ["a", "a/b", "a%2Fb", "a.tar.zst/b", ".new-x", "A", &long, &long[1..], "é"];
        let paths: HashSet<PathBuf> = keys.iter().map(|key| path(Path::new("/c"), key)).collect();
        assert_eq!(paths.len(), keys.len());
        assert!(
            paths
                .iter()
                .all(|path| path.file_name().unwrap().len() < 256 && path.parent() == Some(Path::new("/c")))
        );
    }

    #[test]
    fn a_reader_keeps_the_cache_that_it_opened() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let mut file = create(dir.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            save(dir.path(), "k", file).unwrap();
        };
        assert!(open(dir.path(), &["k".into()]).unwrap().is_none());
        write("old");
        let (key, mut file) = open(dir.path(), &["missing".into(), "k".into()]).unwrap().unwrap();
        write("new");
        drop(create(dir.path()).unwrap());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((key.as_str(), text.as_str()), ("k", "old"));
        let archives = std::fs::read_dir(dir.path()).unwrap().flatten();
        let archives = archives.filter(|entry| !entry.path().to_string_lossy().ends_with(".used"));
        assert_eq!(archives.count(), 1);
    }
}
