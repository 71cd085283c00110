//! Findings of our own about a valid configuration: what GitLab accepts and people regret. None enters a plan
//! document. Each has a code with a page of `ci lint --explain`, and can be allowed by a comment.
//!
//! | module | codes |
//! |---|---|
//! | `allow` | `# ci-lint: allow CODE` |
//! | `hidden` | `unused-hidden-job` |
//! | `conditions` | `job-never-runs`, `glob-direct-children` |
//! | `image` | `undefined-variable-in-image` |
//! | `storage` | `cache-never-written`, `artifact-never-read` |
//! | `order` | `needs-repeats-stages` |
//! | `twice` | `duplicate-pipelines` |
//!
//! `duplicate-key`, `only-with-rules` and `rule-needs-absent` are found on the way, where the facts are at hand.

mod allow;
mod conditions;
mod hidden;
mod image;
mod order;
mod storage;
mod twice;

pub use allow::is_allowed;

use crate::config::{Config, JobConfig};
use crate::diagnostic::Diagnostic;
use crate::request::{Files, Request};
use crate::source::{SourceMap, Span};
use crate::yaml::{Key, Node};
use std::collections::HashSet;

/// A valid configuration and the request that it was read for.
pub struct Subject<'a> {
    /// The merged tree.
    pub root: &'a Node,
    /// What was made of it.
    pub config: &'a Config,
    /// Its files.
    pub sources: &'a SourceMap,
    /// The request.
    pub request: &'a Request,
    /// The project's files.
    pub files: &'a dyn Files,
}

/// Adds all hints about the configuration to `found`, which holds what is known about it already.
pub fn hints(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    found.extend(hidden::unused(subject));
    found.extend(conditions::never_run(subject));
    found.extend(conditions::direct_children(subject));
    found.extend(image::undefined_variables(subject));
    found.extend(storage::unwritten_caches(subject));
    found.extend(storage::unread_artifacts(subject));
    found.extend(order::repeated_stages(subject));
    if !found.iter().any(|d| d.code == "duplicate-pipelines") {
        found.extend(twice::duplicate_pipelines(subject));
    }
}

impl Subject<'_> {
    /// One instance of each job.
    fn jobs(&self) -> impl Iterator<Item = &JobConfig> {
        let mut seen = HashSet::new();
        self.config.jobs.iter().filter(move |job| seen.insert(job.base_name.clone()))
    }

    /// Trees of the visible jobs and other keywords with a map.
    fn visible(&self) -> impl Iterator<Item = (&Key, &Node)> {
        let all = self.root.as_mapping().into_iter().flat_map(|map| map.iter());
        all.filter(|(key, _)| !key.to_string().starts_with('.')).map(|(key, entry)| (key, &entry.node))
    }

    /// Index of a stage in the order of stages.
    fn stage(&self, name: &str) -> usize {
        self.config.stages.iter().position(|stage| stage == name).unwrap_or(usize::MAX)
    }
}

/// Where a job's keyword was written, or the job's name when the keyword is inherited.
fn keyword(job: &JobConfig, name: &str) -> Span {
    job.keyword_spans.get(name).unwrap_or(job.span)
}

/// Keeps one finding per place: jobs that extend the same one share its faults.
fn once(diagnostics: impl Iterator<Item = Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    diagnostics.filter(|d| d.labels.first().is_none_or(|(span, _)| seen.insert(*span))).collect()
}

#[cfg(test)]
mod tests;
