//! A pipeline comes into being.

use super::asked::{Created, NewPipeline};
use super::claim::pipeline_variables;
use super::facts::{self, Trust};
use super::features;
use super::live::{Attempt, Live};
use super::planned::{self, Planned};
use super::redundant;
use super::sealed::{Sealed, shown};
use super::step::Step;
use crate::downstream::Configuration;
use crate::server::app::Changed;
use crate::server::db::{Tx, now};
use crate::server::mirror::{self, blocking};
use crate::server::rows::{Pipeline, Project};
use crate::server::{Answer, App, Problem};
use crate::sources::{SourceTable, Sources};
use git2::Reference;
use pipelines::plan::{Job, Plan};
use pipelines::request::{Request, skipped};
use pipelines::schedule::{Input, Scheduler};
use pipelines::status::Status;
use pipelines::variables::{Unknown, expand};
use std::collections::BTreeMap;
use std::sync::Arc;

/// GitLab's default: an hour.
const TIMEOUT: i64 = 3600;
/// Of every project.
pub(super) const CONFIGURATION: &str = ".gitlab-ci.yml";
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Makes a pipeline, or says why not.
///
/// # Errors
/// Something that a later try may mend: the repository or the database can't be reached.
pub async fn create(app: &App, new: NewPipeline) -> Answer<Created> {
    create_knowing(app, new, &[]).await
}

/// As [`create`], for a schedule.
///
/// # Errors
/// As [`create`].
pub(in crate::server) async fn create_scheduled(
    app: &App,
    new: NewPipeline,
    description: &str,
) -> Answer<Created> {
    create_knowing(app, new, &[("CI_PIPELINE_SCHEDULE_DESCRIPTION", description)]).await
}

async fn create_knowing(app: &App, new: NewPipeline, known: &[(&str, &str)]) -> Answer<Created> {
    let project = project(app, new.project).await?;
    let turn = app.engine.creating(project.id).lock_owned().await;
    let (new, trust, mut request) = match prepare(app, &project, new).await? {
        Ok(prepared) => prepared,
        Err(why) => return Ok(Created::Nothing(why)),
    };
    facts::person(app, &new.actor, &mut request).await?;
    request.predefined.extend(known.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let birth = Birth { app, project: project.clone(), new, trust, request, parent: None };
    let created = birth.go(Configuration::file(CONFIGURATION)).await?;
    drop(turn);
    if let Created::Pipeline(id) = &created {
        let row = super::live::pipeline_row(app, *id).await?;
        redundant::end_older(app, &project, &row).await?;
    }
    Ok(created)
}

/// Finds the commit, and says what its pipeline is asked with; or why there is to be none. Whoever asks holds
/// [`super::Engine::creating`].
pub(super) async fn prepare(
    app: &App,
    project: &Project,
    new: NewPipeline,
) -> Answer<Result<(NewPipeline, Trust, Request), String>> {
    if let Err(why) = check_ref(&new) {
        return Ok(Err(why));
    }
    let Some(new) = at_commit(app, project, new).await? else {
        return Ok(Err("the ref is not in the repository any more".to_owned()));
    };
    if let Some(there) = already(app, &new).await? {
        return Ok(Err(format!("pipeline {there} is for this push already")));
    }
    let (path, asked) = (mirror::path(app, project.id), new.clone());
    let found = blocking(move || facts::find(&path, &asked)).await?.map_err(Problem::unavailable)?;
    let Some(found) = found else {
        return Ok(Err(format!("commit `{}` is not in the repository any more", new.sha)));
    };
    let trust = Trust::of(project, &new);
    let mut request = facts::request(app, project, &new, found, next_iid(app, project.id).await?);
    request.commit.protected = trust.protected;
    request.project_variables = facts::variables(app, project.id, trust).await?;
    Ok(Ok((new, trust, request)))
}

/// A row of `projects`.
pub(super) async fn project(app: &App, id: i64) -> Answer<Project> {
    let query = sqlx::query_as("SELECT * FROM projects WHERE id = $1").bind(id);
    query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("project"))
}

/// Git's rules for names of refs, and none that looks like an option.
fn check_ref(new: &NewPipeline) -> Result<(), String> {
    let name = &new.reference;
    let is_valid = |full: &str| Reference::is_valid_name(full) && !full.contains("/-");
    if name.starts_with('-') || !is_valid(&format!("refs/heads/{name}")) {
        return Err("the ref's name is not one that git allows".to_owned());
    }
    let mr = new.merge_request.as_ref();
    if mr.is_some_and(|mr| !mr.git_ref.is_empty() && !is_valid(&mr.git_ref)) {
        return Err("the merge request's ref is not one that git allows".to_owned());
    }
    if new.sha == NO_COMMIT {
        return Err("the ref was deleted".to_owned());
    }
    Ok(())
}

/// Full name of the ref that has the commit.
fn full_ref(new: &NewPipeline) -> String {
    match &new.merge_request {
        Some(mr) if !mr.git_ref.is_empty() => mr.git_ref.clone(),
        _ if new.tag => format!("refs/tags/{}", new.reference),
        _ => format!("refs/heads/{}", new.reference),
    }
}

/// The same, with its commit: an annotated tag's is the commit that it means. The repository is fetched unless the
/// mirror has the ref just there. None: the ref is not there.
async fn at_commit(app: &App, project: &Project, mut new: NewPipeline) -> Answer<Option<NewPipeline>> {
    let (path, reference) = (mirror::path(app, project.id), full_ref(&new));
    let look = |path: std::path::PathBuf, reference: String| {
        blocking(move || mirror::commit_of(&path, &reference).map(|oid| oid.to_string()))
    };
    let mut there = look(path.clone(), reference.clone()).await?;
    if new.sha.is_empty() || there.as_deref() != Some(&new.sha) {
        mirror::fetch(app, project).await?;
        there = look(path.clone(), reference).await?;
    }
    if new.sha.is_empty() {
        let Some(sha) = there else { return Ok(None) };
        new.sha = sha;
        return Ok(Some(new));
    }
    // forges name the object of an annotated tag
    let sha = new.sha.clone();
    let peeled = blocking(move || {
        let repository = git2::Repository::open_bare(path).ok()?;
        let object = repository.find_object(git2::Oid::from_str(&sha).ok()?, None).ok()?;
        object.peel_to_commit().ok().map(|commit| commit.id().to_string())
    });
    if let Some(commit) = peeled.await? {
        new.sha = commit;
    }
    Ok(Some(new))
}

/// The pipeline that reconciliation would repeat.
async fn already(app: &App, new: &NewPipeline) -> Answer<Option<i64>> {
    if !new.unless_there {
        return Ok(None);
    }
    let same = "SELECT id FROM pipelines WHERE project_id = $1 AND sha = $2 AND ref = $3 AND tag = $4 AND source = $5 \
                AND parent_job IS NULL ORDER BY id LIMIT 1";
    let query = sqlx::query_scalar(same)
        .bind(new.project)
        .bind(&new.sha)
        .bind(&new.reference)
        .bind(i64::from(new.tag))
        .bind(&new.source);
    Ok(query.fetch_optional(&app.db.pool).await?)
}

/// Whoever asks holds [`super::Engine::creating`].
pub(super) async fn next_iid(app: &App, project: i64) -> Answer<i64> {
    let last: Option<i64> = sqlx::query_scalar("SELECT MAX(iid) FROM pipelines WHERE project_id = $1")
        .bind(project)
        .fetch_one(&app.db.pool)
        .await?;
    Ok(last.unwrap_or(0) + 1)
}

/// A pipeline about to be: only its plan is missing.
pub(super) struct Birth<'a> {
    pub(super) app: &'a App,
    pub(super) project: Project,
    pub(super) new: NewPipeline,
    pub(super) trust: Trust,
    pub(super) request: Request,
    /// The trigger job.
    pub(super) parent: Option<Parent>,
}

/// A trigger job and its pipeline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parent {
    pub(super) job: i64,
    pub(super) priority: i64,
}

impl Birth<'_> {
    /// Plans, and writes it down.
    pub(super) async fn go(self, configuration: Configuration) -> Answer<Created> {
        let skips = matches!(self.new.source.as_str(), "push" | "merge_request_event");
        let asked = match () {
            () if self.new.skip => Some("pushed with `-o ci.skip`"),
            () if skips && skipped(&self.request.commit) => Some("the commit's message asks for no pipeline"),
            () => None,
        };
        if let Some(why) = asked.map(str::to_owned) {
            let id = self.without_jobs(Status::Skipped, &Planned::default(), &why).await?;
            return Ok(Created::Skipped(id, why));
        }
        let mut planned = self.planned(configuration).await?;
        if planned.absent || planned.filtered {
            return Ok(Created::Nothing(planned.errors.join("; ")));
        }
        let scheduler = match planned.plan.take() {
            // it is checked once more below, with the pipeline's own variables in it
            Some(plan) => Scheduler::new(Arc::new(plan)).map_err(|e| planned.errors.push(e.to_string())).ok(),
            None => None,
        };
        let id = match scheduler {
            Some(scheduler) => self.with_jobs(Plan::clone(scheduler.plan()), &planned).await?,
            None => self.without_jobs(Status::Failed, &planned, &self.new.why.clone()).await?,
        };
        mirror::keep(self.app, self.project.id, id, &self.request.commit.sha).await;
        Ok(Created::Pipeline(id))
    }

    async fn planned(&self, configuration: Configuration) -> Answer<Planned> {
        let sources = sources(self.app, &self.project).await?;
        let (path, request) = (mirror::path(self.app, self.project.id), self.request.clone());
        let planned = blocking(move || planned::plan(&path, &request, configuration, sources()));
        let number = self.project.id;
        planned.await?.map_err(|e| Problem::internal(&format!("reading the mirror of project {number}"), &e))
    }

    /// A pipeline that never runs.
    async fn without_jobs(&self, status: Status, planned: &Planned, why: &str) -> Answer<i64> {
        let mut tx = self.app.db.write().await?;
        let row = Row { status, planned, plan: None, why, at: now() };
        let id = self.insert(&mut tx, &row).await?;
        let pipeline = self.row(id, &row);
        super::told::status(self.app, &mut tx, &pipeline, status, "", row.at).await?;
        super::told::ended(self.app, &mut tx, &pipeline, status, row.at).await?;
        self.parent_knows(&mut tx, id).await?;
        tx.commit().await?;
        self.app.changed(Changed::Pipeline { project: self.project.id, pipeline: id, job: None });
        self.app.wake.statuses.notify_one();
        self.app.wake.notices.notify_one();
        Ok(id)
    }

    async fn with_jobs(&self, mut plan: Plan, planned: &Planned) -> Answer<i64> {
        let app = self.app;
        let mut tx = app.db.write().await?;
        let row = Row { status: Status::Created, planned, plan: Some(&plan), why: &self.new.why, at: now() };
        let (id, at) = (self.insert(&mut tx, &row).await?, row.at);
        let pipeline = self.row(id, &row);
        for job in &mut plan.jobs {
            let known = pipeline_variables(app, self.project.id, id, at);
            job.environment_variables.splice(0..0, known);
        }
        let sealed = Sealed { request: self.request.clone(), plan };
        let bytes = sealed.seal(&app.vault, id).map_err(|e| Problem::internal("sealing a pipeline", &e))?;
        sqlx::query("UPDATE pipelines SET sealed = $1 WHERE id = $2")
            .bind(bytes)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        // who is made first is handed out first
        let mut attempts = BTreeMap::new();
        for position in sealed.plan.queue_order() {
            let job = &sealed.plan.jobs[position];
            attempts.insert(position, insert_job(&mut tx, &pipeline, job, position as i64, at).await?);
        }
        let attempts = attempts.into_values().collect();
        self.parent_knows(&mut tx, id).await?;
        let scheduler = Scheduler::new(Arc::new(sealed.plan))
            .map_err(|e| Problem::internal("scheduling a plan that was fine before", &e))?;
        let live = Live { scheduler, request: Arc::new(sealed.request), row: pipeline, attempts, next: 1 };
        let mut step = Step::first(app, tx, live, at).await;
        step.tell(Input::Start).await?;
        step.commit().await?;
        Ok(id)
    }

    async fn insert(&self, tx: &mut Tx, row: &Row<'_>) -> Answer<i64> {
        let new = &self.new;
        let ended = row.plan.is_none().then_some(row.at);
        let merge_request =
            new.merge_request.as_ref().map(|mr| serde_json::to_string(mr).unwrap_or_default());
        let shown = row.plan.map(shown).unwrap_or_default();
        let id = sqlx::query_scalar(
            "INSERT INTO pipelines (project_id, iid, ref, tag, sha, before_sha, source, status, name, message, author, \
             actor, merge_request, trusted, protected, plan, plan_digest, merged, errors, why, delivery_id, parent_job, \
             priority, created_at, finished_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
             $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25) RETURNING id",
        )
        .bind(self.project.id)
        .bind(self.iid())
        .bind(&new.reference)
        .bind(i64::from(new.tag))
        .bind(&self.request.commit.sha)
        .bind(&new.before_sha)
        .bind(&new.source)
        .bind(row.status.name())
        .bind(row.plan.and_then(|plan| plan.name.clone()).unwrap_or_default())
        .bind(&self.request.commit.message)
        .bind(&self.request.commit.author)
        .bind(&new.actor)
        .bind(merge_request.unwrap_or_default())
        .bind(i64::from(self.trust.trusted))
        .bind(i64::from(self.trust.protected))
        .bind(&shown)
        .bind(row.plan.map(|_| crate::digest::sha256_hex(shown.as_bytes())).unwrap_or_default())
        .bind(&row.planned.merged)
        .bind(serde_json::to_string(&row.planned.errors).unwrap_or_default())
        .bind(row.why)
        .bind(new.delivery)
        .bind(self.parent.map(|parent| parent.job))
        .bind(self.parent.map_or(0, |parent| parent.priority))
        .bind(row.at)
        .bind(ended)
        .fetch_one(&mut **tx)
        .await?;
        Ok(id)
    }

    /// The trigger job knows its pipeline from the beginning: it never makes a second one.
    async fn parent_knows(&self, tx: &mut Tx, id: i64) -> Answer<()> {
        let Some(parent) = self.parent else { return Ok(()) };
        sqlx::query("UPDATE jobs SET child_pipeline = $1 WHERE id = $2")
            .bind(id)
            .bind(parent.job)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    fn iid(&self) -> i64 {
        let text = self.request.predefined.get("CI_PIPELINE_IID");
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn row(&self, id: i64, row: &Row<'_>) -> Pipeline {
        let new = &self.new;
        Pipeline {
            id,
            project_id: self.project.id,
            iid: self.iid(),
            reference: new.reference.clone(),
            tag: i64::from(new.tag),
            sha: self.request.commit.sha.clone(),
            before_sha: new.before_sha.clone(),
            source: new.source.clone(),
            status: row.status.name().to_owned(),
            name: row.plan.and_then(|plan| plan.name.clone()).unwrap_or_default(),
            message: self.request.commit.message.clone(),
            author: self.request.commit.author.clone(),
            actor: new.actor.clone(),
            merge_request: String::new(),
            trusted: i64::from(self.trust.trusted),
            protected: i64::from(self.trust.protected),
            plan_digest: String::new(),
            errors: String::new(),
            why: row.why.to_owned(),
            delivery_id: new.delivery,
            parent_job: self.parent.map(|parent| parent.job),
            priority: self.parent.map_or(0, |parent| parent.priority),
            coverage: None,
            created_at: row.at,
            started_at: None,
            finished_at: None,
        }
    }
}

/// What the row says beside what was asked.
struct Row<'a> {
    status: Status,
    planned: &'a Planned,
    /// None: it never runs.
    plan: Option<&'a Plan>,
    why: &'a str,
    at: i64,
}

async fn insert_job(tx: &mut Tx, pipeline: &Pipeline, job: &Job, position: i64, at: i64) -> Answer<Attempt> {
    let group = resource_group(job);
    // what has nothing to run takes a status over from elsewhere
    let bridge = job.work.trigger.is_some() || (job.work.script.is_empty() && job.work.run.is_none());
    let id = sqlx::query_scalar(
        "INSERT INTO jobs (pipeline_id, project_id, position, attempt, newest, name, stage, status, allowed_to_fail, \
         tags, resource_group, environment, interruptible, timeout_s, waits_for, system_id, cancel, bridge, acknowledged, \
         log_size, created_at, features) VALUES ($1, $2, $3, 1, 1, $4, $5, 'created', 0, $6, $7, $8, $9, $10, $11, '', 0, \
         $12, 0, 0, $13, $14) RETURNING id",
    )
    .bind(pipeline.id)
    .bind(pipeline.project_id)
    .bind(position)
    .bind(&job.name)
    .bind(&job.stage)
    .bind(serde_json::to_string(&job.tags).unwrap_or_default())
    .bind(&group)
    .bind(job.environment.as_ref().map(|environment| environment.name.clone()).unwrap_or_default())
    .bind(i64::from(job.interruptible))
    .bind(job.work.timeout.map_or(TIMEOUT, |seconds| seconds as i64))
    .bind(waits_for(job))
    .bind(i64::from(bridge))
    .bind(at)
    .bind(features::wanted(job))
    .fetch_one(&mut **tx)
    .await?;
    Ok(Attempt { id, number: 1, status: Status::Created, ran: false, group, bridge })
}

fn waits_for(job: &Job) -> String {
    let names: Vec<String> = job.needs.iter().flatten().map(|need| format!("`{}`", need.job)).collect();
    if names.is_empty() {
        "waits for the earlier stages".to_owned()
    } else {
        format!("waits for {}", names.join(", "))
    }
}

/// The group with the job's variables in its name; empty: none.
fn resource_group(job: &Job) -> String {
    let lookup = |name: &str| {
        let known = job.environment_variables.iter().rfind(|v| v.key == name).map(|v| v.value.clone());
        known.or_else(|| job.variables.get(name).cloned())
    };
    let text = job.work.resource_group.as_ref();
    text.map(|text| expand(text, Unknown::Remove, &lookup)).unwrap_or_default()
}

/// Files from elsewhere, for one pipeline: those of the server's projects below the same top group from their mirrors,
/// and what is on the internet. Made where it is used: it stays on its thread.
pub(super) async fn sources(
    app: &App,
    project: &Project,
) -> Answer<impl FnOnce() -> Sources + Send + 'static + use<>> {
    let neighbours = neighbours(app, project).await?;
    let places = neighbours.iter().map(|other| (other.path.clone(), mirror::path(app, other.id)));
    let table = SourceTable::of(places.collect::<Vec<_>>());
    let (own, path) = (project.path.clone(), mirror::path(app, project.id));
    let (app, runtime) = (app.clone(), tokio::runtime::Handle::current());
    Ok(move || {
        let sources = Sources::new(table, Some(app.dir("sources")), false).with_own(&own, &path);
        let reach = mirror::reach(&app);
        sources.for_server(reach, move |wanted| {
            let is_it = |other: &&Project| other.path.eq_ignore_ascii_case(wanted);
            match neighbours.iter().find(is_it) {
                Some(other) => {
                    runtime.block_on(mirror::fetch(&app, other)).map_err(|problem| problem.message)
                }
                // its own mirror is fresh
                None => Ok(()),
            }
        })
    })
}

/// Other projects that this one's pipelines may look into and start pipelines of: those below the same top group.
pub(super) async fn neighbours(app: &App, project: &Project) -> Answer<Vec<Project>> {
    let group = |path: &str| path.split_once('/').map(|(group, _)| group.to_lowercase());
    let own = group(&project.path);
    let all: Vec<Project> = sqlx::query_as("SELECT * FROM projects WHERE id <> $1 ORDER BY id")
        .bind(project.id)
        .fetch_all(&app.db.pool)
        .await?;
    Ok(all.into_iter().filter(|other| own.is_some() && group(&other.path) == own).collect())
}
