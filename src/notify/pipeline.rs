//! The event of a finished `ci run`, from the journals of this run and of those before it.

use super::event::Event;
use super::notifier::Occasion;
use pipelines::status::Status;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Runs before this one that are looked at for one of the same ref.
const BACK: u64 = 100;
/// The last line of a journal is far shorter.
const TAIL: u64 = 4096;

/// A run that ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// Directory of the project's runs.
    pub runs: &'a Path,
    /// Its number.
    pub number: u64,
    /// `group/project`.
    pub project: &'a str,
    /// Branch or tag.
    pub reference: &'a str,
    /// Full SHA.
    pub sha: &'a str,
    /// How it ended.
    pub status: Status,
}

/// What is told of the run; nothing of one that was cancelled or waits for a person.
pub fn finished(run: &Finished<'_>) -> Option<Event> {
    let occasion = match run.status {
        Status::Failed => Occasion::Failed,
        Status::Success if before(run) == Some(Status::Failed) => Occasion::Fixed,
        Status::Success => Occasion::Succeeded,
        _ => return None,
    };
    let failed = if occasion == Occasion::Failed { failed_jobs(run) } else { Vec::new() };
    Some(Event {
        reference: Some(run.reference.to_owned()),
        commit: Some(run.sha.chars().take(8).collect()),
        run: Some(run.number),
        failed_jobs: failed,
        ..Event::pipeline(occasion, run.project)
    })
}

/// What is needed of an event.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    job: Option<String>,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    allowed_to_fail: bool,
}

fn failed_jobs(run: &Finished<'_>) -> Vec<String> {
    let Ok(file) = File::open(run.runs.join(run.number.to_string()).join("journal.jsonl")) else {
        return Vec::new();
    };
    let mut last = BTreeMap::new();
    for text in BufReader::new(file).lines().map_while(Result::ok) {
        if let Ok(Line { event, job: Some(job), status: Some(status), allowed_to_fail, .. }) =
            serde_json::from_str(&text)
            && event == "job_status"
        {
            last.insert(job, status == Status::Failed && !allowed_to_fail);
        }
    }
    last.into_iter().filter_map(|(job, failed)| failed.then_some(job)).collect()
}

/// How the last run for the same ref ended that ended either way.
fn before(run: &Finished<'_>) -> Option<Status> {
    let earlier = (run.number.saturating_sub(BACK).max(1)..run.number).rev();
    earlier
        .filter_map(|number| ended(&run.runs.join(number.to_string()).join("journal.jsonl"), run.reference))
        .find(|status| matches!(status, Status::Success | Status::Failed))
}

fn ended(journal: &Path, reference: &str) -> Option<Status> {
    let mut reader = BufReader::new(File::open(journal).ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let first: Line = serde_json::from_str(&first).ok()?;
    if first.reference.as_deref() != Some(reference) {
        return None;
    }
    let mut file = reader.into_inner();
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let last: Line = serde_json::from_str(tail.lines().last()?).ok()?;
    last.status.filter(|_| last.event == "run_finished")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(runs: &Path, number: u64, reference: &str, end: &str) {
        let dir = runs.join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        let job = |name: &str, status: &str, more: &str| {
            format!("{{\"event\":\"job_status\",\"job\":\"{name}\",\"status\":\"{status}\"{more}}}\n")
        };
        let text = [
            format!("{{\"event\":\"run_started\",\"reference\":\"{reference}\",\"plan\":{{}}}}\n"),
            job("a", "failed", ""),
            job("a", "running", ""),
            job("a", "success", ""),
            job("b", "failed", ",\"allowed_to_fail\":true"),
            job("c", "failed", ""),
            format!("{{\"event\":\"run_finished\",\"status\":\"{end}\"}}\n"),
        ];
        std::fs::write(dir.join("journal.jsonl"), text.concat()).unwrap();
    }

    #[test]
    fn a_run_is_fixed_when_the_last_of_its_ref_had_failed() {
        let runs = tempfile::tempdir().unwrap();
        let rows = [
            ("main", "success", Some(Occasion::Succeeded)),
            ("main", "failed", Some(Occasion::Failed)),
            ("other", "success", Some(Occasion::Succeeded)),
            ("main", "canceled", None),
            ("main", "success", Some(Occasion::Fixed)),
            ("main", "manual", None),
            ("main", "success", Some(Occasion::Succeeded)),
        ];
        for (number, (reference, end, expected)) in (1..).zip(rows) {
            run(runs.path(), number, reference, end);
            let status = serde_json::from_value(end.into()).unwrap();
            let this = Finished {
                runs: runs.path(),
                number,
                project: "g/app",
                reference,
                sha: "0123456789",
                status,
            };
            let event = finished(&this);
            assert_eq!(event.as_ref().and_then(|e| e.occasion), expected, "run {number}");
            if let Some(event) = event.filter(|e| e.occasion == Some(Occasion::Failed)) {
                assert_eq!(
                    (event.failed_jobs, event.commit),
                    (vec!["c".to_owned()], Some("01234567".to_owned()))
                );
            }
        }
    }
}
