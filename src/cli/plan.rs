//! `ci plan`: which jobs a pipeline would have.

use super::lint::count;
use super::request::{Prepared, RequestArgs, Use};
use super::{print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::report::why::Why;
use crate::report::{diagnostic, graph, terminal};
use clap::ValueEnum;
use pipelines::diagnostic::did_you_mean;
use pipelines::plan::{AllowFailure, Job, Plan, When};
use std::fmt::Write as _;

#[derive(clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How the plan is printed
    #[arg(long, value_enum, default_value_t)]
    format: PlanFormat,
    /// Draw which job waits for which
    #[arg(long, conflicts_with_all = ["format", "why"])]
    graph: bool,
    /// Say which rule put JOB into the pipeline, or why none did, with the values compared
    #[arg(long, value_name = "JOB")]
    why: Option<String>,
}

/// How the plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// A table by stage
    #[default]
    Text,
    /// The plan document
    Json,
    /// A Mermaid flowchart
    Mermaid,
    /// A Graphviz digraph
    Dot,
}

pub(super) fn run(args: &PlanArgs) -> CliResult {
    runners::sandbox::expect_much_memory();
    let what = if args.format == PlanFormat::Json { Use::Document } else { Use::Look };
    // the process ends here: taking a big configuration apart again would only cost time
    let prepared = std::mem::ManuallyDrop::new(args.request.prepare_for(what)?);
    if let Some(name) = &args.why {
        return why(&prepared, name, args.format);
    }
    if args.format == PlanFormat::Json {
        print_json(&pipelines::plan::document(&prepared.diagnostics, prepared.outcome.as_ref()))?;
        return prepared.plan().map(|_| ());
    }
    let findings = diagnostic::render(&prepared.loaded.sources, &prepared.shown());
    if args.format == PlanFormat::Text && !args.graph {
        print_raw(findings.as_bytes())?;
    } else {
        // a drawing goes into a file or another program
        anstream::eprint!("{findings}");
    }
    let plan = prepared.plan()?;
    let text = match args.format {
        PlanFormat::Mermaid => graph::mermaid(plan),
        PlanFormat::Dot => graph::dot(plan),
        _ if args.graph => graph::tree(plan, terminal::columns()),
        _ => table(&prepared, plan),
    };
    print_raw(text.as_bytes())
}

fn why(prepared: &Prepared, name: &str, format: PlanFormat) -> CliResult {
    let (Some(config), Some(outcome)) = (&prepared.config, &prepared.outcome) else {
        anstream::eprint!("{}", diagnostic::render(&prepared.loaded.sources, &prepared.shown()));
        return Err(CliError::silent(ErrorKind::Failed));
    };
    if !config.jobs.iter().any(|job| job.name == name || *job.base_name == *name) {
        return Err(unknown(prepared, name));
    }
    let why = Why { sources: &prepared.loaded.sources, config, request: &prepared.request, outcome };
    match format {
        PlanFormat::Json => print_json(&why.json(name)),
        PlanFormat::Text => print_raw(why.text(name).as_bytes()),
        PlanFormat::Mermaid | PlanFormat::Dot => {
            Err(CliError::usage("`--why` answers as text or JSON: drop `--format`, or say `--format json`"))
        }
    }
}

fn unknown(prepared: &Prepared, name: &str) -> CliError {
    let error = CliError::usage(format!("the configuration has no job `{name}`"));
    let hidden = prepared.loaded.root.as_ref().and_then(|root| root.as_mapping()?.get(name));
    if name.starts_with('.') && hidden.is_some() {
        return error.hint("a name that begins with a dot hides a job: it is never in a pipeline");
    }
    let jobs = prepared.config.iter().flat_map(|config| &config.jobs);
    match did_you_mean(name, jobs.map(|job| &*job.base_name)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("`ci lint --merged` shows all jobs"),
    }
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

/// The jobs of a plan by stage, a line each.
pub(super) fn table(prepared: &Prepared, plan: &Plan) -> String {
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
        let does = match environment.action.as_deref() {
            None | Some("start") => "deploys to",
            Some("prepare") => "prepares",
            Some("stop") => "stops",
            Some(_) => "looks at",
        };
        remarks.push(format!("{does} {}", environment.name));
    }
    remarks
}
