//! `ci plan`: which jobs a pipeline would have.

use super::lint::count;
use super::request::{Prepared, RequestArgs};
use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::report::diagnostic;
use pipelines::plan::{AllowFailure, Job, Plan, When};
use std::fmt::Write as _;

#[derive(clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How the plan is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Say which rule put JOB into the pipeline, or why none did
    #[arg(long, value_name = "JOB")]
    why: Option<String>,
}

pub(super) fn run(args: &PlanArgs) -> CliResult {
    let prepared = args.request.prepare()?;
    if args.format == Format::Json {
        print_json(&pipelines::plan::document(&prepared.diagnostics, prepared.outcome.as_ref()))?;
    } else {
        print_raw(diagnostic::render(&prepared.loaded.sources, &prepared.diagnostics).as_bytes())?;
        let plan = prepared.plan()?;
        print_raw(table(&prepared, plan).as_bytes())?;
    }
    prepared.plan().map(|_| ())
}

impl Prepared {
    /// The plan, or how to end without one; what is wrong with the configuration has been drawn already.
    pub(super) fn plan(&self) -> CliResult<&Plan> {
        let Some(outcome) = &self.outcome else { return Err(CliError::silent(ErrorKind::Failed)) };
        match &outcome.plan {
            Some(plan) => Ok(plan),
            None => {
                let mut texts = outcome.creation_errors.iter().map(|d| d.message.clone());
                let error = CliError::failed(texts.next().unwrap_or_else(|| "no pipeline is created".into()));
                Err(texts.fold(error, CliError::hint).hint("`ci plan --why JOB` says why a job is left out"))
            }
        }
    }
}

fn table(prepared: &Prepared, plan: &Plan) -> String {
    let request = &prepared.request;
    let kind = if request.tag { "tag" } else { "branch" };
    let mut text = format!(
        "{}: {} on {kind} {} ({})\n",
        request.project,
        count(plan.jobs.len(), "job"),
        request.reference,
        request.source
    );
    if let Some(name) = &plan.name {
        let _ = writeln!(text, "name: {name}");
    }
    let width = plan.jobs.iter().map(|j| j.name.chars().count()).max().unwrap_or(0);
    for stage in &plan.stages {
        let _ = writeln!(text, "\n{stage}");
        for job in plan.jobs.iter().filter(|j| j.stage == *stage) {
            let _ = writeln!(text, "  {:width$}  {}", job.name, remarks(job).join(", "));
        }
    }
    text
}

fn remarks(job: &Job) -> Vec<String> {
    let mut remarks = Vec::new();
    match job.when {
        When::OnSuccess => {}
        When::OnFailure => remarks.push("on failure".into()),
        When::Always => remarks.push("always".into()),
        When::Manual => remarks.push("manual".into()),
        When::Delayed => remarks.push(format!("delayed by {}", job.start_in.as_deref().unwrap_or("?"))),
        When::Never => remarks.push("never".into()),
    }
    match &job.allow_failure {
        AllowFailure::Static(true) => remarks.push("may fail".into()),
        AllowFailure::Static(false) => {}
        AllowFailure::ExitCodes { exit_codes } => remarks.push(format!("may fail with {exit_codes:?}")),
    }
    if let Some(needs) = &job.needs {
        let names: Vec<&str> = needs.iter().map(|n| n.job.as_str()).collect();
        remarks.push(if names.is_empty() {
            "needs nothing".into()
        } else {
            format!("needs {}", names.join(", "))
        });
    }
    if let Some(image) = &job.work.image {
        remarks.push(format!("image {}", image.name));
    }
    if let Some(environment) = &job.environment {
        remarks.push(format!("deploys to {}", environment.name));
    }
    remarks
}
