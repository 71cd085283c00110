//! Packages that entries speak of, kept by their digest: `packages/<sha256>/NAME-VERSION.tar.gz`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::release::Package;

use super::entry::{Fact, Released};
use super::file::Ledger;
use super::server::Server;
use super::standing;

/// Keeps the package at `path`, built by the project in `directory`, and records it once.
///
/// # Errors
/// It is no package, can't be copied, or the ledger not be written.
pub fn keep(directory: &Path, path: &Path) -> CliResult<Released> {
    let ledger = Ledger::of(directory)?;
    let package = Package::read(path).map_err(|e| CliError::failed(e.to_string()))?;
    let to = ledger
        .state
        .join("packages")
        .join(&package.sha256)
        .join(format!("{}-{}.tar.gz", package.rel.name, package.rel.version));
    copy(path, &to).map_err(|e| {
        CliError::failed(format!("keeping the package `{}` as `{}`: {e}", path.display(), to.display()))
    })?;
    let entries = ledger.entries()?;
    if let Some(known) =
        standing::releases(&entries, &package.rel.version).find(|r| r.archive == package.sha256)
    {
        return Ok(known.clone());
    }
    let commit = Project::discover(directory).and_then(|project| project.facts(None, false)).ok();
    let (commit, author) = commit.map(|facts| (facts.commit.sha, facts.commit.author)).unwrap_or_default();
    let relup = package.relup().map_err(|e| CliError::failed(e.to_string()))?;
    let released = Released {
        content: package.content_sha256(),
        release: package.rel.name,
        version: package.rel.version,
        commit,
        author,
        archive: package.sha256,
        package: to.display().to_string(),
        upgrades_from: relup
            .map(|r| r.up.into_iter().map(|script| script.version).collect())
            .unwrap_or_default(),
    };
    ledger.append(Fact::Release(released.clone()))?;
    if let Some(server) = Server::of_job() {
        server.send(path)?;
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

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = to.with_extension(format!("part-{}", std::process::id()));
    fs::copy(from, &part)?;
    fs::rename(&part, to)
}
