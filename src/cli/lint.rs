//! `ci lint`: checks the configuration.

use super::request::RequestArgs;
use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::report::diagnostic;
use pipelines::diagnostic::Diagnostic;

#[derive(clap::Args)]
pub(super) struct LintArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &LintArgs) -> CliResult {
    let prepared = args.request.prepare()?;
    let errors = prepared.diagnostics.iter().filter(|d| d.is_error()).count();
    if args.format == Format::Json {
        print_json(&serde_json::json!({
            "valid": errors == 0,
            "diagnostics": diagnostic::to_json(&prepared.loaded.sources, &prepared.diagnostics),
        }))?;
    } else {
        print_raw(diagnostic::render(&prepared.loaded.sources, &prepared.diagnostics).as_bytes())?;
        print_raw(
            summary(&args.request.file, &prepared.diagnostics, prepared.config.map_or(0, |c| c.jobs.len()))
                .as_bytes(),
        )?;
    }
    if errors == 0 { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}

fn summary(file: &str, diagnostics: &[Diagnostic], jobs: usize) -> String {
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    match (errors, warnings) {
        (0, 0) => format!("{file} is valid: {}\n", count(jobs, "job")),
        (0, _) => format!("{file} is valid: {}, {}\n", count(jobs, "job"), count(warnings, "warning")),
        _ => format!("{file} is not valid: {}, {}\n", count(errors, "error"), count(warnings, "warning")),
    }
}

/// `1 job`, `2 jobs`.
pub(super) fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
