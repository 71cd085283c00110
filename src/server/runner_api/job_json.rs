//! A job as it is handed out.

use super::dependencies::{self, Source, planned, variables};
use super::wanted;
use crate::server::engine::{self, Claimed, Context};
use crate::server::rows::{Project, Runner};
use crate::server::{Answer, App, Problem, mirror};
use crate::wire::Secret;
use crate::wire::job::{
    ArtifactsFile, Dependency, Features, GitInfo, Hook, Image, Job as WireJob, JobInfo, RunnerInfo, Step,
    Variable,
};
use crate::wire::update::failure;
use axum::http::{HeaderMap, header};
use pipelines::plan::{self, Job, JobVariable};
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;
use serde_json::json;
use std::collections::HashSet;

/// GitLab's: commits of history.
const DEPTH: i64 = 20;
/// Seconds for `after_script`, when nothing else is said; runners have a limit of their own.
const AFTER_SCRIPT: i64 = 300;

/// How the one that asks reaches this server: as the settings say, else as it has just done.
pub fn base(app: &App, headers: &HeaderMap) -> String {
    if app.config.url.is_some() {
        return app.config.public_url();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let plain = |host: &&str| {
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b))
    };
    host.filter(plain).map_or_else(|| app.config.public_url(), |host| format!("http://{host}"))
}

/// The next job for the runner. One whose dependencies are gone fails here, and the next is looked at.
///
/// # Errors
/// The database does not answer, or the job can't be told; it goes back to the queue when its lease ends.
pub async fn next(app: &App, runner: &Runner, system_id: &str, base: &str) -> Answer<Option<WireJob>> {
    while let Some(claimed) = engine::claim(app, runner, system_id).await? {
        let context = engine::context(app, claimed.job).await?;
        let sources = dependencies::sources(app, &context).await?;
        let gone =
            sources.iter().find(|source| source.archive.as_ref().is_some_and(|archive| archive.expired));
        if let Some(source) = gone {
            let message = format!("the artifacts of `{}` have expired: run it again first", source.name);
            let reason = FailureReason::MissingDependencyFailure;
            let outcome = Outcome::Failed { reason, exit_code: None, message: Some(message) };
            engine::finished(app, claimed.job, outcome).await?;
            continue;
        }
        return told(app, &claimed, &context, sources, base).await.map(Some);
    }
    Ok(None)
}

/// What a runner needs to run a claimed job. `base` is how it reaches this server.
///
/// # Errors
/// The database does not answer.
pub async fn build(app: &App, claimed: &Claimed, base: &str) -> Answer<WireJob> {
    let context = engine::context(app, claimed.job).await?;
    let sources = dependencies::sources(app, &context).await?;
    told(app, claimed, &context, sources, base).await
}

async fn told(
    app: &App,
    claimed: &Claimed,
    context: &Context,
    sources: Vec<Source>,
    base: &str,
) -> Answer<WireJob> {
    let job = planned(context)?;
    let project = app.project(&context.pipeline.project_id.to_string()).await?;
    let runner = runner(app, context).await?;
    let known = variables(job);
    let attempt = Attempt { claimed, context, job, project: &project, runner: runner.as_ref(), base };
    let handed_over = dependencies::dotenv(app, context, &sources).await?;
    let git_info = git_info(app, &attempt).await?;
    Ok(WireJob {
        id: claimed.job,
        token: claimed.token.as_str().into(),
        allow_git_fetch: true,
        job_info: attempt.job_info(),
        git_info,
        runner_info: RunnerInfo { timeout: attempt.timeout() },
        variables: attempt.variables(app, handed_over),
        steps: attempt.steps(),
        image: job.work.image.as_ref().map(image),
        services: job.work.services.iter().map(service).collect(),
        artifacts: wanted::artifacts(job),
        cache: wanted::caches(job, &known),
        credentials: Vec::new(),
        dependencies: sources.iter().filter_map(|source| dependency(source, &claimed.token)).collect(),
        features: Features {
            trace_sections: true,
            token_mask_prefixes: ["glrt-", "glcbt-", "glpat-", "slp_"].map(str::to_owned).to_vec(),
            failure_reasons: failures(),
        },
        hooks: hooks(job),
        ..WireJob::default()
    })
}

fn failures() -> Vec<String> {
    let ours = [
        FailureReason::MissingDependencyFailure,
        FailureReason::RunnerUnsupported,
        FailureReason::DataIntegrityFailure,
    ];
    failure::ALL.iter().copied().chain(ours.map(FailureReason::name)).map(str::to_owned).collect()
}

async fn runner(app: &App, context: &Context) -> Answer<Option<Runner>> {
    let text = format!("SELECT {} FROM runners WHERE id = $1", Runner::COLUMNS);
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(context.row.runner_id);
    Ok(query.fetch_optional(&app.db.pool).await?)
}

/// Everything that a job is told from.
struct Attempt<'a> {
    claimed: &'a Claimed,
    context: &'a Context,
    job: &'a Job,
    project: &'a Project,
    runner: Option<&'a Runner>,
    base: &'a str,
}

impl Attempt<'_> {
    /// Seconds; a runner may allow less.
    fn timeout(&self) -> i64 {
        let most = self.runner.and_then(|runner| runner.maximum_timeout).filter(|most| *most > 0);
        self.context.row.timeout_s.min(most.unwrap_or(i64::MAX))
    }

    fn job_info(&self) -> JobInfo {
        let row = &self.context.row;
        let path = self.project.path.as_str();
        let waited =
            row.started_at.unwrap_or_else(crate::server::db::now) - row.queued_at.unwrap_or(row.created_at);
        JobInfo {
            id: row.id,
            name: row.name.clone(),
            stage: row.stage.clone(),
            pipeline_id: row.pipeline_id,
            project_id: self.project.id,
            project_name: path.rsplit('/').next().unwrap_or(path).to_owned(),
            project_full_path: path.to_owned(),
            time_in_queue_seconds: waited.max(0) as f64 / 1000.0,
            project_jobs_running_on_instance_runners_count: String::new(),
        }
    }

    fn repository_url(&self) -> String {
        let (scheme, host) = self.base.split_once("://").unwrap_or(("http", self.base));
        format!("{scheme}://gitlab-ci-token:{}@{host}/git/{}.git", self.claimed.token, self.project.path)
    }

    /// What only this attempt knows, then the plan's, then what earlier jobs hand over. Each name once.
    fn variables(&self, app: &App, handed_over: Vec<(String, String)>) -> Vec<Variable> {
        let mut all: Vec<Variable> = self.own(app).into_iter().map(variable).collect();
        all.extend(self.job.environment_variables.iter().cloned().map(variable));
        all.extend(handed_over.into_iter().map(|(key, value)| variable(plain(&key, value))));
        // later ones win, and stay where they are
        let mut seen = HashSet::new();
        let mut once: Vec<Variable> =
            all.into_iter().rev().filter(|variable| seen.insert(variable.key.clone())).collect();
        once.reverse();
        once
    }

    fn own(&self, app: &App) -> Vec<JobVariable> {
        let mut own = engine::attempt_variables(app, self.context, &self.claimed.token);
        // as this runner reaches us, and as long as it allows
        own.push(hidden("CI_REPOSITORY_URL", self.repository_url()));
        own.push(plain("CI_JOB_TIMEOUT", self.timeout().to_string()));
        if let Some(runner) = self.runner {
            own.push(plain("CI_RUNNER_ID", runner.id.to_string()));
            own.push(plain("CI_RUNNER_DESCRIPTION", runner.description.clone()));
            own.push(plain("CI_RUNNER_TAGS", runner.tags.clone()));
        }
        own
    }

    fn steps(&self) -> Vec<Step> {
        let work = &self.job.work;
        let step = |name: &str, script: Vec<String>| Step {
            name: name.to_owned(),
            script,
            timeout: self.timeout(),
            when: "on_success".to_owned(),
            allow_failure: false,
        };
        let script = work.before_script.iter().chain(&work.script).cloned().collect();
        let mut steps = vec![step("script", script)];
        if !work.after_script.is_empty() {
            let after = step("after_script", work.after_script.clone());
            let timeout = AFTER_SCRIPT.min(self.timeout());
            steps.push(Step { when: "always".to_owned(), allow_failure: true, timeout, ..after });
        }
        steps
    }
}

fn plain(key: &str, value: impl Into<String>) -> JobVariable {
    JobVariable { key: key.to_owned(), value: value.into(), file: false, masked: false, raw: true }
}

fn hidden(key: &str, value: String) -> JobVariable {
    JobVariable { masked: true, ..plain(key, value) }
}

fn variable(variable: JobVariable) -> Variable {
    Variable {
        key: variable.key,
        value: Secret(variable.value),
        public: !variable.masked,
        file: variable.file,
        masked: variable.masked,
        raw: variable.raw,
    }
}

fn image(image: &plan::Image) -> Image {
    let mut options = serde_json::Map::new();
    for (name, value) in [("docker", &image.docker), ("kubernetes", &image.kubernetes)] {
        options.extend(value.clone().map(|value| (name.to_owned(), value)));
    }
    Image {
        name: image.name.clone(),
        entrypoint: image.entrypoint.clone().unwrap_or_default(),
        pull_policy: image.pull_policy.clone(),
        executor_opts: (!options.is_empty()).then_some(json!(options)),
        ..Image::default()
    }
}

fn service(service: &plan::Service) -> Image {
    let own = service.variables.iter().map(|(key, value)| Variable {
        key: key.clone(),
        value: value.as_str().into(),
        public: true,
        ..Variable::default()
    });
    Image {
        alias: service.alias.clone().unwrap_or_default(),
        command: service.command.clone().unwrap_or_default(),
        variables: own.collect(),
        ..image(&service.image)
    }
}

fn dependency(source: &Source, token: &str) -> Option<Dependency> {
    let archive = source.archive.as_ref()?;
    Some(Dependency {
        id: source.id,
        token: token.into(),
        name: source.name.clone(),
        artifacts_file: ArtifactsFile { filename: archive.filename.clone(), size: archive.size },
    })
}

fn hooks(job: &Job) -> Vec<Hook> {
    let script =
        job.work.hooks.as_ref().map(|hooks| hooks.pre_get_sources_script.clone()).unwrap_or_default();
    if script.is_empty() {
        return Vec::new();
    }
    vec![Hook { name: "pre_get_sources_script".to_owned(), script }]
}

async fn git_info(app: &App, attempt: &Attempt<'_>) -> Answer<GitInfo> {
    let pipeline = &attempt.context.pipeline;
    let known = variables(attempt.job);
    let depth = known.get("GIT_DEPTH").map_or(Ok(DEPTH), str::parse).unwrap_or(DEPTH).max(0);
    let asked = Wanted {
        mirror: mirror::path(app, pipeline.project_id),
        pipeline: pipeline.id,
        reference: pipeline.reference.clone(),
        tag: pipeline.tag != 0,
        sha: pipeline.sha.clone(),
        depth,
    };
    let refspecs = tokio::task::spawn_blocking(move || asked.refspecs()).await;
    Ok(GitInfo {
        repo_url: attempt.repository_url().into(),
        repo_object_format: "sha1".to_owned(),
        reference: pipeline.reference.clone(),
        sha: pipeline.sha.clone(),
        before_sha: pipeline.before_sha.clone(),
        ref_type: if pipeline.tag == 0 { "branch" } else { "tag" }.to_owned(),
        refspecs: refspecs.map_err(|e| Problem::internal("looking into the mirror", &e))?,
        depth,
        protected: Some(pipeline.protected != 0),
    })
}

/// What is fetched: the pipeline's own ref, which keeps its commit; and the branch or tag, while it is there.
struct Wanted {
    mirror: std::path::PathBuf,
    pipeline: i64,
    reference: String,
    tag: bool,
    sha: String,
    depth: i64,
}

impl Wanted {
    fn refspecs(&self) -> Vec<String> {
        let own = format!("refs/pipelines/{}", self.pipeline);
        let mut refspecs = vec![format!("+{own}:{own}")];
        let repository = git2::Repository::open_bare(&self.mirror);
        let there = |name: &str| repository.as_ref().is_ok_and(|r| r.find_reference(name).is_ok());
        if let Ok(repository) = &repository
            && !there(&own)
            && let Ok(commit) = git2::Oid::from_str(&self.sha)
            && let Err(error) = repository.reference(&own, commit, false, "pipeline")
        {
            tracing::warn!("keeping the commit of pipeline {}: {}", self.pipeline, error.message());
        }
        if self.depth == 0 {
            refspecs.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
            refspecs.push("+refs/tags/*:refs/tags/*".to_owned());
            return refspecs;
        }
        let (from, to) =
            if self.tag { ("refs/tags", "refs/tags") } else { ("refs/heads", "refs/remotes/origin") };
        let reference = format!("{from}/{}", self.reference);
        if there(&reference) {
            refspecs.push(format!("+{reference}:{to}/{}", self.reference));
        }
        refspecs
    }
}
