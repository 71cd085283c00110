//! What people and machines see.

pub mod diagnostic;
//! Reports of a run.
