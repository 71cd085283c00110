//! The report where there is no terminal, or no wish for a moving one: a line for whatever happens.

use super::log::Follower;
use super::paint::Paint;
use super::state::RunState;
use super::summary::{Detail, column, summary, table};
use super::text;
use pipelines::event::{Event, EventKind};
use pipelines::plan::Plan;
use pipelines::status::Status;
use std::io::{self, Write};
use std::path::Path;

/// Columns that a job's name may take in front of its lines.
const WIDEST_NAME: usize = 32;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Whatever happens.
    All,
    /// The first line and the end.
    Ends,
    /// Failures and the last lines.
    Failures,
}

/// Writes log lines as `name | line`, and what happens to a job as `name > status`.
pub(super) struct Plain {
    paint: Paint,
    told: Told,
    run: RunState,
    logs: Vec<Follower>,
    names: usize,
}

impl Plain {
    pub(super) fn new(paint: Paint, told: Told) -> Plain {
        Plain { paint, told, run: RunState::default(), logs: Vec::new(), names: 0 }
    }

    pub(super) fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        self.run.apply(event);
        match (&event.kind, self.told) {
            (_, Told::All) => self.tell(event, out)?,
            (EventKind::RunStarted { .. }, Told::Ends) => {
                writeln!(out, "{}", header(&event.kind, self.paint))?;
            }
            (EventKind::RunFinished { status }, _) => {
                let detail = if self.told == Told::Ends { Detail::Script } else { Detail::Quiet };
                out.write_all(summary(&self.run, *status, self.paint, detail).as_bytes())?;
            }
            _ => return Ok(()),
        }
        out.flush()
    }

    /// What is known of a run that has not ended: the jobs as they stand.
    pub(super) fn unfinished(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut text = String::from("\n");
        table(&mut text, &self.run, self.paint);
        out.write_all(text.as_bytes())
    }

    fn tell(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        match &event.kind {
            EventKind::RunStarted { .. } => {
                self.logs = self.run.jobs.iter().map(|_| Follower::default()).collect();
                self.names = column(self.run.jobs.iter().map(|j| j.name.as_str()), WIDEST_NAME);
                writeln!(out, "{}", header(&event.kind, self.paint))?;
            }
            EventKind::JobStatus { job, status, .. } => {
                let Some(index) = self.run.find(job) else { return Ok(()) };
                if !matches!(status, Status::Running | Status::Canceling)
                    && let Some(rest) = self.logs[index].rest()
                {
                    self.log_line(index, &rest, out)?;
                }
                if let Some(text) = news(&self.run, index, self.paint) {
                    writeln!(out, "{} > {text}", self.prefix(index))?;
                }
            }
            EventKind::JobLog { job, path, length } => {
                if let Some(index) = self.run.find(job) {
                    self.log(index, Path::new(path), *length, out)?;
                }
            }
            EventKind::Notice { job, message } => {
                let message = text::plain(message);
                match job.as_deref().and_then(|j| self.run.find(j)) {
                    Some(index) => writeln!(out, "{} ! {message}", self.prefix(index))?,
                    None => writeln!(out, "! {message}")?,
                }
            }
            EventKind::RunFinished { status } => {
                out.write_all(summary(&self.run, *status, self.paint, Detail::Command).as_bytes())?;
            }
            EventKind::DownstreamStarted { job, plan } => {
                self.logs.resize_with(self.run.jobs.len(), Follower::default);
                self.names = column(self.run.jobs.iter().map(|j| j.name.as_str()), WIDEST_NAME);
                if let Some(index) = self.run.find(job) {
                    writeln!(out, "{} > {}", self.prefix(index), downstream(plan))?;
                }
            }
            EventKind::JobPhase { .. }
            | EventKind::DownstreamFinished { .. }
            | EventKind::JobCache { .. }
            | EventKind::JobCoverage { .. } => {}
        }
        Ok(())
    }

    fn prefix(&self, index: usize) -> String {
        self.paint.name(index, &text::pad(&self.run.jobs[index].name, self.names))
    }

    fn log(&mut self, index: usize, path: &Path, length: u64, out: &mut dyn Write) -> io::Result<()> {
        match self.logs[index].lines(path, length) {
            Ok(lines) => lines.iter().try_for_each(|line| self.log_line(index, line, out)),
            Err(error) => {
                writeln!(out, "{} ! its log `{}` can't be read: {error}", self.prefix(index), path.display())
            }
        }
    }

    fn log_line(&self, index: usize, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        match text::clean(line, self.paint.colour) {
            Some(line) => writeln!(out, "{} | {line}", self.prefix(index)),
            None => Ok(()),
        }
    }
}

/// The first line of a report.
pub(super) fn header(started: &EventKind, paint: Paint) -> String {
    let EventKind::RunStarted { run, reference, sha, dirty, plan } = started else { return String::new() };
    let sha: String = sha.chars().take(8).collect();
    let dirty = if *dirty { " with uncommitted changes" } else { "" };
    let size = size(plan);
    let name = plan.name.as_ref().map_or(String::new(), |name| format!(" \"{name}\""));
    let (name, reference) = (text::plain(&name), text::plain(reference));
    format!("{}{name}: {reference} at {sha}{dirty}, {size}", paint.bold(&format!("run {run}")))
}

/// What is told of a trigger job's pipeline when it begins.
pub(super) fn downstream(plan: &Plan) -> String {
    format!("its pipeline has {}", size(plan))
}

fn size(plan: &Plan) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!("{} in {}", plural(plan.jobs.len(), "job"), plural(plan.stages.len(), "stage"))
}

/// What a person wants to know of a job's new status, if anything.
pub(super) fn news(run: &RunState, index: usize, paint: Paint) -> Option<String> {
    let job = &run.jobs[index];
    let because = job.message.as_ref().map_or(String::new(), |m| format!(": {m}"));
    let verdict = paint.status(job.status, job.allowed_to_fail, &job.verdict());
    let attempt = if job.attempt > 1 { format!(", attempt {}", job.attempt) } else { String::new() };
    let took = job.elapsed(run.now).map_or(String::new(), |e| format!(" after {}", text::duration(e)));
    match job.status {
        Status::Created => None,
        Status::Pending | Status::WaitingForResource if job.reason.is_some() => {
            let (message, cause) = (job.message.clone().unwrap_or_default(), job.cause().unwrap_or_default());
            Some(if message.ends_with(&cause) { message } else { format!("{message} ({cause})") })
        }
        Status::Pending => None,
        Status::Running => Some(format!("{verdict}{attempt}")),
        Status::Success | Status::Failed | Status::Canceled => Some(format!("{verdict}{took}{because}")),
        Status::Canceling
        | Status::Skipped
        | Status::Scheduled
        | Status::WaitingForResource
        | Status::Manual => Some(format!("{verdict}{because}")),
    }
}
