//! What became of a request, and why.

use super::Plan;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The answer to a request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// None: no pipeline comes into being; `creation_errors` says why.
    pub plan: Option<Plan>,
    /// Why there is no pipeline, in GitLab's words.
    pub creation_errors: Vec<Diagnostic>,
    /// The workflow rules that were looked at, in order; the last one decided.
    pub workflow: Vec<Trial>,
    /// One for every job instance of the configuration, in its order.
    pub reasons: Vec<JobReason>,
}

/// Why a job is in the pipeline, or is not.
#[derive(Clone, Debug, PartialEq)]
pub struct JobReason {
    /// Name of the instance.
    pub job: String,
    /// Is it in?
    pub included: bool,
    /// In one word.
    pub because: Because,
    /// What was looked at, in order: rules, or the parts of `only` and `except`.
    pub trials: Vec<Trial>,
}

/// What decided about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// Nothing restricts it.
    Unconditional,
    /// This rule matched, counted from 0 in the flattened list; its `when` may be `never`.
    Rule(usize),
    /// No rule matched.
    NoRule,
    /// The job has neither `rules` nor `only`: it is for branches and tags alone.
    DefaultRefs,
    /// `only` decided.
    Only,
    /// `except` decided.
    Except,
    /// A rule could not be evaluated: the message.
    Error(String),
}

/// One rule, or one of `only` and `except`, as it was evaluated. It holds when all its parts do (`except` excludes
/// when any does); parts after the first that fails are not evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Where it stands; none for the implicit `only`.
    pub span: Option<Span>,
    /// In order of evaluation. Empty: a rule without conditions.
    pub parts: Vec<Part>,
}

impl Trial {
    /// Do all parts hold?
    pub fn holds(&self) -> bool {
        self.parts.iter().all(|part| part.holds)
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// `if`, `changes`, `exists`, `refs`, `variables`, `kubernetes`.
    pub keyword: &'static str,
    /// The condition as written; patterns are expanded and separated by commas.
    pub text: String,
    /// Does it hold?
    pub holds: bool,
    /// The variables that it compares, with their values; none for one that is not defined.
    pub values: Vec<(String, Option<String>)>,
}
