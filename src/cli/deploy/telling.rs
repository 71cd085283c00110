//! Tells people of the deployment, as `notify` in `.ci/deploy.yml` says. Nothing of it changes how the deployment ends.

use crate::cli::notify;
use crate::deploy::{Outcome, Report, TargetReport};
use crate::notify::{Channels, Event, Failure, Occasion};
use crate::release::decide::Strategy;
use std::path::Path;
use std::thread::JoinHandle;

/// A deployment that people are told of.
pub(super) struct Telling {
    channels: Channels,
    begun: JoinHandle<Vec<Failure>>,
}

impl Telling {
    /// Tells that the deployment begins, while it does.
    pub(super) fn begin(project: &Path, environment: &str) -> Telling {
        let channels = notify::of_deployment(project, environment);
        let begun = channels.tell_meanwhile(event(Occasion::Started, "", "", environment));
        Telling { channels, begun }
    }

    /// Tells how it ended.
    pub(super) fn end(self, report: &Report) {
        let mut failures = self.begun.join().unwrap_or_default();
        if let Some(event) = told(report) {
            failures.extend(self.channels.tell(&event));
        }
        notify::warn(&failures);
    }
}

/// Tells that a release waits until people agree.
pub(in crate::cli) fn approval_needed(project: &Path, release: &str, version: &str, environment: &str) {
    let channels = notify::of_deployment(project, environment);
    let mut event = event(Occasion::ApprovalNeeded, release, version, environment);
    event.text = Some(format!("`ci approve {version} --to {environment}` agrees"));
    notify::warn(&channels.tell(&event));
}

/// What is told of it: nothing when there was nothing to do.
fn told(report: &Report) -> Option<Event> {
    let nothing = |target: &TargetReport| target.decision.strategy == Strategy::Nothing;
    if report.error.is_none() && report.targets.iter().all(nothing) {
        return None;
    }
    let occasion = match report.outcome {
        Outcome::Done => Occasion::Succeeded,
        Outcome::Failed | Outcome::Refused => Occasion::Failed,
        Outcome::Restarted | Outcome::RolledBack => Occasion::RolledBack,
    };
    let mut event = event(occasion, &report.release, &report.version, &report.environment);
    let on = |target: &TargetReport| format!("{} on {}", target.decision.strategy.name(), target.destination);
    let how: Vec<String> = report.targets.iter().map(on).collect();
    event.strategy = Some(how.join(", ")).filter(|how| !how.is_empty());
    event.text = report.error.as_ref().map(|error| match &error.help {
        Some(help) => format!("{}\n{help}", error.message),
        None => error.message.clone(),
    });
    Some(event)
}

fn event(occasion: Occasion, release: &str, version: &str, environment: &str) -> Event {
    Event::deployment(occasion, release, version, environment).placed(|name| std::env::var(name).ok())
}
