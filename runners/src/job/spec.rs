//! What a job needs to run.

use super::courier::Courier;
use crate::bucket::Bucket;
use crate::log::DEFAULT_LIMIT;
use pipelines::plan::{Job, JobVariable, Plan};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Facts that all jobs of a run share.
#[derive(Clone, Debug)]
pub struct Run {
    /// `CI_PIPELINE_ID`.
    pub id: u64,
    /// The run whose trigger job made this one.
    pub parent: Option<Arc<Run>>,
    /// The run's directory: logs and artifacts go below `jobs/`.
    pub dir: PathBuf,
    /// The project's directory of caches.
    pub cache: PathBuf,
    /// Where caches are kept as well.
    pub bucket: Option<Arc<Bucket>>,
    /// Path of the project: `group/name`.
    pub project: String,
    /// The whole plan: which artifacts flow where.
    pub plan: Arc<Plan>,
    /// The sources; read only, shared by all jobs.
    pub checkout: PathBuf,
    /// Paths that git tracks, relative to the checkout: everything else is `untracked`.
    pub tracked: Arc<Vec<String>>,
    /// Persisted variables (`CI_PIPELINE_URL`, tokens ...): below everything that the plan defines.
    pub variables: Vec<JobVariable>,
    /// Names of variables that are set above the YAML (by the project, the pipeline, a person): a dotenv report
    /// does not replace them.
    pub fixed: HashSet<String>,
    /// Who runs it.
    pub runner: Runner,
    /// Bytes of script output that a log keeps.
    pub output_limit: u64,
    /// How long a script may take to react to SIGTERM.
    pub grace: Duration,
    /// Of jobs without a `timeout`.
    pub timeout: Duration,
    /// The job that opens a shell for a person when its script fails.
    pub debug: Option<String>,
}

/// Facts about the runner for `CI_RUNNER_*`.
#[derive(Clone, Debug)]
pub struct Runner {
    /// `CI_RUNNER_ID`.
    pub id: u64,
    /// `CI_RUNNER_DESCRIPTION`.
    pub description: String,
    /// `CI_RUNNER_TAGS`.
    pub tags: Vec<String>,
    /// `CI_RUNNER_VERSION`.
    pub version: String,
}

/// One attempt of one job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// `CI_JOB_ID`: differs from attempt to attempt.
    pub id: u64,
    /// The job.
    pub job: Job,
    /// From 1.
    pub attempt: u32,
    /// What it shares with the others.
    pub run: Arc<Run>,
    /// What it sees of the sources.
    pub sources: JobSources,
    /// Who brings what it needs and takes what it leaves; none: all of it is on this machine.
    pub courier: Option<Courier>,
}

/// A job's own view of the sources; the default is the run's checkout as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSources {
    /// In the place of [`Run::checkout`].
    pub checkout: Option<PathBuf>,
    /// Directories that lie over the checkout, the uppermost last. Read only.
    pub overlays: Vec<PathBuf>,
    /// Sentences for the log: what can't be had here.
    pub notes: Vec<String>,
}

/// Whether, and how urgently, a job is to end. Only ever raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cancel {
    /// It may go on.
    #[default]
    No,
    /// The script gets SIGTERM and time to react; `after_script` runs.
    Graceful,
    /// Everything is killed; only cleanup follows.
    Kill,
}

impl Run {
    /// GitLab's defaults: 4 MiB of log, one hour.
    pub const OUTPUT_LIMIT: u64 = DEFAULT_LIMIT;
    /// GitLab's default timeout of a job.
    pub const TIMEOUT: Duration = Duration::from_secs(3600);

    /// The run of the family, this one or above, with that `CI_PIPELINE_ID`.
    pub fn with_id(&self, id: &str) -> Option<&Run> {
        if self.id.to_string() == id { Some(self) } else { self.parent.as_ref()?.with_id(id) }
    }

    /// Directory of a job's attempts.
    pub fn job_dir(&self, job: &str) -> PathBuf {
        Run::job_dir_in(&self.dir, job)
    }

    /// Directory of a job's attempts in the run that is kept in `run`.
    pub fn job_dir_in(run: &Path, job: &str) -> PathBuf {
        run.join("jobs").join(directory_name(job))
    }
}

impl JobSpec {
    /// Directory of this attempt.
    pub fn dir(&self) -> PathBuf {
        self.run.job_dir(&self.job.name).join(self.attempt.to_string())
    }

    /// The log file.
    pub fn log(&self) -> PathBuf {
        self.dir().join("job.log")
    }
}

/// A directory name for any job name; different names have different directories.
fn directory_name(job: &str) -> String {
    let keep = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let mut name: String = job.chars().map(|c| if keep(c) { c } else { '_' }).take(80).collect();
    if name != job || name.is_empty() {
        // also for capitals: some file systems take `Test` and `test` for the same
        let digest = Sha256::digest(job.as_bytes());
        name = format!("{name}.{}", crate::digest::hex(&digest[..4]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_its_own_directory() {
        assert_eq!(directory_name("unit-tests"), "unit-tests");
        let names = ["a b", "a_b", "a/b", "..", ".", "", "A b", "é", &"x".repeat(200), &"x".repeat(201)];
        let directories: HashSet<String> = names.iter().map(|name| directory_name(name)).collect();
        assert_eq!(directories.len(), names.len());
        assert!(
            directories.iter().all(|name| !name.contains('/') && !name.starts_with("..") && !name.is_empty())
        );
    }
}
