//! Environments: which version is where, and how it goes on: requested, planned, approved, carried out, recorded.
//!
//! What is done is done by `ci promote`, `ci rollback` and `ci bundle` in processes of their own, in the project's
//! `desk`: a work tree of its default branch, so that rules are never those of the commit that is deployed. They
//! outlive the server, and write to the project's ledger, from which the grid is read.
//!
//! ```text
//! requested -> planning -> waiting (for people) -> queued (for its turn, a lock, a freeze) -> running -> done | failed | rolled_back
//!                                                                                                     | refused | unknown
//! ```
//!
//! The gate stands before the turn: what waits for people holds up nobody. A newer request for the same environment
//! supersedes what waits. A deployment is never repeated by itself.

mod api;
mod approval;
mod carry;
mod desk;
mod grid;
mod jobs;
mod pass;
mod request;
mod rows;

pub use api::{One, about, routes};
#[cfg(test)]
pub(super) use desk::tests::commit;
pub use desk::{Desk, Desks};
pub use grid::{Cell, Row, grid};
pub use pass::passes;
pub use rows::{Bundle, Deployment};
