//! Packages that entries speak of, kept in the project's [`Store`].

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::release::tree::{Contents, IGNORED};
use crate::release::{Appup, Package, Plain, Store, git};

use super::entry::{Fact, Released};
use super::file::Ledger;
use super::server::Server;
use super::standing;

/// A package that was built, and the appups that its relup was made of.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The archive.
    pub path: PathBuf,
    /// By application.
    pub appups: Vec<(String, Appup)>,
    /// What it is when it is no Erlang release.
    pub plain: Option<Plain>,
    /// What is in it, when that was read already.
    pub package: Option<Package>,
    /// SHA-256 over what it was made of, if that is known.
    pub recipe: Option<String>,
}

impl Whole {
    /// What is in it.
    ///
    /// # Errors
    /// It is no package.
    pub fn content(&self) -> CliResult<String> {
        match &self.plain {
            Some(plain) => Ok(plain.content.clone()),
            None => Ok(self.package()?.content_sha256()),
        }
    }

    fn package(&self) -> CliResult<Cow<'_, Package>> {
        match &self.package {
            Some(package) => Ok(Cow::Borrowed(package)),
            None => {
                Package::read(&self.path).map(Cow::Owned).map_err(|error| CliError::failed(error.to_string()))
            }
        }
    }
}

/// Keeps a package of the project in `directory`, and records it once. `commit` is what it was built from; `None`: the
/// sources as they are.
///
/// # Errors
/// It is no package, can't be copied, or the ledger not be written.
pub fn keep(directory: &Path, whole: &Whole, commit: Option<&str>) -> CliResult<Released> {
    let ledger = Ledger::of(directory)?;
    let failed = |e: crate::release::Error| CliError::failed(e.to_string());
    let clean = commit.map(str::to_owned).or_else(|| git::clean_commit(directory));
    let store = Store::at(ledger.releases());
    let stored = match &whole.plain {
        Some(plain) => store.keep_plain(plain, clean.as_deref()),
        None => store.keep(&*whole.package()?, &whole.appups, clean.as_deref()),
    };
    let stored = match &whole.recipe {
        Some(recipe) => stored.and_then(|stored| store.made_of(stored, recipe)),
        None => stored,
    };
    let stored = stored.map_err(failed)?;
    let entries = ledger.entries()?;
    if let Some(known) = standing::releases(&entries, &stored.version).find(|r| r.archive == stored.sha256) {
        return Ok(known.clone());
    }
    let facts = Project::discover(directory).and_then(|project| project.facts(None, false)).ok();
    let (head, author) = facts.map(|facts| (facts.commit.sha, facts.commit.author)).unwrap_or_default();
    let released = Released {
        content: match stored.content.is_empty() {
            true => whole.content()?,
            false => stored.content.clone(),
        },
        package: store.path(&stored).display().to_string(),
        release: stored.name,
        version: stored.version,
        // of another commit the author is not known
        author: if commit.is_some_and(|commit| commit != head) { String::new() } else { author },
        commit: commit.map_or(head, str::to_owned),
        archive: stored.sha256,
        upgrades_from: stored.upgrades_from,
    };
    ledger.append(Fact::Release(released.clone()))?;
    if let Some(server) = Server::of_job() {
        server.send(&whole.path, whole.plain.as_ref())?;
    }
    Ok(released)
}

/// Reads a kept package again, and makes sure that it is what was kept.
///
/// # Errors
/// It is gone or damaged.
pub fn open(released: &Released) -> CliResult<Package> {
    let path = PathBuf::from(&released.package);
    let package = Package::read(&path).map_err(|e| unusable(released, &e.to_string()))?;
    if package.sha256 != released.archive {
        return Err(changed(released, &package.sha256));
    }
    Ok(package)
}

/// The same for a package that is no Erlang release.
///
/// # Errors
/// It is gone or damaged.
pub fn open_plain(released: &Released) -> CliResult<Plain> {
    let path = PathBuf::from(&released.package);
    let Contents { sha256, size, tree, .. } =
        Contents::read(&path, IGNORED).map_err(|e| unusable(released, &e.to_string()))?;
    if (&sha256, &tree) != (&released.archive, &released.content) {
        return Err(changed(released, &sha256));
    }
    let (name, version) = (released.release.clone(), released.version.clone());
    Ok(Plain { path, name, version, sha256, content: tree, size })
}

const AGAIN: &str = "build it again from its tag, or bring the file back";

fn unusable(released: &Released, why: &str) -> CliError {
    CliError::failed(format!("the kept package of `{}`: {why}", released.version)).hint(AGAIN)
}

fn changed(released: &Released, sha256: &str) -> CliError {
    let Released { package, archive, .. } = released;
    let text = format!("`{package}` was changed after it was kept: its SHA-256 is {sha256}, not {archive}");
    CliError::failed(text).hint(AGAIN)
}
