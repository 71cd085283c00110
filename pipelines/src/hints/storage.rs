//! Caches and artifacts that are stored or fetched in vain.

use super::{Subject, keyword, once};
use crate::config::{CacheConfig, CacheKey, JobConfig, NeedConfig};
use crate::diagnostic::Diagnostic;
use crate::plan::{Artifacts, When};
use std::collections::HashSet;

/// Caches that are only ever pulled.
pub(super) fn unwritten_caches(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let all = || subject.config.jobs.iter().flat_map(|job| job.cache.iter().map(move |cache| (job, cache)));
    let written: Vec<&CacheConfig> =
        all().map(|(_, cache)| cache).filter(|cache| cache.cache.policy != "pull").collect();
    let pulled = all().filter(|(_, cache)| cache.cache.policy == "pull");
    let unwritten = pulled.filter(|(_, pulled)| {
        !written.iter().any(|cache| may_be_equal(cache.key.as_ref(), pulled.key.as_ref()))
    });
    once(unwritten.map(|(job, cache)| {
        let key = match &cache.key {
            Some(CacheKey::Text(text)) => format!("`{text}`"),
            Some(CacheKey::Files { files, .. }) => format!("of the files `{}`", files.join("`, `")),
            None => "`default`".to_owned(),
        };
        let text = format!("job `{}` pulls the cache with the key {key}, which no job writes", job.base_name);
        Diagnostic::hint("cache-never-written", text)
            .at(keyword(job, "cache"), "")
            .help("let one job have the same key with `policy: pull-push` or `push`")
    }))
}

/// Keys as written; those with variables may turn out to be anything of their kind.
fn may_be_equal(one: Option<&CacheKey>, other: Option<&CacheKey>) -> bool {
    let default = CacheKey::Text("default".to_owned());
    let open = |text: &str| text.contains('$');
    match (one.unwrap_or(&default), other.unwrap_or(&default)) {
        (CacheKey::Text(a), CacheKey::Text(b)) => a == b || open(a) || open(b),
        (CacheKey::Files { files: a, prefix: p, .. }, CacheKey::Files { files: b, prefix: q, .. }) => {
            let variable = |files: &[String], prefix: &Option<String>| {
                files.iter().any(|f| open(f)) || prefix.as_deref().is_some_and(open)
            };
            (a == b && p == q) || variable(a, p) || variable(b, q)
        }
        (CacheKey::Text(text), CacheKey::Files { .. }) | (CacheKey::Files { .. }, CacheKey::Text(text)) => {
            open(text)
        }
    }
}

/// Artifacts that later jobs could have and none takes. What no later job could have is for people.
pub(super) fn unread_artifacts(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let jobs = &subject.config.jobs;
    let read: HashSet<&str> = jobs.iter().flat_map(read_by).collect();
    let stages = || jobs.iter().map(|job| (job, subject.stage(&job.stage)));
    let takes_all = |job: &JobConfig| job.dependencies.is_none() && job.needs.is_none();
    let last_reader = stages().filter(|(job, _)| takes_all(job)).map(|(_, stage)| stage).max().unwrap_or(0);
    let last = stages().map(|(_, stage)| stage).max().unwrap_or(0);
    let unread = stages().filter(|(job, stage)| {
        let for_jobs = job.work.artifacts.as_ref().is_some_and(is_for_jobs) && job.work.pages.is_none();
        let instances = || jobs.iter().filter(|other| other.base_name == job.base_name);
        for_jobs
            && *job.base_name != *"pages"
            && *stage >= last_reader
            && *stage < last
            && !instances().any(|instance| read.contains(instance.name.as_str()))
    });
    once(unread.map(|(job, _)| {
        let text = format!("the artifacts of job `{}` are not read by any later job", job.base_name);
        Diagnostic::hint("artifact-never-read", text)
            .at(keyword(job, "artifacts"), "all later jobs have `needs` or `dependencies` without this job")
            .help("let a job need it, or say that people are to have it: `expose_as`, or `expire_in: never`")
    }))
}

/// Plain files that are kept for a while, neither reports nor what one looks at after a failure.
fn is_for_jobs(artifacts: &Artifacts) -> bool {
    artifacts.paths.as_ref().is_some_and(|paths| !paths.is_empty())
        && artifacts.reports.is_none()
        && !matches!(artifacts.when, Some(When::OnFailure | When::Always))
        && artifacts.expire_in.as_deref() != Some("never")
        && !artifacts.other.contains_key("expose_as")
}

/// Jobs whose artifacts a job names, by whatever keyword.
fn read_by(job: &JobConfig) -> Vec<&str> {
    let rules = job.rules.iter().filter_map(|rule| rule.needs.as_ref());
    let needs = job.needs.iter().chain(rules).flatten().filter_map(|need| match need {
        NeedConfig::Job(need) if need.artifacts => Some(need.job.as_str()),
        _ => None,
    });
    let mut names: Vec<&str> = match &job.dependencies {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => needs.collect(),
    };
    let includes = job.work.trigger.as_ref().and_then(|t| t.get("include")).and_then(|i| i.as_array());
    names.extend(includes.into_iter().flatten().filter_map(|include| include.get("job")?.as_str()));
    names
}
