//! The types of a checked configuration.

use crate::plan::{AllowFailure, AutoCancel, Environment, When, Work};
use crate::source::Span;
use crate::yaml::Mapping;
use indexmap::IndexMap;
use std::sync::Arc;

/// A checked configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `.pre` first, `.post` last.
    pub stages: Vec<String>,
    /// Root variables.
    pub variables: IndexMap<String, VariableConfig>,
    /// `workflow`.
    pub workflow: Workflow,
    /// Visible jobs in configuration order, parallel ones expanded.
    pub jobs: Vec<JobConfig>,
}

/// `workflow`.
#[derive(Clone, Debug, Default)]
pub struct Workflow {
    /// Unexpanded.
    pub name: Option<String>,
    /// None: no `rules` key. The key's presence also drops the implicit `only` of every job.
    pub rules: Option<Vec<Rule>>,
    /// As configured at the top.
    pub auto_cancel: Option<AutoCancel>,
}

/// A variable of the YAML.
#[derive(Clone, Debug, PartialEq)]
pub struct VariableConfig {
    /// Text; null is the empty text.
    pub value: String,
    /// `expand: false`.
    pub raw: bool,
    /// Where the value stands.
    pub span: Span,
}

/// `inherit:variables`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inherit {
    /// All root variables.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Vec<String>),
}

/// One rule of a job or of the workflow.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where the rule stands, for `ci plan --why`.
    pub span: Span,
    /// Expression text; valid syntax has been checked, use it through [`crate::expression`].
    pub condition: Option<Arc<str>>,
    /// `changes`.
    pub changes: Option<Changes>,
    /// `exists`.
    pub exists: Option<Exists>,
    /// As written.
    pub when: Option<When>,
    /// As written.
    pub start_in: Option<String>,
    /// As written.
    pub allow_failure: Option<AllowFailure>,
    /// Over the job's.
    pub variables: IndexMap<String, VariableConfig>,
    /// Replaces the job's needs; fanned out.
    pub needs: Option<Vec<NeedConfig>>,
    /// As written.
    pub interruptible: Option<bool>,
    /// Only in workflow rules.
    pub auto_cancel: Option<AutoCancel>,
}

/// `changes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Globs, unexpanded.
    pub paths: Vec<String>,
    /// Ref to compare with, unexpanded.
    pub compare_to: Option<String>,
}

/// `exists`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exists {
    /// Globs, unexpanded.
    pub paths: Vec<String>,
    /// Another project.
    pub project: Option<String>,
    /// Its ref.
    pub reference: Option<String>,
}

/// `only` or `except`, always as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Ref names, patterns, sources, keywords.
    pub refs: Option<Vec<String>>,
    /// Expressions.
    pub variables: Option<Vec<String>>,
    /// Globs, never expanded.
    pub changes: Option<Vec<String>>,
    /// `kubernetes: active`.
    pub kubernetes: bool,
}

/// An entry of `needs`, fanned out to instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeedConfig {
    /// A job of this pipeline.
    Job(crate::plan::Need),
    /// Artifacts of, or the status of, another pipeline or project: not waited for in the job graph.
    Elsewhere(String),
}

/// `cache:key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheKey {
    /// Text, unexpanded.
    Text(String),
    /// `key:files` (or `files_commits`) with the prefix as written.
    Files {
        /// One or two paths, unexpanded.
        files: Vec<String>,
        /// `prefix`.
        prefix: Option<String>,
        /// Was it `files_commits`?
        commits: bool,
    },
}

/// One cache as configured: the plan resolves the key.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// None: `default`.
    pub key: Option<CacheKey>,
    /// All but the key, which is empty here.
    pub cache: crate::plan::Cache,
}

/// Places of a job's keywords.
#[derive(Clone, Debug, Default)]
pub struct KeywordSpans(pub(super) Arc<Mapping>);

impl KeywordSpans {
    /// Where a keyword stands.
    pub fn get(&self, keyword: &str) -> Option<Span> {
        self.0.entry(keyword).map(|entry| entry.key_span)
    }
}

/// A visible job instance.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// With the instance suffix.
    pub name: String,
    /// Name as in the YAML.
    pub base_name: Arc<str>,
    /// Where the job's key stands.
    pub span: Span,
    /// Places of the job's keywords, by keyword, for diagnostics and `--why`.
    pub keyword_spans: KeywordSpans,
    /// Stage.
    pub stage: String,
    /// As written.
    pub when: Option<When>,
    /// As written.
    pub start_in: Option<String>,
    /// As written.
    pub allow_failure: Option<AllowFailure>,
    /// Is there a `rules` key (also with null)?
    pub has_rules: bool,
    /// Flattened.
    pub rules: Vec<Rule>,
    /// `only`, without the implicit default refs.
    pub only: Option<Policy>,
    /// `except`.
    pub except: Option<Policy>,
    /// None: no `needs` key. Fanned out.
    pub needs: Option<Vec<NeedConfig>>,
    /// None: no key. Fanned out.
    pub dependencies: Option<Vec<String>>,
    /// As written.
    pub interruptible: Option<bool>,
    /// Unexpanded.
    pub tags: Vec<String>,
    /// The job's own variables.
    pub variables: IndexMap<String, VariableConfig>,
    /// Of this matrix instance; over `variables`.
    pub matrix: IndexMap<String, String>,
    /// Which root variables it sees.
    pub inherit: Inherit,
    /// Unexpanded, name included.
    pub environment: Option<Environment>,
    /// Caches with unresolved keys.
    pub cache: Vec<CacheConfig>,
    /// The rest, as it will run.
    pub work: Box<Work>,
}
