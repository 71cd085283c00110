//! A planned job and its parts: what `ci plan --format json` prints, what is stored, what runs.
//! Field names and forms are those of the plan document (`shared/conformance/README.md` in the workplace,
//! `ARCHITECTURE.md` in the project). Texts are unexpanded unless said otherwise.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// When a job runs, relative to what came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Everything before succeeded (or was allowed to fail).
    #[default]
    OnSuccess,
    /// Something before failed.
    OnFailure,
    /// Whatever happened, unless it was cancelled.
    Always,
    /// A person starts it.
    Manual,
    /// `start_in` after it became eligible.
    Delayed,
    /// Only in rules: not in the pipeline.
    Never,
}

/// `allow_failure` after the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AllowFailure {
    /// Any failure, or none.
    Static(bool),
    /// Only these exit codes.
    ExitCodes {
        /// The codes that count as allowed.
        exit_codes: Vec<i64>,
    },
}

/// One entry of `needs` that names a job of this pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Name of the job instance.
    pub job: String,
    /// Download its artifacts?
    pub artifacts: bool,
    /// May it be absent?
    pub optional: bool,
}

/// One entry of `needs` that names a job of an earlier pipeline of the family: its artifacts are downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineNeed {
    /// `CI_PIPELINE_ID` of that pipeline, unexpanded.
    pub pipeline: String,
    /// Name of the job, unexpanded.
    pub job: String,
}

/// `image`, always as a map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Reference, unexpanded.
    pub name: String,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `always`, `never`, `if-not-present`; tried in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_policy: Vec<String>,
    /// Executor options, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Json>,
    /// Executor options, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Json>,
}

/// One entry of `services`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The image part: name, entrypoint, pull policy, options.
    #[serde(flatten)]
    pub image: Image,
    /// Host names, separated by spaces or commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Only for this service.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub variables: IndexMap<String, String>,
}

/// One cache; `key` is resolved as far as files go, not expanded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Text, `default` when nothing is said.
    pub key: String,
    /// Globs below the project directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Also what git does not track?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untracked: Option<bool>,
    /// Tried in order when `key` is absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallback_keys: Vec<String>,
    /// `pull-push`, `pull`, `push`, or a variable.
    pub policy: String,
    /// `on_success`, `on_failure`, `always`: when it is saved.
    pub when: String,
    /// Shared between protected and other refs?
    pub unprotect: bool,
}

/// `artifacts`, as written but for `reports`, where each type is a list of paths (`coverage_report` a map).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Artifacts {
    /// Globs below the project directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Globs to leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Also what git does not track?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untracked: Option<bool>,
    /// `on_success` (default), `on_failure`, `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// Natural duration, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_in: Option<String>,
    /// Type to paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<IndexMap<String, Json>>,
    /// The rest as written: `name`, `expose_as`, `public`, `access`.
    #[serde(flatten)]
    pub other: IndexMap<String, Json>,
}

/// `retry`, always as a map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Retries, not runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Failure reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<String>,
    /// Exit codes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i64>,
}

/// `environment`; the name is expanded, the rest as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Expanded name.
    pub name: String,
    /// Expanded only after the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `start` and friends, when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Job that stops the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stop: Option<String>,
    /// Natural duration or variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_stop_in: Option<String>,
    /// `production`, `staging`, `testing`, `development`, `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_tier: Option<String>,
    /// As written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Json>,
}

/// Which instance of a parallel job this is; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// This one.
    pub index: u32,
    /// Of so many.
    pub total: u32,
}

/// `hooks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Runs before the sources are fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pre_get_sources_script: Vec<String>,
}

/// A variable as the runner hands it to the job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVariable {
    /// Name.
    pub key: String,
    /// Value, expanded as far as the server expands.
    pub value: String,
    /// Write the value to a file and put its path into the environment.
    #[serde(default)]
    pub file: bool,
    /// Hide the value in logs.
    #[serde(default)]
    pub masked: bool,
    /// Never expand the value further.
    #[serde(default)]
    pub raw: bool,
}

impl std::fmt::Debug for JobVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.masked { "[MASKED]" } else { &self.value };
        write!(f, "{}={value:?}", self.key)
    }
}

/// The parts of a job that are the same before and after planning: what to run and in which surroundings.
/// Nothing in it is expanded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// The container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Containers beside the job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Scripts around phases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Runs in the same shell as `script`, before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before_script: Vec<String>,
    /// The commands; empty for trigger jobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<String>,
    /// Runs afterwards in a shell of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after_script: Vec<String>,
    /// What is uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// Automatic retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// Jobs of one group run one at a time; unexpanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_group: Option<String>,
    /// RE2 without slashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<String>,
    /// Which instance of a parallel job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Instance>,
    /// Downstream pipeline, as written (a plain text is `{"project": text}`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Json>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<Json>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_tokens: Option<Json>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Json>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pages: Option<Json>,
    /// As written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<Json>,
    /// Text for the play button.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual_confirmation: Option<String>,
    /// Experimental steps, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Json>,
    /// Artifacts of other pipelines that it downloads. Not part of the plan document.
    #[serde(skip)]
    pub pipeline_needs: Vec<PipelineNeed>,
    /// `needs` of other projects, in words: nothing here knows their artifacts. Not part of the plan document.
    #[serde(skip)]
    pub project_needs: Vec<String>,
}

/// One job of a created pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// With the instance suffix: `test 1/3`, `test: [a, b]`. Unique in the plan.
    pub name: String,
    /// Stage.
    pub stage: String,
    /// After the rules; never [`When::Never`].
    pub when: When,
    /// For delayed jobs, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_in: Option<String>,
    /// After the rules.
    pub allow_failure: AllowFailure,
    /// None: waits for the earlier stages. Some, even empty: waits for exactly these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<Need>>,
    /// None: artifacts of all earlier stages (or needs). Some: of exactly these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependencies: Option<Vec<String>>,
    /// May a newer pipeline end it?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interruptible: bool,
    /// Runner tags, expanded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The YAML's variables for this job, with their final values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub variables: IndexMap<String, String>,
    /// Where it deploys to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Caches, keys of files resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<Cache>,
    /// What it runs.
    #[serde(flatten)]
    pub work: Work,
    /// Everything that the job's environment holds before the runner adds its own (predefined, YAML, project
    /// and pipeline variables), by precedence, expanded. Not part of the plan document.
    #[serde(skip)]
    pub environment_variables: Vec<JobVariable>,
    /// Of trigger jobs: what the YAML defines for the downstream pipeline. Not part of the plan document.
    #[serde(skip)]
    pub forwarded_variables: Vec<JobVariable>,
}

impl Job {
    /// A job that waits for the earlier stages, must succeed, and does nothing.
    pub fn new(name: impl Into<String>, stage: impl Into<String>) -> Job {
        Job {
            name: name.into(),
            stage: stage.into(),
            when: When::OnSuccess,
            start_in: None,
            allow_failure: AllowFailure::Static(false),
            needs: None,
            dependencies: None,
            interruptible: false,
            tags: Vec::new(),
            variables: IndexMap::new(),
            environment: None,
            cache: Vec::new(),
            work: Work::default(),
            environment_variables: Vec::new(),
            forwarded_variables: Vec::new(),
        }
    }
}
