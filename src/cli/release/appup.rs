//! `ci release appup`: the appups between two packages, explained.

use std::fmt::Write as _;

use super::super::runtime::runtime;
use super::super::{Format, print_json, print_raw};
use super::check::{print_findings, project};
use super::locate::find;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::build::{self, AppAppup, AppupRequest};

/// Shows the appups between two packages: the hand-written ones, and what is derived for the others. Exit code 1 when one
/// can't be derived. Changed processes need `escript` of Erlang/OTP to look at their state.
#[derive(clap::Args)]
pub(super) struct AppupArgs {
    /// The older package: a file, or a version that is kept or built here
    #[arg(value_name = "A")]
    old: String,
    /// The newer one
    #[arg(value_name = "B")]
    new: String,
    /// Run `init/1` of changed supervisors of both versions, in throw-away virtual machines, to find their children
    #[arg(long)]
    init: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &AppupArgs) -> CliResult {
    let (old, new) = (find(&args.old, None)?, find(&args.new, None)?);
    let project = project();
    let request = AppupRequest {
        old: &old.package,
        new: &new.package,
        project: project.as_ref(),
        kept: &new.appups,
        run_init: args.init,
    };
    let log = |line: &str| tracing::debug!(target: "build", "{line}");
    let between =
        runtime()?.block_on(build::between(request, &log)).map_err(|e| CliError::failed(e.to_string()))?;
    match args.format {
        Format::Json => print_json(&between)?,
        Format::Text => {
            if between.applications.is_empty() {
                let text = format!("no application differs between {} and {}\n", between.from, between.to);
                print_raw(text.as_bytes())?;
            }
            for app in &between.applications {
                print_raw(text(app).as_bytes())?;
                print_findings(&app.findings)?;
            }
        }
    }
    let errors = between.applications.iter().flat_map(|app| &app.findings).any(|finding| finding.is_error());
    if errors { Err(CliError::silent(ErrorKind::Failed)) } else { Ok(()) }
}

fn text(app: &AppAppup) -> String {
    let origin = match (&app.written, &app.appup) {
        (Some(path), _) => format!("written: {}", path.display()),
        (None, Some(_)) => "derived from the modules".to_owned(),
        (None, None) => "can't be derived".to_owned(),
    };
    let mut out = format!("{} {} -> {} ({origin})\n", app.app, app.from, app.to);
    for (direction, instructions) in [("up", &app.up), ("down", &app.down)] {
        if instructions.is_empty() {
            continue;
        }
        let _ = writeln!(out, "  {direction}");
        for step in instructions {
            let _ = writeln!(out, "    {}\n        {}", step.instruction, step.reason);
        }
    }
    if let Some(appup) = &app.appup {
        let _ = writeln!(out, "\n{appup}");
    }
    out
}
