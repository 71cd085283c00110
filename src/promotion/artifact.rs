//! A kept package, and the upgrades to it: its content never changes, only a relup is put in.

use std::path::{Path, PathBuf};

use crate::error::{CliError, CliResult};
use crate::ledger::{Entry, Released, packages, standing};
use crate::release::{Error, Package, Project, build, check};

/// The release that is promoted.
#[derive(Debug)]
pub struct Artifact {
    /// Its package, whatever that upgrades from.
    pub package: Package,
    /// Packages of the same content with relups.
    upgrades: Vec<(String, PathBuf)>,
    /// The kept packages of older versions, newest first.
    older: Vec<(String, PathBuf)>,
    /// The sources, when they are of this version.
    project: Option<Project>,
    work: tempfile::TempDir,
}

/// The package of `version` with this content that was kept last.
///
/// # Errors
/// There is none.
pub fn released<'a>(entries: &'a [Entry], version: &str, content: &str) -> CliResult<&'a Released> {
    standing::releases(entries, version).find(|released| released.content == content).ok_or_else(|| {
        CliError::failed(format!("the package of `{version}` with the content {content} is not kept here"))
            .hint("promote where it was deployed or built: its ledger and packages are in `$SLIPWAY_HOME/projects`")
    })
}

/// The same package with a sound relup from one version.
pub struct Upgrade {
    /// With the relup in it.
    pub package: Package,
    /// What it upgrades.
    pub old: Package,
    /// What is worth knowing.
    pub warnings: Vec<String>,
}

impl Artifact {
    /// The package with this content among the kept ones. `project` may help with upgrades.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn find(
        entries: &[Entry],
        version: &str,
        content: &str,
        project: Option<Project>,
    ) -> CliResult<Artifact> {
        let package = packages::open(released(entries, version, content)?)?;
        let upgrades = standing::releases(entries, version)
            .filter(|released| released.content == content)
            .flat_map(|released| {
                released.upgrades_from.iter().map(|from| (from.clone(), PathBuf::from(&released.package)))
            })
            .collect();
        let older = entries
            .iter()
            .rev()
            .filter_map(|entry| match &entry.fact {
                crate::ledger::Fact::Release(released) => {
                    Some((released.version.clone(), PathBuf::from(&released.package)))
                }
                _ => None,
            })
            .collect();
        let work = tempfile::tempdir()
            .map_err(|e| CliError::failed(format!("making a directory for packages: {e}")))?;
        let project = project.filter(|project| project.version == version);
        Ok(Artifact { package, upgrades, older, project, work })
    }

    /// Its upgrade from `from`: kept with this relup, or built from the sources and put into the kept package.
    ///
    /// # Errors
    /// [`Error::NoHotUpgrade`] when none is sound; [`Error::Project`] when there is nothing to make one of.
    pub async fn upgrade(&self, from: &str) -> Result<Upgrade, Error> {
        if let Some((_, path)) = self.upgrades.iter().find(|(version, _)| version == from)
            && let Some((_, old)) = self.older.iter().find(|(version, _)| version == from)
        {
            return self.sound(Package::read(path)?, Package::read(old)?);
        }
        let Some(project) = &self.project else {
            let version = &self.package.rel.version;
            return Err(Error::Project(format!(
                "no upgrade of `{version}` from `{from}` is kept, and the sources here are of another version (`git checkout v{version}` helps)"
            )));
        };
        let built = build::upgrade(project, from, &|line| tracing::debug!(target: "build", "{line}")).await?;
        let new = built.release.package;
        let old = match built.old.into_iter().next() {
            Some(old) => old,
            None => return Err(Error::Project(format!("the package of `{from}` is not to be had"))),
        };
        if new.content_sha256() == self.package.content_sha256() {
            return self.sound(new, old);
        }
        let relup = new.document("relup").unwrap_or_default();
        let to = self.work.path().join(format!("from-{from}.tar.gz"));
        self.sound(self.package.with_relup(relup, &to)?, old)
    }

    fn sound(&self, package: Package, old: Package) -> Result<Upgrade, Error> {
        let findings = check::upgrade(&old, &package);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.is_error());
        if !errors.is_empty() {
            return Err(Error::NoHotUpgrade {
                name: package.rel.name,
                from: old.rel.version,
                to: package.rel.version,
                findings: errors,
            });
        }
        let warnings = warnings.iter().map(|w| format!("{} ({}); {}", w.text, w.code, w.remedy)).collect();
        Ok(Upgrade { package, old, warnings })
    }

    /// The kept package of an older version.
    pub fn older(&self, version: &str) -> Option<Package> {
        let (_, path) = self.older.iter().find(|(kept, _)| kept == version)?;
        Package::read(path).ok()
    }

    /// A directory that lives as long as this.
    pub fn work(&self) -> &Path {
        self.work.path()
    }
}
