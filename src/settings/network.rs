//! `network:` in `.ci/settings.yml`:
//!
//! ```yaml
//! network: isolated      # each job its own network (needs pasta or slirp4netns for the way out)
//! # network: host        # jobs use this machine's network
//! # network: none        # each job its own network, without a way out
//! ```

use serde::Deserialize;

/// Which network jobs get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkSetting {
    /// Each job its own, with a way out.
    Isolated,
    /// The host's.
    Host,
    /// Each job its own, without a way out.
    None,
}
