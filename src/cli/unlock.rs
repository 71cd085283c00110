//! `ci env unlock`: removes the lock of a deployment that died.

use super::deploy::{cli_error, settings};
use super::print_raw;
use super::runtime::runtime;
use crate::deploy::{self, Target, place};
use crate::error::CliResult;

/// Remove the lock that a dead deployment left on the targets of an environment. The lock of a living one stays
#[derive(clap::Args)]
pub(super) struct UnlockArgs {
    /// Environment, as `dev`
    #[arg(value_name = "ENV")]
    environment: String,
    /// Remove the lock of a living deployment too
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &UnlockArgs) -> CliResult {
    let settings = settings(&args.environment)?;
    let places = place::all(&settings).map_err(cli_error)?;
    runtime()?.block_on(async {
        for place in &places {
            let target = Target::connect(&place.destination, &place.directory, &place.name)
                .await
                .map_err(cli_error)?;
            let owner = deploy::unlock(&target, args.force).await;
            target.close().await;
            let said = match owner.map_err(cli_error)? {
                Some(owner) => format!("removed the lock of {owner}"),
                None => "not locked".to_owned(),
            };
            print_raw(format!("{} ({}): {said}\n", args.environment, place.destination).as_bytes())?;
        }
        Ok(())
    })
}
