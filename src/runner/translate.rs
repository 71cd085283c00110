//! The server's job as one of `runners::job`.

use super::Order;
use crate::settings::{Settings, State};
use crate::wire::job as wire;
use pipelines::plan::{Artifacts, Cache, Hooks, Image, Job, JobVariable, Plan, Service, Work};
use runners::bucket::Bucket;
use runners::job::{Courier, JobSources, JobSpec, Run, Runner};
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Time that a job's processes have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Stage of the jobs whose artifacts come in.
const BEFORE: &str = ".before";

/// Name of a project's own directory in the state.
pub(super) fn state_name(order: &Order) -> String {
    let project = project(&order.job);
    let last = project.rsplit('/').next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = last.chars().filter(plain).take(80).collect();
    let whose = format!("{} {} {project}", order.origin, order.job.job_info.project_id);
    format!("{name}-{}", &crate::digest::sha256_hex(whose.as_bytes())[..16])
}

/// `group/name`.
pub(super) fn project(job: &wire::Job) -> String {
    let named = Some(&job.job_info.project_full_path).filter(|path| !path.is_empty());
    let path = named.map(String::as_str).or_else(|| variable(job, "CI_PROJECT_PATH"));
    path.map_or_else(|| format!("project-{}", job.job_info.project_id), str::to_owned)
}

/// Value of a variable, not expanded.
pub(super) fn variable<'a>(job: &'a wire::Job, name: &str) -> Option<&'a str> {
    job.variables.iter().rfind(|v| v.key == name).map(|v| v.value.expose())
}

/// The job with all that it runs with.
pub(super) fn spec(order: &Order, state: &State, settings: &Settings, courier: Courier) -> JobSpec {
    let job = &order.job;
    let planned = planned(job);
    let number = |id: i64| u64::try_from(id).unwrap_or_default();
    let run = Run {
        id: number(job.job_info.pipeline_id),
        parent: None,
        dir: order.dir.join("run"),
        cache: state.cache(),
        bucket: bucket(order, settings),
        project: project(job),
        plan: Arc::new(plan(job, &planned)),
        checkout: PathBuf::new(),
        tracked: Arc::new(Vec::new()),
        variables: Vec::new(),
        fixed: HashSet::new(),
        runner: Runner {
            id: 0,
            description: order.runner.clone(),
            tags: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        output_limit: Run::OUTPUT_LIMIT,
        grace: GRACE,
        timeout: Run::TIMEOUT,
        debug: None,
    };
    JobSpec {
        id: number(job.id),
        job: planned,
        attempt: 1,
        run: Arc::new(run),
        sources: JobSources::default(),
        courier: Some(courier),
    }
}

/// The job, and before it those whose artifacts it gets: each under a name of its own.
fn plan(job: &wire::Job, planned: &Job) -> Plan {
    let before = job.dependencies.iter().filter(|d| !d.artifacts_file.filename.is_empty());
    let mut jobs: Vec<Job> = before.map(|dependency| Job::new(dependency_name(dependency), BEFORE)).collect();
    jobs.push(planned.clone());
    Plan { stages: vec![BEFORE.to_owned(), planned.stage.clone()], jobs, ..Plan::default() }
}

/// Jobs of other pipelines may have the same name.
pub(super) fn dependency_name(dependency: &wire::Dependency) -> String {
    format!("{} (#{})", dependency.name, dependency.id)
}

fn planned(job: &wire::Job) -> Job {
    let stage = if job.job_info.stage.is_empty() { "test" } else { &job.job_info.stage };
    let name =
        if job.job_info.name.is_empty() { format!("job {}", job.id) } else { job.job_info.name.clone() };
    let protected = variable(job, "CI_COMMIT_REF_PROTECTED") == Some("true");
    Job {
        environment_variables: variables(job),
        cache: job.cache.iter().map(|cache| self::cache(cache, protected)).collect(),
        work: work(job),
        ..Job::new(name, stage)
    }
}

fn work(job: &wire::Job) -> Work {
    let after = |step: &&wire::Step| step.name == "after_script";
    let seconds = |seconds: i64| (seconds > 0).then_some(seconds as f64);
    let hook = job.hooks.iter().find(|hook| hook.name == "pre_get_sources_script");
    let services = job.services.iter().map(|service| Service {
        image: image(service),
        alias: Some(service.alias.clone()).filter(|alias| !alias.is_empty()),
        command: Some(service.command.clone()).filter(|command| !command.is_empty()),
        variables: service.variables.iter().map(|v| (v.key.clone(), v.value.expose().to_owned())).collect(),
    });
    Work {
        image: job.image.as_ref().filter(|image| !image.name.is_empty()).map(image),
        services: services.collect(),
        hooks: hook.map(|hook| Hooks { pre_get_sources_script: hook.script.clone() }),
        script: script(job),
        after_script: job.steps.iter().find(after).map(|step| step.script.clone()).unwrap_or_default(),
        artifacts: artifacts(&job.artifacts),
        timeout: seconds(job.runner_info.timeout),
        secrets: (!job.secrets.is_empty()).then(|| Json::Object(job.secrets.clone())),
        run: (!job.run.is_empty()).then(|| Json::String(job.run.clone())),
        ..Work::default()
    }
}

/// The script, and the steps that follow it when it succeeded: in the same shell, but from the project's directory.
fn script(job: &wire::Job) -> Vec<String> {
    let mut steps = job.steps.iter().filter(|step| step.name != "after_script");
    let mut commands = steps.next().map(|step| step.script.clone()).unwrap_or_default();
    for step in steps.filter(|step| step.when != "on_failure") {
        commands.push("cd \"$CI_PROJECT_DIR\"".to_owned());
        commands.extend(step.script.iter().cloned());
    }
    commands
}

fn image(image: &wire::Image) -> Image {
    let options =
        |kind: &str| image.executor_opts.as_ref().and_then(|o| o.get(kind)).filter(|o| !o.is_null());
    Image {
        name: image.name.clone(),
        entrypoint: Some(image.entrypoint.clone()).filter(|entrypoint| !entrypoint.is_empty()),
        pull_policy: image.pull_policy.clone(),
        docker: options("docker").cloned(),
        kubernetes: options("kubernetes").cloned(),
    }
}

/// All variables; what holds the job's token, or a token of a kind that the server names, is hidden in any case.
fn variables(job: &wire::Job) -> Vec<JobVariable> {
    let token = job.token.expose();
    let prefixes = &job.features.token_mask_prefixes;
    let secret = |value: &str| {
        let named = prefixes.iter().any(|prefix| !prefix.is_empty() && value.starts_with(prefix.as_str()));
        named || (!token.is_empty() && value == token)
    };
    let all = job.variables.iter().map(|variable| JobVariable {
        key: variable.key.clone(),
        value: variable.value.expose().to_owned(),
        file: variable.file,
        masked: variable.masked || secret(variable.value.expose()),
        raw: variable.raw,
    });
    all.collect()
}

/// GitLab's server puts the protection of the ref at the end of the key; our caches do that by themselves.
fn cache(cache: &wire::Cache, protected: bool) -> Cache {
    let plain = |key: &str| {
        let end = ["-non_protected", "-protected"].into_iter().find_map(|end| key.strip_suffix(end));
        end.unwrap_or(key).to_owned()
    };
    let or = |text: &str, usual: &str| if text.is_empty() { usual.to_owned() } else { text.to_owned() };
    Cache {
        unprotect: protected && cache.key.ends_with("-non_protected"),
        key: plain(&cache.key),
        paths: cache.paths.clone(),
        untracked: Some(cache.untracked),
        fallback_keys: cache.fallback_keys.iter().map(|key| plain(key)).collect(),
        policy: or(&cache.policy, "pull-push"),
        when: or(&cache.when, "on_success"),
    }
}

/// Is it the archive that other jobs download?
pub(super) fn is_archive(artifact: &wire::Artifact) -> bool {
    matches!(artifact.artifact_type.as_str(), "" | "archive")
}

fn artifacts(all: &[wire::Artifact]) -> Option<Artifacts> {
    if all.is_empty() {
        return None;
    }
    let mut artifacts = Artifacts::default();
    if let Some(archive) = all.iter().find(|artifact| is_archive(artifact)) {
        artifacts.paths = Some(archive.paths.clone());
        artifacts.exclude = Some(archive.exclude.clone());
        artifacts.untracked = Some(archive.untracked);
        artifacts.when = serde_json::from_value(Json::String(archive.when.clone())).ok();
        artifacts.expire_in = Some(archive.expire_in.clone()).filter(|text| !text.is_empty());
        if !archive.name.is_empty() {
            artifacts.other.insert("name".to_owned(), json!(archive.name));
        }
    }
    let reports = all.iter().filter(|artifact| !is_archive(artifact));
    let reports = reports.map(|report| (report.artifact_type.clone(), json!(report.paths)));
    artifacts.reports = Some(reports.collect());
    Some(artifacts)
}

/// The bucket of caches; one that can't be used is said in the process's own log, and left out.
fn bucket(order: &Order, settings: &Settings) -> Option<Arc<Bucket>> {
    let s3 = settings.cache.s3.as_ref()?;
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy();
    match Bucket::new(&s3.address(&project(&order.job), &machine)) {
        Ok(bucket) => Some(Arc::new(bucket)),
        Err(why) => {
            tracing::warn!("the bucket of caches can't be used: {why}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(document: Json) -> wire::Job {
        serde_json::from_value(document).expect("a job")
    }

    #[test]
    fn a_job_is_what_its_document_says() {
        let job = job(json!({
            "id": 7, "token": "glcbt-t",
            "job_info": {"name": "unit", "stage": "test", "project_full_path": "g/p", "project_id": 3},
            "runner_info": {"timeout": 90},
            "variables": [{"key": "A", "value": "1"}, {"key": "CI_JOB_TOKEN", "value": "glcbt-t"},
                          {"key": "PAT", "value": "glpat-x"}, {"key": "F", "value": "text", "file": true}],
            "steps": [{"name": "script", "script": ["one", "two"], "when": "on_success"},
                      {"name": "release", "script": ["three"], "when": "on_success"},
                      {"name": "after_script", "script": ["last"], "when": "always"}],
            "image": {"name": "debian", "entrypoint": [""], "executor_opts": {"docker": {"user": "me"}}},
            "services": [{"name": "postgres", "alias": "db", "variables": [{"key": "P", "value": "x"}]}],
            "artifacts": [
                {"name": "out", "paths": ["bin/"], "when": "always", "expire_in": "1 day",
                 "artifact_type": "archive", "artifact_format": "zip"},
                {"paths": ["r.xml"], "artifact_type": "junit", "artifact_format": "gzip"}],
            "features": {"token_mask_prefixes": ["glpat-"]},
            "dependencies": [{"id": 1, "name": "build", "artifacts_file": {"filename": "artifacts.zip"}},
                             {"id": 2, "name": "lint", "artifacts_file": null}]
        }));
        let planned = planned(&job);
        assert_eq!(planned.work.script, ["one", "two", "cd \"$CI_PROJECT_DIR\"", "three"]);
        assert_eq!(planned.work.after_script, ["last"]);
        assert_eq!(planned.work.timeout, Some(90.0));
        let masked: Vec<bool> = planned.environment_variables.iter().map(|v| v.masked).collect();
        assert_eq!(masked, [false, true, true, false]);
        assert!(planned.environment_variables[3].file);
        let image = planned.work.image.as_ref().expect("an image");
        assert_eq!((image.name.as_str(), &image.docker), ("debian", &Some(json!({"user": "me"}))));
        assert_eq!(planned.work.services[0].variables["P"], "x");
        let artifacts = planned.work.artifacts.as_ref().expect("artifacts");
        assert_eq!(artifacts.when, Some(pipelines::plan::When::Always));
        assert_eq!(artifacts.other["name"], json!("out"));
        assert_eq!(artifacts.reports.as_ref().expect("reports")["junit"], json!(["r.xml"]));
        let plan = plan(&job, &planned);
        let sources = runners::artifacts::sources(&plan, &planned);
        let names: Vec<&str> = sources.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["build (#1)"], "what has no archive is not waited for");
    }

    #[test]
    fn cache_keys_are_protected_once() {
        let table = [
            ("k-protected", true, "k", false),
            ("k-non_protected", false, "k", false),
            ("k-non_protected", true, "k", true),
            ("k", true, "k", false),
        ];
        for (key, protected, plain, unprotect) in table {
            let cache = cache(&wire::Cache { key: key.to_owned(), ..wire::Cache::default() }, protected);
            assert_eq!((cache.key.as_str(), cache.unprotect), (plain, unprotect), "{key} {protected}");
            assert_eq!((cache.policy.as_str(), cache.when.as_str()), ("pull-push", "on_success"));
        }
    }
}
