//! `ci glob`: does a pattern of `rules:changes` match a path?

use crate::error::{CliError, CliResult, ErrorKind};

#[derive(clap::Args)]
pub(super) struct GlobArgs {
    /// As in `rules:changes`: `*` and `?` stay within a directory, `**/` is any number of directories
    pattern: String,
    /// Path relative to the project
    path: String,
}

pub(super) fn run(args: &GlobArgs) -> CliResult {
    if pipelines::glob::matches(&args.pattern, &args.path) {
        Ok(())
    } else {
        Err(CliError::silent(ErrorKind::Failed))
    }
}
