//! GitLab's Runner API (`/api/v4`), as both sides speak it: `ci server` answers with these, `ci runner` asks with them.
//!
//! | module | what |
//! |---|---|
//! | [`runner`] | who a runner is: registration, tokens, what it can do |
//! | [`job`] | the job as it is handed out |
//! | [`update`] | asking for jobs; logs, states and artifacts on their way back |
//! | [`secret`] | texts that never show in `Debug` |
//!
//! Unknown fields are ignored, and a missing one or `null` is its empty value, as Go decodes them: runners and servers
//! of many versions talk to each other.

pub mod job;
pub mod runner;
pub mod secret;
pub mod update;

pub use secret::Secret;

use serde::{Deserialize, Deserializer};

/// Where the API is, below the server's address.
pub const BASE: &str = "/api/v4";

/// `null` is the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
