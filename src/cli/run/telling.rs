//! Tells people of the run, as `notify` in the settings says. Nothing of it changes how the run ends.

use super::{Prepared, RunArgs};
use crate::dispatch::RunEnd;
use crate::notify::{self, Channels, Event, Failure, Finished, Occasion};
use crate::settings::RunDirectory;
use std::thread::JoinHandle;

/// A run that people are told of.
pub(super) struct Telling {
    channels: Channels,
    begun: JoinHandle<Vec<Failure>>,
}

impl Telling {
    /// Tells that the run begins, while it does. A run of single jobs is its starter's own business.
    pub(super) fn begin(args: &RunArgs, prepared: &Prepared) -> Option<Telling> {
        let channels = prepared.channels();
        if channels.is_empty() || !args.jobs.is_empty() {
            return None;
        }
        let mut event = Event::pipeline(Occasion::Started, &prepared.request.project);
        event.reference = Some(prepared.facts.reference.clone());
        let begun = channels.tell_meanwhile(event);
        Some(Telling { channels, begun })
    }

    /// Tells how the run ended.
    pub(super) fn end(self, prepared: &Prepared, end: RunEnd, directory: &RunDirectory) {
        let mut failures = self.begun.join().unwrap_or_default();
        let finished = Finished {
            runs: directory.dir.parent().unwrap_or(&directory.dir),
            number: directory.number,
            project: &prepared.request.project,
            reference: &prepared.facts.reference,
            sha: &prepared.facts.commit.sha,
            status: end.status,
        };
        let event = notify::finished(&finished).filter(|_| !end.interrupted);
        if let Some(event) = event {
            failures.extend(self.channels.tell(&event.placed(|name| std::env::var(name).ok())));
        }
        // on a developer's own machine it is usual that the URLs are not there
        failures.retain(|failure| !failure.unset);
        crate::cli::notify::warn(&failures);
    }
}
