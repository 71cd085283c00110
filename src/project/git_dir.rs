//! A `.git` of our own for a snapshot: the objects are hard links to the user's, the refs are copied.

use super::Project;
use super::linked::{link, link_tree};
use crate::error::{CliError, CliResult};
use git2::{Repository, RepositoryInitOptions};
use std::collections::HashSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// More stores of objects borrowing from one another than anybody has: a circle.
const MOST_ALTERNATES: usize = 32;

impl Project {
    /// Makes `dir` a repository with all that the user's has, nothing checked out yet, `sha` as detached HEAD.
    pub(super) fn make_git_dir(&self, sha: &str, dir: &Path) -> CliResult<Repository> {
        make_from(self.repository(), sha, dir)
    }
}

/// As [`Project::make_git_dir`], for any repository.
pub(super) fn make_from(from: &Repository, sha: &str, dir: &Path) -> CliResult<Repository> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        CliError::usage(format!("making a snapshot of the sources: {what}: {e}"))
    };
    let mut options = RepositoryInitOptions::new();
    options.external_template(false);
    let made = Repository::init_opts(dir, &options).map_err(|e| failed("making its `.git`", &e.message()))?;
    let common = from.commondir();
    link_objects(&common.join("objects"), &dir.join(".git/objects"))
        .map_err(|e| failed("linking git's objects", &e))?;
    if common.join("shallow").is_file() {
        fs::copy(common.join("shallow"), dir.join(".git/shallow"))
            .map_err(|e| failed("copying `shallow`", &e))?;
    }
    let refs = packed_refs(from).map_err(|e| failed("reading git's refs", &e.message()))?;
    fs::write(dir.join(".git/packed-refs"), refs).map_err(|e| failed("writing git's refs", &e))?;
    configure(from, &made).map_err(|e| failed("configuring it", &e.message()))?;
    fs::write(dir.join(".git/HEAD"), format!("{sha}\n")).map_err(|e| failed("setting HEAD", &e))?;
    // opened again: refs and objects have come in behind its back
    Repository::open(dir).map_err(|e| failed("opening it", &e.message()))
}

/// Objects of a store and of those it borrows from.
fn link_objects(from: &Path, to: &Path) -> io::Result<()> {
    let mut stores = vec![from.to_owned()];
    let mut next = 0;
    while let Some(store) = stores.get(next).cloned() {
        next += 1;
        let info = HashSet::from([PathBuf::from("info/alternates"), PathBuf::from("info/http-alternates")]);
        if next == 1 {
            link_tree(&store, to, &info)?;
        } else {
            link_missing(&store, to)?;
        }
        let alternates = match fs::read_to_string(store.join("info/alternates")) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        for line in alternates.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let other = store.join(line);
            if !stores.contains(&other) && stores.len() < MOST_ALTERNATES {
                stores.push(other);
            }
        }
    }
    Ok(())
}

/// Links what is not there yet: two stores may hold the same object.
fn link_missing(from: &Path, to: &Path) -> io::Result<()> {
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        if !directory.file_type()?.is_dir() || directory.file_name() == "info" {
            continue;
        }
        let target = to.join(directory.file_name());
        fs::create_dir_all(&target)?;
        for entry in fs::read_dir(directory.path())? {
            let entry = entry?;
            match link(&entry.path(), &target.join(entry.file_name())) {
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                linked => linked?,
            }
        }
    }
    Ok(())
}

/// Branches, remote branches and tags in the form of git's `packed-refs`: scripts look them up.
fn packed_refs(from: &Repository) -> Result<String, git2::Error> {
    let mut lines = Vec::new();
    for reference in from.references()? {
        let reference = reference?;
        let (Ok(name), Some(target)) = (reference.name(), reference.target()) else { continue };
        if ["refs/heads/", "refs/remotes/", "refs/tags/"].iter().any(|kind| name.starts_with(kind)) {
            lines.push((name.to_owned(), target));
        }
    }
    lines.sort();
    Ok(lines.iter().map(|(name, target)| format!("{target} {name}\n")).collect())
}

fn configure(from: &Repository, made: &Repository) -> Result<(), git2::Error> {
    let mut config = made.config()?;
    // a hard link to a file changes its ctime, and `git status` would read every file again
    config.set_bool("core.trustctime", false)?;
    if let Some(url) = from.find_remote("origin").ok().and_then(|r| r.url().ok().map(without_password)) {
        made.remote("origin", &url)?;
    }
    Ok(())
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
