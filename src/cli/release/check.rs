//! `ci release check`: is this package sound, and a sound upgrade?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use super::super::deploy::{cli_error, settings};
use super::super::runtime::runtime;
use super::super::{Format, print_json, print_raw};
use super::locate::{Found, find};
use crate::deploy::{self, Survey};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::{self, Finding, Package, check};

/// Checks a package, with no Erlang needed. Exit code 1 when there are errors: the hot upgrade would fail, or end in old
/// code or lost state.
#[derive(clap::Args)]
pub(super) struct CheckArgs {
    /// A package file, or a version that is kept or built here
    #[arg(value_name = "PACKAGE", required_unless_present = "explain")]
    package: Option<String>,
    /// As a hot upgrade from this package (a file, or a version that is kept or built here)
    #[arg(long, value_name = "PACKAGE", conflicts_with = "env")]
    from: Option<String>,
    /// As a hot upgrade of what runs at this environment's targets, which are asked
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    /// Print what a finding means and what to do; without CODE: which there are
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "", exclusive = true)]
    explain: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What was checked and found. Serialized, it is the document of `--format json`.
#[derive(serde::Serialize)]
struct Checked {
    /// Version of this document's form.
    format: u32,
    /// Name, version and SHA-256 of the package; none when it can't be read.
    package: Option<(String, String, String)>,
    /// The version that the upgrade starts from.
    from: Option<String>,
    findings: Vec<Finding>,
    /// What could not be checked, and why.
    unchecked: Vec<String>,
}

pub(super) fn run(args: &CheckArgs) -> CliResult {
    if let Some(code) = &args.explain {
        return explain(code);
    }
    let what = args.package.as_deref().unwrap_or_default();
    let new = match find(what, None) {
        Ok(found) => found,
        Err(error) if error.kind == ErrorKind::Failed => return unreadable(args, error),
        Err(error) => return Err(error),
    };
    let (package, mut from, mut unchecked) = (new.package, None, Vec::new());
    let mut findings = match (&args.from, &args.env) {
        (Some(old), _) => {
            let old = find(old, Some(&package.rel.name))?.package;
            from = Some(old.rel.version.clone());
            check::upgrade(&old, &package)
        }
        (None, Some(environment)) => {
            let found = on_targets(environment, &package)?;
            (from, unchecked) = (found.from, found.unchecked);
            found.findings
        }
        (None, None) => check::alone(&package),
    };
    findings.sort_by_key(|finding| (!finding.is_error(), finding.code, finding.text.clone()));
    findings.dedup();
    let identity = (package.rel.name.clone(), package.rel.version.clone(), package.sha256.clone());
    finish(args, &Checked { format: 1, package: Some(identity), from, findings, unchecked })
}

fn unreadable(args: &CheckArgs, error: CliError) -> CliResult {
    let finding = Finding::error("R001", error.message, "build the package again from a clean directory");
    finish(
        args,
        &Checked { format: 1, package: None, from: None, findings: vec![finding], unchecked: Vec::new() },
    )
}

fn finish(args: &CheckArgs, checked: &Checked) -> CliResult {
    let errors = checked.findings.iter().filter(|finding| finding.is_error()).count();
    match args.format {
        Format::Json => print_json(checked)?,
        Format::Text => {
            print_findings(&checked.findings)?;
            print_raw(summary(checked, errors).as_bytes())?;
        }
    }
    if errors == 0 { Ok(()) } else { Err(CliError::silent(ErrorKind::Failed)) }
}

fn summary(checked: &Checked, errors: usize) -> String {
    let mut out = String::new();
    for text in &checked.unchecked {
        let _ = writeln!(out, "not checked: {text}");
    }
    let what = match (&checked.package, &checked.from) {
        (Some((name, version, _)), Some(from)) => format!("{name} {from} -> {version}"),
        (Some((name, version, _)), None) => format!("{name} {version}"),
        (None, _) => "the package".to_owned(),
    };
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let warnings = checked.findings.len() - errors;
    let verdict = match (errors, &checked.from) {
        (0, Some(_)) => "fit for a hot upgrade",
        (0, None) => "sound",
        (_, Some(_)) => "not fit for a hot upgrade",
        _ => "not sound",
    };
    let _ = writeln!(out, "{what}: {verdict} ({}, {})", count(errors, "error"), count(warnings, "warning"));
    out
}

/// Prints findings for people, each with its way out.
pub(super) fn print_findings(findings: &[Finding]) -> CliResult {
    let mut out = String::new();
    for finding in findings {
        let color = if finding.is_error() { anstyle::AnsiColor::Red } else { anstyle::AnsiColor::Yellow };
        let style = anstyle::Style::new().bold().fg_color(Some(color.into()));
        let severity = if finding.is_error() { "error" } else { "warning" };
        let Finding { code, text, remedy, .. } = finding;
        let _ = writeln!(out, "{style}{severity}[{code}]{style:#}: {text}\n  help: {remedy}");
    }
    print_raw(out.as_bytes())
}

fn explain(code: &str) -> CliResult {
    if code.is_empty() {
        let mut out = String::new();
        for (code, text) in release::pages() {
            let _ =
                writeln!(out, "{code}  {}", text.lines().next().unwrap_or_default().trim_end_matches('.'));
        }
        return print_raw(out.as_bytes());
    }
    match release::page(code) {
        Some(page) => print_raw(format!("{}: {page}\n", code.to_uppercase()).as_bytes()),
        None => Err(CliError::usage(format!("there is no finding `{code}`"))
            .hint("`ci release check --explain` lists all of them")),
    }
}

struct OnTargets {
    findings: Vec<Finding>,
    from: Option<String>,
    unchecked: Vec<String>,
}

/// Asks every target, and checks the upgrade of what runs there.
fn on_targets(environment: &str, new: &Package) -> CliResult<OnTargets> {
    let settings = settings(environment)?;
    let touched = check::touched(new, None);
    let answers = runtime()?.block_on(deploy::ask(&settings, &new.rel.name, &touched));
    let (mut found, mut versions) = (check::alone(new), BTreeSet::new());
    let mut unchecked = Vec::new();
    for (target, answer) in answers {
        let (survey, processes) = answer.map_err(cli_error)?;
        let (findings, from, missing) = on_target(new, &survey, &processes);
        let of_target = |finding: Finding| match finding.code {
            // the others are about packages, and the same for every target
            "R020" | "R022" | "R024" | "R025" | "R026" | "R027" => {
                Finding { text: format!("on `{target}`: {}", finding.text), ..finding }
            }
            _ => finding,
        };
        found.extend(findings.into_iter().map(of_target));
        versions.extend(from);
        unchecked.extend(missing.map(|why| format!("`{target}`: {why}")));
    }
    let versions: Vec<String> = versions.into_iter().collect();
    let from = (!versions.is_empty()).then(|| versions.join(", "));
    Ok(OnTargets { findings: found, from, unchecked })
}

type Findings = (Vec<Finding>, Option<String>, Option<String>);

fn on_target(new: &Package, survey: &Survey, processes: &check::Processes) -> Findings {
    let evidence = &survey.evidence;
    let Some(running) = survey.installed.running().map(str::to_owned) else {
        let why = format!("no upgrade to check, {}", survey.installed);
        return (check::target(new, None, evidence), None, Some(why));
    };
    if running == new.rel.version {
        return (check::target(new, Some(new), evidence), Some(running), None);
    }
    let mut findings = check::processes(new, &running, processes);
    let Ok(Found { package: old, .. }) = find(&running, Some(&new.rel.name)) else {
        findings.extend(check::target(new, None, evidence));
        let why =
            format!("`{running}` runs there, and no package of it is kept here (`ci release keep FILE`)");
        return (findings, Some(running), Some(why));
    };
    findings.extend(check::upgrade(&old, new));
    findings.extend(check::target(new, Some(&old), evidence));
    (findings, Some(running), None)
}

/// The rebar3 profile of this environment's builds.
pub(super) fn profile() -> String {
    std::env::var("SERVER").ok().filter(|profile| !profile.is_empty()).unwrap_or_else(|| "default".to_owned())
}

/// The project here, if there is one that can be read.
pub(super) fn project() -> Option<release::Project> {
    release::Project::open(Path::new("."), &profile()).ok()
}
