//! `release:` in `.ci/settings.yml`:
//!
//! ```yaml
//! release:
//!   git_tag: true      # a `release` job makes its tag in this repository
//! ```

use serde::Deserialize;

/// What a `release` job does on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSettings {
    /// Make the tag; it is not pushed.
    pub git_tag: Option<bool>,
}
