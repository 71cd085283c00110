//! `--junit FILE`: the run as a JUnit document, a case per job, a suite per stage.

use super::terminal::log;
use super::terminal::state::{JobState, RunState};
use pipelines::event::Event;
use pipelines::status::{FailureReason, Status};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// Lines of the log that go into the case of a failed job.
const LINES: usize = 200;

/// The document.
///
/// # Errors
/// It can't be written as XML.
pub fn document(events: &[Event]) -> Result<String, SerializeError> {
    let mut run = RunState::default();
    events.iter().for_each(|event| run.apply(event));
    let mut report = Report::new(format!("ci run {}", run.number));
    report.set_time(Duration::from_millis(run.now.saturating_sub(run.started)));
    let mut stages: Vec<&str> = Vec::new();
    for job in &run.jobs {
        if !stages.contains(&job.stage.as_str()) {
            stages.push(&job.stage);
        }
    }
    for stage in stages {
        let mut suite = TestSuite::new(stage);
        suite.add_test_cases(run.jobs.iter().filter(|job| job.stage == stage).map(|job| case(job, run.now)));
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn case(job: &JobState, now: u64) -> TestCase {
    let mut case = TestCase::new(job.name.as_str(), status(job));
    case.set_classname(job.stage.as_str());
    if let Some(took) = job.elapsed(now) {
        case.set_time(Duration::from_millis(took));
    }
    if job.attempt > 1 {
        case.add_property(("attempts", job.attempt.to_string().as_str()));
    }
    if let Some(coverage) = &job.coverage {
        case.add_property(("coverage", coverage.as_str()));
    }
    if let Some((path, _)) = &job.log {
        case.add_property(("log", path.to_string_lossy().as_ref()));
    }
    case
}

fn status(job: &JobState) -> TestCaseStatus {
    let what = job.message.clone().unwrap_or_else(|| job.verdict());
    let mut status = match (job.status, job.reason) {
        (Status::Success, _) => return TestCaseStatus::success(),
        // allowed to fail: it did not fail the pipeline
        (Status::Failed, _) if job.allowed_to_fail => TestCaseStatus::skipped(),
        (Status::Failed, Some(FailureReason::ScriptFailure)) => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        (Status::Failed | Status::Canceled | Status::Canceling | Status::Running, _) => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
        _ => TestCaseStatus::skipped(),
    };
    status.set_message(if job.status == Status::Failed { job.verdict() } else { what });
    if job.status == Status::Failed
        && let Some((path, length)) = &job.log
        && let Ok(excerpt) = log::failure(path, *length, LINES)
    {
        status.set_type(job.reason.map_or("failed", FailureReason::name));
        status.set_description(excerpt.lines.join("\n"));
    }
    status
}
