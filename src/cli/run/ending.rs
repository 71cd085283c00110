//! What a run leaves for machines when it is over: a JUnit document, annotations.

use super::RunArgs;
use crate::cli::print_raw;
use crate::cli::request::Prepared;
use crate::dispatch::read_journal;
use crate::error::{CliError, CliResult};
use crate::report::{annotations, junit};
use clap::ValueEnum;
use std::path::Path;

/// Whose annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Annotations {
    /// GitHub's workflow commands
    Github,
}

/// Writes what was asked for.
pub(super) fn write(args: &RunArgs, prepared: &Prepared, journal: &Path) -> CliResult {
    if args.junit.is_none() && args.annotations.is_none() {
        return Ok(());
    }
    let events = read_journal(journal)
        .map_err(|e| CliError::usage(format!("reading the journal `{}`: {e}", journal.display())))?;
    if let Some(path) = &args.junit {
        let writing = |e: &dyn std::fmt::Display| {
            CliError::usage(format!("writing the JUnit report to `{}`: {e}", path.display()))
        };
        let document = junit::document(&events).map_err(|e| writing(&e))?;
        std::fs::write(path, document).map_err(|e| writing(&e))?;
    }
    if args.annotations == Some(Annotations::Github) {
        print_raw(annotations::github(&events, |job| place(prepared, job)).as_bytes())?;
    }
    Ok(())
}

/// Where a job stands in the project's own files.
fn place(prepared: &Prepared, job: &str) -> Option<(String, usize)> {
    let job = prepared.config.as_ref()?.jobs.iter().find(|known| known.name == job)?;
    let sources = &prepared.loaded.sources;
    let file = &sources.file(job.span.file).name;
    let is_own = prepared.project.root().join(file).is_file();
    is_own.then(|| (file.clone(), sources.position(job.span).line))
}
