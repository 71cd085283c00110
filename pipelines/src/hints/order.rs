//! `needs` that say what the stages say.

use super::{Subject, keyword, once};
use crate::config::{JobConfig, NeedConfig};
use crate::diagnostic::Diagnostic;
use crate::plan::When;
use std::collections::HashMap;

/// Jobs that need all jobs of all earlier stages, and nothing else.
pub(super) fn repeated_stages(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let jobs = &subject.config.jobs;
    let stages: HashMap<&str, usize> =
        jobs.iter().map(|job| (job.name.as_str(), subject.stage(&job.stage))).collect();
    let repeats = subject.jobs().filter(|job| {
        let Some(needs) = job.needs.as_ref().filter(|needs| !needs.is_empty()) else { return false };
        let own = subject.stage(&job.stage);
        let earlier = || jobs.iter().filter(|other| stages[other.name.as_str()] < own);
        let is_plain = |need: &NeedConfig| match need {
            NeedConfig::Job(need) => {
                need.artifacts
                    && !need.optional
                    && stages.get(need.job.as_str()).is_some_and(|stage| *stage < own)
            }
            NeedConfig::Elsewhere(_) => false,
        };
        job.rules.iter().all(|rule| rule.needs.is_none())
            && needs.iter().all(is_plain)
            && needs.len() == earlier().count()
            && earlier().all(|other| is_waited_for(other) && is_always_there(other))
    });
    once(repeats.map(|job| {
        let text = format!(
            "`needs` of job `{}` lists all jobs of the earlier stages, as the stages do",
            job.base_name
        );
        Diagnostic::hint("needs-repeats-stages", text).at(keyword(job, "needs"), "").help(
            "without `needs` the job starts at the same time, and new jobs need not be added to the list",
        )
    }))
}

/// Stages do not wait for optional manual jobs and go on when a job was skipped; needs do not.
fn is_waited_for(job: &JobConfig) -> bool {
    !matches!(job.when, Some(When::Manual | When::OnFailure))
}

/// A need of a job that rules left out is an error, a stage without it is none.
fn is_always_there(job: &JobConfig) -> bool {
    job.rules.is_empty() && job.only.is_none() && job.except.is_none()
}
