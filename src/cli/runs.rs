//! `ci runs`: the runs of this project that are kept.

use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult};
use crate::project::Project;
use crate::report::terminal::{self, Mode};
use crate::runs::{Ending, Head, StoredRun, find, stored};
use crate::settings::State;
use jiff::Timestamp;
use serde_json::{Value as Json, json};
use std::path::PathBuf;

/// Runs that are listed when nobody asks for more.
const LISTED: usize = 20;

/// List the runs of this project, or show one
#[derive(clap::Args)]
pub(super) struct RunsArgs {
    /// Show this run: its jobs, where its time went, what failed
    #[arg(value_name = "RUN")]
    number: Option<u64>,
    /// Tell the whole run again, as it was told then
    #[arg(long, requires = "number", conflicts_with = "format")]
    replay: bool,
    /// List all runs, not only the last 20
    #[arg(long, conflicts_with = "number")]
    all: bool,
    /// How they are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Directory in the project
    #[arg(short = 'C', value_name = "DIR", default_value = ".", hide_default_value = true)]
    dir: PathBuf,
}

pub(super) fn run(args: &RunsArgs) -> CliResult {
    let state = State::of(&Project::discover(&args.dir)?.state_name())?;
    match args.number {
        Some(number) => one(args, &find(&state, Some(number))?),
        None => list(args, &stored(&state)?),
    }
}

fn one(args: &RunsArgs, run: &StoredRun) -> CliResult {
    if args.format == Format::Json {
        let mut document = row(run)?;
        document["jobs"] = terminal::jobs(&run.events()?);
        return print_json(&document);
    }
    let mode = Mode::of_stdout().but(|colour| match args.replay {
        true => Mode::Plain { colour },
        false => Mode::Ends { colour },
    });
    let mut out = Vec::new();
    terminal::replay(&run.events()?, mode, &mut out)
        .map_err(|e| CliError::usage(format!("reporting run {}: {e}", run.number)))?;
    match run.ending()? {
        Ending::Finished { .. } => {}
        Ending::Running => out.extend(b"\nit is running: `ci logs --follow` joins it\n"),
        Ending::Lost { .. } => out.extend(b"\nit never ended: its `ci` was killed\n"),
    }
    out.extend(format!("logs and artifacts: {}\n", run.dir.display()).bytes());
    print_raw(&out)
}

fn list(args: &RunsArgs, runs: &[StoredRun]) -> CliResult {
    let shown = if args.all { runs } else { &runs[..runs.len().min(LISTED)] };
    if args.format == Format::Json {
        let rows = shown.iter().map(row).collect::<CliResult<Vec<Json>>>()?;
        return print_json(&rows);
    }
    if runs.is_empty() {
        return print_raw(b"no runs yet: `ci run` makes one\n");
    }
    let mut rows = Vec::new();
    for run in shown {
        rows.push(cells(run)?);
    }
    let mut text = terminal::runs(&rows, Mode::of_stdout());
    if shown.len() < runs.len() {
        text += &format!("\n{} older: `ci runs --all`\n", runs.len() - shown.len());
    }
    print_raw(text.as_bytes())
}

fn cells(run: &StoredRun) -> CliResult<terminal::RunRow> {
    let head = run.head()?;
    let (status, ended) = status(run.ending()?);
    let reference = head.as_ref().map_or("?", |h| h.reference.as_str()).to_owned();
    let dirty = if head.as_ref().is_some_and(|h| h.dirty) { "+" } else { "" };
    let sha: String = head.as_ref().map_or("", |h| h.sha.as_str()).chars().take(8).collect();
    Ok(terminal::RunRow {
        number: run.number,
        began: head.as_ref().map(|h| h.at),
        reference,
        sha: format!("{sha}{dirty}"),
        took: head.zip(ended).map(|(head, ended)| ended.saturating_sub(head.at)),
        status,
    })
}

/// The word for how it ended, and when that was.
fn status(ending: Ending) -> (&'static str, Option<u64>) {
    match ending {
        Ending::Finished { status, at } => (status.name(), Some(at)),
        Ending::Running => ("running", None),
        Ending::Lost { at } => ("lost", Some(at)),
    }
}

fn row(run: &StoredRun) -> CliResult<Json> {
    let (status, ended) = status(run.ending()?);
    let head: Option<Head> = run.head()?;
    let began = head.as_ref().map(|h| h.at);
    Ok(json!({
        "run": run.number,
        "began": began.map(utc),
        "ref": head.as_ref().map(|h| &h.reference),
        "sha": head.as_ref().map(|h| &h.sha),
        "uncommitted": head.as_ref().map(|h| h.dirty),
        "status": status,
        "milliseconds": began.zip(ended).map(|(began, ended)| ended.saturating_sub(began)),
        "directory": run.dir,
    }))
}

fn utc(milliseconds: u64) -> String {
    let at = i64::try_from(milliseconds).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().to_string()
}
