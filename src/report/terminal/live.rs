//! The report on a terminal: what is over scrolls away above, what runs stands in a region at the bottom.

use super::order::Estimates;
use super::paint::Paint;
use super::plain::{downstream, header, news};
use super::state::{JobState, RunState, phase_name};
use super::summary::{Detail, column, summary};
use super::{log, text};
use pipelines::event::{Event, EventKind};
use pipelines::status::Status;
use std::io::{self, Write};

/// Columns that a job's name may take.
const WIDEST_NAME: usize = 28;

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The state of the screen.
pub(super) struct Live {
    paint: Paint,
    run: RunState,
    /// Last line of output of each job.
    last_lines: Vec<String>,
    /// Complete lines that are still to be written above the region.
    above: String,
    /// Rows of the region as it stands on the screen.
    drawn: usize,
    estimates: Estimates,
    /// Most jobs that ever ran at once: as many as there are slots, when there is enough to do.
    at_once: usize,
}

impl Live {
    pub(super) fn new(paint: Paint, estimates: Estimates) -> Live {
        let (run, last_lines, above) = Default::default();
        Live { paint, run, last_lines, above, drawn: 0, estimates, at_once: 1 }
    }

    /// Takes an event in; nothing is written before [`Live::draw`].
    pub(super) fn event(&mut self, event: &Event) {
        self.run.apply(event);
        match &event.kind {
            EventKind::RunStarted { .. } => {
                self.last_lines = vec![String::new(); self.run.jobs.len()];
                self.line(&header(&event.kind, self.paint));
            }
            EventKind::JobStatus { job, status, .. } => {
                let Some(index) = self.run.find(job) else { return };
                // running jobs stand in the region; skipped and manual ones in the table at the end
                let retried = *status == Status::Pending || *status == Status::WaitingForResource;
                let over = matches!(status, Status::Success | Status::Failed | Status::Canceled);
                if over || (retried && self.run.jobs[index].reason.is_some()) {
                    let name = self.paint.name(index, &self.run.jobs[index].name);
                    let news = news(&self.run, index, self.paint).unwrap_or_default();
                    self.line(&format!("{name} {news}"));
                }
                if *status == Status::Running {
                    self.last_lines[index].clear();
                    let active = self.run.jobs.iter().filter(|job| job.is_active()).count();
                    self.at_once = self.at_once.max(active);
                }
            }
            EventKind::Notice { job, message } => {
                let job = job.as_ref().map_or(String::new(), |j| format!("{j}: "));
                self.line(&text::plain(&format!("! {job}{message}")));
            }
            EventKind::JobLog { job, .. } => self.look_at_log(job),
            EventKind::DownstreamStarted { job, plan } => {
                self.last_lines.resize(self.run.jobs.len(), String::new());
                self.line(&text::plain(&format!("{job}: {}", downstream(plan))));
            }
            EventKind::JobPhase { .. }
            | EventKind::DownstreamFinished { .. }
            | EventKind::JobCache { .. }
            | EventKind::JobCoverage { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }

    fn line(&mut self, line: &str) {
        self.above.push_str(line);
        self.above.push('\n');
    }

    fn look_at_log(&mut self, job: &str) {
        let Some(index) = self.run.find(job) else { return };
        let Some((path, length)) = &self.run.jobs[index].log else { return };
        // a log that can't be read is told of at the end, should the job fail
        if let Ok(Some(line)) = log::last_line(path, *length) {
            self.last_lines[index] = line;
        }
    }

    /// Brings the screen up to date. `now`: milliseconds since the epoch. After the run's end the region makes
    /// way for the summary.
    pub(super) fn draw(&mut self, now: u64, size: Size, out: &mut dyn Write) -> io::Result<()> {
        let mut frame = String::new();
        if self.drawn > 0 {
            // to the first row of the region, and everything below goes
            frame.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        frame.push_str(&std::mem::take(&mut self.above));
        let rows = match self.run.status {
            Some(status) => {
                frame.push_str(&summary(&self.run, status, self.paint, Detail::Script));
                Vec::new()
            }
            None => self.region(now, size),
        };
        for row in &rows {
            frame.push_str(row);
            frame.push('\n');
        }
        self.drawn = rows.len();
        // one write a frame, so that no half of it is seen
        out.write_all(frame.as_bytes())?;
        out.flush()
    }

    fn region(&self, now: u64, size: Size) -> Vec<String> {
        if self.run.jobs.is_empty() {
            return Vec::new();
        }
        // one row for the counts, one for the cursor, one for what did not fit
        let room = size.rows.saturating_sub(3);
        // the last column stays free: some terminals wrap when it is written
        let columns = size.columns.saturating_sub(1);
        let active = || self.run.jobs.iter().enumerate().filter(|(_, job)| job.is_active());
        let names = column(active().map(|(_, j)| j.name.as_str()), WIDEST_NAME.min(columns / 3));
        let mut rows: Vec<String> =
            active().take(room).map(|(index, job)| self.row(index, job, now, names, columns)).collect();
        let hidden = active().count().saturating_sub(rows.len());
        if hidden > 0 && room > 0 {
            rows.push(self.paint.dim(&text::fit(&format!("and {hidden} more"), columns)));
        }
        rows.push(self.paint.dim(&text::fit(&self.counts(now), columns)));
        rows
    }

    /// `name  phase  elapsed  last line`, in at most so many columns.
    fn row(&self, index: usize, job: &JobState, now: u64, names: usize, columns: usize) -> String {
        let phase = match job.status {
            Status::Canceling => "canceling",
            _ => job.phase.map_or("starting", phase_name),
        };
        let elapsed = text::duration(job.elapsed(now).unwrap_or(0));
        let facts = format!(" {} {elapsed:>7} ", text::pad(phase, 12));
        let facts = text::fit(&facts, columns.saturating_sub(names));
        let left = columns.saturating_sub(names + text::width(&facts));
        let name = self.paint.name(index, &text::pad(&job.name, names));
        let last = self.paint.dim(&text::fit(&self.last_lines[index], left));
        format!("{name}{}{last}", self.paint.status(job.status, false, &facts))
    }

    fn counts(&self, now: u64) -> String {
        let mut words = Vec::new();
        let running = self.run.jobs.iter().filter(|j| j.is_active()).count();
        let done = self.run.jobs.iter().filter(|j| j.status.is_complete()).count();
        let waiting = [Status::Created, Status::Pending, Status::WaitingForResource, Status::Scheduled];
        let waiting: usize = waiting.iter().map(|s| self.run.count(*s)).sum();
        for (count, word) in [
            (running, "running"),
            (waiting, "waiting"),
            (done, "done"),
            (self.run.count(Status::Manual), "manual"),
        ] {
            if count > 0 {
                words.push(format!("{count} {word}"));
            }
        }
        let took = text::duration(now.saturating_sub(self.run.started));
        // what the last event said is a little old
        let late = now.saturating_sub(self.run.now);
        let left = self.run.order.remaining(&self.run, &self.estimates, self.at_once);
        let left = left.map(|left| left.saturating_sub(late)).filter(|left| *left >= 1000);
        let left = left.map_or(String::new(), |left| format!(", about {} left", text::rounded(left)));
        format!("{}  {took}{left}", words.join(", "))
    }
}
