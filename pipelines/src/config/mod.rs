//! The typed configuration: everything that can be known without a request. Parallel jobs are expanded into
//! instances, `default` is applied, `needs` and `dependencies` are fanned out, static checks have been made.
//!
//! | module | what |
//! |---|---|
//! | `root` | [`build`]: the order of the checks |
//! | `check`, `ruby` | validators with GitLab's words, locations, Ruby's view of values |
//! | `job` | jobs and trigger jobs |
//! | `inheritable`, `inherit` | `default` and what a job takes from it |
//! | `normalise`, `logic`, `mixed` | expansion to instances; checks between jobs; findings of our own |
//! | the others | a keyword or a family each |

mod artifacts;
mod auto_cancel;
mod cache;
mod check;
mod environment;
mod image;
mod inherit;
mod inheritable;
mod job;
mod logic;
mod mixed;
mod needs;
mod normalise;
mod pages;
mod parallel;
mod policy;
mod release;
mod retry;
mod root;
mod ruby;
mod rules;
mod script;
mod size;
mod stages;
mod tokens;
mod trigger;
mod types;
mod variables;
mod workflow;

#[cfg(test)]
mod tests;

pub use root::{build, further};
pub use types::{
    CacheConfig, CacheKey, Changes, Config, Exists, Inherit, JobConfig, KeywordSpans, NeedConfig, Policy,
    Rule, VariableConfig, Workflow,
};
