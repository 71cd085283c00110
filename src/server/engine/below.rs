//! The pipeline of a trigger job: a child in the same project at the same commit, or one of another project.

use super::asked::{Context, Created, MergeRequest, NewPipeline};
use super::claim::context;
use super::create::{Birth, Parent, neighbours, next_iid, prepare, project};
use super::facts::{self, Trust};
use super::left;
use crate::downstream::{Configuration, Forwarded, child_request, forwarded};
use crate::server::rows::{Pipeline, Project};
use crate::server::runner_api::dependencies;
use crate::server::{Answer, App};
use pipelines::plan::Job;
use pipelines::request::Request;
use pipelines::variables::{Unknown, expand};
use serde_json::Value as Json;

/// GitLab's limit: child pipelines below the first one of a project.
const DEEPEST: usize = 2;
/// GitLab's limit: how often one ref of one project may be among the pipelines above.
const MOST_OF_ONE: usize = 2;

/// Why there is no pipeline, and will be none.
#[derive(Debug)]
pub(super) struct Refused(pub(super) String);

type Made = Answer<Result<i64, Refused>>;

/// Makes the pipeline of a trigger job, or finds the one that it has.
///
/// # Errors
/// Something that a later try may mend.
pub(super) async fn create(app: &App, job: i64) -> Made {
    let context = context(app, job).await?;
    if let Some(there) = context.row.child_pipeline {
        return Ok(Ok(there));
    }
    let position = usize::try_from(context.row.position).unwrap_or(usize::MAX);
    let Some(planned) = context.plan.jobs.get(position).cloned() else {
        return Ok(Err(Refused("its plan does not have it".to_owned())));
    };
    let sources = dependencies::sources(app, &context).await?;
    let dotenv = dependencies::dotenv(app, &context, &sources).await?;
    let bridge = Bridge { app, context, job: planned, dotenv };
    let Some(trigger) = bridge.job.work.trigger.clone() else {
        let why =
            "it mirrors the pipeline of another project (`needs:pipeline`), which this server does not do";
        return Ok(Err(Refused(why.to_owned())));
    };
    match trigger.get("include") {
        Some(include) => bridge.child(include).await,
        None => bridge.other_project(&trigger).await,
    }
}

/// A trigger job about to make its pipeline.
struct Bridge<'a> {
    app: &'a App,
    context: Context,
    job: Job,
    /// Variables that the jobs before hand over.
    dotenv: Vec<(String, String)>,
}

impl Bridge<'_> {
    async fn child(&self, include: &Json) -> Made {
        let above = &self.context.pipeline;
        let lineage = lineage(self.app, above).await?;
        // from the bottom: those of this project without one of another between
        let depth = lineage.iter().take_while(|row| row.source == "parent_pipeline").count();
        if depth >= DEEPEST {
            return refused(format!(
                "child pipelines can be nested {DEEPEST} deep, and this would be one more"
            ));
        }
        let archives = left::archives(self.app, above.id).await?;
        let read = |job: &str, file: &str| left::read(&archives, &self.full(job), &self.full(file));
        // a few small files
        let configuration = match Configuration::new(&self.job.name, include, &read) {
            Ok(configuration) => configuration,
            Err(why) => return refused(why),
        };
        let project = project(self.app, above.project_id).await?;
        let turn = self.app.engine.creating(project.id).lock_owned().await;
        let mut request = child_request(&self.context.request, self.forwarded());
        self.upstream(&mut request);
        let trust = Trust { trusted: above.trusted == 1, protected: above.protected == 1 };
        request.project_variables = facts::variables(self.app, project.id, trust).await?;
        let iid = next_iid(self.app, project.id).await?;
        request.predefined.insert("CI_PIPELINE_IID".to_owned(), iid.to_string());
        let new = NewPipeline {
            project: project.id,
            reference: above.reference.clone(),
            tag: above.tag == 1,
            sha: above.sha.clone(),
            before_sha: above.before_sha.clone(),
            source: "parent_pipeline".to_owned(),
            merge_request: serde_json::from_str::<MergeRequest>(&above.merge_request).ok(),
            trusted: trust.trusted,
            actor: above.actor.clone(),
            why: self.why(),
            ..NewPipeline::default()
        };
        let birth = Birth { app: self.app, project, new, trust, request, parent: Some(self.parent()) };
        let created = birth.go(configuration).await?;
        drop(turn);
        Ok(made(created))
    }

    async fn other_project(&self, trigger: &Json) -> Made {
        let above = &self.context.pipeline;
        let path = self.text(trigger, "project").unwrap_or_default();
        if above.trusted == 0 {
            return refused(format!("the pipeline of a fork may not start one of `{path}`"));
        }
        let Some(target) = self.target(&path).await? else {
            return refused(format!(
                "this server has no project `{path}` below the same top group: only such may start each other's pipelines"
            ));
        };
        let branch = self.text(trigger, "branch").filter(|name| !name.is_empty());
        let new = NewPipeline {
            project: target.id,
            reference: branch.unwrap_or_else(|| target.default_branch.clone()),
            source: "pipeline".to_owned(),
            trusted: true,
            actor: above.actor.clone(),
            why: self.why(),
            ..NewPipeline::default()
        };
        if let Some(circle) = self.circle(&target, &new.reference).await? {
            return refused(circle);
        }
        let turn = self.app.engine.creating(target.id).lock_owned().await;
        let (new, trust, mut request) = match prepare(self.app, &target, new).await? {
            Ok(prepared) => prepared,
            Err(why) => return refused(format!("`{path}`: {why}")),
        };
        let forwarded = self.forwarded();
        request.variables = forwarded.variables.into_iter().collect();
        request.raw_variables = forwarded.raw;
        request.inputs = inputs(trigger).into_iter().collect();
        self.upstream(&mut request);
        let birth =
            Birth { app: self.app, project: target, new, trust, request, parent: Some(self.parent()) };
        let created = birth.go(Configuration::file(super::create::CONFIGURATION)).await?;
        drop(turn);
        Ok(made(created))
    }

    async fn target(&self, path: &str) -> Answer<Option<Project>> {
        let own = project(self.app, self.context.pipeline.project_id).await?;
        let all = neighbours(self.app, &own).await?;
        Ok(std::iter::once(own).chain(all).find(|other| other.path.eq_ignore_ascii_case(path)))
    }

    /// GitLab refuses a third pipeline of the same project and ref among those that made each other.
    async fn circle(&self, target: &Project, reference: &str) -> Answer<Option<String>> {
        let lineage = lineage(self.app, &self.context.pipeline).await?;
        let roots = lineage.iter().filter(|row| row.source != "parent_pipeline");
        let same = roots.filter(|row| row.project_id == target.id && row.reference == reference).count();
        Ok((same >= MOST_OF_ONE).then(|| {
            format!(
                "the pipelines trigger each other in a circle, {same} times by way of `{}` at `{reference}`",
                target.path
            )
        }))
    }

    fn parent(&self) -> Parent {
        Parent { job: self.context.row.id, priority: self.context.pipeline.priority }
    }

    fn why(&self) -> String {
        format!("started by job `{}` of pipeline {}", self.job.name, self.context.pipeline.iid)
    }

    /// What the pipeline knows of the one that made it.
    fn upstream(&self, request: &mut Request) {
        let facts = [
            ("CI_UPSTREAM_PROJECT_ID", self.context.pipeline.project_id),
            ("CI_UPSTREAM_PIPELINE_ID", self.context.pipeline.id),
            ("CI_UPSTREAM_JOB_ID", self.context.row.id),
        ];
        let above = self.context.request.predefined.iter();
        let user = above.filter(|(key, _)| key.starts_with("GITLAB_USER_"));
        request.predefined.extend(user.map(|(key, value)| (key.clone(), value.clone())));
        request.predefined.extend(facts.map(|(key, value)| (key.to_owned(), value.to_string())));
    }

    fn forwarded(&self) -> Forwarded {
        forwarded(&self.job, &self.context.request, &self.dotenv, &|name| self.known(name))
    }

    fn known(&self, name: &str) -> Option<String> {
        self.job.environment_variables.iter().rfind(|v| v.key == name).map(|v| v.value.clone())
    }

    fn text(&self, trigger: &Json, key: &str) -> Option<String> {
        trigger.get(key).and_then(Json::as_str).map(|text| self.full(text))
    }

    /// A text with its variables, those that earlier jobs handed over among them.
    fn full(&self, text: &str) -> String {
        let handed = |name: &str| self.dotenv.iter().rfind(|(key, _)| key == name).map(|(_, v)| v.clone());
        expand(text, Unknown::Remove, &|name| handed(name).or_else(|| self.known(name)))
    }
}

fn refused(why: String) -> Made {
    Ok(Err(Refused(why)))
}

fn made(created: Created) -> Result<i64, Refused> {
    match created {
        Created::Pipeline(id) | Created::Skipped(id, _) => Ok(id),
        Created::Nothing(why) => Err(Refused(why)),
    }
}

/// `trigger:inputs` as texts.
fn inputs(trigger: &Json) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let inputs = trigger.get("inputs").and_then(Json::as_object);
    inputs.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
}

/// The pipeline and all above it, from the bottom.
async fn lineage(app: &App, pipeline: &Pipeline) -> Answer<Vec<Pipeline>> {
    let mut all = vec![pipeline.clone()];
    while let Some(parent) = all.last().and_then(|row| row.parent_job) {
        let above: Option<i64> = sqlx::query_scalar("SELECT pipeline_id FROM jobs WHERE id = $1")
            .bind(parent)
            .fetch_optional(&app.db.pool)
            .await?;
        let Some(above) = above else { break };
        all.push(super::live::pipeline_row(app, above).await?);
    }
    Ok(all)
}
