//! What people and machines see. Reports of a run see its events, and the log files that these name, and nothing
//! else: a stored journal replayed gives the same report. Each runs in a thread of its own and ends when the run
//! does or the channel closes, so that a slow terminal delays no job.

pub mod annotations;
pub mod diagnostic;
pub mod explain;
pub mod findings;
pub mod graph;
pub mod job_log;
pub mod json;
pub mod junit;
pub mod terminal;
pub mod why;
pub mod yaml;
