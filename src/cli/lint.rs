//! `ci lint`: checks the configuration.

use super::request::{Prepared, RequestArgs};
use super::{print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::report::explain;
use crate::report::findings::Findings;
use crate::report::{diagnostic, yaml};
use clap::ValueEnum;
use pipelines::diagnostic::Diagnostic;
use std::fmt::Write as _;

#[derive(clap::Args)]
pub(super) struct LintArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t)]
    format: LintFormat,
    /// Print the configuration with everything included, extended and referred to in its place
    #[arg(long, conflicts_with = "format")]
    merged: bool,
    /// Print what a finding means and what to do; without CODE: which there are
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    explain: Option<String>,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LintFormat {
    /// For people
    #[default]
    Text,
    /// Our own, with all places and the help
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// GitLab's code quality report
    Gitlab,
}

pub(super) fn run(args: &LintArgs) -> CliResult {
    if let Some(code) = &args.explain {
        return explain(code);
    }
    runners::sandbox::expect_much_memory();
    // the process ends here, as after `ci plan`
    let prepared = std::mem::ManuallyDrop::new(args.request.prepare_lint()?);
    let errors = prepared.diagnostics.iter().filter(|d| d.is_error()).count();
    if args.merged {
        merged(&prepared)?;
    } else {
        print(args, &prepared)?;
    }
    if errors == 0 { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}

fn print(args: &LintArgs, prepared: &Prepared) -> CliResult {
    let (sources, diagnostics) = (&prepared.loaded.sources, prepared.diagnostics.as_slice());
    let findings = Findings { sources, diagnostics, file: &args.request.file };
    match args.format {
        LintFormat::Text => {
            print_raw(diagnostic::render(sources, diagnostics).as_bytes())?;
            let jobs = prepared.config.as_ref().map_or(0, |c| c.jobs.len());
            print_raw(summary(&args.request.file, diagnostics, jobs).as_bytes())
        }
        LintFormat::Json => print_json(&serde_json::json!({
            "valid": !diagnostics.iter().any(Diagnostic::is_error),
            "diagnostics": diagnostic::to_json(sources, diagnostics),
        })),
        LintFormat::Sarif => print_json(&findings.sarif()),
        LintFormat::Gitlab => print_json(&findings.code_quality()),
    }
}

/// The configuration goes to standard output, errors to standard error: the output can be kept in a file.
fn merged(prepared: &Prepared) -> CliResult {
    let errors: Vec<Diagnostic> = prepared.diagnostics.iter().filter(|d| d.is_error()).cloned().collect();
    anstream::eprint!("{}", diagnostic::render(&prepared.loaded.sources, &errors));
    match &prepared.loaded.root {
        Some(root) => print_raw(yaml::merged(root).as_bytes()),
        None => Ok(()),
    }
}

fn explain(code: &str) -> CliResult {
    if code.is_empty() {
        let width = explain::pages().map(|page| page.code.len()).max().unwrap_or(0);
        let mut text = String::new();
        for page in explain::pages() {
            let _ = writeln!(text, "{:width$}  {}", page.code, page.summary());
        }
        return print_raw(text.as_bytes());
    }
    match explain::page(code) {
        Some(page) => print_raw(format!("{}\n\n{}\n", page.code, page.text).as_bytes()),
        None => {
            let error = CliError::usage(format!("there is no finding with the code `{code}`"));
            Err(match explain::near(code) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`ci lint --explain` lists the codes"),
            })
        }
    }
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
