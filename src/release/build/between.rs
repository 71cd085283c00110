//! The appups between two packages, each instruction with its reason: `ci release appup`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    super::{
        Appup, Error, Finding, Package, Project, archive,
        derive::{AppChange, Children},
        erlang::{Term, text},
        reasons::{Reasoned, explain},
        thin::is_otp_app,
    },
    appups::{STATE, ask_states, path_term},
    command::{Log, Step, run},
    staging::blocking,
};

const CHILDREN: &str = include_str!("../escripts/children.escript");

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The older package.
    pub old: &'a Package,
    /// The newer package.
    pub new: &'a Package,
    /// The project, for its hand-written appups.
    pub project: Option<&'a Project>,
    /// Appups that were kept beside the newer package.
    pub kept: &'a [(String, Appup)],
    /// Run `init/1` of changed supervisors in throw-away virtual machines.
    pub run_init: bool,
}

/// The appups between two releases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Between {
    /// Version of this document's form.
    pub format: u32,
    /// The older release version.
    pub from: String,
    /// The newer release version.
    pub to: String,
    /// One for each application, outside of Erlang/OTP, that changed.
    pub applications: Vec<AppAppup>,
}

/// The appup of one application.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppAppup {
    /// The application.
    pub app: String,
    /// Its older version.
    pub from: String,
    /// Its newer version.
    pub to: String,
    /// The file that it was written in; none when it was derived.
    pub written: Option<PathBuf>,
    /// The file's text; none when it can't be derived.
    pub appup: Option<String>,
    /// The instructions up, each with its reason.
    pub up: Vec<Reasoned>,
    /// The instructions down.
    pub down: Vec<Reasoned>,
    /// Why it can't be derived, or does not fit.
    pub findings: Vec<Finding>,
}

/// Finds or derives the appups. Hand-written ones win.
///
/// # Errors
/// A written appup doesn't parse; `escript` is needed and not there; a package can't be unpacked.
pub async fn between(request: Request<'_>, log: Log<'_>) -> Result<Between, Error> {
    let Request { old, new, .. } = request;
    let mut desk = Desk { request, unpacked: None, log };
    let mut applications = Vec::new();
    for (app, version) in new.rel.apps.iter().filter(|(app, _)| !is_otp_app(app)) {
        let Some(before) = old.app_version(app) else { continue };
        let (Some(old_modules), Some(new_modules)) = (old.modules.get(app), new.modules.get(app)) else {
            continue;
        };
        let change = AppChange { app, old: (before, old_modules), new: (version, new_modules) };
        if before != version || !change.is_empty() {
            applications.push(desk.app(change).await?);
        }
    }
    Ok(Between { format: 1, from: old.rel.version.clone(), to: new.rel.version.clone(), applications })
}

struct Desk<'a> {
    request: Request<'a>,
    /// Both packages unpacked, when that was needed.
    unpacked: Option<tempfile::TempDir>,
    log: Log<'a>,
}

impl Desk<'_> {
    async fn app(&mut self, change: AppChange<'_>) -> Result<AppAppup, Error> {
        let (app, from, to) = (change.app, change.old.0, change.new.0);
        let mut found = AppAppup {
            app: app.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            written: None,
            appup: None,
            up: Vec::new(),
            down: Vec::new(),
            findings: Vec::new(),
        };
        let appup = match self.written(app, to)? {
            Some((path, appup)) => {
                found.written = Some(path);
                found.findings.extend(misfit(app, from, &appup));
                appup
            }
            None => match self.derived(&change).await? {
                Ok(appup) => appup,
                Err(findings) => {
                    found.findings = findings;
                    return Ok(found);
                }
            },
        };
        let reasons = |entries: &[(Term, Vec<Term>)]| -> Vec<Reasoned> {
            let fitting = entries.iter().find(|(pattern, _)| super::super::appup::matches(pattern, from));
            fitting
                .map(|(_, all)| all.iter().map(|term| explain(term, &change)).collect())
                .unwrap_or_default()
        };
        (found.up, found.down) = (reasons(&appup.up), reasons(&appup.down));
        found.appup = Some(appup.print());
        Ok(found)
    }

    /// In the package, kept beside it, or in the project if it is for this version.
    fn written(&self, app: &str, version: &str) -> Result<Option<(PathBuf, Appup)>, Error> {
        let Request { new, project, kept, .. } = self.request;
        if let Some(source) = new.appups.get(app) {
            let path = PathBuf::from(format!("lib/{app}-{version}/ebin/{app}.appup"));
            let appup = Appup::parse(&path.display().to_string(), source)?;
            return Ok(Some((path, appup)));
        }
        if let Some((_, appup)) = kept.iter().find(|(kept, _)| kept == app) {
            return Ok(Some((PathBuf::from(format!("{app}.appup (kept with the package)")), appup.clone())));
        }
        let Some(project) = project else { return Ok(None) };
        let mut files = vec![project.dir.join(format!("appups/{app}.appup"))];
        if let Some(own) = project.apps.iter().find(|own| own.name == app) {
            let names =
                [format!("src/{app}.appup.src"), format!("src/{app}.appup"), format!("ebin/{app}.appup")];
            files.extend(names.map(|name| own.dir.join(name)));
        }
        for path in files.into_iter().filter(|path| path.is_file()) {
            let source = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
            let appup = Appup::parse(&path.display().to_string(), &source)?;
            if appup.version == version {
                return Ok(Some((path, appup)));
            }
        }
        Ok(None)
    }

    async fn derived(&mut self, change: &AppChange<'_>) -> Result<Result<Appup, Vec<Finding>>, Error> {
        let processes = change.changed_processes();
        if processes.is_empty() {
            return Ok(change.derive(&BTreeMap::new()));
        }
        let dir = self.unpacked().await?;
        let here = std::env::current_dir().map_err(Error::io("finding", Path::new(".")))?;
        let ebin =
            |side: &str, version: &str| dir.join(side).join(format!("lib/{}-{version}/ebin", change.app));
        let (old, new) = (ebin("old", change.old.0), ebin("new", change.new.0));
        let file = |ebin: &Path, module: &str| path_term(&ebin.join(format!("{module}.beam")));
        let pair = |module: &&str| Term::Tuple(vec![file(&old, module), file(&new, module)]);
        let script = escript(&dir, "state.escript", STATE)?;
        let pairs = Term::List(processes.iter().map(pair).collect());
        let states = ask_states(&script, &pairs, &here, self.log).await?;
        let mut children = BTreeMap::new();
        if self.request.run_init {
            let is_changed = |name: &&&str| {
                let supervisor = change.new.1.get(**name).is_some_and(|beam| beam.is_supervisor());
                supervisor && states.get(**name).is_some_and(|state| state.start)
            };
            let supervisors: Vec<&str> = processes.iter().filter(is_changed).copied().collect();
            let before = self.children(&dir, "old", &supervisors).await?;
            let after = self.children(&dir, "new", &supervisors).await?;
            for name in supervisors {
                let (Some(before), Some(after)) = (before.get(name), after.get(name)) else { continue };
                let only = |a: &[Term], b: &[Term]| a.iter().filter(|id| !b.contains(id)).cloned().collect();
                children.insert(
                    name.to_owned(),
                    Children { added: only(after, before), removed: only(before, after) },
                );
            }
        }
        Ok(change.derive_with(&states, &children))
    }

    async fn unpacked(&mut self) -> Result<PathBuf, Error> {
        if self.unpacked.is_none() {
            let (old, new) = (self.request.old.path.clone(), self.request.new.path.clone());
            let dir = blocking(move || {
                let dir =
                    tempfile::tempdir().map_err(Error::io("making a directory in", &std::env::temp_dir()))?;
                archive::unpack(&old, &dir.path().join("old"))?;
                archive::unpack(&new, &dir.path().join("new"))?;
                Ok(dir)
            });
            self.unpacked = Some(dir.await?);
        }
        Ok(self.unpacked.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default())
    }

    /// The children that each supervisor's `init/1` asks for; those that can't be run are left out.
    async fn children(
        &self,
        dir: &Path,
        side: &str,
        supervisors: &[&str],
    ) -> Result<BTreeMap<String, Vec<Term>>, Error> {
        if supervisors.is_empty() {
            return Ok(BTreeMap::new());
        }
        let package = if side == "old" { self.request.old } else { self.request.new };
        let ebin = |(app, version): &(String, String)| {
            let path = dir.join(side).join(format!("lib/{app}-{version}/ebin"));
            (!is_otp_app(app)).then(|| path_term(&path))
        };
        let paths = Term::List(package.rel.apps.iter().filter_map(ebin).collect());
        let modules = Term::List(supervisors.iter().map(|name| Term::atom(name)).collect());
        let args = vec![escript(dir, "children.escript", CHILDREN)?];
        let step =
            Step { program: "escript", args, dir, env: Vec::new(), input: format!("{paths}.\n{modules}.\n") };
        let answer = run(step, self.log).await?;
        // init/1 may print: only whole terms of ours count
        let lines = answer.lines().filter_map(|line| text::parse_one(line).ok());
        let known = lines.filter_map(|term| match term.as_tuple()? {
            [module, ids] => Some((module.as_atom()?.to_owned(), ids.as_list()?.to_vec())),
            _ => None,
        });
        Ok(known.collect())
    }
}

fn escript(dir: &Path, name: &str, source: &str) -> Result<String, Error> {
    let path = dir.join(name);
    fs::write(&path, source).map_err(Error::io("writing", &path))?;
    Ok(path.display().to_string())
}

fn misfit(app: &str, from: &str, appup: &Appup) -> Option<Finding> {
    let text = format!("the appup of `{app}` has no entry to upgrade from `{from}`");
    (!appup.has_up(from))
        .then(|| Finding::error("A006", text, "add one, or remove the file to have it derived"))
}
