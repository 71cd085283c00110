//! How a job ended, in the words that its server knows.

use crate::wire::job::Features;
use crate::wire::update::{JobState, UpdateJob, failure};
use pipelines::status::FailureReason;
use runners::job::Outcome;

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: JobState,
    pub(super) reason: String,
    pub(super) exit_code: Option<i64>,
}

impl Verdict {
    pub(super) fn of(outcome: &Outcome, features: &Features) -> Verdict {
        let (reasons, exit_code): (&[&str], Option<i32>) = match outcome {
            Outcome::Success => {
                return Verdict { state: JobState::Success, reason: String::new(), exit_code: None };
            }
            Outcome::Failed { reason, exit_code, .. } => (words(*reason), *exit_code),
            Outcome::Lost { .. } => (&[failure::RUNNER_SYSTEM], None),
            Outcome::Canceled => (&[failure::CANCELED], None),
            // of trigger jobs, which no runner gets; and what only a server says
            Outcome::Blocked { .. } | Outcome::Skipped => (&[], None),
        };
        Verdict {
            state: JobState::Failed,
            reason: known(reasons, features).to_owned(),
            exit_code: exit_code.filter(|code| *code != 0).map(i64::from),
        }
    }

    /// The job's process was told to end.
    pub(super) fn interrupted(features: &Features) -> Verdict {
        let reasons = [failure::INTERRUPTED, failure::RUNNER_SYSTEM];
        Verdict { state: JobState::Failed, reason: known(&reasons, features).to_owned(), exit_code: None }
    }

    pub(super) fn update(&self) -> UpdateJob {
        UpdateJob {
            state: self.state,
            failure_reason: self.reason.clone(),
            exit_code: self.exit_code,
            ..UpdateJob::default()
        }
    }
}

/// The first that the server knows; one that says nothing of them gets the first.
fn known<'a>(reasons: &[&'a str], features: &Features) -> &'a str {
    let listed = &features.failure_reasons;
    let found = reasons.iter().find(|reason| listed.is_empty() || listed.iter().any(|l| l == *reason));
    found.copied().unwrap_or(failure::UNKNOWN)
}

/// GitLab's names for a reason, the nearest first.
fn words(reason: FailureReason) -> &'static [&'static str] {
    match reason {
        FailureReason::ScriptFailure => &[failure::SCRIPT],
        FailureReason::RunnerSystemFailure => &[failure::RUNNER_SYSTEM],
        FailureReason::JobExecutionTimeout => &[failure::TIMEOUT],
        FailureReason::MissingDependencyFailure => &["missing_dependency_failure", failure::RUNNER_SYSTEM],
        FailureReason::RunnerUnsupported => &["runner_unsupported", failure::CONFIGURATION, failure::SCRIPT],
        FailureReason::ImagePullFailure => &[failure::IMAGE_PULL, failure::RUNNER_SYSTEM],
        FailureReason::DataIntegrityFailure => &["data_integrity_failure", failure::SCRIPT],
        FailureReason::DownstreamPipelineFailure | FailureReason::UnknownFailure => &[failure::UNKNOWN],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_the_nearest_that_the_server_knows() {
        let failed =
            |reason, exit_code| Outcome::Failed { reason, exit_code, message: Some("secret".to_owned()) };
        let table: [(Outcome, &[&str], &str, Option<i64>); 8] = [
            (failed(FailureReason::ScriptFailure, Some(3)), &[], "script_failure", Some(3)),
            (failed(FailureReason::ScriptFailure, None), failure::ALL, "script_failure", None),
            (failed(FailureReason::ImagePullFailure, None), failure::ALL, "image_pull_failure", None),
            (
                failed(FailureReason::ImagePullFailure, None),
                &["runner_system_failure"],
                "runner_system_failure",
                None,
            ),
            (failed(FailureReason::RunnerUnsupported, None), &["script_failure"], "script_failure", None),
            (failed(FailureReason::JobExecutionTimeout, None), &["x"], "unknown_failure", None),
            (Outcome::Canceled, &[], "job_canceled", None),
            (Outcome::Canceled, &["script_failure"], "unknown_failure", None),
        ];
        for (outcome, listed, reason, exit_code) in table {
            let failure_reasons = listed.iter().map(|l| (*l).to_owned()).collect();
            let verdict = Verdict::of(&outcome, &Features { failure_reasons, ..Features::default() });
            assert_eq!(
                (verdict.state, verdict.reason.as_str(), verdict.exit_code),
                (JobState::Failed, reason, exit_code)
            );
        }
        let success = Verdict::of(&Outcome::Success, &Features::default());
        assert_eq!((success.state, success.reason.as_str()), (JobState::Success, ""));
    }
}
