//! The artifacts that the jobs of a run have left.

use pipelines::event::downstream_name;
use runners::artifacts::{INDEX, Index};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What one job has left, in its newest attempt that left something.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Name of the job; `TRIGGER > JOB` in a downstream pipeline.
    pub job: String,
    /// The attempt's directory.
    pub dir: PathBuf,
    /// What is in it.
    pub index: Index,
    /// When it may be removed; none: never.
    pub expires: Option<SystemTime>,
}

/// Directories of a project's runs with their numbers, the newest first.
pub fn runs(project: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(project.join("runs")).into_iter().flatten().flatten();
    let mut runs: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    runs.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    runs
}

/// Artifacts of a run, also of its downstream pipelines, by job.
///
/// # Errors
/// An index can't be read.
pub fn of_run(run: &Path) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    collect(run, None, &mut kept)?;
    kept.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(kept)
}

fn collect(run: &Path, trigger: Option<&str>, kept: &mut Vec<Kept>) -> io::Result<()> {
    let entries = match fs::read_dir(run.join("jobs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        let full =
            |job: &str| trigger.map_or_else(|| job.to_owned(), |trigger| downstream_name(trigger, job));
        if let Some((dir, index)) = Index::newest(&path)? {
            let written = fs::metadata(dir.join(INDEX)).and_then(|found| found.modified())?;
            kept.push(Kept { job: full(&index.job), expires: index.expires(written), dir, index });
        }
        let below = path.join("pipeline");
        if below.is_dir() {
            // the directory's name is that of the trigger job, but for characters that no file name has
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            collect(&below, Some(&full(&name)), kept)?;
        }
    }
    Ok(())
}
