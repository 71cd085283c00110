//! Fetching by refspecs into a bare repository, for jobs: over http by our own protocol, else by libgit2.

use super::credentials;
use super::smart_http::{SmartHttp, is_http};
use git2::{AutotagOption, FetchOptions, Oid, Reference, Repository};
use std::collections::BTreeMap;

/// What is fetched.
#[derive(Clone, Default)]
pub(crate) struct Wish<'a> {
    /// Without user and password.
    pub(crate) url: &'a str,
    /// User and password of an http server; none: git's credential helpers are asked where it wants some.
    pub(crate) login: Option<(String, String)>,
    /// `+refs/heads/*:refs/remotes/origin/*`
    pub(crate) refspecs: &'a [String],
    /// Brought as well where the server allows it, if no ref leads to it.
    pub(crate) commit: Option<Oid>,
}

/// Brings what is wished, and sets the refs to it. Refs that are gone stay.
///
/// # Errors
/// It can't be had; says why, and never the password.
pub(crate) fn fetch(repository: &Repository, wish: &Wish<'_>) -> Result<(), String> {
    if is_http(wish.url) {
        return SmartHttp::default().fetch_refs(repository, wish).map_err(|refusal| refusal.why);
    }
    let fetch = || {
        let mut remote = repository.remote_anonymous(wish.url)?;
        let mut options = FetchOptions::new();
        options.remote_callbacks(credentials::callbacks());
        options.download_tags(AutotagOption::None).update_fetchhead(false);
        remote.fetch(wish.refspecs, Some(&mut options), None)
    };
    fetch().map_err(|e: git2::Error| e.message().to_owned())
}

/// Names of refs here, with their ids, of what a server has.
pub(super) fn targets(refspecs: &[String], refs: &BTreeMap<String, Oid>) -> BTreeMap<String, Oid> {
    let mut targets = BTreeMap::new();
    for (from, to) in refspecs.iter().filter_map(|spec| spec.trim_start_matches('+').split_once(':')) {
        for (name, id) in refs {
            if let Some(target) = target(from, to, name)
                && Reference::is_valid_name(&target)
            {
                targets.insert(target, *id);
            }
        }
    }
    targets
}

fn target(from: &str, to: &str, name: &str) -> Option<String> {
    let Some((before, after)) = from.split_once('*') else {
        return (from == name).then(|| to.to_owned());
    };
    let middle = name.strip_prefix(before)?.strip_suffix(after)?;
    Some(to.replacen('*', middle, 1))
}

/// Sets refs. One that stands in the way of another, as `a` does of `a/b`, is gone on the server and goes here.
pub(crate) fn set(repository: &Repository, refs: &BTreeMap<String, Oid>) -> Result<(), git2::Error> {
    for (name, id) in refs {
        if repository.find_reference(name).is_ok_and(|found| found.target() == Some(*id)) {
            continue;
        }
        if repository.reference(name, *id, true, "fetch").is_err() {
            clear_the_way(repository, name)?;
            repository.reference(name, *id, true, "fetch")?;
        }
    }
    Ok(())
}

fn clear_the_way(repository: &Repository, name: &str) -> Result<(), git2::Error> {
    let below = format!("{name}/");
    for reference in repository.references()? {
        let mut reference = reference?;
        let in_the_way = reference
            .name()
            .is_ok_and(|other| other.starts_with(&below) || name.starts_with(&format!("{other}/")));
        if in_the_way {
            reference.delete()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> Oid {
        Oid::from_str(&digit.to_string().repeat(40)).expect("an id")
    }

    #[test]
    fn refspecs_rename_what_they_match() {
        let refs: BTreeMap<String, Oid> =
            [("refs/heads/main", '1'), ("refs/heads/a/b", '2'), ("refs/tags/v1", '3')]
                .map(|(name, digit)| (name.to_owned(), id(digit)))
                .into();
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, char)]);
        let table: [Case; 5] = [
            (&["+refs/heads/main:refs/remotes/origin/main"], &[("refs/remotes/origin/main", '1')]),
            (
                &["+refs/heads/*:refs/remotes/origin/*", "refs/tags/*:refs/tags/*"],
                &[("refs/remotes/origin/a/b", '2'), ("refs/remotes/origin/main", '1'), ("refs/tags/v1", '3')],
            ),
            (&["+refs/pipelines/9:refs/pipelines/9"], &[]),
            (&["refs/heads/main", "nonsense"], &[]),
            (&["refs/heads/*:refs/heads/../*"], &[]),
        ];
        for (specs, expected) in table {
            let specs: Vec<String> = specs.iter().map(|s| (*s).to_owned()).collect();
            let expected: BTreeMap<String, Oid> =
                expected.iter().map(|(n, d)| ((*n).to_owned(), id(*d))).collect();
            assert_eq!(targets(&specs, &refs), expected, "{specs:?}");
        }
    }

    #[test]
    fn a_branch_that_became_a_directory_of_branches_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let repository = Repository::init_bare(dir.path()).expect("a repository");
        let tree = repository.treebuilder(None).and_then(|t| t.write()).expect("a tree");
        let tree = repository.find_tree(tree).expect("a tree");
        let who = git2::Signature::now("t", "t@localhost").expect("a signature");
        let commit = repository.commit(None, &who, &who, "m", &tree, &[]).expect("a commit");
        for name in ["refs/heads/a", "refs/heads/a/b", "refs/heads/a"] {
            set(&repository, &[(name.to_owned(), commit)].into()).expect(name);
            let found = repository.find_reference(name).expect(name);
            assert_eq!(found.target(), Some(commit));
        }
    }
}
