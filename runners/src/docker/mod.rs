//! Jobs in containers of an engine: Docker, or Podman through the same interface.
//!
//! ```text
//! Engine::find ─> Docker::prepare: image ─> services on a network of their own ─> one container
//!                 each step: attach, start the container again, script on its standard input, wait
//! ```
//!
//! One container per job is started once per step, as GitLab does it: so the image's entrypoint runs before each
//! script, what a step wrote is there for the next one, and what it left running ends with it.
//!
//! | question | answer |
//! |---|---|
//! | where are the files? | [`files`]: a directory of this machine where the engine sees it and we may delete what containers write, else a volume |
//! | who sees values? | secrets come on the script's standard input; the container's own environment, which `inspect` shows, has none |
//! | what is left after `kill -9`? | what carries our label; the next run removes it ([`sweep`]) |

mod credentials;
mod debug;
mod engine;
mod execution;
mod executor;
mod files;
mod job_container;
mod owner;
mod podman;
mod pull;
mod readiness;
mod services;
mod state;
mod step;
mod volume;

pub use engine::{Engine, EngineError, Kind};
pub use execution::DockerExecution;
pub use executor::Docker;
pub use owner::{label_of, sweep};
