//! The report for people.
//!
//! | file | what |
//! |---|---|
//! | `show` | the loop, and the choice between plain and live |
//! | `plain` | every log line behind its job's name |
//! | `live` | a region with the running jobs at the bottom of a terminal |
//! | `summary` | the table, where the time went, and the failures at the end |
//! | `order` | critical path and remaining time |
//! | `runs` | a table of several runs; the jobs of one, for machines |
//! | `state` | the run as the events so far tell it |
//! | `log` | reading job logs as they grow, and their ends |
//! | `text` | job output made safe, columns, durations |
//! | `paint` | colours |

mod live;
pub(super) mod log;
mod order;
mod paint;
mod plain;
mod runs;
mod show;
pub(super) mod state;
mod summary;
#[cfg(test)]
mod tests;
pub(super) mod text;

pub use order::Estimates;
pub use runs::{RunRow, jobs, runs};
pub use show::{Mode, columns, replay, report, report_with};
