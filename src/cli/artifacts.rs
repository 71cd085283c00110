//! `ci artifacts`: what the jobs of a run have left, and getting at it.

use super::clean::bytes;
use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::settings::State;
use crate::storage::{Kept, of_run, runs};
use runners::archive;
use runners::artifacts::Stored;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Show the artifacts and reports that jobs have left, or write them to a directory.
#[derive(clap::Args)]
pub(super) struct ArtifactsArgs {
    /// Only this job's; the name of a parallel job stands for all its instances
    #[arg(value_name = "JOB")]
    job: Option<String>,
    /// Of this run [default: the newest that left some]
    #[arg(long, value_name = "N")]
    run: Option<u64>,
    /// Write the files below DIR, which is made; files that are there are replaced
    #[arg(long, value_name = "DIR")]
    extract: Option<PathBuf>,
    /// Show every file
    #[arg(long)]
    list: bool,
    /// Directory in the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &ArtifactsArgs) -> CliResult {
    let project = Project::discover(&args.dir)?;
    let state = State::of(&project.state_name())?;
    let (number, kept) = find(args, &state.dir)?;
    if let Some(directory) = &args.extract {
        return extract(&kept, directory);
    }
    match args.format {
        Format::Json => print_json(&document(number, &kept)),
        Format::Text => print_raw(text(number, &kept, args.list || args.job.is_some()).as_bytes()),
    }
}

/// The run, and what is asked for of it.
fn find(args: &ArtifactsArgs, project: &Path) -> CliResult<(u64, Vec<Kept>)> {
    let runs = runs(project);
    if runs.is_empty() {
        return Err(CliError::usage("nothing was run here yet").hint("`ci run` runs the pipeline"));
    }
    let mut jobs = Vec::new();
    for (number, dir) in runs.iter().filter(|(number, _)| args.run.is_none_or(|asked| asked == *number)) {
        let kept = of_run(dir)
            .map_err(|e| CliError::usage(format!("reading the artifacts in `{}`: {e}", dir.display())))?;
        let (asked, others): (Vec<Kept>, Vec<Kept>) =
            kept.into_iter().partition(|kept| args.job.as_ref().is_none_or(|job| names(&kept.job, job)));
        if !asked.is_empty() {
            return Ok((*number, asked));
        }
        jobs.extend(others.into_iter().map(|kept| kept.job));
    }
    let what = match (&args.job, args.run) {
        (Some(job), Some(run)) => format!("job `{job}` has left no artifacts in run {run}"),
        (Some(job), None) => format!("job `{job}` has left no artifacts"),
        (None, Some(run)) if !runs.iter().any(|(number, _)| *number == run) => {
            format!("there is no run {run}")
        }
        (None, Some(run)) => format!("no job of run {run} has left artifacts"),
        (None, None) => "no job has left artifacts".to_owned(),
    };
    jobs.sort();
    jobs.dedup();
    let error = CliError::usage(what);
    Err(if jobs.is_empty() { error } else { error.hint(format!("these have: {}", jobs.join(", "))) })
}

/// Is `asked` the job, or the parallel job that it is an instance of?
fn names(job: &str, asked: &str) -> bool {
    job.strip_prefix(asked).is_some_and(|rest| {
        rest.is_empty()
            || rest.starts_with(": [")
            || rest.starts_with(' ') && rest.contains('/') && !rest.contains('>')
    })
}

fn extract(kept: &[Kept], directory: &Path) -> CliResult {
    let failed = |what: &Path, e: &dyn std::fmt::Display| {
        CliError::failed(format!("extracting `{}` into `{}`: {e}", what.display(), directory.display()))
    };
    fs::create_dir_all(directory).map_err(|e| failed(directory, &e))?;
    let mut out = String::new();
    for kept in kept {
        let stored: Vec<&Stored> = kept.index.archive.iter().chain(kept.index.reports.values()).collect();
        if stored.is_empty() {
            let _ = writeln!(out, "{}: {}", kept.job, if kept.index.expired { "expired" } else { "nothing" });
        }
        let (mut files, mut size) = (0, 0);
        for stored in stored {
            let path = kept.dir.join(&stored.file);
            let archive = File::open(&path).map_err(|e| failed(&path, &e))?;
            let unpacked = archive::unpack(directory, archive).map_err(|e| failed(&path, &e))?;
            files += unpacked.files;
            size += unpacked.bytes;
        }
        if files > 0 {
            let _ = writeln!(out, "{}: {files} {}, {}", kept.job, noun(files == 1), bytes(size));
        }
    }
    print_raw(out.as_bytes())
}

fn text(run: u64, kept: &[Kept], list: bool) -> String {
    let mut out = format!("run {run}\n");
    let widest = kept.iter().map(|kept| kept.job.chars().count()).max().unwrap_or(0);
    for kept in kept {
        let archive = kept.index.archive.as_ref();
        let files = archive.map_or(0, |stored| stored.files.len());
        let size = archive.map_or(0, |stored| stored.size);
        let mut notes = Vec::new();
        if kept.index.expired {
            notes.push("expired".to_owned());
        } else {
            notes.push(
                kept.expires.map_or("never expires".to_owned(), |time| format!("expires {}", day(time))),
            );
        }
        if !kept.index.reports.is_empty() {
            let kinds: Vec<&str> = kept.index.reports.keys().map(String::as_str).collect();
            notes.push(format!("reports: {}", kinds.join(", ")));
        }
        let _ = writeln!(
            out,
            "{:<widest$}  {files:>6} {:<5}  {:>9}  {}",
            kept.job,
            noun(files == 1),
            bytes(size),
            notes.join("; ")
        );
        if list {
            for (kind, stored) in sets(kept) {
                for file in &stored.files {
                    let kind = kind.map_or(String::new(), |kind| format!("  ({kind})"));
                    let _ = writeln!(out, "  {:>10}  {}{kind}", bytes(file.size), file.path);
                }
            }
        }
    }
    out
}

/// The archive and the reports, with their type.
fn sets(kept: &Kept) -> impl Iterator<Item = (Option<&str>, &Stored)> {
    let archive = kept.index.archive.iter().map(|stored| (None, stored));
    archive.chain(kept.index.reports.iter().map(|(kind, stored)| (Some(kind.as_str()), stored)))
}

fn document(run: u64, kept: &[Kept]) -> serde_json::Value {
    let entry = |kept: &Kept| {
        let sets: Vec<_> = sets(kept)
            .map(|(kind, stored)| {
                serde_json::json!({
                    "type": kind.unwrap_or("archive"),
                    "path": kept.dir.join(&stored.file),
                    "bytes": stored.size,
                    "digest": stored.digest,
                    "files": stored.files,
                })
            })
            .collect();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        serde_json::json!({
            "job": kept.job,
            "attempt": kept.index.attempt,
            "name": kept.index.name,
            "expired": kept.index.expired,
            "expires_at": kept.expires.map(seconds),
            "artifacts": sets,
            // values may be secrets
            "dotenv": kept.index.dotenv.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })
    };
    serde_json::json!({ "run": run, "jobs": kept.iter().map(entry).collect::<Vec<_>>() })
}

fn day(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What one, or any other number of them, is called.
fn noun(one: bool) -> &'static str {
    if one { "file" } else { "files" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_its_instances() {
        for (job, asked, expected) in [
            ("test", "test", true),
            ("test 1/3", "test", true),
            ("test: [a, b]", "test", true),
            ("test > deploy", "test", false),
            ("tests", "test", false),
            ("test unit", "test", false),
        ] {
            assert_eq!(names(job, asked), expected, "{job} {asked}");
        }
    }
}
