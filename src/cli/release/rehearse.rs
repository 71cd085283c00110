//! `ci release rehearse`: an upgrade on a throw-away copy.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anstream::eprintln;

use super::super::runtime::runtime;
use super::super::{Format, print_json, print_raw};
use super::locate::find;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{self, Fact, Rehearsed};
use crate::project::Project;
use crate::release::rehearse::{self, Rehearsal, Request};

/// Starts a throw-away copy of the old version on this machine, upgrades it, looks whether it runs the new code with its
/// state, and goes back. Own directory, node name, cookie and epmd, on loopback only; ports that the release listens on must
/// be free here. Exit code 1 when the upgrade is not fit.
#[derive(clap::Args)]
pub(super) struct RehearseArgs {
    /// The package with the relup: a file, or a version that is kept or built here
    #[arg(value_name = "NEW")]
    new: String,
    /// The version that runs: its whole package, as a file or a version that is kept or built here
    #[arg(long, value_name = "OLD")]
    from: String,
    /// Erlang expression for the old version before the upgrade, as `urf_store:incr()`
    #[arg(long, value_name = "EXPRESSION")]
    setup: Option<String>,
    /// Erlang expression that must be `true` after the upgrade and after going back
    #[arg(long, value_name = "EXPRESSION")]
    check: Option<String>,
    /// Seconds that the start and each way may take
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// How the result is printed; the steps go to standard error
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &RehearseArgs) -> CliResult {
    let new = find(&args.new, None)?.package;
    let old = find(&args.from, Some(&new.rel.name))?.package;
    let request = Request {
        old: &old,
        new: &new,
        setup: args.setup.as_deref(),
        check: args.check.as_deref(),
        limit: Duration::from_secs(args.timeout),
    };
    let told = |step: &str, seconds: f64| eprintln!("ok   {seconds:>6.1} s  {step}");
    let rehearsal = runtime()?
        .block_on(rehearse::rehearse(request, &told))
        .map_err(|e| CliError::failed(e.to_string()))?;
    if Project::discover(Path::new(".")).is_ok() {
        ledger::record(Path::new("."), Fact::Rehearsal(Rehearsed::of(&rehearsal, &new)))?;
    }
    match args.format {
        Format::Json => print_json(&rehearsal)?,
        Format::Text => print_raw(text(&rehearsal).as_bytes())?,
    }
    if rehearsal.fit { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}

fn text(rehearsal: &Rehearsal) -> String {
    let Rehearsal { name, from, to, .. } = rehearsal;
    let mut out = String::new();
    for problem in &rehearsal.problems {
        let _ = writeln!(out, "problem: {problem}");
    }
    let went_back = rehearsal.steps.iter().any(|(step, _)| step.starts_with("back to "));
    let verdict = match (rehearsal.fit, went_back) {
        (true, true) => "fit, and back",
        (true, false) => "fit; the relup has no way back",
        _ => "not fit",
    };
    let _ = writeln!(out, "{name} {from} -> {to}: {verdict}");
    out
}
