//! `ci pipelines`, `ci jobs`: what a server runs.

use super::env::columns;
use super::on_server::{OnServer, ago, text, took};
use super::{Format, print_json, print_raw};
use crate::error::CliResult;
use serde_json::Value as Json;
use std::fmt::Write as _;

/// List the pipelines of a project on a server, newest first
#[derive(clap::Args)]
pub(super) struct PipelinesArgs {
    #[command(flatten)]
    on: OnServer,
    /// Only of this branch or tag
    #[arg(long = "ref", value_name = "NAME")]
    reference: Option<String>,
    /// Only with this status
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u8).range(1..=100))]
    limit: u8,
    /// How they are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// List the jobs of a pipeline on a server, and why those wait that do
#[derive(clap::Args)]
pub(super) struct JobsArgs {
    /// Number of the pipeline [default: the newest]
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<i64>,
    #[command(flatten)]
    on: OnServer,
    /// How they are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn pipelines(args: &PipelinesArgs) -> CliResult {
    let place = args.on.place()?;
    let mut filter = vec![("limit", args.limit.to_string())];
    filter.extend(args.reference.iter().map(|name| ("ref", name.clone())));
    filter.extend(args.status.iter().map(|status| ("status", status.clone())));
    let found = place.pipelines(&filter)?;
    if args.format == Format::Json {
        return print_json(&found);
    }
    if found.is_empty() {
        return print_raw(b"no such pipelines\n");
    }
    let mut rows = vec![
        ["PIPELINE", "STATUS", "REF", "COMMIT", "SOURCE", "AGE", "TOOK", "WHAT"].map(str::to_owned).to_vec(),
    ];
    rows.extend(found.iter().map(|pipeline| {
        let sha: String = text(pipeline, "sha").chars().take(8).collect();
        let what: String = text(pipeline, "message").chars().take(60).collect();
        let cells = ["id", "status", "ref"].map(|name| text(pipeline, name));
        let rest = [sha, text(pipeline, "source"), ago(pipeline, "created_at"), took(pipeline), what];
        cells.into_iter().chain(rest).collect()
    }));
    print_raw(columns(&rows).as_bytes())
}

pub(super) fn jobs(args: &JobsArgs) -> CliResult {
    let place = args.on.place()?;
    let pipeline = place.pipeline(args.pipeline)?;
    if args.format == Format::Json {
        return print_json(&pipeline);
    }
    let mut out = format!(
        "pipeline {} of {} on {}: {}\n",
        pipeline["id"],
        place.project,
        text(&pipeline, "ref"),
        text(&pipeline, "status")
    );
    for error in pipeline["errors"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        let _ = writeln!(out, "{error}");
    }
    let mut rows = vec![["JOB", "NAME", "STAGE", "STATUS", "TOOK", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(pipeline["jobs"].as_array().into_iter().flatten().map(row));
    if rows.len() > 1 {
        out.push_str(&columns(&rows));
    }
    print_raw(out.as_bytes())
}

fn row(job: &Json) -> Vec<String> {
    let mut status = text(job, "status");
    if status == "failed" && job["allowed_to_fail"] == true {
        status.push_str(" (allowed)");
    }
    let why = ["waits_for", "message", "failure_reason"].map(|name| text(job, name));
    let why = why.into_iter().find(|why| !why.is_empty()).unwrap_or_default();
    vec![text(job, "id"), text(job, "name"), text(job, "stage"), status, took(job), why]
}
