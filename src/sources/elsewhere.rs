//! One question, wherever the file is.

use super::checkout::Checkout;
use super::mirror::{Mirrors, Refusal};
use super::reach::Reach;
use super::remote::Remote;
use super::revision::{self, Wanted};
use super::table::{Place, SourceTable};
use super::templates;
use git2::{ErrorCode, Oid, Repository};
use pipelines::diagnostic::{did_you_mean, did_you_mean_file};
use pipelines::request::{Elsewhere, FetchError, Fetched};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

type Opened = Result<Rc<Checkout>, Refusal>;
/// Answers by project and what is wanted of it.
type Known<T> = RefCell<HashMap<(String, Wanted), T>>;

/// Files from elsewhere, for one command.
#[derive(Default)]
pub struct Sources {
    table: SourceTable,
    /// Path and work tree of the project itself: other refs of it need no entry.
    own: Option<(String, PathBuf)>,
    /// Where fetched things are kept.
    dir: Option<PathBuf>,
    offline: bool,
    mirrors: Mirrors,
    remote: Remote,
    opened: Known<Opened>,
    lists: Known<Arc<[String]>>,
    advice: RefCell<HashMap<Elsewhere, String>>,
    /// Brings a project up to date before it is first looked at; says why it can't.
    refresh: Option<Refresh>,
}

type Refresh = Box<dyn Fn(&str) -> Result<(), String> + Send>;

impl Sources {
    /// Sources by a table; what is fetched is kept in `dir` (none: there is no such place). With `offline` only what
    /// is kept there is used.
    pub fn new(table: SourceTable, dir: Option<PathBuf>, offline: bool) -> Sources {
        Sources { table, dir, offline, ..Sources::default() }
    }

    /// The project itself, which has other refs than the one in front of us.
    #[must_use]
    pub fn with_own(self, project: &str, root: &Path) -> Sources {
        Sources { own: Some((project.to_lowercase(), root.to_owned())), ..self }
    }

    /// Looks only at hosts that may be reached, and has `refresh` bring each project of the table up to date before it
    /// is first looked at.
    #[must_use]
    pub fn for_server(
        self,
        reach: Reach,
        refresh: impl Fn(&str) -> Result<(), String> + Send + 'static,
    ) -> Sources {
        Sources { remote: Remote::within(reach), refresh: Some(Box::new(refresh)), ..self }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It can't be had; [`Sources::advice`] may say what to do.
    pub fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        match what {
            Elsewhere::Project { project, reference, file } => self.project(what, project, reference, file),
            Elsewhere::Component { project, name, version } => self.component(what, project, name, version),
            Elsewhere::Remote { url } => self.remote(what, url),
            Elsewhere::Template { name } => self.template(what, name),
        }
    }

    /// All paths of a project at a ref, sorted.
    ///
    /// # Errors
    /// The project or the ref can't be had.
    pub fn list(&self, project: &str, reference: Option<&str>) -> Result<Arc<[String]>, FetchError> {
        let key = (project.to_owned(), wanted(reference));
        if let Some(known) = self.lists.borrow().get(&key) {
            return Ok(known.clone());
        }
        let paths: Arc<[String]> = self.checkout(project, &key.1).map_err(|r| r.error)?.paths().into();
        self.lists.borrow_mut().insert(key, paths.clone());
        Ok(paths)
    }

    /// Where a project is.
    ///
    /// # Errors
    /// Nothing says it; what to do about it.
    pub fn place_of(&self, project: &str) -> Result<Place, String> {
        self.place(project).ok_or_else(|| where_it_is("HOST", project))
    }

    /// The repository of a project, and the commit of a ref in it (none: of its HEAD).
    ///
    /// # Errors
    /// The project or the ref can't be had, or the project is a directory without git; what could help.
    pub fn commit(
        &self,
        project: &str,
        reference: Option<&str>,
    ) -> Result<(Repository, Oid), (FetchError, Option<String>)> {
        match self.open(project, &wanted(reference)) {
            Ok(Checkout::Commit(repository, found)) => Ok((repository, found.commit)),
            Ok(Checkout::Directory(dir)) => {
                let why = format!("`{}` is no git repository, and a pipeline is for a commit", dir.display());
                Err((FetchError::Other(why), Some("run `git init` there and commit once".to_owned())))
            }
            Err(refusal) => {
                let advice = self.against(project, project, &refusal);
                Err((refusal.error, Some(advice)))
            }
        }
    }

    /// What could help where `fetch` refused.
    pub fn advice(&self, what: &Elsewhere) -> Option<String> {
        self.advice.borrow().get(what).cloned()
    }

    fn advise(&self, what: &Elsewhere, text: Option<String>) {
        if let Some(text) = text {
            self.advice.borrow_mut().insert(what.clone(), text);
        }
    }

    fn project(
        &self,
        what: &Elsewhere,
        project: &str,
        reference: &Option<String>,
        file: &str,
    ) -> Result<Fetched, FetchError> {
        let wanted = wanted(reference.as_deref());
        let checkout =
            self.checkout(project, &wanted).map_err(|r| self.refused(what, project, project, r))?;
        let text = checkout.read(file).inspect_err(|error| {
            if *error == FetchError::NoFile {
                let paths = checkout.paths();
                let near = did_you_mean_file(file, paths.iter().map(String::as_str));
                self.advise(what, near.map(|near| format!("did you mean `{near}`?")));
            }
        })?;
        let at = reference
            .as_deref()
            .or(checkout.sha().as_deref().and_then(|sha| sha.get(..8)))
            .map(str::to_owned);
        let name = at.map_or_else(|| format!("{project}:{file}"), |at| format!("{project}:{file}@{at}"));
        Ok(Fetched { text, name, sha: checkout.sha(), version: None })
    }

    /// A component's project may be known with its host or without it.
    fn component(
        &self,
        what: &Elsewhere,
        address: &str,
        name: &str,
        version: &str,
    ) -> Result<Fetched, FetchError> {
        let path = address.split_once('/').map_or(address, |(_, path)| path);
        let project = if self.table.place(address).is_some() { address } else { path };
        let wanted = Wanted::Version(version.to_owned());
        let checkout =
            self.checkout(project, &wanted).map_err(|r| self.refused(what, address, project, r))?;
        for file in [format!("templates/{name}.yml"), format!("templates/{name}/template.yml")] {
            match checkout.read(&file) {
                Err(FetchError::NoFile) => {}
                Err(error) => return Err(error),
                Ok(text) => {
                    let name = format!("{project}:{file}@{version}");
                    return Ok(Fetched { text, name, sha: checkout.sha(), version: checkout.version() });
                }
            }
        }
        let paths = checkout.paths();
        let there: Vec<&str> = paths.iter().filter_map(|path| component_name(path)).collect();
        self.advise(
            what,
            Some(match there.is_empty() {
                true => "the project has no components: they are files below `templates/`".to_owned(),
                false => format!("the components there are `{}`", there.join("`, `")),
            }),
        );
        Err(FetchError::NoFile)
    }

    fn remote(&self, what: &Elsewhere, url: &str) -> Result<Fetched, FetchError> {
        let dir = self.dir()?;
        let text = self.remote.text(url, dir, self.offline).inspect_err(|_| {
            let kept = !self.offline && Remote::is_kept(url, dir);
            self.advise(what, kept.then(|| "`--offline` uses the copy of the last time".to_owned()));
        })?;
        Ok(Fetched { text, name: url.to_owned(), sha: None, version: None })
    }

    fn template(&self, what: &Elsewhere, name: &str) -> Result<Fetched, FetchError> {
        let Some(text) = templates::text(name) else {
            let there = templates::names().collect::<Vec<_>>().join("`, `");
            let near = did_you_mean(name, templates::names());
            let meant = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            self.advise(what, Some(format!("{meant}the templates that `ci` brings along are `{there}`")));
            return Err(FetchError::NoFile);
        };
        Ok(Fetched { text: text.into(), name: format!("template:{name}"), sha: None, version: None })
    }

    fn dir(&self) -> Result<&Path, FetchError> {
        self.dir.as_deref().ok_or_else(|| {
            FetchError::Other("there is no place to keep it: set `SLIPWAY_HOME` to a directory".into())
        })
    }

    fn checkout(&self, project: &str, wanted: &Wanted) -> Opened {
        let key = (project.to_owned(), wanted.clone());
        if let Some(known) = self.opened.borrow().get(&key) {
            return known.clone();
        }
        let opened = self.open(project, wanted).map(Rc::new);
        self.opened.borrow_mut().insert(key, opened.clone());
        opened
    }

    fn place(&self, project: &str) -> Option<Place> {
        let own = self.own.as_ref().filter(|(path, _)| *path == project.to_lowercase());
        self.table.place(project).or_else(|| own.map(|(_, root)| Place::Directory(root.clone())))
    }

    fn open(&self, project: &str, wanted: &Wanted) -> Result<Checkout, Refusal> {
        let refused = |error: FetchError, why: String| Refusal { error, why };
        let Some(place) = self.place(project) else {
            return Err(refused(FetchError::NoProject, String::new()));
        };
        if let Some(refresh) = &self.refresh {
            refresh(project).map_err(|why| refused(FetchError::Other(why.clone()), why))?;
        }
        let (repository, found) = match &place {
            Place::Url(url) => {
                let dir = self.dir().map_err(|e| refused(e.clone(), e.to_string()))?;
                self.mirrors.find(url, wanted, dir, self.offline)?
            }
            Place::Directory(dir) if !dir.is_dir() => {
                return Err(refused(FetchError::NoProject, "there is no such directory".into()));
            }
            Place::Directory(dir) => match Repository::open(dir) {
                Ok(repository) => {
                    let found = revision::find(&repository, wanted);
                    (repository, found)
                }
                Err(e) if e.code() == ErrorCode::NotFound => return Ok(Checkout::Directory(dir.clone())),
                Err(e) => {
                    let why = format!("opening the repository `{place}`: {}", e.message());
                    return Err(refused(FetchError::Other(why.clone()), why));
                }
            },
        };
        match found {
            Some(found) => Ok(Checkout::Commit(repository, found)),
            None => Err(refused(FetchError::NoReference, self.near(&repository, wanted))),
        }
    }

    /// What may have been meant by a ref that is not there.
    fn near(&self, repository: &Repository, wanted: &Wanted) -> String {
        let (Wanted::Reference(name) | Wanted::Version(name)) = wanted else {
            return "it has no commit on its default branch".into();
        };
        let names = [revision::names(repository, "refs/tags/"), revision::names(repository, "refs/heads/")];
        match did_you_mean(name, names.concat().iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.offline => "without `--offline` it would be fetched anew".into(),
            None => "it has no such commit, tag or branch".into(),
        }
    }

    /// Remembers what helps against a refusal. `address` is the project as the configuration names it.
    fn refused(&self, what: &Elsewhere, address: &str, project: &str, refusal: Refusal) -> FetchError {
        self.advise(what, Some(self.against(address, project, &refusal)));
        refusal.error
    }

    fn against(&self, address: &str, project: &str, refusal: &Refusal) -> String {
        match self.place(project) {
            None => {
                let host =
                    if address == project { "HOST" } else { address.split('/').next().unwrap_or("HOST") };
                where_it_is(host, project)
            }
            // the reason is in the message itself
            Some(place) if matches!(refusal.error, FetchError::Other(_)) => {
                format!("it was looked for in `{place}`")
            }
            Some(place) => format!("it was looked for in `{place}`: {}", refusal.why),
        }
    }
}

fn where_it_is(host: &str, project: &str) -> String {
    format!("say in `.ci/settings.yml` where it is: `sources: {{{project}: https://{host}/{project}.git}}`")
}

fn wanted(reference: Option<&str>) -> Wanted {
    reference.map_or(Wanted::Head, |name| Wanted::Reference(name.to_owned()))
}

/// `templates/x.yml` and `templates/x/template.yml` are the component `x`.
fn component_name(path: &str) -> Option<&str> {
    let path = path.strip_prefix("templates/")?;
    let name = path.strip_suffix("/template.yml").or_else(|| path.strip_suffix(".yml"))?;
    (!name.contains('/')).then_some(name)
}
