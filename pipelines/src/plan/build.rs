//! Which jobs a request creates.

use super::cache::Keys;
use super::conditions::{Conditions, Verdict};
use super::layers::{Own, Shared, add, environment_variables, forwarded_variables, shown_variables};
use super::outcome::{Because, JobReason, Outcome};

use super::{AllowFailure, AutoCancel, Job, Need, Plan, When, Work};
use crate::config::{Config, JobConfig, NeedConfig, Rule};
use crate::diagnostic::Diagnostic;
use crate::request::{Files, Request};
use crate::source::Span;
use crate::variables::{Scope, Unknown, circles, expand};
use indexmap::IndexMap;
use std::collections::HashSet;

/// GitLab's limit after fanning out.
const MOST_NEEDS: usize = 50;
/// Of a pipeline's name.
const LONGEST_NAME: usize = 255;
const NO_JOBS: &str = "Pipeline will not run for the selected trigger. \
                       The rules configuration prevented any jobs from being added to the pipeline.";

/// Decides which jobs the request creates, and how each would run. `diagnostics` takes hints; what prevents the
/// pipeline is in [`Outcome::creation_errors`]. The configuration must be valid.
pub fn build(
    config: &Config,
    request: &Request,
    files: &dyn Files,
    diagnostics: &mut Vec<Diagnostic>,
) -> Outcome {
    Planner::new(config, request, files, Detail::Whole).plan(diagnostics)
}

/// As [`build`] for those who look at the plan and run nothing: jobs have no [`Job::environment_variables`].
pub fn outline(
    config: &Config,
    request: &Request,
    files: &dyn Files,
    diagnostics: &mut Vec<Diagnostic>,
) -> Outcome {
    Planner::new(config, request, files, Detail::Outline).plan(diagnostics)
}

/// As [`outline`] for those who want to know which jobs there are and how they hang together: they have no
/// [`Job::variables`] either, whose values take long to expand.
pub fn sketch(
    config: &Config,
    request: &Request,
    files: &dyn Files,
    diagnostics: &mut Vec<Diagnostic>,
) -> Outcome {
    Planner::new(config, request, files, Detail::Sketch).plan(diagnostics)
}

/// How much is said of a job's variables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    /// Nothing.
    Sketch,
    /// What people see.
    Outline,
    /// What its processes see, too.
    Whole,
}

/// `auto_cancel` of a workflow that lets the pipeline pass.
struct Passed(Option<AutoCancel>);

struct Planner<'a> {
    config: &'a Config,
    keys: Keys<'a>,
    conditions: Conditions<'a>,
    shared: Shared<'a>,
    detail: Detail,
    errors: Vec<Diagnostic>,
}

impl<'a> Planner<'a> {
    fn new(config: &'a Config, request: &'a Request, files: &'a dyn Files, detail: Detail) -> Planner<'a> {
        Planner {
            config,
            keys: Keys::new(files, &request.commit),
            conditions: Conditions::new(request, files),
            shared: Shared::new(config, request),
            detail,
            errors: Vec::new(),
        }
    }

    fn plan(mut self, diagnostics: &mut Vec<Diagnostic>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(auto_cancel) = self.workflow(&mut outcome) else { return outcome };
        let config = self.config;
        let mut jobs = Vec::with_capacity(config.jobs.len());
        jobs.extend(config.jobs.iter().filter_map(|job| self.job(job, &mut outcome.reasons)));
        self.check_needs(&jobs, diagnostics);
        let name = self.name();
        let only_edges = jobs.iter().all(|job| matches!(job.stage.as_str(), ".pre" | ".post"));
        if self.errors.is_empty() && only_edges {
            self.errors.push(Diagnostic::error("no-jobs", NO_JOBS).help(
                "jobs in `.pre` and `.post` alone make no pipeline; `ci plan --why JOB` says why a job is left out",
            ));
        }
        outcome.creation_errors = self.errors;
        if outcome.creation_errors.is_empty() {
            let used: HashSet<&str> = jobs.iter().map(|job| job.stage.as_str()).collect();
            let stages = config.stages.iter().filter(|s| used.contains(s.as_str())).cloned().collect();
            outcome.plan = Some(Plan { name, auto_cancel: auto_cancel.0, stages, jobs });
        }
        outcome
    }

    /// Evaluates `workflow:rules`; none when they filter the pipeline out.
    fn workflow(&mut self, outcome: &mut Outcome) -> Option<Passed> {
        let workflow = &self.config.workflow;
        let mut auto_cancel = workflow.auto_cancel.clone();
        if let Some(rules) = &workflow.rules {
            let project = self.shared.project(None);
            let verdict = self.conditions.rules(rules, &self.shared.workflow_scope(&project));
            outcome.workflow = verdict.trials;
            let span = outcome.workflow.last().and_then(|trial| trial.span);
            if !verdict.included {
                let error = Diagnostic::error("workflow-rules", "Pipeline filtered out by workflow rules.");
                let error = match &verdict.because {
                    Because::Error(message) => error.help(message.clone()),
                    Because::Rule(_) => error.at_opt(span, "this rule says `when: never`"),
                    _ => error.at_opt(span, "neither this rule nor one before it matches"),
                };
                outcome.creation_errors.push(error);
                return None;
            }
            if let Some(rule) = verdict.rule {
                add(&mut self.shared.root, &rule.variables);
                auto_cancel = merge(auto_cancel, rule.auto_cancel.clone());
            }
        }
        let empty = AutoCancel::default();
        Some(Passed(auto_cancel.filter(|cancel| *cancel != empty)))
    }

    fn name(&mut self) -> Option<String> {
        let text = self.config.workflow.name.as_ref()?;
        let project = self.shared.project(None);
        let scope = self.shared.workflow_scope(&project);
        let name = scope.expand(text, Unknown::Remove).trim().to_owned();
        if name.chars().count() > LONGEST_NAME {
            let text = "Failed to build pipeline metadata! Name is too long (maximum is 255 characters)";
            self.errors.push(Diagnostic::error("workflow-name", text));
        }
        (!name.is_empty()).then_some(name)
    }

    /// The job as it would run, if the request creates it.
    fn job(&mut self, config: &JobConfig, reasons: &mut Vec<JobReason>) -> Option<Job> {
        let mut own = self.shared.own(config);
        if let Some(environment) = &config.environment {
            self.shared.enter(&mut own, environment);
        }
        let scope = self.shared.scope(&own);
        let implicit = self.config.workflow.rules.is_none();
        let Verdict { included, because, trials, rule } = self.conditions.job(config, implicit, &scope);
        if let Because::Error(message) = &because {
            let message = format!("Failed to parse rule for {}: {message}", config.name);
            self.errors.push(Diagnostic::error("rule", message).at(config.span, ""));
        }
        let included =
            included && !(rule.is_some_and(|r| r.when.is_none()) && config.when == Some(When::Never));
        reasons.push(JobReason { job: config.name.clone(), included, because, trials });
        if !included {
            return None;
        }
        self.errors.extend(circle_error(&config.name, config.span, &scope));
        let tags =
            config.tags.iter().map(|tag| expand(tag, Unknown::Keep, &|name| scope.value(name))).collect();
        drop(scope);
        if let Some(rule) = rule {
            own.apply(rule);
        }
        Some(self.finish(config, rule, own, tags))
    }

    fn finish(&self, config: &JobConfig, rule: Option<&Rule>, mut own: Own<'_>, tags: Vec<String>) -> Job {
        let when = rule.and_then(|r| r.when).or(config.when).unwrap_or_default();
        let mut environment = config.environment.clone();
        if let Some(environment) = &mut environment {
            environment.name = self.shared.enter(&mut own, environment);
        }
        let caches = config.cache.iter().enumerate();
        let needs = rule.and_then(|r| r.needs.as_deref().and_then(replacing_needs));
        Job {
            name: config.name.clone(),
            stage: config.stage.clone(),
            when,
            start_in: rule.and_then(|r| r.start_in.clone()).or_else(|| config.start_in.clone()),
            allow_failure: allow_failure(config, rule),
            needs: needs.or_else(|| config.needs.as_deref().map(job_needs)),
            dependencies: config.dependencies.clone(),
            interruptible: rule.and_then(|r| r.interruptible).or(config.interruptible).unwrap_or(false),
            tags,
            variables: match self.detail {
                Detail::Sketch => IndexMap::default(),
                Detail::Outline | Detail::Whole => shown_variables(&self.shared, &own),
            },
            environment,
            cache: caches.map(|(i, c)| self.keys.resolve(c, i)).collect(),
            work: Work::clone(&config.work),
            environment_variables: match self.detail {
                Detail::Whole => environment_variables(&self.shared.scope(&own)),
                Detail::Sketch | Detail::Outline => Vec::new(),
            },
            forwarded_variables: match config.work.trigger {
                Some(_) if self.detail > Detail::Sketch => forwarded_variables(&self.shared, &own),
                _ => Vec::new(),
            },
        }
    }

    /// GitLab checks the needs of the job itself, whether or not a rule has replaced them.
    fn check_needs(&mut self, jobs: &[Job], diagnostics: &mut Vec<Diagnostic>) {
        let names: HashSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
        let configs = self.config.jobs.iter().filter(|config| names.contains(config.name.as_str()));
        for config in configs.clone() {
            let needs = config.needs.as_deref().map(job_needs).unwrap_or_default();
            self.errors.extend(needs_errors(config, &needs, &names));
        }
        for (job, config) in jobs.iter().zip(configs) {
            let own = config.needs.as_deref().map(job_needs);
            if job.needs == own {
                continue;
            }
            for need in job.needs.iter().flatten().filter(|n| !n.optional && !names.contains(n.job.as_str()))
            {
                let text = format!(
                    "job `{}` needs job `{}` through a rule, but that job is not in the pipeline",
                    job.name, need.job
                );
                let hint = Diagnostic::hint("rule-needs-absent", text).at(config.span, "");
                diagnostics.push(hint.help("GitLab does not refuse this, it ignores the need"));
            }
        }
    }
}

fn merge(below: Option<AutoCancel>, above: Option<AutoCancel>) -> Option<AutoCancel> {
    let (Some(below), Some(above)) = (&below, &above) else { return above.or(below) };
    Some(AutoCancel {
        on_new_commit: above.on_new_commit.clone().or(below.on_new_commit.clone()),
        on_job_failure: above.on_job_failure.clone().or(below.on_job_failure.clone()),
    })
}

/// A rule's `allow_failure` also drops the exit codes. Without any, jobs that are manual by themselves may fail;
/// those that a rule made manual may not.
fn allow_failure(config: &JobConfig, rule: Option<&Rule>) -> AllowFailure {
    let manual = config.when == Some(When::Manual);
    let stated = rule.and_then(|r| r.allow_failure.clone()).or_else(|| config.allow_failure.clone());
    stated.unwrap_or(AllowFailure::Static(manual))
}

fn job_needs(needs: &[NeedConfig]) -> Vec<Need> {
    let here = |need: &NeedConfig| match need {
        NeedConfig::Job(need) => Some(need.clone()),
        NeedConfig::Elsewhere(_) => None,
    };
    needs.iter().filter_map(here).collect()
}

/// An empty `rules:needs` leaves the job's own in place, against GitLab's documentation but as its code does.
fn replacing_needs(needs: &[NeedConfig]) -> Option<Vec<Need>> {
    Some(job_needs(needs)).filter(|needs| !needs.is_empty())
}

fn needs_errors(config: &JobConfig, needs: &[Need], names: &HashSet<&str>) -> Vec<Diagnostic> {
    let span = config.keyword_spans.get("needs").unwrap_or(config.span);
    let name = &config.name;
    if needs.len() > MOST_NEEDS {
        let text = format!(
            "{name}: one job can only need {MOST_NEEDS} others, but you have listed {}. \
             See needs keyword documentation for more details",
            needs.len()
        );
        return vec![Diagnostic::error("too-many-needs", text).at(span, "")];
    }
    let absent = needs.iter().filter(|need| !need.optional && !names.contains(need.job.as_str()));
    let error = |need: &Need| {
        let text = format!(
            "'{name}' job needs '{0}' job, but '{0}' does not exist in the pipeline. This might be because of the \
             only, except, or rules keywords. To need a job that sometimes does not exist in the pipeline, use \
             needs:optional.",
            need.job
        );
        Diagnostic::error("missing-need", text)
            .at(span, "")
            .help(format!("`ci plan --why '{}'` says why that job is left out", need.job))
    };
    absent.map(error).collect()
}

fn circle_error(name: &str, span: Span, scope: &Scope<'_>) -> Option<Diagnostic> {
    let found = circles(scope);
    if found.is_empty() {
        return None;
    }
    let lists: Vec<String> = found.iter().map(|names| format!("[{}]", quoted(names))).collect();
    let text = format!("{name}: circular variable reference detected: {}", lists.join(", "));
    Some(Diagnostic::error("variable-circle", text).at(span, ""))
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}
