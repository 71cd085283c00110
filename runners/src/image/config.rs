//! What is known of an image that is on disk.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An image, unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// As it was asked for: `debian:bookworm`.
    pub reference: String,
    /// Digest of its manifest: `sha256:...`.
    pub digest: String,
    /// Directories of its layers, the uppermost first, with whiteouts as overlay wants them.
    pub layers: Vec<PathBuf>,
    /// Defaults of its containers.
    pub config: Config,
}

/// Defaults that an image gives its containers (OCI image configuration, `config`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name and value.
    pub environment: Vec<(String, String)>,
    /// `ENTRYPOINT`, exec form.
    pub entrypoint: Vec<String>,
    /// `CMD`, exec form.
    pub command: Vec<String>,
    /// `USER`: `name`, `uid`, `name:group` or `uid:gid`; empty: root.
    pub user: String,
    /// `WORKDIR`; empty: `/`.
    pub directory: PathBuf,
    /// TCP ports of `EXPOSE`, ascending.
    pub ports: Vec<u16>,
    /// `VOLUME`.
    pub volumes: Vec<PathBuf>,
    /// `HEALTHCHECK`.
    pub health: Option<Health>,
}

/// How an image's container says that it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Program and arguments; exit code 0: healthy.
    pub command: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures in this time after the start don't count.
    pub start_period: Duration,
}

/// Operating system and processor, in Go's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, ...
    pub variant: Option<String>,
}
