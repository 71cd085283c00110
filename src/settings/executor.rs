//! `executor:` in `.ci/settings.yml`:
//!
//! ```yaml
//! executor: docker      # where jobs run, unless `--executor` says otherwise
//! ```

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where jobs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// In containers that `ci` makes itself
    Sandbox,
    /// In containers of Docker
    Docker,
    /// In containers of Podman
    Podman,
    /// As processes of yours, without any isolation
    Shell,
}
