//! The release to deploy: built here, read back from its package, and checked before anything is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock};

use crate::ledger::packages::Whole;
use crate::promotion::Artifact;
use crate::release::build;
use crate::release::decide::Candidate;
use crate::release::installed::{InstalledRelease, Snapshot};
use crate::release::mix::Mix;
use crate::release::package;
use crate::release::rebar::Project;
use crate::release::relup::Instruction;
use crate::release::thin::{self, TargetLibraries};
use crate::release::{Appup, Finding, Store, check, hops};

use super::apply::Package;
use super::error::Error;
use super::file::{DeployFile, Kind, ReleaseSettings};
use super::{service, version};

/// A package that is ready to be sent, and what is known about it.
pub(crate) struct Built {
    pub(crate) candidate: Candidate,
    pub(crate) package: Package,
    pub(crate) warnings: Vec<String>,
    /// Versions whose packages were not built again.
    pub(crate) reused: Vec<String>,
    /// What an upgrade was made of.
    pub(crate) pair: Pair,
    /// Keeps the thin package while it is needed.
    pub(crate) _directory: Option<tempfile::TempDir>,
}

/// The whole packages of an old version, if it is at hand, and of the new one.
pub(crate) type Pair = (Option<PathBuf>, PathBuf);

/// What the release is built from.
pub(crate) struct Source {
    name: String,
    version: String,
    by: By,
    /// What the project has kept.
    store: Option<Store>,
    /// Whole packages that were built or taken, for the ledger.
    taken: Mutex<Vec<Whole>>,
    /// The upgrade from several versions, see [`Source::upgrade_from_each`].
    common: OnceLock<build::BuiltUpgrade>,
    /// What was there before anything was built, see [`Source::look_up`].
    known: OnceLock<build::BuiltRelease>,
}

enum By {
    /// Our own build of a project of rebar3 or mix.
    Own(Project),
    /// Commands of the project, and the package that they make.
    Commands { directory: PathBuf, commands: Vec<String>, package: PathBuf },
    /// Nothing: the package that succeeded elsewhere is kept.
    Kept(Arc<Artifact>),
}

/// Why there is no upgrade.
pub(crate) enum NoUpgrade {
    /// Everything was built, and these things forbid it.
    Unsound(Vec<String>),
    /// It could not be built.
    Failed(Error),
}

impl From<crate::release::Error> for NoUpgrade {
    fn from(error: crate::release::Error) -> Self {
        let crate::release::Error::NoHotUpgrade { findings, .. } = error else {
            return Self::Failed(explain(error));
        };
        let reason = |finding: &Finding| format!("{} ({}); {}", finding.text, finding.code, finding.remedy);
        Self::Unsound(findings.iter().map(reason).collect())
    }
}

/// Reads the project in `directory`, as `release` of its `.ci/deploy.yml` says.
pub(crate) fn open(directory: &Path, profile: &str, release: &ReleaseSettings) -> Result<Source, Error> {
    let version = release.version.as_ref().map(|source| version::find(source, directory)).transpose()?;
    match service::kind(directory, release) {
        Kind::Erlang => {}
        Kind::Elixir => return mix(directory, profile, release, version.as_deref()),
        Kind::Archive => {
            return Err(Error::refused("an archive is no release of Erlang")
                .help("set `service:` of the environment"));
        }
    }
    let project = match &version {
        Some(version) => Project::open_as(directory, profile, version),
        None => Project::open(directory, profile),
    };
    let (Some(package), Some(name), Some(version)) = (&release.package, &release.name, &version) else {
        let project = project.map_err(explain)?;
        let (name, version) = (project.name.clone(), project.version.clone());
        if let Some(other) = release.name.as_ref().filter(|other| **other != name) {
            return Err(Error::refused(format!(
                "`{}` says that the release is `{other}`, but `rebar.config` has `{name}`",
                DeployFile::PATH
            ))
            .help("name the same release in both"));
        }
        let by = match &release.package {
            Some(package) => commands(directory, release, package, (&name, &version)),
            None => By::Own(project),
        };
        return Ok(Source::new(&name, &version, by, directory));
    };
    let by = commands(directory, release, package, (name, version));
    Ok(Source::new(name, version, by, directory))
}

/// Moves a package out of the way of the next build, which removes or replaces it.
fn aside(package: &Path) -> Result<PathBuf, Error> {
    let (Some(directory), Some(name)) = (package.parent(), package.file_name()) else {
        return Err(Error::failed(format!("`{}` is no package", package.display())));
    };
    let to = directory.join("each");
    let moved = std::fs::create_dir_all(&to).and_then(|()| std::fs::rename(package, to.join(name)));
    moved.map_err(|error| Error::failed(format!("moving `{}` aside: {error}", package.display())))?;
    Ok(to.join(name))
}

fn mix(
    directory: &Path,
    profile: &str,
    release: &ReleaseSettings,
    version: Option<&str>,
) -> Result<Source, Error> {
    let open = |how: &Mix| Project::open_mix(directory, profile, how, (release.name.as_deref(), version));
    let refused = |error: crate::release::Error| Error::refused(error.to_string());
    let commands = Mix { commands: release.build.clone(), package: None };
    let Project { name, version, .. } = open(&commands).map_err(refused)?;
    let path = |text: &String| directory.join(text.replace("{name}", &name).replace("{version}", &version));
    let how = Mix { package: release.package.as_ref().map(path), ..commands };
    Ok(Source::new(&name, &version, By::Own(open(&how).map_err(refused)?), directory))
}

fn commands(directory: &Path, release: &ReleaseSettings, package: &str, (name, version): (&str, &str)) -> By {
    let package = directory.join(package.replace("{name}", name).replace("{version}", version));
    By::Commands { directory: directory.to_owned(), commands: release.build.clone(), package }
}

/// The release that is promoted: its package is kept, nothing is built but a relup that it lacks.
pub(crate) fn kept(artifact: &Arc<Artifact>, project: &Path) -> Source {
    let rel = &artifact.package.rel;
    Source::new(&rel.name, &rel.version, By::Kept(artifact.clone()), project)
}

/// Name and version of the release that the project in `directory` builds, with this `profile` of rebar3 or mix.
///
/// # Errors
/// The project can't be read.
pub fn identity(directory: &Path, profile: &str) -> Result<(String, String), Error> {
    let file = DeployFile::load(directory)?.unwrap_or_default();
    if service::kind(directory, &file.release) == Kind::Archive {
        return service::Artifact::identity(directory, &file.release, Kind::Archive);
    }
    open(directory, profile, &file.release).map(|source| (source.name, source.version))
}

impl Source {
    fn new(name: &str, version: &str, by: By, project: &Path) -> Source {
        let (name, version) = (name.to_owned(), version.to_owned());
        Source {
            name,
            version,
            by,
            store: Store::of_project(project),
            taken: Mutex::default(),
            common: OnceLock::new(),
            known: OnceLock::new(),
        }
    }

    /// The whole packages that were built or taken so far.
    pub(crate) fn taken(&self) -> Vec<Whole> {
        self.taken.lock().map(|taken| taken.clone()).unwrap_or_default()
    }

    fn took(&self, package: &package::Package, appups: Vec<(String, Appup)>, recipe: Option<String>) {
        let Ok(mut taken) = self.taken.lock() else { return };
        match taken.iter_mut().find(|known| known.path == package.path) {
            // built again, from another version
            Some(known) if !appups.is_empty() => {
                *known = Whole { appups, recipe, package: Some(package.clone()), ..known.clone() };
            }
            Some(_) => {}
            None => {
                let (path, package) = (package.path.clone(), Some(package.clone()));
                taken.push(Whole { path, package, appups, plain: None, recipe });
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Looks whether the package was built before, of the very same, so that nobody waits for that later.
    pub(crate) async fn look_up(&self) {
        if let By::Own(project) = &self.by
            && let Ok(Some(known)) = build::known(project).await
        {
            let _first_and_only = self.known.set(known);
        }
    }

    /// Builds a package with the runtime system in it.
    pub(crate) async fn fresh(&self) -> Result<Built, Error> {
        let (read, recipe, reused) = match &self.by {
            By::Own(project) => {
                let built = match self.known.get() {
                    Some(known) => known.clone(),
                    None => build::fresh(project, &log).await.map_err(explain)?,
                };
                (built.package, built.recipe, built.reused)
            }
            By::Commands { directory, commands, package } => {
                (self.by_commands(directory, commands, package).await?, None, false)
            }
            By::Kept(artifact) => (artifact.package.clone(), None, false),
        };
        self.took(&read, Vec::new(), recipe);
        Ok(Built {
            candidate: candidate(&read, ""),
            package: whole(&read),
            warnings: Vec::new(),
            reused: if reused { vec![self.version.clone()] } else { Vec::new() },
            pair: (None, read.path),
            _directory: None,
        })
    }

    /// Builds one upgrade from as many of these versions as it is sound for; what [`Source::upgrade`] says of the others tells
    /// why. Only our own builds can do so: others bring the relup that they have.
    pub(crate) async fn upgrade_from_each(&self, mut from: Vec<&str>) -> Result<(), Error> {
        let By::Own(project) = &self.by else { return Ok(()) };
        while from.len() > 1 {
            match build::upgrade_from_each(project, &from, &log).await {
                Ok(mut built) => {
                    built.release.path = aside(&built.release.path)?;
                    built.release.package.path.clone_from(&built.release.path);
                    let _first_and_only = self.common.set(built);
                    return Ok(());
                }
                Err(crate::release::Error::NoHotUpgrade { from: unsound, .. }) => {
                    let before = from.len();
                    from.retain(|version| unsound.split(", ").all(|one| one != *version));
                    if from.len() == before {
                        return Ok(());
                    }
                }
                Err(error) => return Err(explain(error)),
            }
        }
        Ok(())
    }

    /// Builds an upgrade from `from`, and leaves out of its package what the target has: what `node` says, or
    /// else what `from` was built with.
    pub(crate) async fn upgrade(&self, from: &str, node: Option<&Snapshot>) -> Result<Built, NoUpgrade> {
        match &self.by {
            By::Own(project) => {
                let common = self.common.get().filter(|common| common.from.iter().any(|one| one == from));
                let built = match common {
                    Some(built) => built.clone(),
                    None => build::upgrade(project, from, &log).await?,
                };
                let new = built.release.package;
                let old = built.from.iter().position(|one| one == from).and_then(|at| built.old.get(at));
                let target = match (node.and_then(libraries), old) {
                    (Some(libraries), _) => libraries,
                    (None, Some(old)) => {
                        TargetLibraries { erts: old.rel.erts.clone(), apps: old.rel.apps.clone() }
                    }
                    (None, None) => nothing(),
                };
                let warnings = built
                    .warnings
                    .iter()
                    .map(|finding| format!("{} ({}); {}", finding.text, finding.code, finding.remedy));
                let appups = built.appups.iter().map(|made| (made.app.clone(), made.appup.clone())).collect();
                self.took(&new, appups, built.release.recipe);
                let thin = self.thin(&new, from, &target, warnings.collect())?;
                Ok(Built { pair: (old.map(|old| old.path.clone()), new.path), reused: built.reused, ..thin })
            }
            By::Commands { directory, commands, package } => {
                let new = self.by_commands(directory, commands, package).await.map_err(NoUpgrade::Failed)?;
                if new.relup()?.is_none_or(|relup| relup.up_from(from).is_none()) {
                    let reason = format!(
                        "the package has no relup that leads from `{from}` to `{}` (R009)",
                        self.version
                    );
                    return Err(NoUpgrade::Unsound(vec![reason]));
                }
                let target = node.and_then(libraries).unwrap_or_else(nothing);
                let thin = self.thin(&new, from, &target, Vec::new())?;
                Ok(Built { pair: (self.stored(from).map(|old| old.path), new.path), ..thin })
            }
            By::Kept(artifact) => {
                let upgrade = match artifact.upgrade(from).await {
                    // nothing to make an upgrade of: a reason against one, no failure
                    Err(crate::release::Error::Project(reason)) => {
                        return Err(NoUpgrade::Unsound(vec![reason]));
                    }
                    result => result?,
                };
                let rel = upgrade.old.rel;
                let target =
                    node.and_then(libraries).unwrap_or(TargetLibraries { erts: rel.erts, apps: rel.apps });
                let thin = self.thin(&upgrade.package, from, &target, upgrade.warnings)?;
                Ok(Built { pair: (Some(upgrade.old.path), upgrade.package.path), ..thin })
            }
        }
    }

    /// The upgrades between other versions than the one that is deployed, as kept packages offer them.
    pub(crate) fn kept_upgrades(&self) -> Vec<hops::Edge> {
        let edges = self.store.as_ref().map(|store| store.edges(&self.name)).unwrap_or_default();
        edges.into_iter().filter(|(from, to)| *from != self.version && *to != self.version).collect()
    }

    /// The whole package of a version that is kept.
    pub(crate) fn stored(&self, version: &str) -> Option<package::Package> {
        let store = self.store.as_ref()?;
        let whole = store.find(&self.name, version).into_iter().find(|stored| stored.fat)?;
        package::Package::read(&store.path(&whole)).ok()
    }

    /// The upgrade from `from` to another version than the one that is deployed, as a kept package offers it.
    pub(crate) fn kept_upgrade(
        &self,
        (from, to): (&str, &str),
        node: Option<&Snapshot>,
    ) -> Result<Built, NoUpgrade> {
        let unsound = |what: String| NoUpgrade::Unsound(vec![what]);
        let gone = |version: &str| unsound(format!("no whole package of `{version}` is kept"));
        let store = self.store.as_ref().ok_or_else(|| gone(to))?;
        let stored = store
            .find(&self.name, to)
            .into_iter()
            .find(|stored| stored.upgrades_from.iter().any(|v| v == from));
        let new = package::Package::read(&store.path(&stored.ok_or_else(|| gone(to))?))?;
        let old = self.stored(from).ok_or_else(|| gone(from))?;
        let findings = check::upgrade(&old, &new);
        let (errors, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(Finding::is_error);
        if !errors.is_empty() {
            let (name, from, to) = (self.name.clone(), from.to_owned(), to.to_owned());
            return Err(crate::release::Error::NoHotUpgrade { name, from, to, findings: errors }.into());
        }
        let rel = &old.rel;
        let target = node
            .and_then(libraries)
            .unwrap_or_else(|| TargetLibraries { erts: rel.erts.clone(), apps: rel.apps.clone() });
        let warnings = warnings.iter().map(|w| format!("{} ({}); {}", w.text, w.code, w.remedy)).collect();
        let thin = self.thin(&new, from, &target, warnings)?;
        Ok(Built { pair: (Some(old.path), new.path), ..thin })
    }

    fn thin(
        &self,
        new: &package::Package,
        from: &str,
        target: &TargetLibraries,
        warnings: Vec<String>,
    ) -> Result<Built, NoUpgrade> {
        let failed = |error| {
            NoUpgrade::Failed(Error::failed(format!("cannot make a directory for the package: {error}")))
        };
        let directory = tempfile::tempdir().map_err(failed)?;
        let path = directory.path().join(format!("{}-{}.tar.gz", self.name, new.rel.version));
        let thin = thin::write(new, target, &path)?;
        if new.rel.version == self.version {
            self.took(new, Vec::new(), None);
        }
        let mut candidate = candidate(new, from);
        let left_out = thin.left_out.iter().filter_map(|part| part.strip_prefix("lib/"));
        candidate.left_out = left_out.map(str::to_owned).collect();
        let package = Package { path, sha256: thin.sha256, size: thin.size };
        let pair = (None, new.path.clone());
        Ok(Built { candidate, package, warnings, reused: Vec::new(), pair, _directory: Some(directory) })
    }

    /// Runs the project's own commands, and reads the package that they leave.
    async fn by_commands(
        &self,
        directory: &Path,
        commands: &[String],
        package: &Path,
    ) -> Result<package::Package, Error> {
        for command in commands {
            let mut shell = tokio::process::Command::new("sh");
            shell.arg("-c").arg(command).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
            let failed = |what: String| {
                Error::failed(format!("building the package: `{command}` {what}"))
                    .help("nothing was sent to the target; mend the build, then deploy again")
            };
            let output = shell.output().await.map_err(|e| failed(format!("could not be started: {e}")))?;
            if !output.status.success() {
                let mut said = output.stdout;
                said.extend(output.stderr);
                let said = super::ssh::last_lines(&String::from_utf8_lossy(&said), 8);
                return Err(failed(format!("failed ({}): {said}", output.status)));
            }
        }
        if !package.exists() {
            return Err(Error::failed(format!(
                "the project's commands made no package `{}`",
                package.display()
            ))
            .help(
                "mend `build` or `package` below `release:`; `{name}` and `{version}` in it are replaced",
            ));
        }
        let read = package::Package::read(package).map_err(explain)?;
        if read.rel.name != self.name || read.rel.version != self.version {
            return Err(Error::failed(format!(
                "`{}` holds release `{}` `{}`, not `{}` `{}`",
                package.display(),
                read.rel.name,
                read.rel.version,
                self.name,
                self.version
            ))
            .help("`release: {package: ...}` may hold `{name}` and `{version}`"));
        }
        Ok(read)
    }
}

fn nothing() -> TargetLibraries {
    TargetLibraries { erts: String::new(), apps: Vec::new() }
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

fn explain(error: crate::release::Error) -> Error {
    Error::failed(error.to_string()).help("nothing was sent to the target; mend the build, then deploy again")
}

/// A package of `version` that a build on this machine left, and what it holds.
pub(crate) fn at_hand(
    name: &str,
    version: &str,
    project: &Path,
    profile: &str,
) -> Option<(String, Candidate)> {
    let file = format!("{name}-{version}.tar.gz");
    let profile = profile.replace(',', "+");
    let ours = Path::new("_build/slipway").join(&profile);
    let places = [
        ours.join("upgrade"),
        ours.join("fresh"),
        ours.join("old").join(version),
        Path::new("_build").join(&profile).join("rel").join(name),
    ];
    places.iter().map(|place| place.join(&file)).find_map(|path| {
        let read = package::Package::read(&project.join(&path)).ok()?;
        let fits = read.rel.name == name && read.rel.version == version;
        fits.then(|| (path.display().to_string(), candidate(&read, "")))
    })
}
