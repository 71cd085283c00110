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
#[cfg(test)]
mod tests;

pub use dispatcher::{DispatchError, Options, RunEnd, dispatch};
pub use interrupt::interrupts;
pub use job_run::JobRun;
pub use journal::{Journal, read_journal};
pub use runners::job::Cancel;
