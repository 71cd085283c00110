//! Releases that are no Erlang nodes of rebar3's: archives and `mix release`, in versioned directories.
//!
//! ```text
//! TARGET_DIR/versions/VERSION/   one directory a version, never changed once it is there
//! TARGET_DIR/current             a link to one of them, exchanged by one rename
//! TARGET_DIR/.ci/digest/VERSION  SHA-256 of what was in its package
//! TARGET_DIR/.ci/serving         the version that was last seen to serve
//! ```
//!
//! * [`Artifact`]: the package, built here and checked.
//! * `place`: those directories: query, unpack, switch, prune.
//! * `choice`: what to do, from what was found. Pure.
//! * `program`: start, stop and restart by commands, systemd or supervisord (`xmlrpc`).
//! * `binary`: exchange of a running binary by signals; `canary`: weights of an nginx upstream (`weights`).
//! * [`deploy`]: all of it on one target, with verification and the way back; `whole`: on an environment's targets.

mod artifact;
mod binary;
mod canary;
mod choice;
mod one;
mod place;
mod program;
mod supervisord;
mod systemd;
mod weights;
mod whole;
mod xmlrpc;

pub use artifact::Artifact;
pub use one::{Delivered, Order, deploy};
pub use whole::kind;
pub(super) use whole::run;
