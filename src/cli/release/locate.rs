//! Packages by file or by version: the store, then what builds have left in the project.

use std::path::{Path, PathBuf};

use crate::error::{CliError, CliResult};
use crate::release::{self, Appup, Package, Store};

/// The store of the project here.
pub(super) fn store() -> Option<Store> {
    Store::of_project(Path::new("."))
}

/// A package that was found, with the appups that were kept beside it.
pub(super) struct Found {
    pub(super) package: Package,
    pub(super) appups: Vec<(String, Appup)>,
}

/// The package that `what` names: a file, or a version of the release `name` (none: of whichever has it).
pub(super) fn find(what: &str, name: Option<&str>) -> CliResult<Found> {
    let path = Path::new(what);
    if path.is_file() || what.contains('/') || what.ends_with(".tar.gz") {
        return Ok(Found { package: Package::read(path).map_err(unusable)?, appups: Vec::new() });
    }
    let right = |found: &str| name.is_none_or(|name| name == found);
    if let Some(store) = store() {
        let stored = store.list().into_iter().filter(|stored| stored.version == what && right(&stored.name));
        // a whole package can do more than a thin one
        if let Some(stored) = stored.max_by_key(|stored| (stored.fat, stored.at)) {
            let package = Package::read(&store.path(&stored)).map_err(unusable)?;
            return Ok(Found { package, appups: store.appups(&stored) });
        }
    }
    let fits = |package: &Package| package.rel.version == what && right(&package.rel.name);
    let built =
        built().into_iter().filter(|path| path.to_string_lossy().ends_with(&format!("-{what}.tar.gz")));
    let package = built.filter_map(|path| Package::read(&path).ok()).find(fits);
    package.map(|package| Found { package, appups: Vec::new() }).ok_or_else(|| {
        CliError::usage(format!("there is no package of version `{what}`, and no file of that name"))
            .hint("`ci release list` shows what is kept; `ci release keep FILE` keeps a package")
    })
}

/// Archives in the build directories: ours, then rebar3's.
fn built() -> Vec<PathBuf> {
    let mut archives = Vec::new();
    for (dir, depth) in [("_build/slipway", 4), ("_build", 4)] {
        collect(Path::new(dir), depth, &mut archives);
    }
    archives
}

/// Packages lie at most this deep; what lies deeper, or in libraries, is not ours to read.
fn collect(dir: &Path, depth: usize, archives: &mut Vec<PathBuf>) {
    let skipped = ["lib", "source", "relup", "new", "build", "slipway", "plugins"];
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tar.gz") {
            archives.push(path);
        } else if depth > 0 && !skipped.contains(&&*name) && path.is_dir() {
            collect(&path, depth - 1, archives);
        }
    }
}

/// A package that can't be used is a failed check, not a wrong command.
pub(super) fn unusable(error: release::Error) -> CliError {
    match error {
        release::Error::Io { .. } => CliError::usage(error.to_string()),
        _ => CliError::failed(error.to_string())
            .hint("`ci release check --explain R001` says what a package must be"),
    }
}
