//! `resource_groups:` in `.ci/settings.yml`: who gets a resource next when several pipelines wait for it.
//!
//! ```yaml
//! resource_groups:
//!   production: oldest_first      # a group's name, its variables filled in
//! ```
//!
//! GitLab keeps these modes in the project, not in the configuration. Here pipelines wait that run at this time on
//! this machine; what is not yet ready is not known, so `newest_first` and `newest_ready_first` are one.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Modes by the name of the group; the others are [`ProcessMode::Unordered`].
pub type ResourceGroups = BTreeMap<String, ProcessMode>;

/// GitLab's `process_mode` of a resource group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessMode {
    /// Whoever comes first after it became free.
    #[default]
    Unordered,
    /// The pipeline that was created first.
    OldestFirst,
    /// The pipeline that was created last.
    NewestFirst,
    /// As the one before.
    NewestReadyFirst,
}
