//! What runs next. [`Scheduler`] is a value: it is told what happened and answers with what is to be done. No
//! clock, no tasks, no files; the same inputs always give the same actions.
//!
//! ```text
//! select(plan, selection) -> Plan -> Scheduler::new -> handle(Input) -> Vec<Action>
//! ```
//!
//! A job is looked at only when what came before it is complete (GitLab's composite of its needs, or of all
//! earlier stages), and counters per job and per stage say when that is, so that an event costs what it changes.
//!
//! Resource groups: within one pipeline all of GitLab's process modes are the same (it gives no order to jobs of
//! one pipeline, to avoid deadlocks), so jobs get the resource in the order in which they became ready.

mod graph;
mod input;
mod retry;
mod scheduler;
mod selection;

pub use graph::PlanError;
pub use input::{Action, Change, Input, JobId, Outcome};
pub use scheduler::Scheduler;
pub use selection::{Selection, UnknownJob, names, only, select};
