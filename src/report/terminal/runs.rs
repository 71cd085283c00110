//! Several runs in a table; the jobs of one run for machines.

use super::paint::Paint;
use super::show::{Mode, now};
use super::state::{JobState, Part, RunState};
use super::summary::column;
use super::text;
use pipelines::event::Event;
use pipelines::status::Status;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;

/// Columns that a ref may take.
const WIDEST_REF: usize = 32;

/// A run in the table. Times are in milliseconds.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Its number.
    pub number: u64,
    /// Since the epoch; none when the journal does not tell.
    pub began: Option<u64>,
    /// Branch or tag.
    pub reference: String,
    /// Short; a `+` stands for uncommitted changes.
    pub sha: String,
    /// A pipeline's status, `running` or `lost`.
    pub status: &'static str,
    /// How long it took.
    pub took: Option<u64>,
}

/// The table.
pub fn runs(rows: &[RunRow], mode: Mode) -> String {
    let paint = Paint { colour: mode.colour() };
    let now = now();
    let ago: Vec<String> =
        rows.iter().map(|r| r.began.map_or("?".into(), |at| ago(now.saturating_sub(at)))).collect();
    let refs: Vec<String> = rows.iter().map(|r| text::plain(&r.reference)).collect();
    let numbers = rows.iter().map(|r| r.number.to_string().len()).max().unwrap_or(0).max(3);
    let agos = column(ago.iter().map(String::as_str).chain(["when"]), WIDEST_REF);
    let reference = column(refs.iter().map(String::as_str).chain(["ref"]), WIDEST_REF);
    let pad = text::pad;
    let header = format!(
        "{:>numbers$}  {}  {}  {}  {}  time",
        "run",
        pad("when", agos),
        pad("ref", reference),
        pad("commit", 9),
        pad("status", 8)
    );
    let mut out = format!("{}\n", paint.bold(&header));
    for ((row, ago), name) in rows.iter().zip(&ago).zip(&refs) {
        let status = paint.status(colour_of(row.status), false, &pad(row.status, 8));
        let took = row.took.map_or_else(|| "-".to_owned(), text::duration);
        let (ago, name, sha) = (pad(ago, agos), pad(name, reference), pad(&row.sha, 9));
        let _ = writeln!(out, "{:>numbers$}  {ago}  {name}  {sha}  {status}  {took}", row.number);
    }
    out
}

fn colour_of(status: &str) -> Status {
    match status {
        "success" => Status::Success,
        "running" => Status::Running,
        "manual" => Status::Manual,
        "canceled" | "lost" => Status::Canceled,
        "skipped" => Status::Skipped,
        _ => Status::Failed,
    }
}

fn ago(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, " min"),
        3600..172_800 => (seconds / 3600, " h"),
        _ => (seconds / 86_400, " days"),
    };
    format!("{count}{unit} ago")
}

/// The jobs of a run, with what each did, as JSON.
pub fn jobs(events: &[Event]) -> Json {
    let mut run = RunState::default();
    events.iter().for_each(|event| run.apply(event));
    let now = run.now;
    run.jobs.iter().map(|job| job_json(job, now)).collect()
}

fn job_json(job: &JobState, now: u64) -> Json {
    let spent: serde_json::Map<String, Json> =
        Part::ALL.iter().map(|(part, name)| ((*name).to_owned(), json!(job.spent(*part)))).collect();
    json!({
        "job": job.name,
        "stage": job.stage,
        "status": job.status,
        "attempt": job.attempt,
        "reason": job.reason,
        "exit_code": job.exit_code,
        "allowed_to_fail": job.allowed_to_fail,
        "message": job.message,
        "milliseconds": job.elapsed(now),
        "spent": spent,
        "coverage": job.coverage,
        "log": job.log.as_ref().map(|(path, _)| path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_past_are_short() {
        let table = [
            (0, "0s ago"),
            (59_000, "59s ago"),
            (60_000, "1 min ago"),
            (7_200_000, "2 h ago"),
            (259_200_000, "3 days ago"),
        ];
        for (milliseconds, expected) in table {
            assert_eq!(ago(milliseconds), expected);
        }
    }
}
