//! What a failure means by the job's own rules: run again, or let it pass.

use crate::plan::{AllowFailure, Job};
use crate::status::FailureReason;

/// Does `allow_failure` hold whatever happens? With exit codes it is false until one of them occurs.
pub(super) fn always_allowed(job: &Job) -> bool {
    matches!(job.allow_failure, AllowFailure::Static(true))
}

/// Is a failure with this exit code allowed?
pub(super) fn allowed(job: &Job, exit_code: Option<i32>) -> bool {
    match &job.allow_failure {
        AllowFailure::Static(allowed) => *allowed,
        AllowFailure::ExitCodes { exit_codes } => {
            exit_code.is_some_and(|c| exit_codes.contains(&i64::from(c)))
        }
    }
}

/// Is the job to run again after its attempt `attempt` (from 1) failed so?
pub(super) fn retries(job: &Job, attempt: u32, reason: FailureReason, exit_code: Option<i32>) -> bool {
    // such a failure would only come again; GitLab never retries it
    if reason == FailureReason::MissingDependencyFailure {
        return false;
    }
    let Some(retry) = &job.work.retry else { return false };
    if attempt > retry.max.unwrap_or(0) {
        return false;
    }
    let by_code = exit_code.is_some_and(|c| retry.exit_codes.contains(&i64::from(c)));
    let by_reason = retry.when.iter().any(|w| w == "always" || w == reason.name());
    by_code || by_reason || (retry.when.is_empty() && retry.exit_codes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureReason::*;
    use serde_json::{Value, json};

    fn job(retry: Value, allow_failure: Value) -> Job {
        let job = json!({ "name": "a", "stage": "test", "when": "on_success", "allow_failure": allow_failure,
                          "retry": retry });
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn retry_by_count_reason_and_exit_code() {
        let table = [
            (Value::Null, 1, ScriptFailure, Some(1), false),
            (json!({}), 1, ScriptFailure, Some(1), false),
            (json!({"max": 2}), 1, ScriptFailure, Some(1), true),
            (json!({"max": 2}), 2, RunnerSystemFailure, None, true),
            (json!({"max": 2}), 3, ScriptFailure, Some(1), false),
            (json!({"max": 0}), 1, ScriptFailure, Some(1), false),
            (json!({"max": 1, "when": ["always"]}), 1, UnknownFailure, None, true),
            (json!({"max": 1, "when": ["script_failure"]}), 1, ScriptFailure, Some(3), true),
            (json!({"max": 1, "when": ["script_failure"]}), 1, RunnerSystemFailure, None, false),
            (json!({"max": 1, "exit_codes": [137]}), 1, ScriptFailure, Some(137), true),
            (json!({"max": 1, "exit_codes": [137]}), 1, ScriptFailure, Some(1), false),
            (json!({"max": 1, "exit_codes": [137]}), 1, RunnerSystemFailure, None, false),
            (
                json!({"max": 1, "when": ["image_pull_failure"], "exit_codes": [5]}),
                1,
                ScriptFailure,
                Some(5),
                true,
            ),
            (
                json!({"max": 1, "when": ["image_pull_failure"], "exit_codes": [5]}),
                1,
                ImagePullFailure,
                None,
                true,
            ),
            (json!({"max": 2, "when": ["always"]}), 1, MissingDependencyFailure, None, false),
        ];
        for (retry, attempt, reason, exit_code, expected) in table {
            let job = job(retry.clone(), json!(false));
            assert_eq!(retries(&job, attempt, reason, exit_code), expected, "{retry} {attempt} {reason:?}");
        }
    }

    #[test]
    fn failure_allowed_by_exit_code() {
        let table = [
            (json!(true), None, true, true),
            (json!(false), Some(1), false, false),
            (json!({"exit_codes": [42]}), Some(42), true, false),
            (json!({"exit_codes": [42]}), Some(1), false, false),
            (json!({"exit_codes": [42]}), None, false, false),
        ];
        for (rule, exit_code, expected, always) in table {
            let job = job(Value::Null, rule.clone());
            assert_eq!(allowed(&job, exit_code), expected, "{rule} {exit_code:?}");
            assert_eq!(always_allowed(&job), always, "{rule}");
        }
    }
}
