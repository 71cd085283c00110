//! The appups of an upgrade: hand-written ones win, the others are derived.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{
        Appup, Error, Finding, Package, Project,
        derive::{AppChange, StateChange},
        erlang::{Term, text},
        thin::is_otp_app,
    },
    command::{Log, Step, run},
    staging::{Staging, profile_dir},
};

pub(super) const STATE: &str = include_str!("../escripts/state.escript");

/// Where an appup came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of the project or of a dependency.
    Written(PathBuf),
    /// Derived from the modules of both versions.
    Derived,
}

/// An appup that went into a relup.
#[derive(Debug, Clone, PartialEq)]
pub struct BuiltAppup {
    /// The application.
    pub app: String,
    /// Where it came from.
    pub origin: Origin,
    /// What it says.
    pub appup: Appup,
}

/// A package and where it lies unpacked.
pub(super) struct Unpacked {
    pub package: Package,
    pub dir: PathBuf,
}

impl Unpacked {
    pub(super) fn ebin(&self, app: &str) -> PathBuf {
        let version = self.package.app_version(app).unwrap_or_default();
        self.dir.join(format!("lib/{app}-{version}/ebin"))
    }
}

pub(super) struct Sources<'a> {
    pub project: &'a Project,
    pub staging: &'a Staging,
    pub old: &'a [Unpacked],
    pub new: &'a Unpacked,
}

impl Sources<'_> {
    /// The appup of each application that changed its version since any of the old releases.
    ///
    /// # Errors
    /// Among the errors are findings for what can't be derived, of all applications, by old release version.
    pub(super) async fn appups(
        &self,
        log: Log<'_>,
    ) -> Result<(Vec<BuiltAppup>, Vec<(String, Finding)>), Error> {
        let (mut appups, mut findings) = (Vec::new(), Vec::new());
        for (app, version) in &self.new.package.rel.apps {
            let changed = |old: &&Unpacked| {
                old.package.app_version(app).is_some_and(|before| before != version) && !is_otp_app(app)
            };
            let from: Vec<&Unpacked> = self.old.iter().filter(changed).collect();
            if from.is_empty() {
                continue;
            }
            match self.written(app)? {
                Some((path, appup)) => {
                    findings.extend(from.iter().filter_map(|old| {
                        let finding = unfit(app, version, old.package.app_version(app)?, &path, &appup)?;
                        Some((old.package.rel.version.clone(), finding))
                    }));
                    appups.push(BuiltAppup { app: app.clone(), origin: Origin::Written(path), appup });
                }
                None => match self.derived(app, &from, log).await? {
                    Ok(appup) => appups.push(BuiltAppup { app: app.clone(), origin: Origin::Derived, appup }),
                    Err(doubts) => findings.extend(doubts),
                },
            }
        }
        Ok((appups, findings))
    }

    fn written(&self, app: &str) -> Result<Option<(PathBuf, Appup)>, Error> {
        let project = self.project;
        let own = project.apps.iter().find(|own| own.name == app).map(|own| own.dir.clone());
        let dependency = |profile: &str| self.staging.at("new").join(profile).join("lib").join(app);
        let dirs = match own {
            Some(dir) => vec![dir],
            None => vec![dependency(&profile_dir(&project.profile)), dependency("default")],
        };
        let mut files = vec![project.dir.join(format!("appups/{app}.appup"))];
        for dir in dirs {
            files.extend(["src", "ebin"].map(|part| dir.join(format!("{part}/{app}.appup"))));
            files.insert(1, dir.join(format!("src/{app}.appup.src")));
        }
        let Some(path) = files.into_iter().find(|path| path.is_file()) else { return Ok(None) };
        let source = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let appup = Appup::parse(&path.display().to_string(), &source)?;
        Ok(Some((path, appup)))
    }

    async fn derived(
        &self,
        app: &str,
        from: &[&Unpacked],
        log: Log<'_>,
    ) -> Result<Result<Appup, Vec<(String, Finding)>>, Error> {
        let empty = BTreeMap::new();
        let modules = |package: &'_ Package| package.modules.get(app).cloned().unwrap_or_default();
        let new = &self.new.package;
        let version = new.app_version(app).unwrap_or_default();
        let mut whole = Appup { version: version.to_owned(), up: Vec::new(), down: Vec::new() };
        let mut findings = Vec::new();
        for old in from {
            let old_modules = modules(&old.package);
            let change = AppChange {
                app,
                old: (old.package.app_version(app).unwrap_or_default(), &old_modules),
                new: (version, new.modules.get(app).unwrap_or(&empty)),
            };
            if whole.has_up(change.old.0) {
                continue;
            }
            let states = self.states(app, old, &change.changed_processes(), log).await?;
            match change.derive(&states) {
                Ok(appup) => {
                    whole.up.extend(appup.up);
                    whole.down.extend(appup.down);
                }
                Err(doubts) => {
                    let version = &old.package.rel.version;
                    findings.extend(doubts.into_iter().map(|doubt| (version.clone(), doubt)));
                }
            }
        }
        Ok(if findings.is_empty() { Ok(whole) } else { Err(findings) })
    }

    /// Asks the abstract code of changed process modules what changed in them.
    async fn states(
        &self,
        app: &str,
        old: &Unpacked,
        modules: &[&str],
        log: Log<'_>,
    ) -> Result<BTreeMap<String, StateChange>, Error> {
        if modules.is_empty() {
            return Ok(BTreeMap::new());
        }
        let file =
            |release: &Unpacked, module: &str| path_term(&release.ebin(app).join(format!("{module}.beam")));
        let pair = |module: &&str| Term::Tuple(vec![file(old, module), file(self.new, module)]);
        let pairs = Term::List(modules.iter().map(pair).collect());
        let script = self.staging.escript("state.escript", STATE)?;
        ask_states(&script, &pairs, &self.project.dir, log).await
    }
}

/// Runs `state.escript` over pairs of beam files, in the project's directory, where `.erlang.crypt` may lie.
pub(super) async fn ask_states(
    script: &str,
    pairs: &Term,
    dir: &Path,
    log: Log<'_>,
) -> Result<BTreeMap<String, StateChange>, Error> {
    let input = format!("{pairs}.\n");
    let step = Step { program: "escript", args: vec![script.to_owned()], dir, env: Vec::new(), input };
    let answer = run(step, log).await?;
    let terms = text::parse(&answer).map_err(|e| Error::text("the output of state.escript", &e))?;
    Ok(terms.iter().filter_map(state_change).collect())
}

pub(super) fn path_term(path: &Path) -> Term {
    Term::string(&path.to_string_lossy())
}

fn state_change(term: &Term) -> Option<(String, StateChange)> {
    let [module, answer] = term.as_tuple()? else { return None };
    let [state, code_change, start] = answer.as_tuple()? else { return None };
    let yes = |term: &Term| term.as_atom() == Some("true");
    let change = StateChange { state: yes(state), code_change: yes(code_change), start: yes(start) };
    Some((module.as_atom()?.to_owned(), change))
}

fn unfit(app: &str, version: &str, from: &str, path: &Path, appup: &Appup) -> Option<Finding> {
    let file = path.display();
    if appup.version != version {
        return Some(Finding::error(
            "A005",
            format!("`{file}` is for `{}`, but `{app}` is `{version}`", appup.version),
            "bring it up to date, or remove it to have the appup derived",
        ));
    }
    if !appup.has_up(from) {
        return Some(Finding::error(
            "A006",
            format!("`{file}` has no entry to upgrade `{app}` from `{from}`"),
            "add one, or remove the file to have the appup derived",
        ));
    }
    None
}
