//! `ci glob`: does a pattern of `rules:changes` match a path?

use super::print_raw;
use crate::error::{CliError, CliResult, ErrorKind};

#[derive(clap::Args)]
pub(super) struct GlobArgs {
    /// As in `rules:changes`: `*` and `?` stay within a directory, `**/` is any number of directories
    pattern: String,
    /// Path relative to the project
    path: String,
}

pub(super) fn run(args: &GlobArgs) -> CliResult {
    let matches = pipelines::glob::matches(&args.pattern, &args.path);
    print_raw(format!("{matches}\n").as_bytes())?;
    if matches { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}
