//! The release to deploy: built here, read back from its package, and checked before anything is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::release::build;
use crate::release::decide::Candidate;
use crate::release::installed::{InstalledRelease, Snapshot};
use crate::release::package;
use crate::release::rebar::Project;
use crate::release::relup::Instruction;
use crate::release::thin::{self, TargetLibraries};

use super::apply::Package;
use super::error::Error;

/// A package that is ready to be sent, and what is known about it.
pub(crate) struct Built {
    pub(crate) candidate: Candidate,
    pub(crate) package: Package,
    pub(crate) warnings: Vec<String>,
    /// Keeps the thin package while it is needed.
    pub(crate) _directory: Option<tempfile::TempDir>,
}

/// The project that the release is built from.
pub(crate) struct Source {
    project: Project,
}

/// Reads the project in `directory`.
pub(crate) fn open(directory: &Path, profile: &str) -> Result<Source, Error> {
    let project = Project::open(directory, profile).map_err(explain)?;
    Ok(Source { project })
}

/// Name and version of the release that the project in `directory` builds with the rebar3 `profile`.
///
/// # Errors
/// The project can't be read.
pub fn identity(directory: &Path, profile: &str) -> Result<(String, String), Error> {
    open(directory, profile).map(|source| (source.project.name, source.project.version))
}

impl Source {
    pub(crate) fn name(&self) -> &str {
        &self.project.name
    }

    pub(crate) fn version(&self) -> &str {
        &self.project.version
    }

    /// Builds a package with the runtime system in it.
    pub(crate) async fn fresh(&self) -> Result<Built, Error> {
        let built = build::fresh(&self.project, &log).await.map_err(explain)?;
        let read = package::Package::read(&built.path).map_err(explain)?;
        Ok(Built {
            candidate: candidate(&read, ""),
            package: whole(&read),
            warnings: Vec::new(),
            _directory: None,
        })
    }

    /// Builds an upgrade from `from`, and leaves out of its package what the target has: what `node` says, or
    /// else what `from` was built with.
    pub(crate) async fn upgrade(&self, from: &str, node: Option<&Snapshot>) -> Result<Built, Error> {
        let built = build::upgrade(&self.project, from, &log).await.map_err(explain)?;
        let new = package::Package::read(&built.release.path).map_err(explain)?;
        let target = match (node.and_then(libraries), built.old.first()) {
            (Some(libraries), _) => libraries,
            (None, Some(old)) => {
                let old = package::Package::read(old).map_err(explain)?;
                TargetLibraries { erts: old.rel.erts, apps: old.rel.apps }
            }
            (None, None) => TargetLibraries { erts: String::new(), apps: Vec::new() },
        };
        let failed = |error| Error::failed(format!("cannot make a directory for the package: {error}"));
        let directory = tempfile::tempdir().map_err(failed)?;
        let path = directory.path().join(format!("{}-{}.tar.gz", self.name(), self.version()));
        let thin = thin::write(&new, &target, &path).map_err(explain)?;
        let mut candidate = candidate(&new, from);
        let left_out = thin.left_out.iter().filter_map(|part| part.strip_prefix("lib/"));
        candidate.left_out = left_out.map(str::to_owned).collect();
        let package = Package { path, sha256: thin.sha256, size: thin.size };
        let warnings = built
            .warnings
            .iter()
            .map(|finding| format!("{} ({}); {}", finding.text, finding.code, finding.remedy))
            .collect();
        Ok(Built { candidate, package, warnings, _directory: Some(directory) })
    }
}

fn whole(read: &package::Package) -> Package {
    Package { path: read.path.clone(), sha256: read.sha256.clone(), size: read.size }
}

/// Builds are quiet: the error of one that fails shows its last lines.
fn log(line: &str) {
    tracing::debug!(target: "build", "{line}");
}

/// What the package says about itself; `from` chooses the script of its relup.
fn candidate(read: &package::Package, from: &str) -> Candidate {
    let modules =
        read.modules.values().flatten().map(|(name, beam)| (name.clone(), crate::digest::hex(&beam.md5)));
    Candidate {
        name: read.rel.name.clone(),
        version: read.rel.version.clone(),
        erts: read.rel.erts.clone(),
        applications: read.rel.apps.iter().cloned().collect::<BTreeMap<_, _>>(),
        modules: modules.collect(),
        loaded: loaded(read, from),
        left_out: BTreeSet::new(),
    }
}

fn loaded(read: &package::Package, from: &str) -> BTreeSet<String> {
    let relup = read.relup().ok().flatten();
    let script = relup.as_ref().and_then(|relup| relup.up_from(from));
    let instructions = script.map(|script| script.instructions.as_slice()).unwrap_or_default();
    let load = |instruction: &Instruction| match instruction {
        Instruction::Load { module, .. } => Some(module.clone()),
        _ => None,
    };
    instructions.iter().filter_map(load).collect()
}

/// The runtime system and the libraries of the release that runs.
fn libraries(node: &Snapshot) -> Option<TargetLibraries> {
    let running = |release: &&InstalledRelease| Some(release.version.as_str()) == node.running();
    let release = node.releases.iter().find(running)?;
    let split = |library: &String| {
        library.rsplit_once('-').map(|(name, version)| (name.to_owned(), version.to_owned()))
    };
    Some(TargetLibraries {
        erts: node.erts.clone(),
        apps: release.libraries.iter().filter_map(split).collect(),
    })
}

/// No sound upgrade is a refusal; anything else is a build that failed.
fn explain(error: crate::release::Error) -> Error {
    let refused = matches!(error, crate::release::Error::NoHotUpgrade { .. });
    let error = Error::failed(error.to_string());
    if !refused {
        return error.help("nothing was sent to the target; mend the build, then deploy again");
    }
    Error::refused(error.message).help(
        "mend the findings and release the next version; or stop the release on the target (`bin/NAME stop`) and deploy again to \
         install it afresh, if an outage is acceptable (deploying by a restart is not built yet)",
    )
}
