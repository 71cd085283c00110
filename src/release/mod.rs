//! Releases: immutable packages of an Erlang system, and the hot upgrade from one to the next.
//!
//! Everything but [`build`], [`bump`], [`git`] and [`rehearse`] is pure: files in, values and findings out, no Erlang needed.
//!
//! ```text
//! Project::open(dir, profile)                   name, version, applications of the sources
//! build::fresh(&project, log)                   -> BuiltRelease      the fat package
//! build::upgrade(&project, from, log)           -> BuiltUpgrade      the same with a checked relup in it
//! Package::read(path)                           -> Package           what an archive holds
//! thin::write(&package, &target, to)            -> ThinPackage       without what the target has
//! check::upgrade(&old, &new)                    -> [Finding]         errors forbid the hot upgrade
//! check::packages(&old, &new)                   -> [Finding]         the same, before there is a relup
//! version::{compare, increase}                  the order of versions, and the next one
//! bump::bump(dir, &to), git::{tag, notes}       a new version
//! rel::parse_releases, erlang::{text, external} what a target answers
//! ```
//!
//! - `version`: any string, in a total order
//! - `erlang`: terms as text and in the external format, compiled modules
//! - `rel`: `NAME.rel`, `RELEASES`, `start_erl.data`
//! - `archive`: tar files, never trusted
//! - `tree`: archives of any program
//! - `package`: an archive, read into what decisions need
//! - `thin`: the package for a target that already has the same Erlang
//! - `appup`, `derive`: application upgrade files, written or derived from modules
//! - `reasons`: why an appup has each of its instructions
//! - `relup`, `check`: the release upgrade file, and the rules for an upgrade
//! - `installed`, `decide`: the verdict over a target, and the choice of strategy
//! - `inspect`, `diff`: what is in a package, and between two
//! - `store`: the packages that were shipped
//! - `pages`: what each finding means
//! - `notes`: what changed, out of commit messages
//! - `hops`: the way over several upgrades
//! - `lineage`: which version served before, and which older ones stay
//! - `finding`, `error`: what is wrong, with its way out
//! - `rebar`, `mix`: the project as its files say
//! - `build`: rebar3, mix and systools
//! - `bump`, `git`: new versions: edits, tags, what changed
//! - `rehearse`: an upgrade on a throw-away copy
//! - `escripts/`: our Erlang programs, for what only OTP can tell

pub mod appup;
mod archive;
pub mod build;
pub mod bump;
pub mod check;
pub mod decide;
pub mod derive;
mod diff;
pub mod erlang;
mod error;
mod finding;
pub mod git;
pub mod hops;
mod inspect;
pub mod installed;
pub mod lineage;
pub mod mix;
mod notes;
pub mod package;
mod pages;
mod reasons;
pub mod rebar;
pub mod rehearse;
pub mod rel;
pub mod relup;
mod store;
pub mod thin;
pub mod tree;
pub mod version;

pub use appup::Appup;
pub(crate) use archive::digest as file_digest;
pub use diff::PackageDiff;
pub use error::Error;
pub use finding::{Finding, Severity};
pub use inspect::{Inspection, bytes};
pub use notes::{Change, Notes};
pub use package::Package;
pub use pages::{page, pages};
pub use reasons::Reasoned;
pub use rebar::Project;
pub use relup::Relup;
pub use store::{Plain, Store, Stored};
