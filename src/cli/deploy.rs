//! `ci deploy`: puts the project's release on an environment's target.

use anstream::eprintln;
use std::path::PathBuf;
use std::time::Duration;

use super::{Format, print_json, print_raw};
use crate::deploy::{self, Outcome, Progress, Report, Request, Settings, Steps};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::decide::Strategy;

/// Puts the release of this rebar3 project on the target of an environment: asks what runs there, then does
/// nothing, installs it afresh, or upgrades the running node without ending it. What it can't tell, it refuses.
#[derive(clap::Args)]
#[command(after_long_help = VARIABLES)]
pub(super) struct DeployArgs {
    /// Environment, as `dev`
    #[arg(value_name = "ENV")]
    environment: String,
    /// Ask, decide, build and check, but send nothing
    #[arg(long)]
    plan: bool,
    /// How the result is printed; the steps go to standard error
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) const VARIABLES: &str = "\
Variables (for the environment `dev`, `DEV_SSH_USER_HOST` wins over `SSH_USER_HOST`, and likewise for the others):
  SSH_USER_HOST  the target: user@host, a host of your ssh configuration, or ssh://user@host:port
  TARGET_DIR     directory of the release on the target [default: /data/NAME]
  SERVER         rebar3 profile [default: default]
  OLD_VSN        version that runs there; the target is then not asked before the build

Exit codes:
  0  done, or nothing to do
  1  failed; what ran before still runs, with its state
  3  refused; nothing was sent
  4  failed after the node was changed; it restarted into the old version, or is not as it should be";

pub(super) fn run(args: &DeployArgs) -> CliResult {
    let settings = settings(&args.environment)?;
    let request = Request { settings, project: PathBuf::from("."), plan: args.plan };
    let mut steps = Steps::new(|progress| match progress {
        Progress::Note(text) => eprintln!("{text}"),
        Progress::Step(step) => {
            let mark = if step.ok { "ok  " } else { "FAIL" };
            eprintln!("{mark} {:>6}  {}", seconds(Duration::from_secs_f64(step.seconds)), step.name);
        }
    });
    let report = runtime()?.block_on(deploy::deploy(&request, &mut steps));
    match args.format {
        Format::Json => print_json(&report)?,
        Format::Text => print_raw(summary(&report).as_bytes())?,
    }
    report.error.map_or(Ok(()), |error| Err(cli_error(error)))
}

/// The settings for an environment, from this process's variables.
pub(super) fn settings(environment: &str) -> CliResult<Settings> {
    Settings::read(environment, |name| std::env::var(name).ok()).map_err(cli_error)
}

pub(super) fn runtime() -> CliResult<tokio::runtime::Runtime> {
    super::runtime::runtime()
}

pub(super) fn cli_error(error: deploy::Error) -> CliError {
    let kind = match error.outcome {
        Outcome::Done | Outcome::Failed => ErrorKind::Failed,
        Outcome::Refused => ErrorKind::Refused,
        Outcome::Restarted => ErrorKind::RolledBack,
    };
    let mut shown = CliError::new(kind, error.message);
    shown.hints.extend(error.help);
    shown
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn summary(report: &Report) -> String {
    let Report { release, version, destination, environment, .. } = report;
    let Some(decision) = report.decision.as_ref().filter(|_| report.error.is_none()) else {
        return String::new();
    };
    let place = format!("{environment} ({destination})");
    let pid = report.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    match &decision.strategy {
        Strategy::Nothing => format!("{place}: nothing to do, {release} {version} is there already\n"),
        _ if report.plan => {
            format!("{place}: {release} {version} would be deployed ({decision}); nothing was sent\n")
        }
        Strategy::Hot { from } => {
            let same = if report.pid.is_some() && report.pid == report.pid_before {
                ", the same as before"
            } else {
                ""
            };
            format!("{place}: {release} upgraded from {from} to {version} while running{pid}{same}\n")
        }
        Strategy::Commit => format!("{place}: {release} {version} is permanent now{pid}\n"),
        Strategy::Fresh | Strategy::Refuse => {
            format!("{place}: {release} {version} installed and running{pid}\n")
        }
    }
}
