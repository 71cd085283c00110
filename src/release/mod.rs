//! Releases: immutable packages of an Erlang system, and the hot upgrade from one to the next.
//!
//! Everything but [`build`] is pure: files in, values and findings out, no Erlang needed.
//!
//! ```text
//! Project::open(dir, profile)                   name, version, applications of the sources
//! build::fresh(&project, log)                   -> BuiltRelease      the fat package
//! build::upgrade(&project, from, log)           -> BuiltUpgrade      the same with a checked relup in it
//! Package::read(path)                           -> Package           what an archive holds
//! thin::write(&package, &target, to)            -> ThinPackage       without what the target has
//! check::upgrade(&old, &new)                    -> [Finding]         errors forbid the hot upgrade
//! check::packages(&old, &new)                   -> [Finding]         the same, before there is a relup
//! version::compare(a, b), version::bump(v)      the order of versions, and the next one
//! rebar::bump_release(text), bump_app(text)     the edits for a new version
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
//! - `relup`, `check`: the release upgrade file, and the rules for an upgrade
//! - `installed`, `decide`: the verdict over a target, and the choice of strategy
//! - `finding`, `error`: what is wrong, with its way out
//! - `rebar`: the project as its files say
//! - `build`: rebar3 and systools
//! - `escripts/`: our Erlang programs, for what only OTP can tell

pub mod appup;
mod archive;
pub mod build;
pub mod check;
pub mod decide;
pub mod derive;
pub mod erlang;
mod error;
mod finding;
pub mod installed;
pub mod package;
pub mod rebar;
pub mod rel;
pub mod relup;
pub mod thin;
pub mod tree;
pub mod version;

pub use appup::Appup;
pub use error::Error;
pub use finding::{Finding, Severity};
pub use package::Package;
pub use rebar::Project;
pub use relup::Relup;
