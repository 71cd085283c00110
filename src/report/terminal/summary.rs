//! What stands at the end: a table of the jobs, the output of what failed, and what can be done next.

use super::paint::Paint;
use super::state::{JobState, RunState};
use super::{log, text};
use pipelines::status::Status;
use std::fmt::Write;

/// Lines of output shown of a failed command.
const FAILURE_LINES: usize = 20;
/// Columns that a name may take in the table.
const WIDEST_NAME: usize = 48;

/// The whole end of the report.
pub(super) fn summary(run: &RunState, status: Status, paint: Paint) -> String {
    let mut out = String::from("\n");
    table(&mut out, run, paint);
    for (index, job) in run.jobs.iter().enumerate().filter(|(_, j)| j.status == Status::Failed) {
        failure(&mut out, index, job, paint);
    }
    verdict(&mut out, run, status, paint);
    out
}

/// The widest of the texts, within bounds.
pub(super) fn column<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> usize {
    texts.map(text::width).max().unwrap_or(0).min(most)
}

fn table(out: &mut String, run: &RunState, paint: Paint) {
    let names = column(run.jobs.iter().map(|j| j.name.as_str()).chain(["job"]), WIDEST_NAME);
    let stages = column(run.jobs.iter().map(|j| j.stage.as_str()).chain(["stage"]), WIDEST_NAME);
    let verdicts: Vec<String> = run.jobs.iter().map(JobState::verdict).collect();
    let statuses = column(verdicts.iter().map(String::as_str).chain(["status"]), WIDEST_NAME);
    let (job, stage) = (text::pad("job", names), text::pad("stage", stages));
    let header = format!("{job}  {stage}  {}  time", text::pad("status", statuses));
    let _ = writeln!(out, "{}", paint.bold(&header));
    for (job, verdict) in run.jobs.iter().zip(&verdicts) {
        let status = paint.status(job.status, job.allowed_to_fail, &text::pad(verdict, statuses));
        let time = job.elapsed(run.now).map_or_else(|| "-".to_owned(), text::duration);
        let attempts = if job.attempt > 1 { format!("  (attempt {})", job.attempt) } else { String::new() };
        let coverage = job.coverage.as_ref().map_or(String::new(), |c| format!("  (coverage {c} %)"));
        let (name, stage) = (text::pad(&job.name, names), text::pad(&job.stage, stages));
        let _ = writeln!(out, "{name}  {stage}  {status}  {time}{attempts}{coverage}");
    }
}

fn failure(out: &mut String, index: usize, job: &JobState, paint: Paint) {
    let name = paint.name(index, &job.name);
    let verdict = paint.status(job.status, job.allowed_to_fail, &job.verdict());
    let _ = writeln!(out, "\n{name}: {verdict}");
    if let Some(message) = &job.message {
        let _ = writeln!(out, "  {message}");
    }
    let Some((path, length)) = &job.log else { return };
    match log::failure(path, *length, FAILURE_LINES) {
        Ok(lines) => lines.iter().for_each(|line| {
            let _ = writeln!(out, "  {} {line}", paint.dim("|"));
        }),
        Err(error) => {
            let _ = writeln!(out, "  its log can't be read: {error}");
        }
    }
    let _ = writeln!(out, "  whole log: {}", path.display());
}

fn verdict(out: &mut String, run: &RunState, status: Status, paint: Paint) {
    let counted = [Status::Success, Status::Failed, Status::Canceled, Status::Skipped, Status::Manual];
    let counts = counted.iter().map(|s| (run.count(*s), s.name())).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    let word = if status == Status::Manual { "blocked" } else { status.name() };
    let pipeline = paint.status(status, false, &format!("pipeline {word}"));
    let time = text::duration(run.now.saturating_sub(run.started));
    let _ = writeln!(out, "\n{pipeline} after {time}: {}", counts.join(", "));
    let manual: Vec<&str> =
        run.jobs.iter().filter(|j| j.status == Status::Manual).map(|j| j.name.as_str()).collect();
    if let Some(first) = manual.first() {
        let waits = if manual.len() == 1 { "waits" } else { "wait" };
        let names = manual.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{names} {waits} to be played: run again with --manual '{first}'");
    }
}
