//! What asks for a pipeline: ref, source, commit, variables. All facts come from outside; nothing is looked up.

use crate::variables::Variable;
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::{Arc, LazyLock};

/// Everything that decides which jobs a configuration creates. Serialized it holds secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Request {
    /// Full path of the project: `group/project`.
    pub project: String,
    /// Branch or tag; with a merge request the source branch.
    pub reference: String,
    /// Is `reference` a tag?
    pub tag: bool,
    /// Value of `CI_PIPELINE_SOURCE`: `push`, `merge_request_event`, `schedule` ...
    pub source: String,
    /// Default branch of the project.
    pub default_branch: String,
    /// Only for merge requests; the default branch when absent.
    pub target_branch: Option<String>,
    /// Branches and tags that exist, for `compare_to`. None: not known, every ref is taken for existing.
    pub known_refs: Option<Vec<String>>,
    /// Pipeline variables: above everything that the YAML defines.
    pub variables: IndexMap<String, String>,
    /// Names of pipeline variables whose values are never expanded.
    pub raw_variables: Vec<String>,
    /// Is it for a merge request although the source is another? So it is in the children of such a pipeline.
    pub merge_request: bool,
    /// Project variables (settings): above the YAML, below pipeline variables.
    pub project_variables: Vec<ProjectVariable>,
    /// `--input`: name to text.
    pub inputs: IndexMap<String, String>,
    /// What changed.
    pub changes: Changes,
    /// The commit.
    pub commit: Commit,
    /// Further predefined variables from settings (`CI_REGISTRY`, `CI_SERVER_URL`, user ...): over our own.
    pub predefined: IndexMap<String, String>,
}

/// Changed paths. Most configurations never ask for them, and finding them out can take long.
#[derive(Clone)]
pub struct Changes(Arc<LazyLock<Option<Vec<String>>, Find>>);

type Find = Box<dyn FnOnce() -> Option<Vec<String>> + Send>;

impl Changes {
    /// What `find` gives, which is called when a condition first asks, or never.
    pub fn when_asked(find: impl FnOnce() -> Option<Vec<String>> + Send + 'static) -> Changes {
        Changes(Arc::new(LazyLock::new(Box::new(find))))
    }

    /// The paths. None: not known, and `changes` is then true.
    pub fn get(&self) -> Option<&[String]> {
        self.0.as_deref()
    }
}

impl From<Option<Vec<String>>> for Changes {
    fn from(paths: Option<Vec<String>>) -> Changes {
        Changes::when_asked(|| paths)
    }
}

impl Default for Changes {
    fn default() -> Changes {
        None.into()
    }
}

/// Finds them out.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Changes, D::Error> {
        Option::<Vec<String>>::deserialize(deserializer).map(Changes::from)
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Changes")
    }
}

impl std::fmt::Debug for Request {
    /// Of variables and inputs, names only: their values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |map: &IndexMap<String, String>| map.keys().cloned().collect::<Vec<_>>();
        f.debug_struct("Request")
            .field("project", &self.project)
            .field("reference", &self.reference)
            .field("tag", &self.tag)
            .field("source", &self.source)
            .field("commit", &self.commit.sha)
            .field("variables", &names(&self.variables))
            .field("project_variables", &self.project_variables)
            .field("inputs", &names(&self.inputs))
            .field("predefined", &names(&self.predefined))
            .finish_non_exhaustive()
    }
}

impl Request {
    /// Is it for a merge request pipeline?
    pub fn is_merge_request(&self) -> bool {
        self.merge_request || self.source == "merge_request_event"
    }

    /// The pipeline variables by name.
    pub(crate) fn pipeline_variables(&self) -> impl Iterator<Item = (String, Variable)> {
        let variable = |(name, value): (&String, &String)| {
            let raw = self.raw_variables.contains(name);
            (name.clone(), Variable { raw, ..Variable::new(value.as_str()) })
        };
        self.variables.iter().map(variable)
    }
}

/// A variable of the project's settings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectVariable {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
    /// Hide in logs.
    pub masked: bool,
    /// Hand over as a file.
    pub file: bool,
    /// Never expand.
    pub raw: bool,
    /// `*`, a name, or `review/*`: environments that see it.
    pub environment_scope: String,
}

impl std::fmt::Debug for ProjectVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (value hidden)", self.key)
    }
}

/// Facts about the commit that the pipeline is for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Commit {
    /// Full object id.
    pub sha: String,
    /// Previous commit of the ref; none for a first push (40 zeros in the variable).
    pub before_sha: Option<String>,
    /// Whole message.
    pub message: String,
    /// `Name <email>`.
    pub author: String,
    /// ISO 8601.
    pub timestamp: String,
    /// Message of the annotated tag, if the request is for one.
    pub tag_message: Option<String>,
    /// Is the ref protected?
    pub protected: bool,
    /// Commit that a merge request's diff starts from.
    pub merge_base: Option<String>,
}

/// Does the commit's message ask for no pipeline: `[skip ci]`, `[ci-skip]` and the like, in any case?
pub fn skipped(commit: &Commit) -> bool {
    let message = commit.message.to_lowercase();
    [("ci", "skip"), ("skip", "ci")].iter().any(|(first, second)| {
        [' ', '-', '_'].iter().any(|between| message.contains(&format!("[{first}{between}{second}]")))
    })
}

/// The project's files, as far as the language looks at them. All paths are relative to the project, with `/`.
pub trait Files {
    /// Text of a tracked file; `Ok(None)` when there is none.
    ///
    /// # Errors
    /// The file is there and can't be read, or is not UTF-8; says why.
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String>;

    /// All tracked paths, sorted.
    fn paths(&self) -> &[String];

    /// Git's blob id (hexadecimal) of a tracked file, for `cache:key:files`.
    fn blob_id(&self, path: &str) -> Option<String>;

    /// A file that is not in this project: `include:project`, `remote`, `template`, `component`.
    ///
    /// # Errors
    /// Says why it can't be had, in words that go into a diagnostic.
    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError>;

    /// All paths of another project at a ref (none: its HEAD), sorted: for `rules:exists` and wildcards there.
    ///
    /// # Errors
    /// As [`Files::fetch`].
    fn list(&self, project: &str, _reference: Option<&str>) -> Result<Arc<[String]>, FetchError> {
        Err(FetchError::Other(format!("the files of `{project}` can't be listed here")))
    }

    /// What could help after `fetch` has refused.
    fn advice(&self, _what: &Elsewhere) -> Option<String> {
        None
    }
}

/// A file that is not in the project itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Elsewhere {
    /// `include:project`: file of another project at a ref (default HEAD).
    Project {
        /// Path of the project, lower case.
        project: String,
        /// Branch, tag or commit.
        reference: Option<String>,
        /// File in it.
        file: String,
    },
    /// `include:remote`.
    Remote {
        /// Address.
        url: String,
    },
    /// `include:template`.
    Template {
        /// Name, ends in `.gitlab-ci.yml`.
        name: String,
    },
    /// `include:component`.
    Component {
        /// `host/group/project`.
        project: String,
        /// Component name.
        name: String,
        /// SHA, branch, tag, partial version or `~latest`.
        version: String,
    },
}

/// A file from elsewhere.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its text.
    pub text: Arc<str>,
    /// For messages: `group/project:ci/x.yml@v1`.
    pub name: String,
    /// Commit it came from, where there is one: nested includes and `component.sha` use it.
    pub sha: Option<String>,
    /// Version that a component's `~latest` or partial version became.
    pub version: Option<String>,
}

/// Why a file from elsewhere can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No such project, or no way in.
    #[error("the project was not found, or access was denied")]
    NoProject,
    /// The project has no such ref.
    #[error("the project has no such ref")]
    NoReference,
    /// There is no such file.
    #[error("there is no such file")]
    NoFile,
    /// The server of `include:remote` answered with this code of 400 or above.
    #[error("the server answered with HTTP code `{0}`")]
    Http(u16),
    /// The server of `include:remote` did not answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_and_inputs_are_not_shown() {
        let value = || IndexMap::from([("NAME".to_owned(), "hunter2".to_owned())]);
        let request =
            Request { variables: value(), inputs: value(), predefined: value(), ..Request::default() };
        let shown = format!("{request:?}");
        assert!(shown.contains("NAME") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn messages_that_skip() {
        let says = |message: &str| skipped(&Commit { message: message.into(), ..Commit::default() });
        assert!(says("docs [skip ci]") && says("[CI-SKIP] x") && says("x\n\n[ci_skip]"));
        assert!(!says("skip ci") && !says("[skip  ci]") && !says("[no ci]"));
    }
}
