//! Promotion: the very release that succeeded in one environment goes to the next.
//!
//! * [`gate`]: what stands between a release and an environment: the environment before, bad marks, freezes, approvals.
//! * [`freeze`]: windows in which nothing is deployed.
//! * [`approval`]: agreement, signed with an ssh key over what is agreed to.
//! * [`artifact`]: the kept package, and upgrades to it.

pub mod approval;
pub mod artifact;
pub mod freeze;
pub mod gate;

pub use artifact::{Artifact, Upgrade, released};
pub use gate::{Gate, Verdict};
