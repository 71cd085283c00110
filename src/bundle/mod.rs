//! Bundles: what is handed to operations where we can't reach, and what comes back.
//!
//! ```text
//! NAME-VERSION-ENVIRONMENT/
//!     RUNBOOK.md          what to do, by hand
//!     install.sh          does it: POSIX sh, no `ci`, no root, no network; only looks without --yes
//!     facts               what install.sh knows: KEY<TAB>VALUE lines, never evaluated
//!     manifest.json       the same and more, for machines
//!     packages/           the whole package, and a thin one for each version that can be upgraded hot
//!     service/            of what is no Erlang release: the commands that start, stop and test it
//!     modules/            MD5 of every module, by version: what the running node is compared with
//!     evidence/           what the ledger says of this version so far
//!     SHA256SUMS          of all of these; its own SHA-256 is the bundle's digest
//!     SHA256SUMS.sig      signature by an ssh key, if one was given
//! ```
//!
//! The same input gives the same bytes.
//!
//! * [`make`]: chooses packages and writes the archive
//! * `plain`: what differs for programs that a service starts
//! * [`manifest`], [`content`]: what is in it
//! * `install/`: the parts of install.sh: `begin`, `node` or `service`, `end`
//! * [`archive`]: its form
//! * [`receipt`]: the report that `install.sh` writes
//! * [`open`]: verifies and unpacks one

pub mod archive;
pub mod content;
pub mod make;
pub mod manifest;
pub mod open;
mod plain;
pub mod receipt;
mod runbook;

pub use make::{Made, Order, What, make};
pub use manifest::{Manifest, Replaces};
pub use receipt::Receipt;
