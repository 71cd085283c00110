//! Packages out of sources, by the project's own rebar3 or mix and by systools.
//!
//! Everything happens in `_build/slipway/PROFILE/` of the project, so neither the user's build directory nor
//! the sources are touched, and nothing stale gets in:
//!
//! ```text
//! new/            rebar3's base directory for the sources as they stand; beside its package `.recipe`
//! old/VSN/        the sources of a tag, their build, and the package
//! relup/          the packages unpacked side by side, with their appups: what systools reads
//! fresh/          NAME-VSN.tar.gz of `fresh`
//! upgrade/        NAME-VSN.tar.gz of `upgrade`
//! ```
//!
//! - `command`: runs a program, its lines to the log
//! - `staging`: these directories, one build at a time
//! - `tar`: `rebar3 tar`, and what its package must hold
//! - `mix`: `mix release`, and what its package is given
//! - `recipe`: what a package was made of, so that it is not made again
//! - `tag`: the sources of an old version, from git
//! - `appups`: hand-written ones first, the others derived
//! - `between`: the appups between two packages
//! - `upgrade`, `fresh`: the two ways to build

mod appups;
mod between;
mod command;
mod fresh;
mod mix;
mod recipe;
mod staging;
mod tag;
mod tar;
mod upgrade;

pub use appups::{BuiltAppup, Origin};
pub use between::{AppAppup, Between, Request as AppupRequest, between};
pub use command::Log;
pub use fresh::{BuiltRelease, fresh, known};
pub use upgrade::{BuiltUpgrade, upgrade, upgrade_from_each};
