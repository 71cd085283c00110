//! `ci promote --server`, `ci approve --server`, `ci reject`, `ci env status --server`.

use anstream::eprintln;

use super::env::columns;
use super::on_server::{OnServer, ago, span, text};
use super::{Format, print_json, print_raw};
use crate::client::Place;
use crate::error::{CliError, CliResult, ErrorKind};
use serde_json::{Value as Json, json};
use std::time::Duration;

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Say no to a deployment that waits for people on a server
#[derive(clap::Args)]
pub(super) struct RejectArgs {
    /// Version, or number of the deployment
    #[arg(value_name = "VERSION")]
    version: String,
    /// Environment that it goes to
    #[arg(long, value_name = "ENV")]
    to: Option<String>,
    /// Why; recorded
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    comment: String,
    #[command(flatten)]
    on: OnServer,
    /// How what comes of it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn reject(args: &RejectArgs) -> CliResult {
    let place = args.on.place()?;
    let deployment = place.waiting(&args.version, args.to.as_deref())?;
    let voted = vote(&place, &deployment, "reject", &args.comment)?;
    told(&place, &voted, args.format)
}

/// What a person agrees to.
pub(super) struct Agreement<'a> {
    /// Version, or number of the deployment.
    pub(super) what: &'a str,
    /// Environment.
    pub(super) to: Option<&'a str>,
    /// For the record.
    pub(super) comment: &'a str,
    /// Beginning of the plan's digest, if the person has seen it.
    pub(super) expect: Option<&'a str>,
}

pub(super) fn approve(on: &OnServer, agreement: &Agreement<'_>, format: Format) -> CliResult {
    let place = on.place()?;
    let deployment = place.waiting(agreement.what, agreement.to)?;
    let digest = text(&deployment, "plan_digest");
    if let Some(seen) = agreement.expect.filter(|seen| !digest.starts_with(seen)) {
        let told = format!("the plan is `{}` by now, not `{seen}`", short(&digest));
        return Err(CliError::new(ErrorKind::Refused, told).hint("look at it again before you agree"));
    }
    let voted = vote(&place, &deployment, "approve", agreement.comment)?;
    told(&place, &voted, format)
}

fn vote(place: &Place, deployment: &Json, action: &str, comment: &str) -> CliResult<Json> {
    let said = json!({ "comment": comment, "plan_digest": deployment["plan_digest"] });
    place.server.post(&place.path(&format!("deployments/{}/{action}", deployment["id"])), Some(&said))
}

/// Asks for a promotion and goes with it until it has ended or waits for people.
pub(super) fn promote(
    on: &OnServer,
    version: &str,
    to: &str,
    set_aside: Option<&str>,
    format: Format,
) -> CliResult {
    let place = on.place()?;
    let mut deployment = place.promote(version, to, set_aside.unwrap_or_default())?;
    let mut last = String::new();
    loop {
        let status = text(&deployment, "status");
        let line = in_words(&deployment);
        if !matches!(status.as_str(), "planning" | "queued" | "running") {
            break;
        }
        if line != last {
            eprintln!("{line}");
            last = line;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        deployment = place.server.get(&place.path(&format!("deployments/{}", deployment["id"])))?;
    }
    told(&place, &deployment, format)?;
    match text(&deployment, "status").as_str() {
        "done" | "waiting" => Ok(()),
        "failed" | "unknown" => Err(CliError::silent(ErrorKind::Failed)),
        "rolled_back" => Err(CliError::silent(ErrorKind::RolledBack)),
        _ => Err(CliError::silent(ErrorKind::Refused)),
    }
}

fn told(place: &Place, deployment: &Json, format: Format) -> CliResult {
    if format == Format::Json {
        return print_json(deployment);
    }
    let mut out = format!("{}\n", in_words(deployment));
    if deployment["status"] == "waiting" {
        out.push_str(&format!(
            "plan {}; whoever is asked to agree: `ci approve {} --server={} --project {}`\n",
            short(&text(deployment, "plan_digest")),
            deployment["id"],
            place.server.address(),
            place.project
        ));
    }
    print_raw(out.as_bytes())
}

fn in_words(deployment: &Json) -> String {
    let [version, environment, status, reason] =
        ["version", "environment", "status", "reason"].map(|name| text(deployment, name));
    let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
    format!("deployment {} of {version} to {environment} is {status}{reason}", deployment["id"])
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// The grid: which version of which project is where.
pub(super) fn grid(on: &OnServer, environments: &[String], format: Format) -> CliResult {
    let mut found: Vec<Json> = match on.project() {
        Some(_) => {
            let place = on.place()?;
            vec![place.server.get(&place.path("environments"))?]
        }
        None => on.server()?.get("/api/v1/environments")?,
    };
    if !environments.is_empty() {
        for row in &mut found {
            if let Some(cells) = row["cells"].as_array_mut() {
                cells.retain(|cell| environments.contains(&text(cell, "environment")));
            }
        }
    }
    if format == Format::Json {
        return print_json(&found);
    }
    let head = ["PROJECT", "ENV", "VERSION", "AGE", "BY", "HEALTH", "NEXT", "BEHIND", "NOTE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for row in &found {
        let project = text(row, "project");
        let problem = text(row, "problem");
        if !problem.is_empty() {
            rows.push(vec![project.clone(), "-".to_owned(), problem]);
        }
        rows.extend(row["cells"].as_array().into_iter().flatten().map(|cell| cells(&project, cell)));
    }
    if rows.len() == 1 {
        return print_raw(
            b"no project that you may see has environments (`.ci/deploy.yml` on its default branch)\n",
        );
    }
    print_raw(columns(&rows).as_bytes())
}

fn cells(project: &str, cell: &Json) -> Vec<String> {
    let or = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let versions: Vec<&str> =
        cell["versions"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let behind = match (cell["commits_behind"].as_i64(), cell["behind_ms"].as_i64()) {
        (Some(commits), Some(ms)) => format!("{commits} commits, {}", span(ms)),
        (None, Some(ms)) => span(ms),
        _ => "-".to_owned(),
    };
    let mut notes = Vec::new();
    if cell["stale"] == true {
        notes.push("too far behind".to_owned());
    }
    if cell["lock"].is_object() {
        notes.push(format!(
            "locked by {}: {}",
            text(&cell["lock"], "by_whom"),
            text(&cell["lock"], "reason")
        ));
    }
    if cell["frozen"].is_string() {
        notes.push(format!("frozen {}", text(cell, "frozen")));
    }
    if cell["deployment"].is_object() {
        notes.push(in_words(&cell["deployment"]));
    }
    vec![
        project.to_owned(),
        text(cell, "environment"),
        or(versions.join(", ")),
        ago(cell, "since"),
        or(text(cell, "by")),
        or(text(cell, "health")),
        or(text(cell, "next")),
        behind,
        notes.join("; "),
    ]
}
