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
//! | [`load`] | a root file to one tree: what the next four do, in order |
//! | [`yaml`] | text to [`yaml::Node`] |
//! | `inputs` | `spec`, the values of inputs, `$[[ ... ]]` |
//! | `include` | which files, from where, merged how |
//! | [`merge`], [`reference`] | deep merge and `extends`; `!reference` |
//! | [`config`] | the typed, checked configuration |
//! | [`plan`] | what a request creates |
//! | [`hints`] | findings of our own about a valid configuration |
//! | [`request`] | what asks for a pipeline |
//! | [`expression`], [`glob`], [`variables`], [`rules`], [`policy`] | conditions and what they look at |
//! | [`schedule`] | which job runs next: a value, fed with what happened |
//! | [`status`], [`event`] | states and the stream of facts that reporters see |

pub mod config;
pub mod diagnostic;
pub mod duration;
pub mod event;
pub mod expression;
pub mod glob;
pub mod hints;
mod include;
mod inputs;
pub mod load;
pub mod matrix;
pub mod merge;
pub mod plan;
pub mod policy;
pub mod reference;
pub mod request;
pub mod rules;
pub mod schedule;
pub mod source;
pub mod status;
pub mod variables;
pub mod yaml;
