//! `ci env`: the environments of this project, and what runs on their targets.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::deploy::{VARIABLES, cli_error, settings};
use super::on_server::OnServer;
use super::runtime::runtime;
use super::{Format, clear, history, print_json, print_raw, server_deployments, unlock};
use crate::deploy::{self, Delivery, DeployFile, EnvironmentStatus, TargetStatus, Way};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::installed::Installed;

/// The environments of this project, and what runs on their targets.
#[derive(clap::Args)]
pub(super) struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(clap::Subcommand)]
enum EnvCommand {
    /// The environments of .ci/deploy.yml, in the order of promotion
    List {
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ask what runs on all targets; with `--server`, what it knows of all projects, or of `--project`. Exit code 1 when that can't be told of one, or one runs other code than it should
    #[command(after_long_help = VARIABLES)]
    Status {
        /// Environments, as `dev`; default: all that are reached by ssh
        #[arg(value_name = "ENV")]
        environments: Vec<String>,
        /// Ask again every five seconds, until Ctrl-C
        #[arg(long, conflicts_with_all = ["server", "project"])]
        watch: bool,
        #[command(flatten)]
        on: OnServer,
        /// How it is printed; with `--watch`, one JSON document a line
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    History(history::HistoryArgs),
    Unlock(unlock::UnlockArgs),
    Clear(clear::ClearArgs),
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

pub(super) fn run(args: &EnvArgs) -> CliResult {
    match &args.command {
        EnvCommand::History(args) => history::run(args),
        EnvCommand::Unlock(args) => unlock::run(args),
        EnvCommand::Clear(args) => clear::run(args),
        EnvCommand::List { format } => list(*format),
        EnvCommand::Status { environments, on, format, .. } if on.is_asked() => {
            server_deployments::grid(on, environments, *format)
        }
        EnvCommand::Status { environments, watch, format, .. } => {
            let names = names(environments)?;
            let runtime = runtime()?;
            if *watch {
                return runtime.block_on(keep_watching(&names, *format));
            }
            let all = runtime.block_on(ask(&names))?;
            match format {
                Format::Json => print_json(&all)?,
                Format::Text => print_raw(table(&all).as_bytes())?,
            }
            if all.iter().flat_map(|status| &status.targets).all(|t| t.told() && t.drift.is_empty()) {
                Ok(())
            } else {
                Err(CliError::silent(ErrorKind::Failed))
            }
        }
    }
}

/// The environments to ask: those named, or all of the file that have targets of ours.
fn names(named: &[String]) -> CliResult<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let file = DeployFile::load(Path::new(".")).map_err(cli_error)?.unwrap_or_default();
    let ours = file.environments.iter().filter(|(_, e)| e.delivery == Delivery::Ssh || !e.targets.is_empty());
    let names: Vec<String> = ours.map(|(name, _)| name.clone()).collect();
    if names.is_empty() {
        return Err(CliError::usage(
            "no environment is named, and `.ci/deploy.yml` has none that is reached by ssh",
        )
        .hint("name one, as `ci env status dev` with `DEV_SSH_USER_HOST` set"));
    }
    Ok(names)
}

async fn ask(names: &[String]) -> CliResult<Vec<EnvironmentStatus>> {
    let mut asked = tokio::task::JoinSet::new();
    for (index, name) in names.iter().enumerate() {
        let settings = settings(name)?;
        asked.spawn(async move { (index, deploy::status(&settings, Path::new(".")).await) });
    }
    let mut all = asked.join_all().await;
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, status)| status.map_err(cli_error)).collect()
}

async fn keep_watching(names: &[String], format: Format) -> CliResult {
    loop {
        let all = ask(names).await?;
        match format {
            Format::Json => {
                let mut line = serde_json::to_string(&all)
                    .map_err(|e| CliError::usage(format!("writing a JSON document: {e}")))?;
                line.push('\n');
                print_raw(line.as_bytes())?;
            }
            Format::Text => {
                // cursor home, then erase what is below: no flicker
                let now = jiff::Timestamp::now().strftime("%H:%M:%SZ");
                print_raw(
                    format!("\x1b[H\x1b[J{now}, every {} s\n\n{}", BETWEEN_LOOKS.as_secs(), table(&all))
                        .as_bytes(),
                )?;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_LOOKS) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

const HEAD: [&str; 8] = ["ENV", "TARGET", "VERSION", "STATE", "SINCE", "PROCESS", "ERTS", "MEMORY"];

fn table(all: &[EnvironmentStatus]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut head: Vec<String> = HEAD.map(str::to_owned).into();
    head.push("DRIFT".to_owned());
    rows.push(head);
    let mut notes = String::new();
    for status in all {
        if status.targets.is_empty() {
            let _ = writeln!(notes, "{}: delivered by bundle, nothing to ask here", status.environment);
        }
        for target in &status.targets {
            rows.push(row(&status.environment, target));
            note(&mut notes, &status.environment, target);
        }
    }
    let mut text = columns(&rows);
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn row(environment: &str, target: &TargetStatus) -> Vec<String> {
    let node = target.node.as_ref();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    vec![
        environment.to_owned(),
        target.destination.clone(),
        or_dash(target.version().map(str::to_owned)),
        state(target).to_owned(),
        or_dash(target.since.clone()),
        or_dash(target.pid.map(|pid| pid.to_string())),
        or_dash(node.map(|node| node.erts.clone())),
        or_dash(target.memory.map(|bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)))),
        match (node.is_some() || target.package.is_some(), target.drift.len()) {
            (false, 0) => "-".to_owned(),
            (true, 0) => "none".to_owned(),
            _ => "yes".to_owned(),
        },
    ]
}

fn state(target: &TargetStatus) -> &'static str {
    match &target.installed {
        None => "no connection",
        Some(Installed::Absent) => "absent",
        Some(Installed::Stopped { .. }) => "stopped",
        Some(Installed::Running { .. }) => "running",
        Some(Installed::Current { .. }) => "not permanent",
        Some(Installed::Restarting) => "restarting",
        Some(Installed::Unreachable { .. }) => "unreachable",
        Some(Installed::Inconsistent { .. }) => "inconsistent",
        Some(Installed::Unclear { .. }) => "unclear",
    }
}

/// What has no place in a table.
fn note(notes: &mut String, environment: &str, target: &TargetStatus) {
    let place = format!("{environment} {}", target.destination);
    let mut say = |text: String| {
        let _ = writeln!(notes, "{place}: {text}");
    };
    match &target.installed {
        Some(
            Installed::Absent | Installed::Stopped { .. } | Installed::Running { .. } | Installed::Restarting,
        )
        | None => {}
        Some(installed) => say(installed.to_string()),
    }
    if target.busy {
        say("a deployment is at work there".to_owned());
    }
    if !target.left.is_empty() {
        say(format!(
            "a deployment that was interrupted has left `{}`; the next one puts that right",
            target.left.join("`, `")
        ));
    }
    target.drift.iter().for_each(|drift| say(drift.clone()));
    for (version, reason) in &target.bad {
        say(format!("`{version}` failed there and is refused: {reason}"));
    }
    if let Some(error) = &target.error {
        say(error.message.clone());
    }
}

/// Rows as columns of equal width.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| unicode_width::UnicodeWidthStr::width(cell.as_str()))
            .max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let missing = width.saturating_sub(unicode_width::UnicodeWidthStr::width(cell.as_str()));
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', missing + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn list(format: Format) -> CliResult {
    let Some(file) = DeployFile::load(Path::new(".")).map_err(cli_error)? else {
        if format == Format::Json {
            return print_json(&serde_json::json!([]));
        }
        return print_raw(
            b"no .ci/deploy.yml: environments are made of variables (SSH_USER_HOST, TARGET_DIR, SERVER), see `ci deploy --help`\n",
        );
    };
    let environments = file.environments.iter();
    if format == Format::Json {
        let all: Vec<_> = environments
            .map(|(name, e)| {
                serde_json::json!({
                    "environment": name, "tier": e.tier, "delivery": e.delivery, "targets": e.targets,
                    "directory": e.directory, "prefer": e.strategy.prefer, "allow": e.strategy.allow,
                    "approvals": e.approvals.count,
                })
            })
            .collect();
        return print_json(&all);
    }
    let mut rows =
        vec![["ENV", "TIER", "DELIVERY", "STRATEGY", "APPROVALS", "TARGETS"].map(str::to_owned).to_vec()];
    for (name, e) in environments {
        let ways: Vec<&str> = e.strategy.allow.iter().map(|way| word(*way)).collect();
        let delivery = if e.delivery == Delivery::Ssh { "ssh" } else { "bundle" };
        let strategy = format!("{} ({})", word(e.strategy.prefer), ways.join(", "));
        let targets = if e.targets.is_empty() { "-".to_owned() } else { e.targets.join(", ") };
        let approvals = e.approvals.count.to_string();
        rows.push(vec![
            name.clone(),
            e.tier.name().to_owned(),
            delivery.to_owned(),
            strategy,
            approvals,
            targets,
        ]);
    }
    print_raw(columns(&rows).as_bytes())
}

fn word(way: Way) -> &'static str {
    match way {
        Way::Hot => "hot",
        Way::Restart => "restart",
        Way::Fresh => "fresh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["ENV".to_owned(), "X".to_owned()], vec!["d".to_owned(), "größer".to_owned()]];
        assert_eq!(columns(&rows), "ENV  X\nd    größer\n");
    }
}
