//! The GitLab CI language. Text in, plan and decisions out: no I/O, no clock, no environment, no printing.
//!
//! ```text
//! text -> yaml (Node with spans) -> inputs -> include -> merge -> extends -> reference -> config (checked)
//!      -> plan (rules, variables, matrix, needs for one request) -> schedule (what runs next)
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`source`], [`diagnostic`] | files, places, findings |
//! | [`yaml`] | text to [`yaml::Node`] |
//! | [`config`] | the typed, checked configuration |
//! | [`plan`] | what a request creates |
//! | [`request`] | what asks for a pipeline |
//! | [`schedule`] | which job runs next: a value, fed with what happened |
//! | [`status`], [`event`] | states and the stream of facts that reporters see |

pub mod config;
pub mod diagnostic;
pub mod event;
pub mod plan;
pub mod request;
pub mod schedule;
pub mod source;
pub mod status;
pub mod yaml;
