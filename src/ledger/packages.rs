//! Packages that entries speak of, kept in the project's [`Store`].

use std::path::{Path, PathBuf};

use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::release::{Appup, Package, Store, git};

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
}

/// Keeps a package of the project in `directory`, and records it once. `commit` is what it was built from; `None`: the
/// sources as they are.
///
/// # Errors
/// It is no package, can't be copied, or the ledger not be written.
pub fn keep(directory: &Path, whole: &Whole, commit: Option<&str>) -> CliResult<Released> {
    let ledger = Ledger::of(directory)?;
    let failed = |e: crate::release::Error| CliError::failed(e.to_string());
    let package = Package::read(&whole.path).map_err(failed)?;
    let clean = commit.map(str::to_owned).or_else(|| git::clean_commit(directory));
    let store = Store::at(ledger.releases());
    let stored = store.keep(&package, &whole.appups, clean.as_deref()).map_err(failed)?;
    let entries = ledger.entries()?;
    if let Some(known) = standing::releases(&entries, &stored.version).find(|r| r.archive == stored.sha256) {
        return Ok(known.clone());
    }
    let facts = Project::discover(directory).and_then(|project| project.facts(None, false)).ok();
    let (head, author) = facts.map(|facts| (facts.commit.sha, facts.commit.author)).unwrap_or_default();
    let released = Released {
        content: package.content_sha256(),
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
        server.send(&whole.path)?;
    }
    Ok(released)
}

/// Reads a kept package again, and makes sure that it is what was kept.
///
/// # Errors
/// It is gone or damaged.
pub fn open(released: &Released) -> CliResult<Package> {
    let path = PathBuf::from(&released.package);
    let again = "build it again from its tag, or bring the file back";
    let package = Package::read(&path).map_err(|e| {
        CliError::failed(format!("the kept package of `{}`: {e}", released.version)).hint(again)
    })?;
    if package.sha256 != released.archive {
        return Err(CliError::failed(format!(
            "`{}` was changed after it was kept: its SHA-256 is {}, not {}",
            released.package, package.sha256, released.archive
        ))
        .hint(again));
    }
    Ok(package)
}
