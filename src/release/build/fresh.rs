//! The fresh package: everything, for a target that has nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Error, Package, Project, Store},
    command::Log,
    recipe::Recipe,
    staging::{Staging, blocking},
    tar::{self, Made},
};

/// A package that was built.
#[derive(Debug, Clone, PartialEq)]
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
    /// What is in it.
    pub package: Package,
    /// SHA-256 over what it was made of, if that is known.
    pub recipe: Option<String>,
    /// It was not built again, as nothing that it is made of has changed.
    pub reused: bool,
}

impl BuiltRelease {
    pub(super) fn of(Made { package, recipe, reused }: Made) -> BuiltRelease {
        BuiltRelease {
            path: package.path.clone(),
            name: package.rel.name.clone(),
            version: package.rel.version.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
            erts: package.rel.erts.clone(),
            recipe: recipe.map(|recipe| recipe.0),
            reused,
            package,
        }
    }
}

/// Builds the package of the project as its sources stand, with the runtime system and Erlang's libraries; or takes the one
/// that was built or shipped before, if it was made of the very same.
///
/// # Errors
/// rebar3 fails; the package lacks the runtime system, or is another release than `rebar.config` says.
pub async fn fresh(project: &Project, log: Log<'_>) -> Result<BuiltRelease, Error> {
    let staging = Staging::open(project).await?;
    let made = tar::build(project, &staging.at("new"), Store::of_project(&project.dir), log).await?;
    kept(&staging, made).await
}

/// The same, if nothing has to be built for it.
///
/// # Errors
/// The disk refuses.
pub async fn known(project: &Project) -> Result<Option<BuiltRelease>, Error> {
    let Some(recipe) = Recipe::of(project).await else { return Ok(None) };
    let staging = Staging::open(project).await?;
    let store = Store::of_project(&project.dir);
    let Some(package) = tar::known(project, &staging.at("new"), store, &recipe).await? else {
        return Ok(None);
    };
    kept(&staging, Made { package, recipe: Some(recipe), reused: true }).await.map(Some)
}

async fn kept(staging: &Staging, mut made: Made) -> Result<BuiltRelease, Error> {
    let to = staging.at("fresh");
    blocking(move || {
        made.package.path = keep(&made.package.path, &to)?;
        Ok(BuiltRelease::of(made))
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
