//! Putting a release on a target over ssh: query, decide, check, apply, verify.
//!
//! * [`DeployFile`], [`Settings`]: `.ci/deploy.yml` and the variables, resolved to one environment.
//! * [`Target`], [`Survey`]: one connection, one query, one verdict ([`crate::release::installed`]).
//! * [`Apply`]: the fresh install and the hot upgrade; [`Steps`] records what was done.
//! * [`Plan`]: what is done to each target and why, made of what all of them answer at the same time.
//! * [`deploy`], [`status`]: the whole way, as `ci deploy` and `ci env status` show it.
//!
//! Scripts travel to the target on standard input, values in them are quoted, and what must not stop half-way
//! runs detached there. Nothing is changed on a target without its lock (`TARGET_DIR/.ci-lock`).

mod address;
mod apply;
pub mod bad;
mod deployment;
mod detached;
mod error;
mod file;
mod fresh;
mod health;
mod hooks;
mod hops;
mod hot;
mod live;
mod lock;
mod mistake;
mod packages;
pub mod place;
mod plan;
mod probe;
mod processes;
mod proof;
mod query;
mod rehearsal;
mod restart;
mod rollback;
mod rollout;
mod script;
pub mod service;
mod settings;
mod ssh;
mod status;
mod steps;
mod target;
mod version;

pub use address::Address;
pub use apply::{Apply, Care, Package};
pub use deployment::{Kept, Report, Request, TargetReport, deploy};
pub use error::{Error, Outcome};
pub use file::{
    Approvals, Batches, Check, Delivery, DeployFile, Environment, Freeze, Health, Hooks, Kind, Notifier,
    Policy, ReleaseSettings, Service, Tier, VersionSource, Way,
};
pub use lock::unlock;
pub use packages::identity;
pub use plan::{Plan, TargetPlan};
pub use processes::{Answer, ask};
pub use rollback::{Return, back};
pub use settings::Settings;
pub use status::{EnvironmentStatus, TargetStatus, status};
pub use steps::{Progress, Step, Steps};
pub use target::{Survey, Target};
