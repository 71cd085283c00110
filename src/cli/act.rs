//! `ci play`, `ci retry`, `ci cancel`: jobs and pipelines on a server.

use super::on_server::{OnServer, text};
use super::{Format, print_json, print_raw};
use crate::client::Place;
use crate::error::CliResult;
use serde_json::Value as Json;

/// Start a manual or delayed job on a server
#[derive(clap::Args)]
pub(super) struct PlayArgs {
    /// Number of the job, or its name in the newest pipeline
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    on: OnServer,
    /// How what comes of it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A job, or all of a pipeline.
#[derive(clap::Args)]
pub(super) struct ActArgs {
    /// Number of the job, or its name in the newest pipeline
    #[arg(value_name = "JOB", required_unless_present = "pipeline", conflicts_with = "pipeline")]
    job: Option<String>,
    /// All of this pipeline
    #[arg(long, value_name = "PIPELINE")]
    pipeline: Option<i64>,
    #[command(flatten)]
    on: OnServer,
    /// How what comes of it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn play(args: &PlayArgs) -> CliResult {
    let place = args.on.place()?;
    let job = place.job(&args.job)?;
    told(&place, "job", &place.act(&format!("jobs/{job}"), "play")?, args.format)
}

/// `action` is the API's: `retry` or `cancel`.
pub(super) fn act(args: &ActArgs, action: &str) -> CliResult {
    let place = args.on.place()?;
    match (&args.job, args.pipeline) {
        (_, Some(pipeline)) => {
            told(&place, "pipeline", &place.act(&format!("pipelines/{pipeline}"), action)?, args.format)
        }
        (job, None) => {
            let job = place.job(job.as_deref().unwrap_or_default())?;
            told(&place, "job", &place.act(&format!("jobs/{job}"), action)?, args.format)
        }
    }
}

fn told(place: &Place, what: &str, done: &Json, format: Format) -> CliResult {
    if format == Format::Json {
        return print_json(done);
    }
    let name = text(done, "name");
    let name = if name.is_empty() { name } else { format!(" `{name}`") };
    let address = place.server.address();
    let line = format!("{what} {}{name} is {}: {address}/projects/", done["id"], text(done, "status"));
    let project: String = url::form_urlencoded::byte_serialize(place.project.as_bytes()).collect();
    print_raw(format!("{line}{project}/{what}s/{}\n", done["id"]).as_bytes())
}
