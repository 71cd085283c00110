//! `ci env history`: what the ledger says of an environment; and what a deployment adds to it.

use std::path::Path;

use super::{Format, print_json, print_raw};
use crate::deploy::place::Place;
use crate::deploy::{Outcome, Report, TargetReport};
use crate::error::CliResult;
use crate::ledger::{Arrival, Ended, Entry, Fact, Ledger, Mark, Transport, packages, standing};
use crate::release::decide::Strategy;

/// What happened in an environment: deployments, bundles and their receipts, approvals, overrides, bad marks
#[derive(clap::Args)]
pub(super) struct HistoryArgs {
    /// Environment, as `prod`
    #[arg(value_name = "ENV")]
    environment: String,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &HistoryArgs) -> CliResult {
    let entries = Ledger::of(Path::new("."))?.entries()?;
    let history: Vec<&Entry> = standing::history(&entries, &args.environment).collect();
    match args.format {
        Format::Json => print_json(&history),
        Format::Text if history.is_empty() => {
            print_raw(format!("nothing is recorded of `{}` yet\n", args.environment).as_bytes())
        }
        Format::Text => {
            let mut rows = vec![["AT", "WHAT", "VERSION", "DETAILS", "BY"].map(str::to_owned).to_vec()];
            rows.extend(history.into_iter().map(row));
            print_raw(super::env::columns(&rows).as_bytes())
        }
    }
}

fn row(entry: &Entry) -> Vec<String> {
    let (what, version, details) = match &entry.fact {
        Fact::Release(released) => ("release", &released.version, released.archive.clone()),
        Fact::Rehearsal(rehearsed) => {
            let fit = if rehearsed.fit { "fit".to_owned() } else { rehearsed.problems.join("; ") };
            ("rehearsal", &rehearsed.version, format!("from {}: {fit}", rehearsed.from))
        }
        Fact::Deployment(arrival) => ("deployment", &arrival.version, arrival_in_words(arrival)),
        Fact::Receipt(arrival) => ("receipt", &arrival.version, arrival_in_words(arrival)),
        Fact::Bundle(made) => {
            let digest = made.bundle.get(..12).unwrap_or(&made.bundle);
            let from = match &made.from[..] {
                [] => "for hosts with nothing".to_owned(),
                from => format!("from {}", from.join(", ")),
            };
            ("bundle", &made.version, format!("{digest}, {from}"))
        }
        Fact::Approval(approval) => ("approval", &approval.version, format!("by {}", approval.person)),
        Fact::Override(set_aside) => (
            "override",
            &set_aside.version,
            format!("{} ({})", set_aside.reason, set_aside.refusals.join("; ")),
        ),
        Fact::Bad(mark) => ("bad", &mark.version, mark.reason.clone()),
        Fact::Cleared(mark) => ("cleared", &mark.version, mark.reason.clone()),
    };
    vec![entry.at.clone(), what.to_owned(), version.clone(), details, entry.by.clone()]
}

fn arrival_in_words(arrival: &Arrival) -> String {
    let from = arrival.from.as_ref().map_or(String::new(), |from| format!(" from {from}"));
    let mut text = format!("{}: {}{from}", arrival.outcome.as_str(), arrival.strategy);
    if !arrival.targets.is_empty() {
        text.push_str(&format!(", {}", arrival.targets.join(" ")));
    }
    if let Transport::Bundle { signed_by: Some(who), .. } = &arrival.via {
        text.push_str(&format!(", signed by {who}"));
    }
    match &arrival.reason {
        Some(reason) if !arrival.outcome.succeeded() => format!("{text}; {}", reason.replace('\n', " ")),
        _ => text,
    }
}

/// Keeps the packages of a deployment that arrived on a target, and records how it ended, an entry for each target.
pub(super) fn record(project: &Path, report: &Report) -> CliResult {
    let arrived = report.targets.iter().any(|target| target.outcome == Some(Outcome::Done));
    let mut content = String::new();
    for whole in &report.packages {
        content = match arrived {
            true => packages::keep(project, whole, None)?.content,
            // what may be somewhere else under this version must not be found instead of it
            false => whole.content()?,
        };
    }
    let reason = report.error.as_ref().map(|error| error.message.clone());
    let whole = Arrival {
        environment: report.environment.clone(),
        release: report.release.clone(),
        version: report.version.clone(),
        content,
        strategy: Strategy::Refuse.name().to_owned(),
        outcome: ended(report.outcome),
        reason: reason.clone(),
        ..Arrival::default()
    };
    let mut arrivals: Vec<Arrival> =
        report.targets.iter().filter_map(|target| arrival(&whole, target)).collect();
    if arrivals.is_empty() {
        arrivals.push(whole);
    }
    // what failed comes last: it decides whether the version arrived
    arrivals.sort_by_key(|arrival| !arrival.outcome.succeeded());
    let ledger = Ledger::of(project)?;
    for rehearsed in &report.rehearsals {
        ledger.append(Fact::Rehearsal(rehearsed.clone()))?;
    }
    arrivals.into_iter().try_for_each(|arrival| ledger.append(Fact::Deployment(arrival)).map(drop))
}

fn arrival(whole: &Arrival, target: &TargetReport) -> Option<Arrival> {
    let strategy = &target.decision.strategy;
    let outcome = match (target.outcome?, strategy) {
        (Outcome::Done, Strategy::Nothing | Strategy::Tidy) => Ended::Nothing,
        (outcome, _) => ended(outcome),
    };
    Some(Arrival {
        from: target.before.as_ref().and_then(|before| before.running()).map(str::to_owned),
        strategy: strategy.name().to_owned(),
        targets: vec![target.destination.clone()],
        outcome,
        reason: target.error.as_ref().map(|error| error.message.clone()),
        ..whole.clone()
    })
}

/// Records that a version was taken back by hand, and is marked bad by that.
pub(super) fn record_return(environment: &str, place: &Place, left: &str, now: &str) -> CliResult {
    let reason = format!("taken back to `{now}` by hand");
    let arrival = Arrival {
        environment: environment.to_owned(),
        release: place.name.clone(),
        version: left.to_owned(),
        from: Some(now.to_owned()),
        strategy: Strategy::Back { from: left.to_owned() }.name().to_owned(),
        targets: vec![place.destination.clone()],
        outcome: Ended::RolledBack,
        reason: Some(reason.clone()),
        ..Arrival::default()
    };
    let ledger = Ledger::of(Path::new("."))?;
    ledger.append(Fact::Deployment(arrival))?;
    let known = standing::bad(&ledger.entries()?, environment, left).is_some();
    if known {
        return Ok(());
    }
    let mark = Mark { environment: environment.to_owned(), version: left.to_owned(), reason };
    ledger.append(Fact::Bad(mark)).map(drop)
}

/// Records that a version may go there again: `there` when it was marked on a target.
pub(super) fn record_cleared(mark: Mark, there: bool) -> CliResult {
    let ledger = Ledger::of(Path::new("."))?;
    if there || standing::bad(&ledger.entries()?, &mark.environment, &mark.version).is_some() {
        ledger.append(Fact::Cleared(mark))?;
    }
    Ok(())
}

fn ended(outcome: Outcome) -> Ended {
    match outcome {
        Outcome::Done => Ended::Done,
        Outcome::Failed => Ended::Failed,
        Outcome::Refused => Ended::Refused,
        Outcome::Restarted | Outcome::RolledBack => Ended::RolledBack,
    }
}
