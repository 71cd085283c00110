//! Runs a plan: owns the scheduler, starts job tasks as slots come free, and keeps the stream of events.
//!
//! ```text
//! job tasks - phases, logs -> dispatcher -> Journal -> journal.jsonl and every subscriber
//!           - Outcome ------>     |  ^
//!                          Input  v  |  Action
//!                              Scheduler
//! ```
//!
//! Nothing here waits for a subscriber: events are handed over through unbounded channels, and job output never
//! travels in them.

mod dispatcher;
mod interrupt;
mod job_run;
mod journal;
mod overrides;
mod recorder;
#[cfg(test)]
mod tests;

pub use dispatcher::{DispatchError, Options, RunEnd, dispatch, name_below};
pub use interrupt::interrupts;
pub use job_run::JobRun;
pub use journal::{Journal, is_being_written, read_journal};
pub use overrides::Overrides;
pub use recorder::Recorder;
pub use runners::job::Cancel;
