//! The text of one included file, from wherever it is, and GitLab's words when it can't be had.

use super::loader::{Loader, Origin};
use super::location::{Kind, Location, is_address};
use crate::diagnostic::{Diagnostic, did_you_mean_file};
use crate::request::{Elsewhere, FetchError, Fetched};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A file that was read.
pub(super) struct Content {
    /// As people know it.
    pub(super) name: String,
    pub(super) text: Arc<str>,
    /// Where its own includes look.
    pub(super) origin: Origin,
    /// For components.
    pub(super) component: Option<Component>,
}

/// What `$[[ component.x ]]` can ask for.
pub(super) struct Component {
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) sha: Option<String>,
    pub(super) version: Option<String>,
}

impl Loader<'_> {
    /// What is wrong with the place itself, before anything is read.
    pub(super) fn check_place(&self, location: &Location) -> Result<(), Diagnostic> {
        let name = self.masked(&location.name);
        let error = |message: String| Err(Diagnostic::error("include-file", message).at(location.span, ""));
        let base = location.name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let is_yaml = [".yml", ".yaml"].iter().any(|end| base.len() > end.len() && base.ends_with(end));
        if location.kind != Kind::Component && !is_yaml {
            return error(format!("Included file `{name}` does not have YAML extension!"));
        }
        match &location.kind {
            Kind::Remote { .. } if !is_address(&location.name, &["http", "https"]) => {
                error(format!("Remote file `{name}` does not have a valid address!"))
            }
            Kind::Template if !location.name.ends_with(".gitlab-ci.yml") => {
                error(format!("Template file `{name}` is not a valid location!"))
            }
            Kind::Artifact => error(
                "Including configs from artifacts is only allowed when triggering child pipelines".to_owned(),
            ),
            Kind::Component if component(&location.name).is_none() => {
                error(format!("Component '{name}' - the address must be `host/group/project/name@version`"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// There is no such file, project, ref; it is empty; its digest differs.
    pub(super) fn read(&self, location: &Location, origin: &Origin) -> Result<Content, Diagnostic> {
        let content = match &location.kind {
            Kind::Local => self.read_local(location, origin),
            Kind::Project { project, reference } => {
                self.read_project(location, project, reference.as_deref())
            }
            Kind::Remote { integrity } => self.read_remote(location, integrity.as_deref()),
            Kind::Template => {
                let what = Elsewhere::Template { name: location.name.clone() };
                self.fetch(location, &what, Origin::Nowhere)
            }
            Kind::Component => self.read_component(location),
            Kind::Artifact => Err(self.failed(location, "can't be had")),
        }?;
        if content.text.trim().is_empty() {
            return Err(self.failed(location, "is empty!"));
        }
        Ok(content)
    }

    fn read_local(&self, location: &Location, origin: &Origin) -> Result<Content, Diagnostic> {
        match origin {
            Origin::Own => self.read_own(location, &location.name),
            Origin::Project { project, sha } => {
                let what = Elsewhere::Project {
                    project: project.clone(),
                    reference: sha.clone(),
                    file: location.name.clone(),
                };
                self.fetch(location, &what, origin.clone())
            }
            Origin::Nowhere => Err(self.failed(location, "does not have project!").help(
                "files from an address or a template belong to no project: include by `project`, `remote` or `template`",
            )),
        }
    }

    fn read_own(&self, location: &Location, path: &str) -> Result<Content, Diagnostic> {
        match self.files.read(path) {
            Ok(Some(text)) => {
                Ok(Content { name: path.to_owned(), text, origin: Origin::Own, component: None })
            }
            Ok(None) => {
                let diagnostic = self.failed(location, "does not exist!");
                let yaml = self.files.paths().iter().map(String::as_str).filter(|path| path.contains(".y"));
                Err(match did_you_mean_file(path, yaml) {
                    Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                    None => diagnostic.help("only files that git tracks are found"),
                })
            }
            Err(why) => Err(self.failed(location, &format!("can't be read: {}", self.masked(&why)))),
        }
    }

    fn read_project(
        &self,
        location: &Location,
        project: &str,
        reference: Option<&str>,
    ) -> Result<Content, Diagnostic> {
        let request = self.request;
        let here = reference.is_none_or(|r| r == request.reference || r == request.commit.sha);
        if self.is_own(project) && here {
            return self.read_own(location, &location.name);
        }
        let what = Elsewhere::Project {
            project: project.to_owned(),
            reference: reference.map(str::to_owned),
            file: location.name.clone(),
        };
        let origin = Origin::Project { project: project.to_owned(), sha: None };
        self.fetch(location, &what, origin)
    }

    fn read_remote(&self, location: &Location, integrity: Option<&str>) -> Result<Content, Diagnostic> {
        let what = Elsewhere::Remote { url: location.name.clone() };
        let content = self.fetch(location, &what, Origin::Nowhere)?;
        let digest = format!("sha256-{}", base64(&Sha256::digest(content.text.as_bytes())));
        match integrity {
            Some(expected) if expected != digest => Err(self
                .failed(location, "does not have the expected integrity hash!")
                .help(format!("the file's hash is `{digest}`"))),
            _ => Ok(content),
        }
    }

    fn read_component(&self, location: &Location) -> Result<Content, Diagnostic> {
        let Some((address, name, version)) = component(&location.name) else {
            return Err(self.failed(location, "is not a valid address"));
        };
        let (project, name, reference) = (address.to_owned(), name.to_owned(), version.to_owned());
        let path = project.split_once('/').map_or(project.as_str(), |(_, path)| path).to_lowercase();
        let own = self.is_own(&path) && reference == self.request.commit.sha;
        if own && let Some(content) = self.read_own_component(location, &name)? {
            let sha = Some(reference.clone());
            return Ok(Content {
                component: Some(Component { name, reference, sha, version: None }),
                ..content
            });
        }
        let origin = Origin::Project { project: path, sha: None };
        let what = Elsewhere::Component { project, name: name.clone(), version: reference.clone() };
        let fetched = self.files.fetch(&what).map_err(|error| self.refused(location, &what, &error))?;
        let (sha, version) = (fetched.sha.clone(), fetched.version.clone());
        let component = Some(Component { name, reference, sha, version });
        Ok(Content { component, ..content(fetched, origin) })
    }

    /// A project that tests its own components includes them at its own commit: the files at hand.
    fn read_own_component(&self, location: &Location, name: &str) -> Result<Option<Content>, Diagnostic> {
        for path in [format!("templates/{name}.yml"), format!("templates/{name}/template.yml")] {
            match self.files.read(&path) {
                Ok(None) => {}
                Ok(Some(text)) => {
                    return Ok(Some(Content { name: path, text, origin: Origin::Own, component: None }));
                }
                Err(why) => {
                    return Err(self.failed(location, &format!("can't be read: {}", self.masked(&why))));
                }
            }
        }
        Ok(None)
    }

    fn fetch(&self, location: &Location, what: &Elsewhere, origin: Origin) -> Result<Content, Diagnostic> {
        match self.files.fetch(what) {
            Ok(fetched) => Ok(content(fetched, origin)),
            Err(error) => Err(self.refused(location, what, &error)),
        }
    }

    fn refused(&self, location: &Location, what: &Elsewhere, error: &FetchError) -> Diagnostic {
        let diagnostic = match what {
            Elsewhere::Project { project, reference, .. } => {
                self.no_project(location, project, reference.as_deref(), error)
            }
            _ => self.no_file(location, error),
        };
        match self.files.advice(what) {
            Some(advice) => diagnostic.help(self.masked(&advice)),
            None => diagnostic,
        }
    }

    fn no_project(
        &self,
        location: &Location,
        project: &str,
        reference: Option<&str>,
        error: &FetchError,
    ) -> Diagnostic {
        let project = self.masked(project);
        let message = match error {
            FetchError::NoProject => format!(
                "Project `{project}` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined."
            ),
            FetchError::NoReference => {
                let reference = self.masked(reference.unwrap_or("HEAD"));
                format!("Project `{project}` reference `{reference}` does not exist!")
            }
            error => return self.no_file(location, error),
        };
        Diagnostic::error("include-file", message).at(location.span, "")
    }

    fn no_file(&self, location: &Location, error: &FetchError) -> Diagnostic {
        let missing = match (&location.kind, error) {
            (Kind::Remote { .. }, _) => "could not be fetched because of HTTP code `404` error!",
            (Kind::Component, FetchError::NoProject) => {
                "project does not exist or you don't have sufficient permissions"
            }
            (Kind::Component, FetchError::NoReference) => "version not found",
            (Kind::Component, _) => "content not found",
            (Kind::Template, _) => "is empty or does not exist!",
            _ => "does not exist!",
        };
        match error {
            FetchError::Http(code) => {
                self.failed(location, &format!("could not be fetched because of HTTP code `{code}` error!"))
            }
            FetchError::Timeout => self.failed(location, "could not be fetched because of a timeout error!"),
            FetchError::Other(why) => {
                let joint = if location.kind == Kind::Component {
                    "can't be fetched"
                } else {
                    "could not be fetched"
                };
                self.failed(location, &format!("{joint}: {}", self.masked(why)))
            }
            _ => self.failed(location, missing),
        }
    }

    /// The file as GitLab names its kind, and what is wrong with it.
    fn failed(&self, location: &Location, what: &str) -> Diagnostic {
        let name = self.masked(&location.name);
        let subject = match &location.kind {
            Kind::Local => format!("Local file `{name}`"),
            Kind::Project { project, .. } => format!("Project `{}` file `{name}`", self.masked(project)),
            Kind::Remote { .. } => format!("Remote file `{name}`"),
            Kind::Template | Kind::Artifact => format!("Included file `{name}`"),
            Kind::Component => format!("Component '{name}' -"),
        };
        Diagnostic::error("include-file", format!("{subject} {what}")).at(location.span, "")
    }
}

/// A fetched file. Its own includes look at the commit that it came from.
fn content(fetched: Fetched, origin: Origin) -> Content {
    let origin = match origin {
        Origin::Project { project, sha } => Origin::Project { project, sha: fetched.sha.or(sha) },
        origin => origin,
    };
    Content { name: fetched.name, text: fetched.text, origin, component: None }
}

/// Project with host, name and version of a component's address.
fn component(address: &str) -> Option<(&str, &str, &str)> {
    let (path, version) = address.rsplit_once('@')?;
    let (project, name) = path.rsplit_once('/')?;
    let complete = project.contains('/') && !name.is_empty() && !version.is_empty();
    complete.then_some((project, name, version))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}
