//! What asks for a pipeline, and what comes of it.

use super::super::rows::{Job, Pipeline};
use pipelines::plan::Plan;
use pipelines::request::Request;
use std::sync::Arc;

/// What asks for a pipeline.
#[derive(Clone, Debug, Default)]
pub struct NewPipeline {
    /// Project.
    pub project: i64,
    /// Branch or tag, without `refs/…`; of a merge request its source branch.
    pub reference: String,
    /// Is it a tag?
    pub tag: bool,
    /// Commit; empty: what the ref is now.
    pub sha: String,
    /// What the ref was before; empty: it was not.
    pub before_sha: String,
    /// `CI_PIPELINE_SOURCE`.
    pub source: String,
    /// Of merge requests.
    pub merge_request: Option<MergeRequest>,
    /// Not of a fork.
    pub trusted: bool,
    /// Who pushed, or asked: a verified name.
    pub actor: String,
    /// Pipeline variables.
    pub variables: Vec<(String, String)>,
    /// For people.
    pub why: String,
    /// The delivery that asked.
    pub delivery: Option<i64>,
    /// It is only recorded, as one that was not wanted: `git push -o ci.skip`.
    pub skip: bool,
    /// Create none when the ref and commit have one with this source (reconciliation).
    pub unless_there: bool,
}

/// A merge request as forges tell of it.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct MergeRequest {
    /// Its number in the project.
    pub iid: i64,
    /// Title.
    pub title: String,
    /// Where from.
    pub source_branch: String,
    /// Where to.
    pub target_branch: String,
    /// Of a fork?
    pub fork: bool,
    /// Draft?
    pub draft: bool,
    /// Labels.
    pub labels: Vec<String>,
    /// The ref that has its commits: `refs/pull/7/head`.
    pub git_ref: String,
    /// Address of its page.
    pub url: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// A pipeline; also one that can't run, with its errors.
    Pipeline(i64),
    /// A pipeline that is recorded as skipped, and why.
    Skipped(i64, String),
    /// None, and why.
    Nothing(String),
}

/// A job that was handed out.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The attempt.
    pub job: i64,
    /// Its token.
    pub token: String,
}

/// What a job runs with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The attempt.
    pub row: Job,
    /// Its pipeline.
    pub pipeline: Pipeline,
    /// All jobs; `environment_variables` as they run, secrets among them. What only an attempt knows is not among
    /// them: see [`super::attempt_variables`].
    pub plan: Arc<Plan>,
    /// What the pipeline was asked with.
    pub request: Request,
}
