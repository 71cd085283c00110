//! Pipelines: made, scheduled, queued, handed out, ended.
//!
//! The scheduler is the one of `ci run`. What it is told is stored (`inputs`) in the same transaction as what follows
//! from it (statuses, the queue), so that a server that was killed has it again by replaying.
//!
//! | module | what |
//! |---|---|
//! | `asked` | what asks for a pipeline, what comes of it, what a job runs with |
//! | `create` | a pipeline comes into being: ref, commit, plan, rows |
//! | `facts` | the request of a pipeline: predefined variables, project variables, changes |
//! | `planned` | configuration to plan |
//! | `sealed` | request and plan at rest |
//! | `live` | pipelines in memory; one lock each |
//! | `step` | one transaction: inputs, and what follows from them |
//! | `claim` | the queue: jobs are handed out, heard of, end |
//! | `wishes` | what people do: play, retry, cancel |
//! | `groups` | resource groups across pipelines |
//! | `told` | commit statuses and notices |

mod asked;
mod claim;
mod create;
mod facts;
mod groups;
mod live;
mod planned;
mod sealed;
mod step;
mod told;
mod wishes;

#[cfg(test)]
mod tests;

pub use asked::{Claimed, Context, Created, MergeRequest, NewPipeline};
pub use claim::{attempt_variables, by_token, claim, context, finished, heard};
pub use create::create;
pub use live::Engine;
pub use wishes::{cancel, cancel_pipeline, play, retry, retry_pipeline};

use super::App;

/// The passes of this module: timers, leases, schedules, auto-cancel. Ends with [`App::ending`].
pub async fn passes(app: App) {
    app.ending.cancelled().await;
}
