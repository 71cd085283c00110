//! Why a job is in a pipeline or not: `ci plan --why JOB`.

use pipelines::config::{Config, JobConfig, Rule};
use pipelines::plan::{Because, JobReason, Outcome, Part, Trial, When};
use pipelines::request::Request;
use pipelines::source::SourceMap;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// Paths that are listed of a change set.
const MOST_PATHS: usize = 5;

/// What the answer is taken from.
pub struct Why<'a> {
    /// The files.
    pub sources: &'a SourceMap,
    /// The configuration.
    pub config: &'a Config,
    /// What was asked for.
    pub request: &'a Request,
    /// What came of it.
    pub outcome: &'a Outcome,
}

impl Why<'_> {
    /// The answer for people. `name` is a job's name, or that of all instances of a parallel job.
    pub fn text(&self, name: &str) -> String {
        if self.is_filtered_out() {
            return self.workflow(name);
        }
        let mut text = String::new();
        let mut told: Option<&JobReason> = None;
        for (reason, job) in self.reasons(name) {
            let same = |other: &JobReason| other.because == reason.because && other.trials == reason.trials;
            if told.is_some_and(same) {
                let _ = writeln!(text, "job `{}`: the same", reason.job);
                continue;
            }
            told = Some(reason);
            self.reason(&mut text, reason, job);
        }
        for error in &self.outcome.creation_errors {
            let _ = writeln!(text, "\nthere is no pipeline: {}", error.message);
        }
        text
    }

    /// The answer for machines.
    pub fn json(&self, name: &str) -> Json {
        let jobs = self.reasons(name).map(|(reason, _)| {
            let (because, rule) = match &reason.because {
                Because::Rule(index) => ("rule", Some(index + 1)),
                other => (word(other), None),
            };
            json!({
                "job": reason.job, "included": reason.included, "because": because, "rule": rule,
                "tried": self.trials(&reason.trials),
            })
        });
        json!({
            "created": self.outcome.plan.is_some(),
            "creation_errors": self.outcome.creation_errors.iter().map(|d| &d.message).collect::<Vec<_>>(),
            "workflow": self.trials(&self.outcome.workflow),
            "jobs": jobs.collect::<Vec<_>>(),
        })
    }

    fn trials(&self, trials: &[Trial]) -> Json {
        let part = |part: &Part| {
            json!({
                "keyword": part.keyword, "text": part.text, "holds": part.holds,
                "values": part.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
            })
        };
        let trial = |trial: &Trial| {
            let place =
                trial.span.map(|span| (&self.sources.file(span.file).name, self.sources.position(span).line));
            json!({
                "file": place.map(|p| p.0), "line": place.map(|p| p.1), "holds": trial.holds(),
                "parts": trial.parts.iter().map(part).collect::<Vec<_>>(),
            })
        };
        trials.iter().map(trial).collect()
    }

    /// Instances that the name means.
    fn reasons<'s>(&'s self, name: &'s str) -> impl Iterator<Item = (&'s JobReason, &'s JobConfig)> {
        let exact = self.config.jobs.iter().any(|job| job.name == name);
        let all = self.outcome.reasons.iter().zip(&self.config.jobs);
        all.filter(move |(_, job)| if exact { job.name == name } else { *job.base_name == *name })
    }

    fn is_filtered_out(&self) -> bool {
        self.outcome.reasons.is_empty()
    }

    fn workflow(&self, name: &str) -> String {
        let mut text =
            format!("job `{name}` is not in a pipeline: `workflow:rules` let none come into being\n");
        let rules = self.config.workflow.rules.as_deref().unwrap_or_default();
        self.rules(&mut text, &self.outcome.workflow, rules);
        if let Some(help) = self.outcome.creation_errors.iter().find_map(|d| d.help.as_ref()) {
            let _ = writeln!(text, "\n{help}");
        }
        text
    }

    fn reason(&self, text: &mut String, reason: &JobReason, job: &JobConfig) {
        let verdict = if reason.included { "is in the pipeline" } else { "is not in the pipeline" };
        let _ =
            writeln!(text, "job `{}` {verdict}: {}", reason.job, sentence(&reason.because, reason.included));
        match &reason.because {
            Because::Only | Because::Except | Because::DefaultRefs => self.policies(text, reason, job),
            _ => self.rules(text, &reason.trials, &job.rules),
        }
    }

    fn rules(&self, text: &mut String, trials: &[Trial], rules: &[Rule]) {
        for (index, (trial, rule)) in trials.iter().zip(rules).enumerate() {
            let holds = if trial.holds() { "matches" } else { "does not match" };
            let _ = writeln!(text, "\n  rule {} {holds}  {}", index + 1, self.place(trial));
            if trial.parts.is_empty() {
                let _ = writeln!(text, "    ✓ no condition");
            }
            trial.parts.iter().for_each(|part| self.part(text, part));
            if trial.holds() {
                let _ = writeln!(text, "    → when: {}", rule.when.map_or("as the job says", word_of));
            }
        }
        let left = rules.len().saturating_sub(trials.len());
        if left > 0 && !trials.is_empty() {
            let _ = writeln!(text, "\n  {left} more not looked at");
        }
    }

    fn policies(&self, text: &mut String, reason: &JobReason, job: &JobConfig) {
        for (index, trial) in reason.trials.iter().enumerate() {
            let except = index > 0
                || (job.only.is_none() && reason.because == Because::Except && trial.span.is_some());
            let keyword = if except { "except" } else { "only" };
            let holds = if except { trial.parts.iter().any(|p| p.holds) } else { trial.holds() };
            let _ = writeln!(
                text,
                "\n  {keyword} {}  {}",
                if holds { "matches" } else { "does not match" },
                self.place(trial)
            );
            trial.parts.iter().for_each(|part| self.part(text, part));
        }
    }

    fn place(&self, trial: &Trial) -> String {
        trial.span.map_or("(what holds without `rules` and `only`)".to_owned(), |span| {
            format!("{}:{}", self.sources.file(span.file).name, self.sources.position(span).line)
        })
    }

    fn part(&self, text: &mut String, part: &Part) {
        let _ = writeln!(text, "    {} {}: {}", if part.holds { '✓' } else { '✗' }, part.keyword, part.text);
        for (name, value) in &part.values {
            let value = value.as_ref().map_or("is not defined".to_owned(), |value| format!("= {value:?}"));
            let _ = writeln!(text, "        ${name} {value}");
        }
        match part.keyword {
            "changes" => drop(writeln!(text, "        {}", self.changes())),
            "refs" => drop(writeln!(text, "        {}", self.reference())),
            _ => {}
        }
    }

    fn changes(&self) -> String {
        match self.request.changes.get() {
            None => "what changed is not known; that counts as a match".to_owned(),
            Some([]) => "nothing changed".to_owned(),
            Some(paths) => {
                let more = paths.len().saturating_sub(MOST_PATHS);
                let shown = paths[..paths.len().min(MOST_PATHS)].join(", ");
                if more > 0 {
                    format!("changed: {shown} and {more} more")
                } else {
                    format!("changed: {shown}")
                }
            }
        }
    }

    fn reference(&self) -> String {
        let kind = if self.request.tag { "tag" } else { "branch" };
        format!("{kind} `{}`, source `{}`", self.request.reference, self.request.source)
    }
}

fn word(because: &Because) -> &'static str {
    match because {
        Because::Unconditional => "unconditional",
        Because::Rule(_) => "rule",
        Because::NoRule => "no_rule",
        Because::DefaultRefs => "default_refs",
        Because::Only => "only",
        Because::Except => "except",
        Because::Error(_) => "error",
    }
}

fn sentence(because: &Because, included: bool) -> String {
    match (because, included) {
        (Because::Unconditional, _) => "nothing restricts it".to_owned(),
        (Because::Rule(index), true) => format!("rule {} matches", index + 1),
        (Because::Rule(index), false) => format!("rule {} matches and says `when: never`", index + 1),
        (Because::NoRule, _) => "none of its rules matches".to_owned(),
        (Because::DefaultRefs, true) => "without `rules` and `only` it is for branches and tags".to_owned(),
        (Because::DefaultRefs, false) => {
            "without `rules` and `only` it is for branches and tags alone".to_owned()
        }
        (Because::Only, true) => "`only` matches".to_owned(),
        (Because::Only, false) => "`only` does not match".to_owned(),
        (Because::Except, _) => "`except` matches".to_owned(),
        (Because::Error(message), _) => message.clone(),
    }
}

fn word_of(when: When) -> &'static str {
    match when {
        When::OnSuccess => "on_success",
        When::OnFailure => "on_failure",
        When::Always => "always",
        When::Manual => "manual",
        When::Delayed => "delayed",
        When::Never => "never",
    }
}
