//! Pipelines that jobs create. A trigger job's pipeline runs in a dispatcher of its own, inside the task of that job;
//! its events go through the pipeline above, under names of the form `TRIGGER JOB > JOB`.
//!
//! | file | what |
//! |---|---|
//! | `pipeline` | what the jobs of one pipeline share; starting any job |
//! | `bridge` | a trigger job: creates a pipeline, runs it, takes over its status |
//! | `child` | the configuration, request and plan of a child pipeline |
//! | `forward` | the variables that it gets |
//! | `resource` | resource groups between pipelines |

mod bridge;
mod child;
mod forward;
mod pipeline;
mod resource;
mod tag;

pub use pipeline::{Attempt, Pipeline, start};
