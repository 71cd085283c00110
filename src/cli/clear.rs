//! `ci env clear`: lets a version be deployed again that failed before.

use super::deploy::{cli_error, settings};
use super::print_raw;
use super::runtime::runtime;
use crate::deploy::{Target, bad, place};
use crate::error::{CliError, CliResult};

/// Let a version be deployed again on an environment where it failed before. The reason is kept on the targets
#[derive(clap::Args)]
pub(super) struct ClearArgs {
    /// Environment, as `dev`
    #[arg(value_name = "ENV")]
    environment: String,
    /// The version
    #[arg(value_name = "VERSION")]
    version: String,
    /// Why it may be deployed again
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn run(args: &ClearArgs) -> CliResult {
    if args.reason.trim().is_empty() {
        return Err(CliError::usage("`--reason` is empty").hint("say why the version may be deployed again"));
    }
    let settings = settings(&args.environment)?;
    let places = place::all(&settings).map_err(cli_error)?;
    runtime()?.block_on(async {
        for place in &places {
            let target = Target::connect(&place.destination, &place.directory, &place.name)
                .await
                .map_err(cli_error)?;
            let cleared = bad::clear(&target, &args.version, &args.reason).await;
            target.close().await;
            let said =
                if cleared.map_err(cli_error)? { "may be deployed again" } else { "was not marked bad" };
            let line = format!("{} ({}): `{}` {said}\n", args.environment, place.destination, args.version);
            print_raw(line.as_bytes())?;
        }
        Ok(())
    })
}
