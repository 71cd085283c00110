//! Pipelines: made, scheduled, queued, handed out, ended.
//!
//! The scheduler is the one of `ci run`. What it is told is stored (`inputs`) in the same transaction as what follows
//! from it (statuses, the queue), so that a server that was killed has it again by replaying.

use super::access::Actor;
use super::rows::{Job, Pipeline, Runner};
use super::{Answer, App, Problem};
use pipelines::plan::Plan;
use pipelines::request::Request;
use pipelines::schedule::Outcome;

/// Pipelines in memory.
#[derive(Debug, Default)]
pub struct Engine {}

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
    /// All jobs; `environment_variables` as they run, secrets among them.
    pub plan: std::sync::Arc<Plan>,
    /// What the pipeline was asked with.
    pub request: Request,
}

fn absent<T>() -> Answer<T> {
    Err(Problem::unavailable("pipelines are not built yet"))
}

/// Makes a pipeline, or says why not.
///
/// # Errors
/// Something that a later try may mend: the repository or the database can't be reached.
pub async fn create(_app: &App, _new: NewPipeline) -> Answer<Created> {
    absent()
}

/// Hands out the next job for the runner, if there is one.
///
/// # Errors
/// The database does not answer.
pub async fn claim(_app: &App, _runner: &Runner, _system_id: &str) -> Answer<Option<Claimed>> {
    absent()
}

/// The attempt whose token this is, while it runs.
///
/// # Errors
/// 403 when there is none.
pub async fn by_token(_app: &App, _token: &str) -> Answer<Job> {
    absent()
}

/// What a job runs with.
///
/// # Errors
/// There is no such job, or the database does not answer.
pub async fn context(_app: &App, _job: i64) -> Answer<Context> {
    absent()
}

/// The job's runner was heard of: its lease goes on (written at most every 10 s).
///
/// # Errors
/// The database does not answer.
pub async fn heard(_app: &App, _job: &Job) -> Answer<()> {
    absent()
}

/// The attempt has ended. A second call changes nothing.
///
/// # Errors
/// The database does not answer.
pub async fn finished(_app: &App, _job: i64, _outcome: Outcome) -> Answer<()> {
    absent()
}

/// Starts a manual job, or a delayed one before its time.
///
/// # Errors
/// It is neither; or the database does not answer.
pub async fn play(_app: &App, _job: i64, _actor: &Actor) -> Answer<()> {
    absent()
}

/// Runs a job again.
///
/// # Errors
/// It has not ended; or the database does not answer.
pub async fn retry(_app: &App, _job: i64, _actor: &Actor) -> Answer<()> {
    absent()
}

/// Ends a job.
///
/// # Errors
/// The database does not answer.
pub async fn cancel(_app: &App, _job: i64, _actor: &Actor) -> Answer<()> {
    absent()
}

/// Ends all jobs of a pipeline and of those below it.
///
/// # Errors
/// The database does not answer.
pub async fn cancel_pipeline(_app: &App, _pipeline: i64, _actor: &Actor) -> Answer<()> {
    absent()
}

/// Runs what failed or was cancelled again.
///
/// # Errors
/// The database does not answer.
pub async fn retry_pipeline(_app: &App, _pipeline: i64, _actor: &Actor) -> Answer<()> {
    absent()
}

/// The passes of this module: timers, leases, schedules, auto-cancel. Ends with [`App::ending`].
pub async fn passes(app: App) {
    app.ending.cancelled().await;
}
