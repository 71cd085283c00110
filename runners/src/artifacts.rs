//! Artifacts of a job attempt: the archive, the reports, and the index that says what there is.

use crate::archive::PackedFile;
use pipelines::plan::{Job, Plan, When};
use pipelines::status::Status;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Name of the index in an attempt's directory.
pub const INDEX: &str = "artifacts.json";
/// Name of the archive in an attempt's directory.
pub const ARCHIVE: &str = "artifacts.tar.zst";

/// GitLab's default of `expire_in`: 30 days, in seconds.
const EXPIRE_IN: f64 = 30.0 * 86_400.0;

/// What an attempt left. Written whole or not at all.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Name of the job.
    pub job: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// `artifacts:name`, expanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `artifacts:expire_in`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_in: Option<String>,
    /// What other jobs download: [`ARCHIVE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Stored>,
    /// Report type to its archive.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reports: BTreeMap<String, Stored>,
    /// Is its time over, and what it held removed?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Variables of dotenv reports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dotenv: Vec<(String, String)>,
}

/// One archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// File name, in the same directory.
    pub file: String,
    /// Bytes of the file.
    pub size: u64,
    /// What is in it.
    pub files: Vec<PackedFile>,
    /// [`Packed::digest`](crate::archive::Packed::digest); empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.dotenv.iter().map(|(name, _)| name).collect();
        f.debug_struct("Index")
            .field("job", &self.job)
            .field("attempt", &self.attempt)
            .field("archive", &self.archive)
            .field("reports", &self.reports)
            .field("dotenv", &names)
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Writes the index into an attempt's directory. Only the owner may read it: dotenv values are in it.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.persist(directory.join(INDEX)).map(|_| ()).map_err(|error| error.error)
    }

    /// When it may be removed, if it was written at `written`; none: never. A duration that means nothing is
    /// GitLab's default.
    pub fn expires(&self, written: SystemTime) -> Option<SystemTime> {
        let seconds = match self.expire_in.as_deref().map(str::trim) {
            Some("never") => return None,
            Some(text) => pipelines::duration::parse(text).unwrap_or(EXPIRE_IN),
            None => EXPIRE_IN,
        };
        // what is beyond all calendars is never
        written.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// Does it hold nothing that could be removed?
    pub fn is_empty(&self) -> bool {
        self.archive.is_none() && self.reports.is_empty()
    }

    /// Removes the archives; the index stays, and says so. It is written first: what it names is there.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn expire(mut self, directory: &Path) -> io::Result<()> {
        let archives: Vec<Stored> =
            self.archive.take().into_iter().chain(std::mem::take(&mut self.reports).into_values()).collect();
        self.dotenv.clear();
        self.expired = true;
        self.write(directory)?;
        for stored in archives {
            match fs::remove_file(directory.join(&stored.file)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// The index of the newest attempt that left one, and the directory of that attempt, below a job's
    /// directory; none: no attempt left artifacts.
    ///
    /// # Errors
    /// There is one that can't be read.
    pub fn newest(job_directory: &Path) -> io::Result<Option<(PathBuf, Index)>> {
        let entries = match fs::read_dir(job_directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let attempts = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let newest = attempts.filter(|n| job_directory.join(n.to_string()).join(INDEX).is_file()).max();
        let Some(newest) = newest else { return Ok(None) };
        let directory = job_directory.join(newest.to_string());
        let index = serde_json::from_slice(&fs::read(directory.join(INDEX))?)?;
        Ok(Some((directory, index)))
    }
}

/// The text of one file in the artifacts that a job's newest attempt left; none: there is no such file.
///
/// # Errors
/// The archive can't be read, or the file has more than `limit` bytes or is no UTF-8.
pub fn read_text(job_directory: &Path, file: &str, limit: u64) -> io::Result<Option<String>> {
    let Some((directory, index)) = Index::newest(job_directory)? else { return Ok(None) };
    let Some(stored) = index.archive else { return Ok(None) };
    let archive = fs::File::open(directory.join(stored.file))?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive)?);
    for entry in archive.entries()? {
        let entry = entry?;
        let same = entry.path()?.strip_prefix("./").unwrap_or(&entry.path()?) == Path::new(file);
        if !same || entry.header().entry_type() != tar::EntryType::Regular {
            continue;
        }
        if entry.size() > limit {
            return Err(io::Error::other(format!("it has more than {limit} bytes")));
        }
        let mut text = String::new();
        entry.take(limit).read_to_string(&mut text)?;
        return Ok(Some(text));
    }
    Ok(None)
}

/// Should artifacts with this `when` be kept after a job with this status?
pub fn kept(when: Option<When>, status: Status) -> bool {
    match when.unwrap_or_default() {
        When::Always => true,
        When::OnFailure => status != Status::Success,
        _ => status == Status::Success,
    }
}

/// The jobs whose artifacts and dotenv variables `job` gets, in the order of the plan: without `needs` those of
/// all earlier stages, with `needs` those needed with artifacts; `dependencies` narrows both.
pub fn sources<'a>(plan: &'a Plan, job: &Job) -> Vec<&'a Job> {
    let stage = |job: &Job| plan.stages.iter().position(|stage| *stage == job.stage);
    let own_stage = stage(job);
    let listed = |name: &str| {
        job.dependencies
            .as_ref()
            .is_none_or(|list| list.iter().any(|entry| entry == name || entry == group(name)))
    };
    let feeds = |other: &&Job| {
        let by_order = match &job.needs {
            Some(needs) => needs.iter().any(|need| need.artifacts && need.job == other.name),
            None => stage(other) < own_stage,
        };
        by_order && listed(&other.name) && other.name != job.name
    };
    plan.jobs.iter().filter(feeds).collect()
}

/// Name of a parallel job without its instance: `test 1/3` and `test: [a, b]` are `test`.
fn group(name: &str) -> &str {
    if let Some((group, rest)) = name.rsplit_once(' ') {
        let numbers = rest.split_once('/');
        if numbers.is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok()) {
            return group;
        }
    }
    match name.split_once(": [") {
        Some((group, rest)) if rest.ends_with(']') => group,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::plan::Need;

    fn job(name: &str, stage: &str) -> Job {
        Job::new(name, stage)
    }

    fn plan() -> Plan {
        let jobs = [
            ("a", "build"),
            ("b 1/2", "build"),
            ("b 2/2", "build"),
            ("c: [x, y]", "test"),
            ("d", "test"),
            ("e", "last"),
        ];
        Plan {
            stages: vec!["build".into(), "test".into(), "last".into()],
            jobs: jobs.into_iter().map(|(name, stage)| job(name, stage)).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn artifacts_flow_along_stages_needs_and_dependencies() {
        let need = |job: &str, artifacts| Need { job: job.into(), artifacts, optional: false };
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        type Row<'a> = (Option<Vec<Need>>, Option<Vec<String>>, &'a [&'a str]);
        let table: Vec<Row<'_>> = vec![
            (None, None, &["a", "b 1/2", "b 2/2"]),
            (None, list(&["b"]), &["b 1/2", "b 2/2"]),
            (None, list(&["b 2/2"]), &["b 2/2"]),
            (None, list(&[]), &[]),
            (Some(vec![]), None, &[]),
            (Some(vec![need("a", false), need("c: [x, y]", true)]), None, &["c: [x, y]"]),
            (Some(vec![need("a", true), need("b 1/2", true)]), list(&["a"]), &["a"]),
            (Some(vec![need("not there", true)]), None, &[]),
        ];
        for (needs, dependencies, expected) in table {
            let asking = Job { needs: needs.clone(), dependencies: dependencies.clone(), ..job("d", "test") };
            let plan = plan();
            let got: Vec<&str> = sources(&plan, &asking).iter().map(|job| job.name.as_str()).collect();
            assert_eq!(got, expected, "{needs:?} {dependencies:?}");
        }
        let names: Vec<String> = sources(&plan(), &Job { dependencies: list(&["c"]), ..job("e", "last") })
            .iter()
            .map(|job| job.name.clone())
            .collect();
        assert_eq!(names, ["c: [x, y]"]);
    }

    #[test]
    fn the_newest_attempt_with_an_index_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Index::newest(&dir.path().join("none")).unwrap(), None);
        for attempt in [2, 10, 11] {
            fs::create_dir(dir.path().join(attempt.to_string())).unwrap();
        }
        for attempt in [2, 10] {
            let index = Index { job: "a".into(), attempt, ..Index::default() };
            index.write(&dir.path().join(attempt.to_string())).unwrap();
        }
        let (directory, index) = Index::newest(dir.path()).unwrap().unwrap();
        assert_eq!((directory, index.attempt), (dir.path().join("10"), 10));
    }

    #[test]
    fn values_of_dotenv_reports_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let index = Index { dotenv: vec![("TOKEN".into(), "hunter2".into())], ..Index::default() };
        index.write(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(INDEX)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let shown = format!("{index:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn when_decides_by_status() {
        let table = [
            (None, Status::Success, true),
            (None, Status::Failed, false),
            (Some(When::OnFailure), Status::Failed, true),
            (Some(When::OnFailure), Status::Canceled, true),
            (Some(When::OnFailure), Status::Success, false),
            (Some(When::Always), Status::Canceled, true),
        ];
        for (when, status, expected) in table {
            assert_eq!(kept(when, status), expected, "{when:?} {status:?}");
        }
    }
}
