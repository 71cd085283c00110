//! `ci deploy`: puts the project's release on an environment's target.

pub(super) mod telling;

use anstream::eprintln;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::runtime::runtime;
use super::{Format, history, print_json, print_raw, promote};
use crate::deploy::{self, DeployFile, Outcome, Progress, Report, Request, Settings, Steps, TargetReport};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::decide::Strategy;
use telling::Telling;

/// Puts the release of this project on the targets of an environment: asks what runs there, decides for each target
/// (nothing, a fresh install, an upgrade of the running node, a restart), says why, and carries that plan out: the
/// canary first, then in batches. When a target fails, what was changed is taken back. What it can't tell, it refuses.
#[derive(clap::Args)]
#[command(after_long_help = VARIABLES)]
pub(super) struct DeployArgs {
    /// Environment, as `dev`
    #[arg(value_name = "ENV")]
    environment: String,
    /// Ask, decide, build and check, but send nothing
    #[arg(long)]
    plan: bool,
    /// Stop unless the plan has this digest, as `--plan` shows it (its first 12 digits or more are enough)
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    expect: Option<String>,
    /// How the result is printed; the steps go to standard error
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Deploy though a freeze or a mark forbids it; the reason is recorded
    #[arg(long = "override", value_name = "REASON")]
    set_aside: Option<String>,
}

pub(super) const VARIABLES: &str = "\
Environments are described in .ci/deploy.yml (schema: schemas/deploy.json). Without that file, any environment is made of
variables. For `dev`, `DEV_SSH_USER_HOST` wins over the file, and the file over `SSH_USER_HOST`; likewise for the others:
  SSH_USER_HOST  the target: user@host, a host of your ssh configuration, or ssh://user@host:port
  TARGET_DIR     directory of the release on the target [default: /data/NAME]
  SERVER         rebar3 profile [default: default]
  OLD_VSN        version that runs there; the targets are then not asked before the build

Exit codes:
  0  done, or nothing to do
  1  failed; what ran before still runs, with its state
  3  refused; nothing was sent
  4  failed after a node was changed; it was rolled back, restarted into the old version, or is not as it should be";

pub(super) fn run(args: &DeployArgs) -> CliResult {
    let settings = settings(&args.environment)?;
    if !args.plan {
        promote::admit(&settings, args.set_aside.as_deref())?;
    }
    let expect = args.expect.clone();
    let request = Request { settings, project: PathBuf::from("."), plan: args.plan, expect, artifact: None };
    carry_out(&request, args.format)
}

/// Deploys, shows what happens, and records how it ended.
pub(super) fn carry_out(request: &Request, format: Format) -> CliResult {
    let mut steps = Steps::new(show);
    let telling = (!request.plan).then(|| Telling::begin(&request.project, &request.settings.environment));
    let report = runtime()?.block_on(deploy::deploy(request, &mut steps));
    if !report.plan
        && let Err(error) = history::record(&request.project, &report)
    {
        // what was done was done
        eprintln!("warning: the deployment is not in the ledger: {error}");
    }
    match format {
        Format::Json => print_json(&report)?,
        Format::Text => print_raw(summary(&report).as_bytes())?,
    }
    if let Some(telling) = telling {
        telling.end(&report);
    }
    report.error.map_or(Ok(()), |error| Err(cli_error(error)))
}

pub(super) fn digest(text: &str) -> Result<String, String> {
    const SHORTEST: usize = 12;
    let digits = text.len() >= SHORTEST && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits {
        Ok(text.to_owned())
    } else {
        Err(format!("a digest has {SHORTEST} hexadecimal digits or more"))
    }
}

/// Shows a step or a note on standard error.
pub(super) fn show(progress: Progress<'_>) {
    match progress {
        Progress::Note(text) => eprintln!("{text}"),
        Progress::Step(step) => {
            let mark = if step.ok { "ok  " } else { "FAIL" };
            eprintln!("{mark} {:>6}  {}", seconds(Duration::from_secs_f64(step.seconds)), step.name);
        }
    }
}

/// The settings for an environment, from `.ci/deploy.yml` and this process's variables.
pub(super) fn settings(environment: &str) -> CliResult<Settings> {
    let file = DeployFile::load(std::path::Path::new(".")).map_err(cli_error)?;
    Settings::read(environment, file.as_ref(), |name| std::env::var(name).ok()).map_err(cli_error)
}

pub(super) fn cli_error(error: deploy::Error) -> CliError {
    let kind = match error.outcome {
        Outcome::Done | Outcome::Failed => ErrorKind::Failed,
        Outcome::Refused => ErrorKind::Refused,
        Outcome::Restarted | Outcome::RolledBack => ErrorKind::RolledBack,
    };
    let mut shown = CliError::new(kind, error.message);
    shown.hints.extend(error.help);
    shown
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn summary(report: &Report) -> String {
    match report.targets.as_slice() {
        [only] if !report.plan && report.error.is_none() => sentence(report, only),
        [] => String::new(),
        targets if report.plan => plan(report, targets),
        [_] => String::new(),
        targets => table(report, targets),
    }
}

fn sentence(report: &Report, target: &TargetReport) -> String {
    let Report { release, version, environment, .. } = report;
    let place = format!("{environment} ({})", target.destination);
    let pid = target.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    match &target.decision.strategy {
        Strategy::Nothing => format!("{place}: nothing to do, {release} {version} is there already\n"),
        Strategy::Tidy => format!(
            "{place}: {release} {version} is there already; what a deployment that was interrupted had left is removed\n"
        ),
        Strategy::Hot { from, via } => {
            let same = if target.pid.is_some() && target.pid == target.pid_before {
                ", the same as before"
            } else {
                ""
            };
            let by = match &via[..] {
                [] => String::new(),
                via => format!(" by way of {}", via.join(", ")),
            };
            format!("{place}: {release} upgraded from {from} to {version}{by} while running{pid}{same}\n")
        }
        Strategy::Commit => format!("{place}: {release} {version} is permanent now{pid}\n"),
        Strategy::Restart { from } => format!("{place}: {release} {version} runs in place of {from}{pid}\n"),
        Strategy::Exchange { from } | Strategy::Canary { from } => {
            format!(
                "{place}: {release} {version} serves in place of {from}, which answered requests until then{pid}\n"
            )
        }
        Strategy::Back { from } => format!("{place}: {release} went back from {from} to {version}{pid}\n"),
        Strategy::Fresh | Strategy::Refuse => {
            format!("{place}: {release} {version} installed and running{pid}\n")
        }
    }
}

/// What would be done, target by target, with every reason.
fn plan(report: &Report, targets: &[TargetReport]) -> String {
    let Report { release, version, environment, .. } = report;
    let mut text = format!("{environment}: {release} {version}, the plan\n");
    for target in targets {
        let batch = if target.batch == 0 { String::new() } else { format!(", batch {}", target.batch) };
        let _ = writeln!(text, "\n  {}:{}{batch}", target.destination, target.directory);
        if let Some(before) = &target.before {
            let _ = writeln!(text, "    found: {before}");
        }
        let decision = &target.decision;
        let _ = writeln!(text, "    {}", decision.strategy.name());
        for reason in &decision.reasons {
            let _ = writeln!(text, "      because: {reason}");
        }
    }
    let refused = targets.iter().any(|target| target.decision.strategy == Strategy::Refuse);
    let nothing = targets.iter().all(|target| target.decision.strategy == Strategy::Nothing);
    let end = match (&report.digest, refused, nothing) {
        (_, true, _) => "\nnothing would be deployed\n".to_owned(),
        (_, _, true) => "\nnothing to do\n".to_owned(),
        (Some(digest), ..) => format!(
            "\n{release} {version} would be deployed so; nothing was sent.\nThis plan and no other: \
             ci deploy {environment} --expect {}\n",
            digest.get(..16).unwrap_or(digest)
        ),
        (None, ..) => String::new(),
    };
    text + &end
}

/// How it ended, a line for each target.
fn table(report: &Report, targets: &[TargetReport]) -> String {
    let mut rows =
        vec![["TARGET", "BATCH", "BEFORE", "STRATEGY", "OUTCOME", "PROCESS"].map(str::to_owned).to_vec()];
    for target in targets {
        let before = target.before.as_ref().map_or_else(
            || "not asked".to_owned(),
            |before| match before.running() {
                Some(version) => version.to_owned(),
                None => before.to_string(),
            },
        );
        let outcome = match (target.outcome, &target.decision.strategy) {
            (None, _) => "not begun",
            (Some(Outcome::Done), Strategy::Nothing) => "nothing to do",
            (Some(outcome), _) => outcome.name(),
        };
        rows.push(vec![
            target.destination.clone(),
            if target.batch == 0 { "-".to_owned() } else { target.batch.to_string() },
            before,
            target.decision.strategy.name().to_owned(),
            outcome.to_owned(),
            target.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        ]);
    }
    format!("{}: {} {}\n{}", report.environment, report.release, report.version, super::env::columns(&rows))
}
