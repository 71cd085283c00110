//! Pipelines that jobs create. A trigger job's pipeline runs in a dispatcher of its own, inside the task of that job;
//! its events go through the pipeline above, under names of the form `TRIGGER JOB > JOB`, those of another project's
//! pipeline under `TRIGGER JOB > GROUP/PROJECT > JOB`.
//!
//! | file | what |
//! |---|---|
//! | `pipeline` | what the jobs of one pipeline share; starting any job |
//! | `bridge` | a trigger job: creates a pipeline, runs it, takes over its status |
//! | `create` | the pipeline of a trigger job, not yet running |
//! | `child` | the configuration, request and plan of a child pipeline |
//! | `projects` | pipelines of other projects: where they are, at which commit |
//! | `forward` | the variables that it gets |
//! | `resource`, `ticket` | resource groups between pipelines, and who is next |

mod bridge;
mod child;
mod create;
mod forward;
mod pipeline;
mod projects;
mod resource;
mod tag;
mod ticket;

pub(crate) use child::{Configuration, request as child_request};
pub(crate) use forward::{Forwarded, forwarded};
pub use pipeline::{Attempt, Pipeline, start};
pub use projects::Projects;
