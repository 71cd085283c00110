//! `ci env`: the environments and what runs there.

use super::{clear, unlock};
use crate::error::CliResult;

/// The environments and what runs there.
#[derive(clap::Args)]
pub(super) struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(clap::Subcommand)]
enum EnvCommand {
    Unlock(unlock::UnlockArgs),
    Clear(clear::ClearArgs),
}

pub(super) fn run(args: &EnvArgs) -> CliResult {
    match &args.command {
        EnvCommand::Unlock(args) => unlock::run(args),
        EnvCommand::Clear(args) => clear::run(args),
    }
}
