//! A child pipeline before it runs: its configuration, its request, its plan.

use super::forward::Forwarded;
use crate::project::{Project, ProjectFiles};
use crate::report::diagnostic;
use crate::sources::Sources;
use pipelines::diagnostic::Diagnostic;
use pipelines::plan::Plan;
use pipelines::request::{Elsewhere, FetchError, Fetched, Files, Request};
use pipelines::variables::predefined;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The text that stands for a root file, and files that exist only for this pipeline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Name of the root file among the texts.
    root: String,
    texts: BTreeMap<String, Arc<str>>,
}

/// Why there is no pipeline.
#[derive(Debug)]
pub(super) struct Refused {
    /// In one line.
    pub(super) message: String,
    /// Drawn findings, with colours.
    pub(super) details: String,
}

impl Refused {
    /// Without findings.
    pub(super) fn new(message: String) -> Refused {
        Refused { message, details: String::new() }
    }
}

/// Gives the text of a file in a job's artifacts: `(job, file)`.
pub(crate) type ReadArtifact<'a> = &'a dyn Fn(&str, &str) -> Result<String, String>;

impl Configuration {
    /// A file of the project.
    pub(crate) fn file(path: &str) -> Configuration {
        Configuration { root: path.to_owned(), texts: BTreeMap::new() }
    }

    /// What `trigger:include` of the job `name` describes. Files from artifacts are read now; they stand beside the
    /// project's files, so that their own includes look there.
    ///
    /// # Errors
    /// An artifact can't be had; says why.
    pub(crate) fn new(name: &str, include: &Json, read: ReadArtifact<'_>) -> Result<Configuration, String> {
        let mut texts = BTreeMap::new();
        let items = match include {
            Json::Array(items) => items.clone(),
            one => vec![one.clone()],
        };
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let (Some(file), Some(job)) = (text(&item, "artifact"), text(&item, "job")) else {
                entries.push(item);
                continue;
            };
            let path = place(texts.len(), job, file);
            texts.insert(path.clone(), read(job, file)?.into());
            let mut entry = json!({ "local": path });
            for key in ["inputs", "rules"] {
                if let Some(value) = item.get(key) {
                    entry[key] = value.clone();
                }
            }
            entries.push(entry);
        }
        let root = format!("trigger:include of {name}");
        texts.insert(root.clone(), json!({ "include": entries }).to_string().into());
        Ok(Configuration { root, texts })
    }

    /// The project's files with those of the configuration, and the name of the root file.
    pub(crate) fn beside<'p>(self, below: ProjectFiles<'p>) -> (Beside<'p>, String) {
        (Beside { below, texts: self.texts }, self.root)
    }
}

fn text<'j>(item: &'j Json, key: &str) -> Option<&'j str> {
    item.get(key).and_then(Json::as_str)
}

/// A path for messages that no pattern, variable or file of the project can mean.
fn place(index: usize, job: &str, file: &str) -> String {
    let plain = |c: char| if matches!(c, '*' | '$' | '%' | '?' | '[' | '{') { '_' } else { c };
    format!("artifact {} of {job}: {file}", index + 1).chars().map(plain).collect()
}

/// The parent's request as it is for a child with these variables: same project, ref, commit, changes.
pub(crate) fn request(parent: &Request, forwarded: Forwarded) -> Request {
    let mut child = Request {
        source: "parent_pipeline".to_owned(),
        variables: forwarded.variables.into_iter().collect(),
        raw_variables: forwarded.raw,
        inputs: Default::default(),
        merge_request: parent.is_merge_request(),
        ..parent.clone()
    };
    let before = "CI_COMMIT_BEFORE_SHA";
    if let Some(sha) = predefined(parent).shift_remove(before) {
        child.predefined.insert(before.to_owned(), sha);
    }
    child
}

/// Reads the sources in `checkout` and plans. Blocks.
///
/// # Errors
/// The configuration is not valid, or creates no pipeline.
pub(super) fn plan(
    checkout: &Path,
    request: &Request,
    configuration: Configuration,
    sources: Sources,
) -> Result<Plan, Refused> {
    let project = Project::discover(checkout).map_err(|error| Refused::new(error.message))?;
    let below = ProjectFiles::work_tree(&project).with_sources(sources);
    let (files, root) = configuration.beside(below);
    let mut loaded = pipelines::load::load(request, &files, &root);
    let mut found = std::mem::take(&mut loaded.diagnostics);
    let config = loaded.root.as_ref().map(|root| pipelines::config::build(root, &mut found));
    if let Some(config) = &config
        && !found.iter().any(Diagnostic::is_error)
    {
        let outcome = pipelines::plan::build(config, request, &files, &mut found);
        if let Some(plan) = outcome.plan {
            return Ok(plan);
        }
        found.extend(outcome.creation_errors);
    }
    found.retain(Diagnostic::is_error);
    let first = found.first().map_or("nothing says why", |d| d.message.as_str());
    let more = found.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Err(Refused { message: format!("{first}{more}"), details: diagnostic::render(&loaded.sources, &found) })
}

/// The project's files with some more.
pub(crate) struct Beside<'p> {
    below: ProjectFiles<'p>,
    texts: BTreeMap<String, Arc<str>>,
}

impl Files for Beside<'_> {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        match self.texts.get(path) {
            Some(text) => Ok(Some(text.clone())),
            None => self.below.read(path),
        }
    }

    fn paths(&self) -> &[String] {
        self.below.paths()
    }

    fn blob_id(&self, path: &str) -> Option<String> {
        self.below.blob_id(path)
    }

    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        self.below.fetch(what)
    }

    fn list(&self, project: &str, reference: Option<&str>) -> Result<Arc<[String]>, FetchError> {
        self.below.list(project, reference)
    }

    fn advice(&self, what: &Elsewhere) -> Option<String> {
        self.below.advice(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_from_artifacts_become_files_beside_the_project() {
        let include = json!(["/ci/a.yml", { "artifact": "out/$x*.yml", "job": "gen", "inputs": { "a": 1 } }]);
        let read = |job: &str, file: &str| Ok(format!("text of {file} of {job}"));
        let got = Configuration::new("child", &include, &read).expect("valid");
        let path = "artifact 1 of gen: out/_x_.yml";
        assert_eq!(&*got.texts[path], "text of out/$x*.yml of gen");
        let root: Json = serde_json::from_str(&got.texts[&got.root]).expect("JSON");
        assert_eq!(root, json!({"include": ["/ci/a.yml", { "local": path, "inputs": { "a": 1 } }]}));
        let refused = Configuration::new("child", &include, &|_, _| Err("gone".to_owned()));
        assert_eq!(refused, Err("gone".to_owned()));
    }

    #[test]
    fn a_child_has_the_commit_of_its_parent_and_another_source() {
        let parent = Request {
            source: "merge_request_event".to_owned(),
            reference: "feature".to_owned(),
            inputs: [("a".to_owned(), "b".to_owned())].into_iter().collect(),
            ..Request::default()
        };
        let child = request(&parent, Forwarded::default());
        assert_eq!((child.source.as_str(), child.reference.as_str()), ("parent_pipeline", "feature"));
        assert!(child.inputs.is_empty());
        let seen = predefined(&child);
        assert_eq!(seen.get("CI_PIPELINE_SOURCE").map(String::as_str), Some("parent_pipeline"));
        assert!(seen.contains_key("CI_MERGE_REQUEST_IID") && !seen.contains_key("CI_COMMIT_BRANCH"));
    }
}
