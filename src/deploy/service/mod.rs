//! Programs that something else starts and stops: archives, and `mix release` with a `service:`, in versioned directories.
//!
//! ```text
//! TARGET_DIR/versions/VERSION/   one directory a version, never changed once it is there
//! TARGET_DIR/current             a link to one of them, exchanged by one rename
//! TARGET_DIR/.ci/digest/VERSION  SHA-256 of what was in its package
//! TARGET_DIR/.ci/sums/VERSION    SHA-256 of its files
//! TARGET_DIR/.ci/served          the versions that were seen to serve, the last one first
//! ```
//!
//! * [`Artifact`]: the package, built here and checked.
//! * `place`: those directories: query, unpack, switch, prune.
//! * `choice`: what to do, from what was found. Pure.
//! * `program`: start, stop and restart by commands, systemd or supervisord (`xmlrpc`).
//! * `binary`: exchange of a running binary by signals; `canary`: weights of an nginx upstream (`weights`).
//! * [`deploy`]: all of it on one target, with verification and the way back; `whole`: on an environment's targets.
//! * [`back`]: by hand; `status`: what serves where.

mod artifact;
mod back;
mod binary;
mod canary;
mod choice;
mod one;
mod place;
mod program;
mod status;
mod supervisord;
mod systemd;
mod weights;
mod whole;
mod xmlrpc;

pub use artifact::Artifact;
pub use back::back;
pub use one::{Delivered, Order, deploy};
pub(super) use status::status;
pub(super) use whole::run;
pub use whole::{kind, of};
