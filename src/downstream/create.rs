//! The pipeline of a trigger job: everything before it runs.

use super::child::{self, Configuration, Refused};
use super::forward::{Forwarded, forwarded};
use super::pipeline::Pipeline;
use super::projects::{Prepared, Target};
use crate::dispatch::{JobRun, name_below};
use pipelines::plan::{Job, Plan};
use pipelines::request::Request;
use pipelines::variables::{Unknown, expand};
use runners::artifacts::{self, Index};
use runners::job::Run;
use runners::log::{JobLog, Tone};
use serde_json::Value as Json;
use std::sync::Arc;

/// GitLab's limit: child pipelines below the first one of a project.
const DEEPEST: u32 = 2;
/// GitLab's limit: how often one ref of one project may be among the pipelines above.
const MOST_OF_ONE: usize = 2;
/// Bytes of a configuration file in an artifact; GitLab has 5 MiB.
const LONGEST_ARTIFACT: u64 = 5 * 1024 * 1024;

/// A pipeline that was created.
pub(super) struct Child {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) plan: Arc<Plan>,
    /// What stands before the names of its jobs: `TRIGGER JOB`, or `TRIGGER JOB > GROUP/PROJECT`.
    pub(super) prefix: String,
}

/// A trigger job about to create its pipeline.
struct Bridge<'a> {
    above: &'a Arc<Pipeline>,
    job: &'a Job,
    /// Variables that the jobs before hand over.
    dotenv: Vec<(String, String)>,
}

/// Creates the pipeline of a trigger job.
///
/// # Errors
/// There is none; says why in one line, details go to the log.
pub(super) async fn create(above: &Arc<Pipeline>, run: &JobRun, log: &mut JobLog) -> Result<Child, String> {
    let bridge = Bridge { above, job: run.job(), dotenv: dotenv(above, run)? };
    let trigger = bridge.job.work.trigger.clone().unwrap_or_default();
    match trigger.get("include") {
        Some(include) => bridge.child(include, log).await,
        None => bridge.other_project(&trigger, log).await,
    }
}

impl Bridge<'_> {
    async fn child(&self, include: &Json, log: &mut JobLog) -> Result<Child, String> {
        let (above, name) = (self.above, &self.job.name);
        if above.depth >= DEEPEST {
            return Err(format!("child pipelines can be nested {DEEPEST} deep, and this would be one more"));
        }
        let read = |job: &str, file: &str| read_artifact(&above.run, &self.full(job), &self.full(file));
        let configuration = Configuration::new(name, include, &read)?;
        let forwarded = self.forwarded();
        log.line(Tone::Plain, &format!("Creating a child pipeline; variables: {}", names(&forwarded)));
        let request = child::request(&above.request, forwarded);
        let request = self.upstream(request);
        let (checkout, projects) = (above.run.checkout.clone(), above.projects.clone());
        let planned = blocking(move || {
            let plan = child::plan(&checkout, &request, configuration, projects.sources());
            plan.map(|plan| (request, plan))
        });
        let (request, plan) = said(planned.await, log)?;
        let run = Run { parent: Some(above.run.clone()), ..Run::clone(&above.run) };
        let pipeline = Pipeline { depth: above.depth + 1, ..self.below(run, request, name) };
        Ok(self.created(pipeline, plan, name.clone(), log))
    }

    async fn other_project(&self, trigger: &Json, log: &mut JobLog) -> Result<Child, String> {
        let above = self.above;
        let target = self.target(trigger);
        let project = target.project.clone();
        let at = target.reference.as_deref().map(|name| format!(" at `{name}`")).unwrap_or_default();
        let forwarded = self.forwarded();
        let told = names(&forwarded);
        log.line(Tone::Plain, &format!("Creating a pipeline of `{project}`{at}; variables: {told}"));
        let (projects, lineage) = (above.projects.clone(), above.lineage.clone());
        let prepared = blocking(move || {
            let prepared = projects.prepare(&target, forwarded)?;
            no_circle(&lineage, &prepared.request)?;
            Ok(prepared)
        });
        let Prepared { request, snapshot, tracked, state, projects, resource_groups } =
            said(prepared.await, log)?;
        let request = self.upstream(request);
        let sha = request.commit.sha.get(..8).unwrap_or_default();
        log.line(Tone::Plain, &format!("Its sources: commit {sha} of `{}`", request.reference));
        let projects = Arc::new(projects);
        let planned = {
            let (checkout, projects) = (snapshot.dir.clone(), projects.clone());
            blocking(move || {
                let configuration = Configuration::file(".gitlab-ci.yml");
                let plan = child::plan(&checkout, &request, configuration, projects.sources());
                plan.map(|plan| (request, plan))
            })
        };
        let (request, plan) = said(planned.await, log)?;
        let run = Run {
            parent: None,
            cache: state.cache(),
            project: project.clone(),
            checkout: snapshot.dir.clone(),
            tracked: Arc::new(tracked),
            ..Run::clone(&above.run)
        };
        let lineage = above.lineage.iter().cloned().chain([(project.clone(), request.reference.clone())]);
        let prefix = format!("{} > {project}", self.job.name);
        let pipeline = Pipeline {
            locks: state.resource_groups(),
            resource_groups,
            depth: 0,
            lineage: lineage.collect(),
            projects,
            snapshot: Arc::new(snapshot),
            // releases of another project are not this run's to tag
            git_tag: false,
            ..self.below(run, request, &prefix)
        };
        Ok(self.created(pipeline, plan, prefix, log))
    }

    fn target(&self, trigger: &Json) -> Target {
        let text = |key: &str| trigger.get(key).and_then(Json::as_str).map(|text| self.full(text));
        let inputs = trigger.get("inputs").and_then(Json::as_object);
        let value = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Target {
            project: text("project").unwrap_or_default(),
            reference: text("branch").filter(|name| !name.is_empty()),
            inputs: inputs.into_iter().flatten().map(|(key, v)| (key.clone(), value(v))).collect(),
        }
    }

    /// A pipeline below this one, as far as it does not depend on its project.
    fn below(&self, run: Run, request: Request, prefix: &str) -> Pipeline {
        let above = self.above;
        let of_project = request.project_variables.iter().map(|v| v.key.clone());
        let run = Run {
            id: above.next_id(),
            dir: above.run.job_dir(&self.job.name).join("pipeline"),
            fixed: request.variables.keys().cloned().chain(of_project).collect(),
            ..run
        };
        let manual = above.manual.iter().filter_map(|wanted| name_below(prefix, wanted));
        Pipeline {
            run: Arc::new(run),
            executor: above.executor.clone(),
            ids: above.ids.clone(),
            slots: above.slots.clone(),
            locks: above.locks.clone(),
            resource_groups: above.resource_groups.clone(),
            created: above.created,
            manual: manual.map(str::to_owned).collect(),
            overrides: above.overrides.clone(),
            snapshot: above.snapshot.clone(),
            git_tag: above.git_tag,
            depth: above.depth,
            lineage: above.lineage.clone(),
            projects: above.projects.clone(),
            request,
        }
    }

    fn created(&self, pipeline: Pipeline, mut plan: Plan, prefix: String, log: &mut JobLog) -> Child {
        self.above.overrides.apply(&mut plan);
        let plan = Arc::new(plan);
        let run = Run { plan: plan.clone(), ..Run::clone(&pipeline.run) };
        let kind = if run.parent.is_some() { "child" } else { "downstream" };
        log.line(Tone::Good, &format!("Created {kind} pipeline {}", run.id));
        Child { pipeline: Arc::new(Pipeline { run: Arc::new(run), ..pipeline }), plan, prefix }
    }

    /// What the pipeline knows of the one that created it.
    fn upstream(&self, mut request: Request) -> Request {
        let facts = [
            ("CI_UPSTREAM_PROJECT_ID", self.known("CI_PROJECT_ID").unwrap_or_default()),
            ("CI_UPSTREAM_PIPELINE_ID", self.above.run.id.to_string()),
            ("CI_UPSTREAM_JOB_ID", self.above.next_id().to_string()),
        ];
        let user = self.above.request.predefined.iter().filter(|(key, _)| key.starts_with("GITLAB_USER_"));
        request.predefined.extend(user.map(|(key, value)| (key.clone(), value.clone())));
        request.predefined.extend(facts.map(|(key, value)| (key.to_owned(), value)));
        request
    }

    fn forwarded(&self) -> Forwarded {
        forwarded(self.job, &self.above.request, &self.dotenv, &|name| self.known(name))
    }

    /// Variables that a trigger job knows beside those of the plan.
    fn known(&self, name: &str) -> Option<String> {
        if name == "CI_PIPELINE_ID" {
            return Some(self.above.run.id.to_string());
        }
        self.job.environment_variables.iter().rfind(|v| v.key == name).map(|v| v.value.clone())
    }

    /// A text with its variables, those that earlier jobs handed over among them.
    fn full(&self, text: &str) -> String {
        let handed = |name: &str| self.dotenv.iter().rfind(|(key, _)| key == name).map(|(_, v)| v.clone());
        expand(text, Unknown::Remove, &|name| handed(name).or_else(|| self.known(name)))
    }
}

/// GitLab refuses a third pipeline of the same project and ref among those that created each other.
fn no_circle(lineage: &[(String, String)], request: &Request) -> Result<(), Refused> {
    let same = |(project, reference): &&(String, String)| {
        project.eq_ignore_ascii_case(&request.project) && *reference == request.reference
    };
    if lineage.iter().filter(same).count() < MOST_OF_ONE {
        return Ok(());
    }
    let circle = lineage.iter().map(|(project, reference)| format!("{project}@{reference}"));
    let circle = circle.collect::<Vec<_>>().join(" -> ");
    Err(Refused::new(format!(
        "the pipelines trigger each other in a circle: {circle} -> {}@{}",
        request.project, request.reference
    )))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Refused::new("planning it panicked".to_owned())),
    }
}

/// Puts the details of a refusal into the log.
fn said<T>(result: Result<T, Refused>, log: &mut JobLog) -> Result<T, String> {
    result.map_err(|refused| {
        log.output(refused.details.as_bytes());
        refused.message
    })
}

fn names(forwarded: &Forwarded) -> String {
    let names: Vec<&str> = forwarded.variables.iter().map(|(key, _)| key.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn dotenv(above: &Pipeline, job: &JobRun) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    for source in artifacts::sources(&job.plan, job.job()) {
        let index = Index::newest(&above.run.job_dir(&source.name));
        let index = index.map_err(|e| format!("reading the artifacts of `{}`: {e}", source.name))?;
        variables.extend(index.into_iter().flat_map(|(_, index)| index.dotenv));
    }
    Ok(variables)
}

fn read_artifact(run: &Run, job: &str, file: &str) -> Result<String, String> {
    match artifacts::read_text(&run.job_dir(job), file, LONGEST_ARTIFACT) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!(
            "job `{job}` has left no artifact `{file}`: it must have run before, with `{file}` in `artifacts:paths`"
        )),
        Err(error) => Err(format!("reading artifact `{file}` of job `{job}`: {error}")),
    }
}
