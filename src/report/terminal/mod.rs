//! The report for people.
//!
//! | file | what |
//! |---|---|
//! | `show` | the loop, and the choice between plain and live |
//! | `plain` | every log line behind its job's name |
//! | `live` | a region with the running jobs at the bottom of a terminal |
//! | `summary` | the table and the failures at the end |
//! | `state` | the run as the events so far tell it |
//! | `log` | reading job logs as they grow, and their ends |
//! | `text` | job output made safe, columns, durations |
//! | `paint` | colours |

mod live;
mod log;
mod paint;
mod plain;
mod show;
mod state;
mod summary;
#[cfg(test)]
mod tests;
pub(super) mod text;

pub use show::{Mode, columns, report};
