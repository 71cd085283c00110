//! `ci env clear`: lets a version be deployed again that failed before.

use super::deploy::{cli_error, settings};
use super::runtime::runtime;
use super::{history, print_raw};
use crate::deploy::{Target, bad, place};
use crate::error::{CliError, CliResult};
use crate::ledger::Mark;

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
    let mut cleared = false;
    let result = runtime()?.block_on(async {
        for place in &places {
            let target = Target::connect(&place.destination, &place.directory, &place.name)
                .await
                .map_err(cli_error)?;
            let was_bad = bad::clear(&target, &args.version, &args.reason).await;
            target.close().await;
            let was_bad = was_bad.map_err(cli_error)?;
            cleared |= was_bad;
            let said = if was_bad { "may be deployed again" } else { "was not marked bad" };
            let line = format!("{} ({}): `{}` {said}\n", args.environment, place.destination, args.version);
            print_raw(line.as_bytes())?;
        }
        Ok(())
    });
    let mark = Mark {
        environment: args.environment.clone(),
        version: args.version.clone(),
        reason: args.reason.trim().to_owned(),
    };
    // what a target was told is recorded, also when another could not be asked
    if cleared || result.is_ok() {
        history::record_cleared(mark, cleared)?;
    }
    result
}
