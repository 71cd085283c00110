//! Where a pipeline's events go.

use super::journal::Journal;
use pipelines::event::EventKind;
use tokio::sync::mpsc;

/// Takes the events of one pipeline.
pub enum Recorder {
    /// The pipeline that was asked for: its journal.
    Journal(Journal),
    /// A downstream pipeline: the pipeline above it.
    Above {
        /// Takes events of the pipeline above.
        events: mpsc::UnboundedSender<EventKind>,
        /// The trigger job in it.
        job: String,
    },
}

impl From<Journal> for Recorder {
    fn from(journal: Journal) -> Recorder {
        Recorder::Journal(journal)
    }
}

impl Recorder {
    pub(super) fn record(&mut self, kind: EventKind) {
        match self {
            Recorder::Journal(journal) => journal.record(kind),
            // whoever listened above has gone: so will this pipeline
            Recorder::Above { events, job } => drop(events.send(kind.below(job))),
        }
    }

    pub(super) fn is_journal(&self) -> bool {
        matches!(self, Recorder::Journal(_))
    }
}
