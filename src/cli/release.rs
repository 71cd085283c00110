//! `ci release`: what this project's release is, and what runs of it.

use std::fmt::Write as _;
use std::path::Path;

use super::deploy::{VARIABLES, cli_error, runtime, settings};
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
