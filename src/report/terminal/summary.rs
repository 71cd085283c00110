//! What stands at the end: a table of the jobs, where the time went, the output of what failed, and what can be
//! done next.

use super::log::{self, Excerpt};
use super::paint::Paint;
use super::state::{JobState, Part, RunState};
use super::text;
use pipelines::status::{FailureReason, Status};
use std::fmt::Write;

/// Lines of output shown of a failed command whose log has been shown already.
const FAILURE_LINES: usize = 20;
/// Lines shown of the whole script of a failed job.
const SCRIPT_LINES: usize = 400;
/// Columns that a name may take in the table.
const WIDEST_NAME: usize = 48;
/// Jobs that are listed as the slowest.
const SLOWEST: usize = 3;
/// Jobs of the critical path that are named.
const LONGEST_PATH: usize = 8;

/// How much stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Of failed jobs, what the failing command said.
    Command,
    /// Of failed jobs, the output of the whole script.
    Script,
    /// Only failures and the last lines.
    Quiet,
}

/// The whole end of the report.
pub(super) fn summary(run: &RunState, status: Status, paint: Paint, detail: Detail) -> String {
    let mut out = String::new();
    if detail != Detail::Quiet {
        out.push('\n');
        table(&mut out, run, paint);
        times(&mut out, run, paint);
    }
    for index in (0..run.jobs.len()).filter(|index| run.jobs[*index].status == Status::Failed) {
        failure(&mut out, run, index, paint, detail);
    }
    verdict(&mut out, run, status, paint, detail);
    out
}

/// The widest of the texts, within bounds.
pub(super) fn column<'a>(texts: impl Iterator<Item = &'a str>, most: usize) -> usize {
    texts.map(text::width).max().unwrap_or(0).min(most)
}

/// The jobs, a line each.
pub(super) fn table(out: &mut String, run: &RunState, paint: Paint) {
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

/// Where the time went; nothing for a run in which no job ran.
fn times(out: &mut String, run: &RunState, paint: Paint) {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let parts = Part::ALL.map(|(part, name)| (name, run.jobs.iter().map(|j| j.spent(part)).sum::<u64>()));
    // less than what a duration shows is nothing
    let parts = parts.iter().filter(|(_, spent)| *spent >= 100);
    let parts: Vec<String> =
        parts.map(|(name, spent)| format!("{name} {}", text::duration(*spent))).collect();
    if !parts.is_empty() {
        rows.push(("time spent", parts.join(", ")));
    }
    let path = run.order.critical_path(run);
    if path.len() > 1 {
        rows.push(("critical path", critical(run, &path)));
    }
    let mut ran: Vec<&JobState> =
        run.jobs.iter().filter(|j| j.ended.is_some() && j.started.is_some()).collect();
    if ran.len() > SLOWEST {
        ran.sort_by_key(|j| std::cmp::Reverse(j.elapsed(run.now)));
        rows.push(("slowest", ran[..SLOWEST].iter().map(|j| timed(j, run)).collect::<Vec<_>>().join(", ")));
    }
    let asked = run.jobs.iter().flat_map(|j| &j.caches).count();
    if asked > 0 {
        let found = run.jobs.iter().flat_map(|j| &j.caches).filter(|hit| **hit).count();
        rows.push(("caches", format!("{found} of {asked} found")));
    }
    if !rows.is_empty() {
        out.push('\n');
    }
    let width = column(rows.iter().map(|(name, _)| *name), WIDEST_NAME);
    for (name, value) in rows {
        let _ = writeln!(out, "{}  {value}", paint.dim(&text::pad(name, width)));
    }
}

fn timed(job: &JobState, run: &RunState) -> String {
    format!("{} {}", text::fit(&job.name, WIDEST_NAME), text::duration(job.elapsed(run.now).unwrap_or(0)))
}

fn critical(run: &RunState, path: &[usize]) -> String {
    let whole: u64 = path.iter().filter_map(|job| run.jobs[*job].elapsed(run.now)).sum();
    // the last jobs are those that a faster run would gain from just as much; which are left out does not matter
    let shown = &path[path.len().saturating_sub(LONGEST_PATH)..];
    let names: Vec<String> = shown.iter().map(|job| timed(&run.jobs[*job], run)).collect();
    let before = if shown.len() < path.len() { "… > " } else { "" };
    format!("{}: {before}{}", text::duration(whole), names.join(" > "))
}

fn failure(out: &mut String, run: &RunState, index: usize, paint: Paint, detail: Detail) {
    let job = &run.jobs[index];
    let name = paint.name(index, &job.name);
    let verdict = paint.status(job.status, job.allowed_to_fail, &job.verdict());
    let _ = writeln!(out, "\n{name}: {verdict}");
    if let Some(message) = &job.message {
        let _ = writeln!(out, "  {message}");
    }
    let Some((path, length)) = &job.log else { return };
    let excerpt = match detail {
        Detail::Script => log::script(path, *length, SCRIPT_LINES),
        Detail::Command | Detail::Quiet => log::failure(path, *length, FAILURE_LINES),
    };
    match excerpt {
        Ok(excerpt) => lines(out, &excerpt, job, paint),
        Err(error) => {
            let _ = writeln!(out, "  its log can't be read: {error}");
        }
    }
    let _ = writeln!(out, "  whole log: {}", path.display());
}

/// The lines, with an arrow at the command that failed.
fn lines(out: &mut String, excerpt: &Excerpt, job: &JobState, paint: Paint) {
    let bar = paint.dim("|");
    // else the last command is not what failed
    let of_script =
        matches!(job.reason, Some(FailureReason::ScriptFailure | FailureReason::JobExecutionTimeout));
    for (at, line) in excerpt.lines.iter().enumerate() {
        let cut = excerpt.left_out && at == excerpt.culprit.filter(|at| *at == 0).map_or(0, |_| 1);
        if cut {
            let _ = writeln!(out, "  {bar} {}", paint.dim("…"));
        }
        if of_script && excerpt.culprit == Some(at) {
            let arrow = paint.status(Status::Failed, job.allowed_to_fail, ">");
            let _ = writeln!(out, "  {arrow} {}", paint.bold(line));
        } else {
            let _ = writeln!(out, "  {bar} {line}");
        }
    }
}

fn verdict(out: &mut String, run: &RunState, status: Status, paint: Paint, detail: Detail) {
    let counted = [Status::Success, Status::Failed, Status::Canceled, Status::Skipped, Status::Manual];
    let counts = counted.iter().map(|s| (run.count(*s), s.name())).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    let word = if status == Status::Manual { "blocked" } else { status.name() };
    let pipeline = paint.status(status, false, &format!("pipeline {word}"));
    let time = text::duration(run.now.saturating_sub(run.started));
    if detail != Detail::Quiet || !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "{pipeline} after {time}: {}", counts.join(", "));
    let manual: Vec<&str> =
        run.jobs.iter().filter(|j| j.status == Status::Manual).map(|j| j.name.as_str()).collect();
    if let Some(first) = manual.first() {
        let waits = if manual.len() == 1 { "waits" } else { "wait" };
        let names = manual.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{names} {waits} to be played: run again with --manual '{first}'");
    }
}
