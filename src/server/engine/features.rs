//! What a runner has to be able to do for a job. As GitLab asks it: `image:` and `services:` are not among it, since shell
//! runners leave them out there as well, and configurations name them for all jobs.

use crate::server::rows::Runner;
use crate::wire::runner::{Info, feature};
use pipelines::plan::{AllowFailure, Job};

/// What the job's runner needs, as a JSON list.
pub(super) fn wanted(job: &Job) -> String {
    let artifacts = job.work.artifacts.as_ref();
    let table = [
        (
            feature::ARTIFACTS_EXCLUDE,
            artifacts.and_then(|a| a.exclude.as_ref()).is_some_and(|list| !list.is_empty()),
        ),
        (feature::FALLBACK_CACHE_KEYS, job.cache.iter().any(|cache| !cache.fallback_keys.is_empty())),
        (feature::RETURN_EXIT_CODE, matches!(job.allow_failure, AllowFailure::ExitCodes { .. })),
        (
            feature::UPLOAD_MULTIPLE_ARTIFACTS,
            artifacts.and_then(|a| a.reports.as_ref()).is_some_and(|reports| !reports.is_empty()),
        ),
    ];
    let names: Vec<&str> = table.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

/// Those of a list (JSON) that the runner does not say it has. The server's own has all.
pub(super) fn lacking(runner: &Runner, wanted: &str) -> Vec<String> {
    if runner.local == 1 || wanted == "[]" {
        return Vec::new();
    }
    let wanted: Vec<String> = serde_json::from_str(wanted).unwrap_or_default();
    // a runner that never told what it can do can nothing
    let info: Info = serde_json::from_str(&runner.info).unwrap_or_default();
    wanted.into_iter().filter(|name| !info.can(name)).collect()
}
