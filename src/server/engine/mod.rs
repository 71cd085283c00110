//! Pipelines: made, scheduled, queued, handed out, ended.
//!
//! The scheduler is the one of `ci run`. What it is told is stored (`inputs`) in the same transaction as what follows
//! from it (statuses, the queue), so that a server that was killed has it again by replaying.
//!
//! | module | what |
//! |---|---|
//! | `api` | pipelines and jobs for programs |
//! | `asked` | what asks for a pipeline, what comes of it, what a job runs with |
//! | `create` | a pipeline comes into being: ref, commit, plan, rows |
//! | `features` | what a runner has to be able to do for a job |
//! | `facts` | the request of a pipeline: predefined variables, project variables, changes |
//! | `planned` | configuration to plan |
//! | `sealed` | request and plan at rest |
//! | `live` | pipelines in memory; one lock each |
//! | `step` | one transaction: inputs, and what follows from them |
//! | `claim` | the queue: jobs are handed out, heard of, end |
//! | `wishes` | what people do: play, retry, cancel |
//! | `groups` | resource groups across pipelines |
//! | `bridges`, `below`, `left` | trigger jobs, their pipelines, what earlier jobs left for them |
//! | `redundant` | a newer pipeline ends older ones |
//! | `passes` | what the engine does by itself: `leases`, `timers`, `waits`, `invariants` |
//! | `told` | commit statuses and notices |

mod api;
mod asked;
mod below;
mod bridges;
mod claim;
mod create;
mod facts;
mod features;
mod groups;
mod invariants;
mod leases;
mod left;
mod live;
mod passes;
mod planned;
mod redundant;
mod sealed;
mod step;
mod timers;
mod told;
mod waits;
mod wishes;

#[cfg(test)]
mod tests;

pub use api::routes;
pub use asked::{Claimed, Context, Created, MergeRequest, NewPipeline};
pub use claim::{attempt_variables, by_token, claim, context, finished, heard};
pub use create::create;
pub(in crate::server) use create::create_scheduled;
pub(in crate::server) use facts::{Trust, variables};
pub(in crate::server) use leases::never_started;
pub use live::Engine;
pub use passes::passes;
pub use wishes::{cancel, cancel_pipeline, play, retry, retry_pipeline};
