//! Finding runs and reading the little of their journals that a list needs.

use crate::dispatch::{is_being_written, read_journal};
use crate::error::{CliError, CliResult};
use crate::settings::State;
use pipelines::event::Event;
use pipelines::status::Status;
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Bytes at the end of a journal in which its last line stands.
const LAST_LINE: u64 = 64 * 1024;

/// A run's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Counts from 1 in each project.
    pub number: u64,
    /// The directory.
    pub dir: PathBuf,
}

/// What a run began with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Milliseconds since the epoch.
    pub at: u64,
    /// Branch or tag.
    pub reference: String,
    /// Commit.
    pub sha: String,
    /// With uncommitted changes?
    pub dirty: bool,
}

/// How a run ended. Times are milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, or by Ctrl-C.
    Finished {
        /// The pipeline's status.
        status: Status,
        /// When.
        at: u64,
    },
    /// Not yet.
    Running,
    /// Its process was killed, or the machine went down.
    Lost {
        /// Of the last event.
        at: u64,
    },
}

/// One line of a journal, without the plan.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) at: u64,
    event: String,
    #[serde(default)]
    reference: String,
    #[serde(default)]
    sha: String,
    #[serde(default)]
    dirty: bool,
    pub(super) job: Option<String>,
    pub(super) status: Option<Status>,
}

/// All runs of a project, the newest first.
///
/// # Errors
/// The directory of runs can't be read.
pub fn stored(state: &State) -> CliResult<Vec<StoredRun>> {
    let directory = state.runs();
    let entries = match std::fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other
            .map_err(|e| CliError::usage(format!("reading the runs in `{}`: {e}", directory.display())))?,
    };
    let run = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        // a directory without a journal is of a run that never began
        path.join("journal.jsonl").is_file().then_some(StoredRun { number, dir: path })
    };
    let mut runs: Vec<StoredRun> = entries.flatten().filter_map(|entry| run(entry.path())).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.number));
    Ok(runs)
}

/// The run of that number, or the newest.
///
/// # Errors
/// There is none.
pub fn find(state: &State, number: Option<u64>) -> CliResult<StoredRun> {
    let runs = stored(state)?;
    let Some(newest) = runs.first().map(|run| run.number) else {
        return Err(CliError::usage("this project has no runs yet").hint("`ci run` makes one"));
    };
    let wanted = number.unwrap_or(newest);
    runs.into_iter().find(|run| run.number == wanted).ok_or_else(|| {
        CliError::usage(format!("this project has no run {wanted}"))
            .hint(format!("`ci runs` lists those that are kept; the newest is {newest}"))
    })
}

impl StoredRun {
    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal.jsonl")
    }

    /// Everything that happened.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn events(&self) -> CliResult<Vec<Event>> {
        read_journal(&self.journal()).map_err(|e| self.unreadable(&e))
    }

    fn unreadable(&self, error: &io::Error) -> CliError {
        CliError::usage(format!(
            "reading the journal of run {} (`{}`): {error}",
            self.number,
            self.journal().display()
        ))
    }

    /// Is it under way?
    pub fn is_running(&self) -> bool {
        is_being_written(&self.journal())
    }

    /// What the run began with; none while its first event is being written.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn head(&self) -> CliResult<Option<Head>> {
        let mut first = String::new();
        let read = File::open(self.journal()).and_then(|file| BufReader::new(file).read_line(&mut first));
        read.map_err(|e| self.unreadable(&e))?;
        let line: Option<Line> = serde_json::from_str(&first).ok();
        Ok(line.map(|l| Head { at: l.at, reference: l.reference, sha: l.sha, dirty: l.dirty }))
    }

    /// How it ended.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn ending(&self) -> CliResult<Ending> {
        // asked before the journal is read: a run that ends in between has ended
        let running = self.is_running();
        let last = self.last_line().map_err(|e| self.unreadable(&e))?;
        Ok(match last {
            Some(Line { event, status: Some(status), at, .. }) if event == "run_finished" => {
                Ending::Finished { status, at }
            }
            _ if running => Ending::Running,
            last => Ending::Lost { at: last.map_or(0, |line| line.at) },
        })
    }

    fn last_line(&self) -> io::Result<Option<Line>> {
        let mut file = File::open(self.journal())?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINE)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let lines = bytes.split(|b| *b == b'\n').rev();
        Ok(lines.filter(|line| !line.is_empty()).find_map(|line| serde_json::from_slice(line).ok()))
    }

    /// The lines that tell a job's status. Others, above all the one with the whole plan, are passed over unread.
    pub(super) fn job_lines(&self) -> io::Result<impl Iterator<Item = Line>> {
        const KIND: &[u8] = br#""event":"job_status""#;
        // behind `seq` and `at`
        let is_of_job = |line: &String| line.as_bytes().windows(KIND.len()).take(80).any(|w| w == KIND);
        let lines = BufReader::new(File::open(self.journal())?).lines().map_while(Result::ok);
        Ok(lines.filter(is_of_job).filter_map(|line| serde_json::from_str(&line).ok()))
    }

    /// The last status of each job that the run told of.
    ///
    /// # Errors
    /// The journal can't be read.
    pub fn statuses(&self) -> CliResult<HashMap<String, Status>> {
        let lines = self.job_lines().map_err(|e| self.unreadable(&e))?;
        Ok(lines.filter_map(|line| line.job.zip(line.status)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(lines: &[&str]) -> (tempfile::TempDir, StoredRun) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("journal.jsonl"), lines.join("\n")).expect("a file");
        let run = StoredRun { number: 1, dir: dir.path().to_owned() };
        (dir, run)
    }

    const STARTED: &str = r#"{"seq":1,"at":5,"event":"run_started","run":1,"reference":"main","sha":"abc","dirty":true,"plan":{"stages":[],"jobs":[]}}"#;
    const FAILED: &str = r#"{"seq":2,"at":6,"event":"job_status","job":"a","status":"failed","attempt":1}"#;
    const FINISHED: &str = r#"{"seq":3,"at":9,"event":"run_finished","status":"failed"}"#;

    #[test]
    fn the_ends_of_a_journal_tell_how_a_run_went() {
        let (_dir, over) = run(&[STARTED, FAILED, FINISHED, ""]);
        let head = Head { at: 5, reference: "main".to_owned(), sha: "abc".to_owned(), dirty: true };
        assert_eq!(over.head().expect("readable"), Some(head));
        assert_eq!(over.ending().expect("readable"), Ending::Finished { status: Status::Failed, at: 9 });
        let (_dir, lost) = run(&[STARTED, FAILED, r#"{"seq":3,"at":7,"ev"#]);
        assert_eq!(lost.ending().expect("readable"), Ending::Lost { at: 6 });
        assert_eq!(lost.statuses().expect("readable"), [("a".to_owned(), Status::Failed)].into());
        let (_dir, running) = run(&[STARTED]);
        let writer = File::options().append(true).open(running.journal()).expect("a file");
        writer.try_lock().expect("a lock");
        assert_eq!(running.ending().expect("readable"), Ending::Running);
        drop(writer);
        assert_eq!(running.ending().expect("readable"), Ending::Lost { at: 5 });
        let (_dir, empty) = run(&[]);
        assert_eq!(
            (empty.head().expect("readable"), empty.ending().expect("readable")),
            (None, Ending::Lost { at: 0 })
        );
    }
}
