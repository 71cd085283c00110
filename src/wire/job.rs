//! The job as it is handed out: the body of 201 on `POST jobs/request`.

use super::{Secret, nullable};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// One attempt of a job, with all that a runner needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    /// `CI_JOB_ID`: of the attempt.
    pub id: i64,
    /// Bound to the attempt.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// May an existing clone be used?
    #[serde(deserialize_with = "nullable")]
    pub allow_git_fetch: bool,
    /// Names.
    #[serde(deserialize_with = "nullable")]
    pub job_info: JobInfo,
    /// Where the sources are.
    #[serde(deserialize_with = "nullable")]
    pub git_info: GitInfo,
    /// Limits.
    #[serde(deserialize_with = "nullable")]
    pub runner_info: RunnerInfo,
    /// Later duplicates win.
    #[serde(deserialize_with = "nullable")]
    pub variables: Vec<Variable>,
    /// What to run, in order.
    #[serde(deserialize_with = "nullable")]
    pub steps: Vec<Step>,
    /// Where to run it; none: as the runner is set.
    pub image: Option<Image>,
    /// Beside it.
    #[serde(deserialize_with = "nullable")]
    pub services: Vec<Image>,
    /// What to upload.
    #[serde(deserialize_with = "nullable")]
    pub artifacts: Vec<Artifact>,
    /// What to keep for later jobs.
    #[serde(deserialize_with = "nullable")]
    pub cache: Vec<Cache>,
    /// For registries.
    #[serde(deserialize_with = "nullable")]
    pub credentials: Vec<Credentials>,
    /// Jobs whose archive is downloaded.
    #[serde(deserialize_with = "nullable")]
    pub dependencies: Vec<Dependency>,
    /// What the server understands.
    #[serde(deserialize_with = "nullable")]
    pub features: Features,
    /// Secrets that the runner fetches itself, as written.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "serde_json::Map::is_empty")]
    pub secrets: serde_json::Map<String, Json>,
    /// Scripts around phases.
    #[serde(deserialize_with = "nullable")]
    pub hooks: Vec<Hook>,
    /// `run:` of the job as JSON text, in the place of `steps`; empty: none.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub run: String,
}

/// Names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobInfo {
    /// As [`Job::id`].
    #[serde(deserialize_with = "nullable")]
    pub id: i64,
    /// `test 1/3`.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Stage.
    #[serde(deserialize_with = "nullable")]
    pub stage: String,
    /// `CI_PIPELINE_ID`.
    #[serde(deserialize_with = "nullable")]
    pub pipeline_id: i64,
    /// Project.
    #[serde(deserialize_with = "nullable")]
    pub project_id: i64,
    /// Last part of its path.
    #[serde(deserialize_with = "nullable")]
    pub project_name: String,
    /// `group/name`.
    #[serde(deserialize_with = "nullable")]
    pub project_full_path: String,
    /// Seconds.
    #[serde(deserialize_with = "nullable")]
    pub time_in_queue_seconds: f64,
    /// A number or `+Inf`.
    #[serde(deserialize_with = "nullable")]
    pub project_jobs_running_on_instance_runners_count: String,
}

/// Where the sources are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitInfo {
    /// With `gitlab-ci-token` and the job's token in it.
    #[serde(deserialize_with = "nullable")]
    pub repo_url: Secret,
    /// `sha1`, `sha256`; empty: `sha1`.
    #[serde(deserialize_with = "nullable")]
    pub repo_object_format: String,
    /// Branch or tag.
    #[serde(rename = "ref", deserialize_with = "nullable")]
    pub reference: String,
    /// What is checked out; one of `refspecs` reaches it.
    #[serde(deserialize_with = "nullable")]
    pub sha: String,
    /// What the ref was before.
    #[serde(deserialize_with = "nullable")]
    pub before_sha: String,
    /// `branch`, `tag`.
    #[serde(deserialize_with = "nullable")]
    pub ref_type: String,
    /// What to fetch.
    #[serde(deserialize_with = "nullable")]
    pub refspecs: Vec<String>,
    /// 0: all of it.
    #[serde(deserialize_with = "nullable")]
    pub depth: i64,
    /// Is the ref protected?
    pub protected: Option<bool>,
}

/// Limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerInfo {
    /// Seconds.
    #[serde(deserialize_with = "nullable")]
    pub timeout: i64,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variable {
    /// Name.
    pub key: String,
    /// Value.
    #[serde(deserialize_with = "nullable")]
    pub value: Secret,
    /// May it be shown, in a debug log for instance?
    #[serde(deserialize_with = "nullable")]
    pub public: bool,
    /// The value goes to a file, and its path into the environment.
    #[serde(deserialize_with = "nullable")]
    pub file: bool,
    /// Hidden in the log.
    #[serde(deserialize_with = "nullable")]
    pub masked: bool,
    /// `$` means nothing in it.
    #[serde(deserialize_with = "nullable")]
    pub raw: bool,
}

/// One script.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// `script` (with `before_script`), `after_script`, `release`.
    pub name: String,
    /// Lines.
    #[serde(deserialize_with = "nullable")]
    pub script: Vec<String>,
    /// Seconds.
    #[serde(deserialize_with = "nullable")]
    pub timeout: i64,
    /// `on_success`, `on_failure`, `always`.
    #[serde(deserialize_with = "nullable")]
    pub when: String,
    /// A failure counts for nothing.
    #[serde(deserialize_with = "nullable")]
    pub allow_failure: bool,
}

/// An image: the job's, or a service's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Reference.
    pub name: String,
    /// Host names of a service, separated by spaces or commas.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub alias: String,
    /// In the place of the image's own.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// In the place of the image's own.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Only for this service.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
    /// Tried in order.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub pull_policy: Vec<String>,
    /// `{docker: {platform, user}, kubernetes: {user}}`; others make a job fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_opts: Option<Json>,
}

/// What to upload: the archive, or one report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Artifact {
    /// Name of the file, without ending for an archive.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Also what git does not track?
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub untracked: bool,
    /// Globs.
    #[serde(deserialize_with = "nullable")]
    pub paths: Vec<String>,
    /// Globs.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// `on_success`, `on_failure`, `always`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub when: String,
    /// `archive`, `junit` …
    #[serde(deserialize_with = "nullable")]
    pub artifact_type: String,
    /// `zip`, `gzip`, `raw`.
    #[serde(deserialize_with = "nullable")]
    pub artifact_format: String,
    /// As written.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub expire_in: String,
}

/// What to keep for later jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cache {
    /// Expanded.
    #[serde(deserialize_with = "nullable")]
    pub key: String,
    /// Also what git does not track?
    #[serde(deserialize_with = "nullable")]
    pub untracked: bool,
    /// `pull-push`, `pull`, `push`.
    #[serde(deserialize_with = "nullable")]
    pub policy: String,
    /// Globs.
    #[serde(deserialize_with = "nullable")]
    pub paths: Vec<String>,
    /// `on_success`, `on_failure`, `always`.
    #[serde(deserialize_with = "nullable")]
    pub when: String,
    /// Tried in order.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub fallback_keys: Vec<String>,
}

/// For a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `host:port`.
    pub url: String,
    /// `gitlab-ci-token`.
    pub username: String,
    /// The job's token.
    #[serde(deserialize_with = "nullable")]
    pub password: Secret,
}

/// A job whose archive is downloaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// Its id.
    pub id: i64,
    /// What the download is asked with: the token of the job that runs.
    #[serde(deserialize_with = "nullable")]
    pub token: Secret,
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Nothing to download when its name is empty.
    #[serde(deserialize_with = "nullable")]
    pub artifacts_file: ArtifactsFile,
}

/// An archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArtifactsFile {
    /// `artifacts.zip`.
    #[serde(deserialize_with = "nullable")]
    pub filename: String,
    /// Bytes.
    #[serde(deserialize_with = "nullable")]
    pub size: i64,
}

/// What the server understands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Without it the runner writes no section marks.
    #[serde(deserialize_with = "nullable")]
    pub trace_sections: bool,
    /// Words that begin so are masked.
    #[serde(deserialize_with = "nullable")]
    pub token_mask_prefixes: Vec<String>,
    /// The runner says other reasons by the nearest of these.
    #[serde(deserialize_with = "nullable")]
    pub failure_reasons: Vec<String>,
}

/// A script around a phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// `pre_get_sources_script`, `post_get_sources_script`.
    pub name: String,
    /// Lines.
    #[serde(deserialize_with = "nullable")]
    pub script: Vec<String>,
}
