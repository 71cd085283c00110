//! The upgrade package: the fresh one with a relup in it, checked against what it upgrades.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{
        Error, Finding, Package, Project, Relup, Store,
        archive::{self, NewFile},
        check,
        erlang::Term,
        rebar::is_path_component,
    },
    appups::{BuiltAppup, Sources, Unpacked, path_term},
    command::{Log, Step, run},
    fresh::{BuiltRelease, keep},
    recipe::{self, Recipe},
    staging::{Staging, blocking, profile_dir, remove},
    tag::{self, Tag},
    tar::{self, Made},
};

const RELUP: &str = include_str!("../escripts/relup.escript");

/// An upgrade package that was built and found sound.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltUpgrade {
    /// The package: everything that a fresh one has, and the relup.
    pub release: BuiltRelease,
    /// The versions that it upgrades from.
    pub from: Vec<String>,
    /// The packages of these versions, in the same order.
    pub old: Vec<Package>,
    /// The versions, of these and the new one, that were not built again.
    pub reused: Vec<String>,
    /// The appups that the relup was made of.
    pub appups: Vec<BuiltAppup>,
    /// The relup.
    pub relup: Relup,
    /// What is worth knowing before it is used; no errors.
    pub warnings: Vec<Finding>,
}

/// Builds the hot upgrade of the project's sources from the version `from`, see [`upgrade_from_each`].
///
/// # Errors
/// As [`upgrade_from_each`].
pub async fn upgrade(project: &Project, from: &str, log: Log<'_>) -> Result<BuiltUpgrade, Error> {
    upgrade_from_each(project, &[from], log).await
}

/// Builds the hot upgrade of the project's sources from each of the versions `from`, one relup for all.
///
/// An old version is built from its git tag, `vVSN` or `VSN`, unless that was done before; without a tag a
/// package of it in a build directory is taken.
///
/// # Errors
/// An old version is not to be had; a build step fails; [`Error::NoHotUpgrade`] if both versions are there but
/// no sound relup is possible, with every reason.
pub async fn upgrade_from_each(
    project: &Project,
    from: &[&str],
    log: Log<'_>,
) -> Result<BuiltUpgrade, Error> {
    if from.is_empty() || from.contains(&&*project.version) {
        return Err(Error::Project(format!(
            "the upgrade of `{}` needs older versions than `{}` to start from",
            project.name, project.version
        )));
    }
    let staging = Staging::open(project).await?;
    let build = Build { project, staging, log };
    let at = build.staging.at("new");
    // its appups may lie beside dependencies: the build has to be there, so a shipped package is not enough
    let new = tar::build(project, &at, None, log);
    let (old, new) = match project.fetches() {
        // two rebar3 at once would write the same cache of packages
        true => (build.all_old(from).await?, new.await?),
        false => tokio::try_join!(build.all_old(from), new)?,
    };
    let reused = old.iter().chain([&new]).filter(|made| made.reused);
    let reused = reused.map(|made| made.package.rel.version.clone()).collect();
    let (recipe, new) = (new.recipe, new.package);
    let old: Vec<Package> = old.into_iter().map(|made| made.package).collect();
    build.sound(old.iter().flat_map(|old| with_version(old, check::packages(old, &new))).collect())?;
    let (old, new) = build.unpack(old, new).await?;
    let sources = Sources { project, staging: &build.staging, old: &old, new: &new };
    let (appups, findings) = sources.appups(log).await?;
    build.sound(findings)?;
    let relup = build.relup(&old, &new, &appups).await?;
    let old = old.into_iter().map(|old| old.package).collect();
    let release = build.finish(old, new, relup, recipe).await?;
    Ok(BuiltUpgrade { appups, reused, ..release })
}

fn with_version(old: &Package, findings: Vec<Finding>) -> impl Iterator<Item = (String, Finding)> {
    let version = old.rel.version.clone();
    findings.into_iter().map(move |finding| (version.clone(), finding))
}

struct Build<'a> {
    project: &'a Project,
    staging: Staging,
    log: Log<'a>,
}

impl Build<'_> {
    /// Fails with the errors among the findings, by the versions that they belong to.
    fn sound(&self, findings: Vec<(String, Finding)>) -> Result<(), Error> {
        let errors: Vec<(String, Finding)> =
            findings.into_iter().filter(|(_, finding)| finding.is_error()).collect();
        if errors.is_empty() {
            return Ok(());
        }
        let mut versions: Vec<&str> = Vec::new();
        for (version, _) in &errors {
            if !versions.contains(&&**version) {
                versions.push(version);
            }
        }
        Err(Error::NoHotUpgrade {
            name: self.project.name.clone(),
            from: versions.join(", "),
            to: self.project.version.clone(),
            findings: errors.into_iter().map(|(_, finding)| finding).collect(),
        })
    }

    async fn all_old(&self, from: &[&str]) -> Result<Vec<Made>, Error> {
        let mut old = Vec::new();
        for version in from {
            old.push(self.old(version).await?);
        }
        Ok(old)
    }

    async fn old(&self, version: &str) -> Result<Made, Error> {
        if !is_path_component(version) {
            return Err(Error::Project(format!("`{version}` is no release version")));
        }
        let (dir, wanted) = (self.project.dir.clone(), version.to_owned());
        let root = self.staging.at("old").join(version);
        let source = root.join("source");
        let archive = root.join(format!("{}-{version}.tar.gz", self.project.name));
        // what was deployed is better than what would be built again from its tag, which mix does not build to the byte
        if self.project.mix.is_some()
            && let Ok(made) = self.built_before(version).await
        {
            return Ok(made);
        }
        let checked_out = blocking(move || {
            let Some(tag) = Tag::find(&dir, &wanted)? else { return Ok(None) };
            let mark = format!("{}\n{}\n", tag.commit, recipe::tools().unwrap_or_default());
            let marked = root.join("commit");
            if fs::read_to_string(&marked).is_ok_and(|text| text == mark)
                && let Ok(package) = Package::read(&archive)
            {
                return Ok(Some(Err(package)));
            }
            remove(&root)?;
            fs::create_dir_all(&source).map_err(Error::io("making the directory", &source))?;
            let project = tag.check_out(&source)?;
            Ok(Some(Ok((project, root, mark, tag.name))))
        })
        .await?;
        match checked_out {
            Some(Err(package)) => Ok(Made { package, recipe: None, reused: true }),
            Some(Ok((dir, root, mark, tag))) => {
                (self.log)(&format!("building {} {version} from tag {tag}", self.project.name));
                self.build_old(version, &dir, &root, mark, &tag).await
            }
            None => self.built_before(version).await,
        }
    }

    async fn build_old(
        &self,
        version: &str,
        dir: &Path,
        root: &Path,
        mark: String,
        tag: &str,
    ) -> Result<Made, Error> {
        // a version that is not written out is the tag's; the package that is built tells whether that is so
        let profile = &self.project.profile;
        let old = match &self.project.mix {
            Some(how) => Project::open_mix(dir, profile, how, (Some(&self.project.name), Some(version)))?,
            None => Project::open(dir, profile).or_else(|_| Project::open_as(dir, profile, version))?,
        };
        if old.version != version || old.name != self.project.name {
            return Err(Error::Project(format!(
                "tag `{tag}` holds release `{}` `{}`, not `{}` `{version}`; move the tag to the commit that was \
                 released",
                old.name, old.version, self.project.name
            )));
        }
        let store = Store::of_project(&self.project.dir);
        let mut made = tar::build(&old, &root.join("build"), store, self.log).await?;
        let root = root.to_owned();
        blocking(move || {
            made.package.path = keep(&made.package.path, &root)?;
            let marked = root.join("commit");
            fs::write(&marked, mark).map_err(Error::io("writing", &marked))?;
            Ok(made)
        })
        .await
    }

    /// A whole package of the version that an earlier build left.
    async fn built_before(&self, version: &str) -> Result<Made, Error> {
        let (name, profile) = (&self.project.name, profile_dir(&self.project.profile));
        let file = format!("{name}-{version}.tar.gz");
        let user = self.project.dir.join("_build").join(profile).join("rel").join(name).join(&file);
        let built = [self.staging.at("fresh").join(&file), self.staging.at("upgrade").join(&file), user];
        let shipped = Store::of_project(&self.project.dir).map(|store| {
            let all = store.find(name, version);
            all.iter().map(|stored| store.path(stored)).collect::<Vec<_>>()
        });
        let places: Vec<PathBuf> = shipped.into_iter().flatten().chain(built).collect();
        let (name, version) = (name.clone(), version.to_owned());
        let found = blocking(move || {
            let read = places.iter().filter_map(|path| Package::read(path).ok());
            let fits = |package: &Package| {
                package.has_erts() && package.rel.version == version && package.rel.name == name
            };
            let tried = tag::candidates(&version).map(|tag| format!("`{tag}`")).join(" or ");
            let found = { read }.find(fits);
            found.ok_or(Error::OldVersionMissing { name, version, tried })
        })
        .await?;
        (self.log)(&format!("no git tag: upgrading from the package {}", found.path.display()));
        Ok(Made { package: found, recipe: None, reused: false })
    }

    async fn unpack(&self, old: Vec<Package>, new: Package) -> Result<(Vec<Unpacked>, Unpacked), Error> {
        let root = self.staging.at("relup");
        blocking(move || {
            remove(&root)?;
            let unpack = |package: Package, part: &str| {
                let dir = root.join(part).join(&package.rel.version);
                archive::unpack(&package.path, &dir)?;
                Ok(Unpacked { package, dir })
            };
            let old = old.into_iter().map(|package| unpack(package, "old")).collect::<Result<_, Error>>()?;
            Ok((old, unpack(new, "new")?))
        })
        .await
    }

    /// Lets systools translate the appups, and returns the text of the relup.
    async fn relup(&self, old: &[Unpacked], new: &Unpacked, appups: &[BuiltAppup]) -> Result<String, Error> {
        for built in appups {
            let path = new.ebin(&built.app).join(format!("{}.appup", built.app));
            fs::write(&path, built.appup.print()).map_err(Error::io("writing", &path))?;
        }
        let release = |release: &Unpacked| {
            let rel = &release.package.rel;
            path_term(&release.dir.join("releases").join(&rel.version).join(&rel.name))
        };
        let has_way_back = |old: &&Unpacked| {
            appups.iter().all(|built| match old.package.app_version(&built.app) {
                Some(version) => version == built.appup.version || built.appup.has_down(version),
                None => true,
            })
        };
        let paths = std::iter::once(new).chain(old).flat_map(|release| {
            release.package.rel.apps.iter().map(|(app, _)| path_term(&release.ebin(app)))
        });
        let out = self.staging.at("relup");
        let input = [
            release(new),
            path_term(&out),
            Term::List(paths.collect()),
            Term::List(old.iter().map(release).collect()),
            Term::List(old.iter().filter(has_way_back).map(release).collect()),
        ];
        let input: String = input.iter().map(|term| format!("{term}.\n")).collect();
        let script = self.staging.escript("relup.escript", RELUP)?;
        let step = Step { program: "escript", args: vec![script], dir: &out, env: Vec::new(), input };
        run(step, self.log).await?;
        let path = out.join("relup");
        fs::read_to_string(&path).map_err(Error::io("reading", &path))
    }

    /// The upgrade but for what its relup was made of.
    async fn finish(
        &self,
        old: Vec<Package>,
        new: Unpacked,
        relup: String,
        recipe: Option<Recipe>,
    ) -> Result<BuiltUpgrade, Error> {
        let dir = self.staging.at("upgrade");
        let rel = &new.package.rel;
        let to = dir.join(format!("{}-{}.tar.gz", rel.name, rel.version));
        let file = NewFile {
            path: format!("releases/{}/relup", rel.version),
            mode: 0o644,
            data: relup.into_bytes(),
        };
        let fat = new.package.path.clone();
        let package = blocking(move || {
            fs::create_dir_all(&dir).map_err(Error::io("making the directory", &dir))?;
            archive::rewrite(&fat, &to, |_| true, &[file])?;
            Package::read(&to)
        })
        .await?;
        let findings: Vec<(String, Finding)> =
            old.iter().flat_map(|old| with_version(old, check::upgrade(old, &package))).collect();
        if let Err(unsound) = self.sound(findings.clone()) {
            // what was found unsound must not be found lying around
            fs::remove_file(&package.path).map_err(Error::io("removing", &package.path))?;
            return Err(unsound);
        }
        let relup = package.relup()?.ok_or_else(|| Error::document("relup", "it got lost"))?;
        let mut warnings: Vec<Finding> = findings.into_iter().map(|(_, finding)| finding).collect();
        warnings.dedup();
        Ok(BuiltUpgrade {
            release: BuiltRelease::of(Made { package, recipe, reused: false }),
            from: old.iter().map(|old| old.rel.version.clone()).collect(),
            old,
            reused: Vec::new(),
            appups: Vec::new(),
            relup,
            warnings,
        })
    }
}
