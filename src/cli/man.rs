//! `ci man`: manual pages.

use crate::error::{CliError, CliResult};
use std::path::{Path, PathBuf};

/// Write manual pages: `ci.1`, and one for each command
#[derive(clap::Args)]
pub(super) struct ManArgs {
    /// Directory, such as ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(super) fn run(args: &ManArgs, command: clap::Command) -> CliResult {
    let writing = |what: &Path, e: std::io::Error| {
        CliError::usage(format!("writing manual pages to `{}`: {e}", what.display()))
    };
    std::fs::create_dir_all(&args.dir).map_err(|e| writing(&args.dir, e))?;
    clap_mangen::generate_to(command, &args.dir).map_err(|e| writing(&args.dir, e))
}
