//! `ci release`: what this project's release is, and what runs of it.

mod appup;
mod check;
mod locate;
mod packages;
mod rehearse;
mod versions;

use std::fmt::Write as _;
use std::path::Path;

use super::deploy::{VARIABLES, cli_error, settings};
use super::runtime::runtime;
use super::{Format, print_json, print_raw};
use crate::deploy::{self, EnvironmentStatus};
use crate::error::{CliError, CliResult, ErrorKind};

/// What this project's release is, and what runs of it.
#[derive(clap::Args)]
pub(super) struct ReleaseArgs {
    #[command(subcommand)]
    command: ReleaseCommand,
}

#[derive(clap::Subcommand)]
enum ReleaseCommand {
    /// Show what is in a release package
    Inspect(packages::InspectArgs),
    /// Show what differs between two packages: applications, modules, settings
    Diff(packages::DiffArgs),
    /// Check a package: by itself, as a hot upgrade from another, or against what runs on a target
    Check(check::CheckArgs),
    /// Show the appups between two packages, each instruction with its reason
    Appup(appup::AppupArgs),
    /// Make an upgrade on a throw-away copy on this machine, and go back
    Rehearse(rehearse::RehearseArgs),
    /// List the packages that were shipped or kept
    List(packages::ListArgs),
    /// Keep a package, to upgrade from it or to go back to it later
    Keep(packages::KeepArgs),
    /// Give the project a new version
    Bump(versions::BumpArgs),
    /// Tag what is checked out with the release's version
    Tag(versions::TagArgs),
    /// Write what changed between two versions, out of the commit messages
    Notes(versions::NotesArgs),
    /// Print the version of the release that this project builds
    Version {
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ask what runs on an environment's target. Exit code 1 when that can't be told
    #[command(after_long_help = VARIABLES)]
    Status {
        /// Environment, as `dev`
        #[arg(value_name = "ENV")]
        environment: String,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

pub(super) fn run(args: &ReleaseArgs) -> CliResult {
    match &args.command {
        ReleaseCommand::Inspect(args) => packages::inspect(args),
        ReleaseCommand::Diff(args) => packages::diff(args),
        ReleaseCommand::List(args) => packages::list(args),
        ReleaseCommand::Keep(args) => packages::keep(args),
        ReleaseCommand::Check(args) => check::run(args),
        ReleaseCommand::Appup(args) => appup::run(args),
        ReleaseCommand::Rehearse(args) => rehearse::run(args),
        ReleaseCommand::Bump(args) => versions::bump(args),
        ReleaseCommand::Tag(args) => versions::tag(args),
        ReleaseCommand::Notes(args) => versions::notes(args),
        ReleaseCommand::Version { format } => version(*format),
        ReleaseCommand::Status { environment, format } => status(environment, *format),
    }
}

fn version(format: Format) -> CliResult {
    let profile = std::env::var("SERVER").ok().filter(|profile| !profile.is_empty());
    let (name, version) =
        deploy::identity(Path::new("."), profile.as_deref().unwrap_or("default")).map_err(cli_error)?;
    match format {
        Format::Json => print_json(&serde_json::json!({ "name": name, "version": version })),
        Format::Text => print_raw(format!("{version}\n").as_bytes()),
    }
}

fn status(environment: &str, format: Format) -> CliResult {
    let settings = settings(environment)?;
    let status = runtime()?.block_on(deploy::status(&settings, Path::new("."))).map_err(cli_error)?;
    match format {
        Format::Json => print_json(&status)?,
        Format::Text => print_raw(text(&status).as_bytes())?,
    }
    match status.targets.iter().all(deploy::TargetStatus::told) {
        true => Ok(()),
        false => Err(CliError::silent(ErrorKind::Failed)),
    }
}

fn text(status: &EnvironmentStatus) -> String {
    let EnvironmentStatus { environment, release, targets, .. } = status;
    let mut text = String::new();
    for target in targets {
        let _ = write!(text, "{environment} ({}:{}): ", target.destination, target.directory);
        match (&target.installed, &target.error) {
            (Some(installed), _) => _ = writeln!(text, "{release} {installed}"),
            (None, Some(error)) => _ = writeln!(text, "{error}"),
            (None, None) => text.push('\n'),
        }
        if let Some(node) = &target.node {
            let _ = writeln!(text, "  node {}, process {}, erts {}", node.node, node.pid, node.erts);
            for release in &node.releases {
                let _ = writeln!(text, "  {} {}", release.version, release.status);
            }
        }
        for drift in &target.drift {
            let _ = writeln!(text, "  drift: {drift}");
        }
    }
    text
}
