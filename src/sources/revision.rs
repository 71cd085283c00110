//! Refs and component versions to commits.

use git2::{Oid, Repository};
use semver::{Comparator, Op, Version};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// The default branch.
    Head,
    /// Commit, tag or branch.
    Reference(String),
    /// Version of a component: a reference, `1`, `1.2` or `~latest`.
    Version(String),
}

/// What it is in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) commit: Oid,
    /// The version, where one was asked for or a version's tag was named.
    pub(super) version: Option<String>,
    /// Commits and tags stay what they are.
    pub(super) fixed: bool,
}

/// Looks it up; none: the repository has no such thing, or not yet.
pub(super) fn find(repository: &Repository, wanted: &Wanted) -> Option<Found> {
    match wanted {
        Wanted::Head => {
            let commit = repository.head().ok()?.peel_to_commit().ok()?.id();
            Some(Found { commit, version: None, fixed: false })
        }
        Wanted::Reference(name) => reference(repository, name),
        Wanted::Version(version) => newest(repository, version).or_else(|| {
            let found = reference(repository, version)?;
            let version = tag_version(version).filter(|_| found.fixed).map(|v| v.to_string());
            Some(Found { version, ..found })
        }),
    }
}

fn reference(repository: &Repository, name: &str) -> Option<Found> {
    let is_hex = name.len() >= 7 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if name.len() == 40 && is_hex {
        let commit = repository.find_commit(Oid::from_str(name).ok()?).ok()?.id();
        return Some(Found { commit, version: None, fixed: true });
    }
    let named = |full: &str| {
        let commit = repository.find_reference(full).ok()?.peel_to_commit().ok()?.id();
        Some(Found { commit, version: None, fixed: full.starts_with("refs/tags/") })
    };
    if name.starts_with("refs/") {
        return named(name);
    }
    let places = ["refs/tags/", "refs/heads/", "refs/remotes/origin/"];
    places.iter().find_map(|place| named(&format!("{place}{name}"))).or_else(|| {
        let commit = is_hex.then(|| repository.revparse_single(name).ok()?.peel_to_commit().ok())??.id();
        Some(Found { commit, version: None, fixed: true })
    })
}

/// The newest released version that `~latest`, `1` or `1.2` stands for. Pre-releases are asked for by name.
fn newest(repository: &Repository, wanted: &str) -> Option<Found> {
    let comparator = partial(wanted)?;
    let tags = names(repository, "refs/tags/");
    let (version, tag) = tags
        .iter()
        .filter_map(|tag| Some((tag_version(tag)?, tag)))
        .filter(|(version, _)| version.pre.is_empty())
        .filter(|(version, _)| comparator.as_ref().is_none_or(|c| c.matches(version)))
        .max()?;
    let found = reference(repository, &format!("refs/tags/{tag}"))?;
    Some(Found { version: Some(version.to_string()), fixed: false, ..found })
}

/// None: not a partial version. Some(None): any version.
fn partial(wanted: &str) -> Option<Option<Comparator>> {
    if wanted == "~latest" {
        return Some(None);
    }
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    let (major, minor) = match wanted.split_once('.') {
        Some((major, minor)) => (number(major)?, Some(number(minor)?)),
        None => (number(wanted)?, None),
    };
    Some(Some(Comparator { op: Op::Exact, major, minor, patch: None, pre: semver::Prerelease::EMPTY }))
}

fn tag_version(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// Short names of the refs with a prefix.
pub(super) fn names(repository: &Repository, prefix: &str) -> Vec<String> {
    let Ok(references) = repository.references_glob(&format!("{prefix}*")) else { return Vec::new() };
    let names = references.flatten().filter_map(|r| Some(r.name().ok()?.strip_prefix(prefix)?.to_owned()));
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_mean_the_newest_release_that_fits() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let repository = Repository::init_bare(dir.path()).expect("a repository");
        let tree = repository.treebuilder(None).and_then(|t| t.write()).expect("a tree");
        let tree = repository.find_tree(tree).expect("a tree");
        let who = git2::Signature::now("t", "t@localhost").expect("a signature");
        let tags = ["1.0.0", "1.2.0", "1.2.10", "1.2.9", "1.3.0-rc.1", "v2.0.0", "10.0.0-a", "1", "nightly"];
        let mut commits = std::collections::HashMap::new();
        for tag in tags {
            let commit = repository.commit(None, &who, &who, tag, &tree, &[]).expect("a commit");
            repository.reference(&format!("refs/tags/{tag}"), commit, true, "").expect("a tag");
            commits.insert(tag, commit);
        }
        let branch = repository.find_commit(commits["1.0.0"]).expect("a commit");
        repository.branch("work", &branch, true).expect("a branch");
        let table = [
            ("~latest", Some(("v2.0.0", Some("2.0.0"), false))),
            ("1", Some(("1.2.10", Some("1.2.10"), false))),
            ("1.2", Some(("1.2.10", Some("1.2.10"), false))),
            ("1.3", None),
            ("1.3.0-rc.1", Some(("1.3.0-rc.1", Some("1.3.0-rc.1"), true))),
            ("1.0.0", Some(("1.0.0", Some("1.0.0"), true))),
            ("nightly", Some(("nightly", None, true))),
            ("work", Some(("1.0.0", None, false))),
            ("9", None),
        ];
        for (wanted, expected) in table {
            let expected = expected.map(|(tag, version, fixed)| Found {
                commit: commits[tag],
                version: version.map(str::to_owned),
                fixed,
            });
            assert_eq!(find(&repository, &Wanted::Version(wanted.into())), expected, "{wanted}");
        }
        let sha = commits["nightly"].to_string();
        let found = find(&repository, &Wanted::Reference(sha.clone())).expect("found");
        assert_eq!((found.commit, found.fixed), (commits["nightly"], true));
        assert_eq!(find(&repository, &Wanted::Reference(sha[..9].into())), Some(found));
        let one = find(&repository, &Wanted::Reference("1".into())).expect("found");
        assert_eq!(one.commit, commits["1"], "only components have partial versions");
    }
}
