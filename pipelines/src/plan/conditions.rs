//! Evaluates rules, `only` and `except` for one request. Texts are parsed and files are searched once for all jobs.

use super::outcome::{Because, Part, Trial};
use crate::config::{Changes, Exists, JobConfig, Policy, Rule};
use crate::expression::{self, Expression};
use crate::policy::{default_only, matches_refs};
use crate::request::{Files, Request};
use crate::rules;
use crate::variables::{Scope, Unknown};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Conditions of one request.
pub(super) struct Conditions<'a> {
    request: &'a Request,
    files: &'a dyn Files,
    /// None: not an expression. At this point it counts as false.
    expressions: RefCell<HashMap<String, Option<Rc<Expression>>>>,
    changes: RefCell<HashMap<Vec<String>, bool>>,
    exists: RefCell<HashMap<(Vec<String>, bool), bool>>,
}

/// What the conditions of a job came to.
pub(super) struct Verdict<'c> {
    pub(super) included: bool,
    pub(super) because: Because,
    pub(super) trials: Vec<Trial>,
    pub(super) rule: Option<&'c Rule>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(request: &'a Request, files: &'a dyn Files) -> Conditions<'a> {
        let (expressions, changes, exists) = Default::default();
        Conditions { request, files, expressions, changes, exists }
    }

    /// Rules from the top until one holds.
    pub(super) fn rules<'c>(&self, rules: &'c [Rule], scope: &Scope<'_>) -> Verdict<'c> {
        let mut trials = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let trial = match self.rule(rule, scope) {
                Ok(trial) => trial,
                Err(message) => {
                    let because = Because::Error(message);
                    return Verdict { included: false, because, trials, rule: None };
                }
            };
            let holds = trial.holds();
            trials.push(trial);
            if holds {
                let included = rule.when != Some(super::When::Never);
                return Verdict { included, because: Because::Rule(index), trials, rule: Some(rule) };
            }
        }
        Verdict { included: false, because: Because::NoRule, trials, rule: None }
    }

    /// The conditions of a job, whichever kind it has. `implicit`: does the default `only` hold for jobs without one?
    pub(super) fn job<'c>(&self, job: &'c JobConfig, implicit: bool, scope: &Scope<'_>) -> Verdict<'c> {
        if job.has_rules && !job.rules.is_empty() {
            return self.rules(&job.rules, scope);
        }
        let mut verdict =
            Verdict { included: true, because: Because::Unconditional, trials: Vec::new(), rule: None };
        if job.has_rules {
            return verdict;
        }
        let span = |keyword: &str| job.keyword_spans.get(keyword);
        let only = match &job.only {
            Some(only) => {
                let refs = only.refs.clone().or(default_only().refs);
                Some((Policy { refs, ..only.clone() }, span("only"), Because::Only))
            }
            None if implicit => Some((default_only(), None, Because::DefaultRefs)),
            None => None,
        };
        if let Some((only, span, because)) = only {
            let trial = Trial { span, parts: self.policy(&only, scope) };
            verdict.included = trial.holds();
            verdict.because = because;
            verdict.trials.push(trial);
        }
        if verdict.included
            && let Some(except) = &job.except
        {
            let trial = Trial { span: span("except"), parts: self.policy(except, scope) };
            if trial.parts.iter().any(|part| part.holds) {
                verdict.included = false;
                verdict.because = Because::Except;
            }
            verdict.trials.push(trial);
        }
        verdict
    }

    fn rule(&self, rule: &Rule, scope: &Scope<'_>) -> Result<Trial, String> {
        let mut trial = Trial { span: Some(rule.span), parts: Vec::new() };
        if let Some(text) = &rule.condition {
            trial.parts.push(self.condition("if", text, scope));
        }
        if let Some(changes) = rule.changes.as_ref().filter(|_| trial.holds()) {
            trial.parts.push(self.changes(changes, scope)?);
        }
        if let Some(exists) = rule.exists.as_ref().filter(|_| trial.holds()) {
            trial.parts.push(self.exists(exists, scope)?);
        }
        Ok(trial)
    }

    fn policy(&self, policy: &Policy, scope: &Scope<'_>) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(refs) = &policy.refs {
            parts.push(part("refs", refs.join(", "), matches_refs(refs, self.request)));
        }
        if policy.kubernetes {
            // there is no cluster integration here
            parts.push(part("kubernetes", "active".into(), false));
        }
        if let Some(texts) = &policy.variables {
            let tried: Vec<Part> = texts.iter().map(|t| self.condition("variables", t, scope)).collect();
            let holds = tried.iter().any(|part| part.holds);
            let values = tried.into_iter().flat_map(|part| part.values).collect();
            parts.push(Part { values, ..part("variables", texts.join(", "), holds) });
        }
        if let Some(globs) = &policy.changes {
            parts.push(part("changes", globs.join(", "), self.changed(globs)));
        }
        parts
    }

    fn condition(&self, keyword: &'static str, text: &str, scope: &Scope<'_>) -> Part {
        let Some(expression) = self.expression(text) else { return part(keyword, text.to_owned(), false) };
        let shown = |name: &str| scope.get(name).map(|variable| variable.shown().to_owned());
        let values = expression.variables().into_iter().map(|name| (name.to_owned(), shown(name))).collect();
        let holds = expression.holds(&|name| scope.value(name));
        Part { values, ..part(keyword, text.to_owned(), holds) }
    }

    fn expression(&self, text: &str) -> Option<Rc<Expression>> {
        if let Some(known) = self.expressions.borrow().get(text) {
            return known.clone();
        }
        let parsed = expression::parse(text).ok().map(Rc::new);
        self.expressions.borrow_mut().insert(text.to_owned(), parsed.clone());
        parsed
    }

    fn changes(&self, changes: &Changes, scope: &Scope<'_>) -> Result<Part, String> {
        if let Some(reference) = &changes.compare_to {
            let reference = scope.expand(reference, Unknown::Keep);
            if !self.is_known_ref(&reference) {
                return Err("rules:changes:compare_to is not a valid ref".into());
            }
        }
        let globs: Vec<String> = changes.paths.iter().map(|glob| scope.expand(glob, Unknown::Keep)).collect();
        Ok(part("changes", globs.join(", "), self.changed(&globs)))
    }

    fn changed(&self, globs: &[String]) -> bool {
        if let Some(known) = self.changes.borrow().get(globs) {
            return *known;
        }
        let holds = rules::changes(globs, self.request);
        self.changes.borrow_mut().insert(globs.to_vec(), holds);
        holds
    }

    fn is_known_ref(&self, name: &str) -> bool {
        let Some(known) = &self.request.known_refs else { return true };
        let short = ["refs/heads/", "refs/tags/"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
        let commit = &self.request.commit;
        let is_commit = |sha: &String| name.len() >= 7 && sha.starts_with(name);
        let commits = [Some(&commit.sha), commit.before_sha.as_ref(), commit.merge_base.as_ref()];
        name == "HEAD" || known.iter().any(|k| k == short) || commits.into_iter().flatten().any(is_commit)
    }

    fn exists(&self, exists: &Exists, scope: &Scope<'_>) -> Result<Part, String> {
        let globs: Vec<String> = exists.paths.iter().map(|glob| scope.expand(glob, Unknown::Keep)).collect();
        let text = globs.join(", ");
        let holds = match &exists.project {
            Some(project) => {
                let project = scope.expand(project, Unknown::Keep);
                if project.eq_ignore_ascii_case(&self.request.project) {
                    // the files at hand stand for every ref of the project itself
                    let holds = self.exists_here(globs, rules::top_level_only(&exists.paths));
                    return Ok(part("exists", text, holds));
                }
                let reference = exists.reference.as_ref().map(|r| scope.expand(r, Unknown::Keep));
                let paths = self.files.list(&project.to_lowercase(), reference.as_deref());
                let paths =
                    paths.map_err(|error| rules::unknown_place(&project, reference.as_deref(), &error))?;
                rules::exists_in(&globs, rules::top_level_only(&exists.paths), &paths)
            }
            None => self.exists_here(globs, rules::top_level_only(&exists.paths)),
        };
        Ok(part("exists", text, holds))
    }

    fn exists_here(&self, globs: Vec<String>, top_level_only: bool) -> bool {
        let key = (globs, top_level_only);
        if let Some(known) = self.exists.borrow().get(&key) {
            return *known;
        }
        let holds = rules::exists_in(&key.0, top_level_only, self.files.paths());
        self.exists.borrow_mut().insert(key, holds);
        holds
    }
}

fn part(keyword: &'static str, text: String, holds: bool) -> Part {
    Part { keyword, text, holds, values: Vec::new() }
}
