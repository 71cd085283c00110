//! Checks between jobs: stages, dependencies, needs, environments, cycles. GitLab reports the first error only.

use super::job::Draft;
use super::stages::Stages;
use super::types::{JobConfig, NeedConfig};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::plan::Need;
use indexmap::IndexMap;
use serde_json::Value as Json;

type Jobs = IndexMap<String, JobConfig>;

/// Checks all jobs: the first thing that is wrong in each, once for all instances of one.
pub(super) fn check(jobs: &Jobs, stages: &Stages) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    for error in jobs.values().filter_map(|job| check_job(job, jobs, stages).err()) {
        if !found.iter().any(|d| d.code == error.code && d.labels == error.labels) {
            found.push(*error);
        }
    }
    if found.is_empty() {
        found.extend(check_cycles(jobs).err().map(|error| *error));
    }
    found
}

/// Unknown stages and needs among jobs that have other errors, too. `names`: of all jobs, right or wrong; stages
/// are not looked at when they are wrong themselves.
pub(super) fn further(drafts: &[Draft], names: &[String], stages: Option<&Stages>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // instances are named after their job
    let known = |name: &str| names.iter().any(|n| !n.starts_with('.') && name.starts_with(n.as_str()));
    for draft in drafts {
        let job = &draft.config;
        if let Some(stages) = stages.filter(|_| !job.stage.is_empty()) {
            found.extend(check_stage(job, stages).err().map(|error| *error));
        }
        let needs = draft.needs.iter().flat_map(|needs| &needs.jobs).map(|need| &need.need);
        for need in needs.filter(|need| !need.optional && !need.job.is_empty() && !known(&need.job)) {
            let text = format!("{} job: undefined need: {}", job.name, need.job);
            let near = did_you_mean(&need.job, names.iter().map(String::as_str));
            found.push(*suggest(error("need-undefined", job, "needs", text), near));
        }
    }
    found
}

fn check_job(job: &JobConfig, jobs: &Jobs, stages: &Stages) -> Result<(), Box<Diagnostic>> {
    check_stage(job, stages)?;
    for name in job.dependencies.iter().flatten() {
        check_reference(
            &Reference { job, name, keyword: "dependencies", noun: "dependency" },
            jobs,
            stages,
            false,
        )?;
    }
    if let Some(needs) = &job.needs {
        check_needs(job, needs, "needs", jobs, stages)?;
    }
    for needs in job.rules.iter().filter_map(|r| r.needs.as_ref()) {
        check_needs(job, needs, "rules", jobs, stages)?;
    }
    for name in artifact_jobs(job) {
        check_reference(
            &Reference { job, name, keyword: "trigger", noun: "dependency" },
            jobs,
            stages,
            false,
        )?;
    }
    check_on_stop(job, jobs)
}

fn error(code: &'static str, job: &JobConfig, keyword: &str, text: String) -> Box<Diagnostic> {
    let span = job.keyword_spans.get(keyword).unwrap_or(job.span);
    Box::new(Diagnostic::error(code, text).at(span, ""))
}

fn suggest(diagnostic: Box<Diagnostic>, near: Option<&str>) -> Box<Diagnostic> {
    match near {
        Some(near) => Box::new(diagnostic.help(format!("did you mean `{near}`?"))),
        None => diagnostic,
    }
}

fn check_stage(job: &JobConfig, stages: &Stages) -> Result<(), Box<Diagnostic>> {
    if stages.index.contains_key(&job.stage) {
        return Ok(());
    }
    let (name, stage) = (&job.name, &job.stage);
    let listed = stages.listed.join(", ");
    let text = format!("{name} job: chosen stage {stage} does not exist; available stages are {listed}");
    let near = did_you_mean(stage, stages.listed.iter().map(String::as_str));
    Err(suggest(error("stage-undefined", job, "stage", text), near))
}

/// A job's mention of another.
struct Reference<'a> {
    job: &'a JobConfig,
    name: &'a str,
    keyword: &'a str,
    noun: &'a str,
}

fn check_reference(
    reference: &Reference<'_>,
    jobs: &Jobs,
    stages: &Stages,
    optional: bool,
) -> Result<(), Box<Diagnostic>> {
    let Reference { job, name, keyword, noun } = *reference;
    let Some(other) = jobs.get(name) else {
        if optional {
            return Ok(());
        }
        let found =
            error("need-undefined", job, keyword, format!("{} job: undefined {noun}: {name}", job.name));
        return Err(suggest(found, did_you_mean(name, jobs.keys().map(String::as_str))));
    };
    // the names of a matrix can grow beyond what the check of the name in the YAML allows
    if noun == "need" && name.chars().count() > 255 {
        let text = format!("{} job: need `{name}` name is too long (maximum is 255 characters)", job.name);
        return Err(error("job-name", job, keyword, text));
    }
    let position = |stage: &str| stages.index.get(stage);
    if position(&other.stage).is_some_and(|there| position(&job.stage).is_some_and(|here| there <= here)) {
        return Ok(());
    }
    let text = format!("{} job: {noun} {name} is not defined in current or prior stages", job.name);
    let found = error("need-later", job, keyword, text);
    Err(Box::new(found.at(other.span, format!("`{name}` runs in stage `{}`", other.stage))))
}

fn check_needs(
    job: &JobConfig,
    needs: &[NeedConfig],
    keyword: &str,
    jobs: &Jobs,
    stages: &Stages,
) -> Result<(), Box<Diagnostic>> {
    let names = || job_needs(needs).map(|n| n.job.as_str());
    for need in job_needs(needs) {
        let reference = Reference { job, name: &need.job, keyword, noun: "need" };
        check_reference(&reference, jobs, stages, need.optional)?;
        if need.job.chars().count() > 255 {
            let text =
                format!("{} job: need `{}` name is too long (maximum is 255 characters)", job.name, need.job);
            return Err(error("job-name", job, keyword, text));
        }
    }
    let mut counts: IndexMap<&str, usize> = IndexMap::new();
    names().for_each(|name| *counts.entry(name).or_default() += 1);
    let twice: Vec<&str> = counts.iter().filter(|(_, n)| **n > 1).map(|(name, _)| *name).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let text = format!("{} has the following needs duplicated: {}.", job.name, twice.join(", "));
    Err(error("need-duplicate", job, keyword, text))
}

fn job_needs(needs: &[NeedConfig]) -> impl Iterator<Item = &Need> {
    needs.iter().filter_map(|need| match need {
        NeedConfig::Job(need) => Some(need),
        NeedConfig::Elsewhere(_) => None,
    })
}

/// Jobs whose artifacts hold the configuration of a child pipeline.
fn artifact_jobs(job: &JobConfig) -> impl Iterator<Item = &str> {
    let includes = job.work.trigger.as_ref().and_then(|t| t.get("include")).and_then(Json::as_array);
    includes.into_iter().flatten().filter_map(|i| i.get("job").and_then(Json::as_str))
}

fn check_on_stop(job: &JobConfig, jobs: &Jobs) -> Result<(), Box<Diagnostic>> {
    let Some(environment) = &job.environment else { return Ok(()) };
    let Some(on_stop) = &environment.on_stop else { return Ok(()) };
    let problem = match jobs.get(on_stop) {
        None => "is not defined",
        Some(stop) => match &stop.environment {
            None => "does not have environment defined",
            Some(other) if other.name != environment.name => "have different environment name",
            Some(other) if other.action.as_deref() != Some("stop") => "needs to have action stop defined",
            Some(_) => return Ok(()),
        },
    };
    let text = format!("{} job: on_stop job {on_stop} {problem}", job.name);
    let near =
        jobs.get(on_stop).is_none().then(|| did_you_mean(on_stop, jobs.keys().map(String::as_str))).flatten();
    Err(suggest(error("on-stop", job, "environment", text), near))
}

/// Strongly connected components as Ruby's `tsort` finds them, so that the message lists the same jobs in the same
/// order; with a stack of its own, because a chain of needs can be as long as the pipeline.
fn check_cycles(jobs: &Jobs) -> Result<(), Box<Diagnostic>> {
    let children: Vec<Vec<usize>> = jobs
        .values()
        .map(|j| {
            job_needs(j.needs.as_deref().unwrap_or_default())
                .filter_map(|n| jobs.get_index_of(&n.job))
                .collect()
        })
        .collect();
    let cyclic = |reason: String, at: usize| {
        let text = format!("The pipeline has circular dependencies: {reason}");
        error("cycle", &jobs[at], "needs", text)
    };
    let mut search = Search::new(jobs.len());
    for root in 0..jobs.len() {
        if search.ids[root].is_some() {
            continue;
        }
        search.enter(root);
        while let Some(frame) = search.frames.last_mut() {
            let node = frame.node;
            if frame.next == 0 && children[node].contains(&node) {
                return Err(cyclic(format!("self-dependency: {}", jobs[node].name), node));
            }
            if let Some(&child) = children[node].get(frame.next) {
                frame.next += 1;
                match search.ids[child] {
                    None => search.enter(child),
                    Some(id) if search.open[child] => frame.low = frame.low.min(id),
                    Some(_) => {}
                }
                continue;
            }
            if let Some(component) = search.leave().filter(|c| c.len() > 1) {
                let names: Vec<String> = component.iter().map(|&i| format!("{:?}", jobs[i].name)).collect();
                return Err(cyclic(format!("topological sort failed: [{}]", names.join(", ")), component[0]));
            }
        }
    }
    Ok(())
}

struct Frame {
    node: usize,
    /// Next child to look at.
    next: usize,
    id: usize,
    /// Smallest id that can be reached.
    low: usize,
    /// Length of the stack below this node.
    below: usize,
}

struct Search {
    ids: Vec<Option<usize>>,
    open: Vec<bool>,
    stack: Vec<usize>,
    frames: Vec<Frame>,
    count: usize,
}

impl Search {
    fn new(len: usize) -> Search {
        Search {
            ids: vec![None; len],
            open: vec![false; len],
            stack: Vec::new(),
            frames: Vec::new(),
            count: 0,
        }
    }

    fn enter(&mut self, node: usize) {
        let id = self.count;
        self.count += 1;
        self.ids[node] = Some(id);
        self.open[node] = true;
        self.frames.push(Frame { node, next: 0, id, low: id, below: self.stack.len() });
        self.stack.push(node);
    }

    /// Ends the last frame; gives the component that it closes.
    fn leave(&mut self) -> Option<Vec<usize>> {
        let frame = self.frames.pop()?;
        if let Some(parent) = self.frames.last_mut() {
            parent.low = parent.low.min(frame.low);
        }
        if frame.low != frame.id {
            return None;
        }
        let component = self.stack.split_off(frame.below);
        component.iter().for_each(|&node| self.open[node] = false);
        Some(component)
    }
}
