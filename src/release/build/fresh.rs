//! The fresh package: everything, for a target that has nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Error, Package, Project},
    command::Log,
    staging::{Staging, blocking},
    tar,
};

/// A package that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltRelease {
    /// The archive, `NAME-VSN.tar.gz`.
    pub path: PathBuf,
    /// The release's name.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// SHA-256 of the archive in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
    /// The version of the runtime system in it.
    pub erts: String,
}

impl BuiltRelease {
    pub(super) fn of(package: &Package) -> BuiltRelease {
        BuiltRelease {
            path: package.path.clone(),
            name: package.rel.name.clone(),
            version: package.rel.version.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
            erts: package.rel.erts.clone(),
        }
    }
}

/// Builds the package of the project as its sources stand, with the runtime system and Erlang's libraries.
///
/// # Errors
/// rebar3 fails; the package lacks the runtime system, or is another release than `rebar.config` says.
pub async fn fresh(project: &Project, log: Log<'_>) -> Result<BuiltRelease, Error> {
    let staging = Staging::open(project).await?;
    let package = tar::build(project, &staging.at("new"), log).await?;
    let to = staging.at("fresh");
    blocking(move || {
        let path = keep(&package.path, &to)?;
        Ok(BuiltRelease { path, ..BuiltRelease::of(&package) })
    })
    .await
}

/// Copies an archive into a directory, whole or not at all.
pub(super) fn keep(archive: &Path, dir: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(dir).map_err(Error::io("making the directory", dir))?;
    let to = dir.join(archive.file_name().unwrap_or_default());
    let part = to.with_extension("part");
    fs::copy(archive, &part).map_err(Error::io("copying to", &part))?;
    fs::rename(&part, &to).map_err(Error::io("renaming to", &to))?;
    Ok(to)
}
