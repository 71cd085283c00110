//! `manifest.json`: what a bundle is, for machines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The document. Fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form: 1.
    pub format: u32,
    /// Release name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// Environment.
    pub environment: String,
    /// Directory of the release on the hosts.
    pub directory: String,
    /// Commit that it was built from; empty when that is not known.
    pub commit: String,
    /// Date of the commit, or `SOURCE_DATE_EPOCH`; RFC 3339.
    pub date: Option<String>,
    /// What is in the release, see [`crate::release::Package::content_sha256`].
    pub content: String,
    /// Version of the runtime system; empty when it is no Erlang release.
    pub erts: String,
    /// Versions of the applications.
    pub applications: BTreeMap<String, String>,
    /// The whole package.
    pub package: String,
    /// What starts it, when it is no Erlang release: `commands`, `systemd`, `supervisord` or `binary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Versions that it replaces, and how.
    pub replaces: Vec<Replaces>,
    /// KiB that have to be free on a host.
    pub disk_kib: u64,
    /// Every other file of the bundle, with its SHA-256.
    pub files: BTreeMap<String, String>,
}

/// One version that is replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replaces {
    /// The version.
    pub version: String,
    /// `hot` or `restart`.
    pub strategy: String,
    /// Why not hot.
    pub why: Option<String>,
    /// The thin package for it.
    pub package: Option<String>,
    /// What that leaves out and the host must have.
    pub left_out: Vec<String>,
    /// What the checks found that does not forbid it.
    pub warnings: Vec<String>,
    /// When this very upgrade was last played through on a copy, and found fit; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<String>,
    /// SHA-256 of `sys.config` and `vm.args` as they were shipped: edited ones are kept.
    pub shipped: BTreeMap<String, String>,
}
