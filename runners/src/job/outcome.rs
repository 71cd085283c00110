//! How an attempt ended.

use crate::executor::{ExecutorError, Exit};
use pipelines::status::FailureReason;
use std::time::Duration;

/// What ends an attempt before its last phase.
#[derive(Debug)]
pub(super) enum End {
    Failed { reason: FailureReason, exit_code: Option<i32>, message: String },
    Canceled,
}

impl End {
    pub(super) fn system(message: impl Into<String>) -> End {
        End::Failed { reason: FailureReason::RunnerSystemFailure, exit_code: None, message: message.into() }
    }

    pub(super) fn exit(exit: Exit) -> End {
        let code = exit.code();
        let why = match exit {
            Exit::OutOfMemory(_) => {
                ": out of memory: the job reached `limits: {memory}` of the settings, and the kernel killed a process"
            }
            // also what a shell says of its last command
            _ if code == 137 => {
                ": SIGKILL: it was killed from outside, perhaps because the machine has no memory left (that can be \
                 told only of a job with `limits: {memory}`)"
            }
            _ => "",
        };
        let message = format!("exit code {code}{why}");
        End::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(code), message }
    }

    /// `setting` is what allows more time: "the job's `timeout`".
    pub(super) fn timeout(limit: Duration, setting: &str) -> End {
        let message = format!("execution took longer than {}s: raise {setting}", limit.as_secs_f64());
        End::Failed { reason: FailureReason::JobExecutionTimeout, exit_code: None, message }
    }
}

impl From<ExecutorError> for End {
    fn from(error: ExecutorError) -> End {
        End::Failed { reason: error.reason, exit_code: None, message: error.message }
    }
}
