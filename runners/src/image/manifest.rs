//! The documents of an image, as OCI and Docker (schema 2) write them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::config::{Config, Health, Platform};
use crate::digest::hex;

/// What we ask registries for.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest or an index of manifests: they are told apart by what they have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    pub(super) platform: Option<DescribedPlatform>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct DescribedPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// An image configuration.
#[derive(Debug, Deserialize)]
pub(super) struct ImageFile {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    config: Option<RawConfig>,
    rootfs: Option<Rootfs>,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<RawHealth>,
}

/// Durations in nanoseconds; 0: the default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealth {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

impl ImageFile {
    pub(super) fn diff_ids(&self) -> &[String] {
        self.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.as_deref()).unwrap_or_default()
    }

    pub(super) fn config(&self) -> Config {
        let none = RawConfig::default();
        let raw = self.config.as_ref().unwrap_or(&none);
        let environment = raw.env.iter().flatten().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        let port = |text: &String| match text.split_once('/') {
            Some((number, "tcp")) => number.parse().ok(),
            Some(_) => None,
            None => text.parse().ok(),
        };
        let mut ports: Vec<u16> =
            raw.exposed_ports.iter().flatten().filter_map(|(text, _)| port(text)).collect();
        ports.sort_unstable();
        Config {
            environment: environment.collect(),
            entrypoint: raw.entrypoint.clone().unwrap_or_default(),
            command: raw.cmd.clone().unwrap_or_default(),
            user: raw.user.clone().unwrap_or_default(),
            directory: raw.working_dir.clone().unwrap_or_default().into(),
            ports,
            volumes: raw.volumes.iter().flatten().map(|(path, _)| path.into()).collect(),
            health: raw.healthcheck.as_ref().and_then(health),
        }
    }
}

/// With Docker's defaults.
fn health(raw: &RawHealth) -> Option<Health> {
    let command = match raw.test.as_deref()? {
        [kind, rest @ ..] if kind == "CMD" => rest.to_vec(),
        [kind, script] if kind == "CMD-SHELL" => ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        _ => return None,
    };
    let time = |nanoseconds, default| match nanoseconds {
        0 => Duration::from_secs(default),
        nanoseconds => Duration::from_nanos(nanoseconds),
    };
    Some(Health {
        command,
        interval: time(raw.interval, 30),
        timeout: time(raw.timeout, 30),
        retries: if raw.retries == 0 { 3 } else { raw.retries },
        start_period: Duration::from_nanos(raw.start_period),
    })
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Variants that run on this platform, the best first.
    fn variants(&self) -> Vec<&str> {
        let own = self.variant.as_deref().unwrap_or_default();
        match (self.architecture.as_str(), own) {
            ("arm64", "" | "v8") => vec!["v8", ""],
            ("arm", "" | "v7") => vec!["v7", "v6", "v5", ""],
            ("arm", "v6") => vec!["v6", "v5", ""],
            ("amd64", "") => vec!["", "v1"],
            (_, own) => vec![own],
        }
    }

    pub(super) fn is_of(&self, image: &ImageFile) -> bool {
        (image.os.is_empty() || image.os == self.os)
            && (image.architecture.is_empty() || image.architecture == self.architecture)
    }
}

impl std::str::FromStr for Platform {
    type Err = String;

    /// `linux/arm64/v8`, `linux/amd64`; without the operating system: `arm64`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(format!("`{text}` is no platform: one is `linux/amd64`")),
        };
        if os.is_empty() || architecture.is_empty() {
            return Err(format!("`{text}` is no platform: one is `linux/amd64`"));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Self { os: os.to_owned(), architecture: architecture.to_owned(), variant })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// The manifest of an index for a platform; else what the index has.
pub(super) fn choose<'a>(index: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor, String> {
    let of = |variant: &str| {
        index.iter().find(|entry| {
            entry.platform.as_ref().is_some_and(|described| {
                described.os == platform.os
                    && described.architecture == platform.architecture
                    && described.variant.as_deref().unwrap_or_default() == variant
            })
        })
    };
    // an index of one that doesn't say what it is for
    let only = || index.first().filter(|entry| index.len() == 1 && entry.platform.is_none());
    platform.variants().into_iter().find_map(of).or_else(only).ok_or_else(|| {
        let shown = |described: &DescribedPlatform| {
            let variant = described.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
            format!("`{}/{}{variant}`", described.os, described.architecture)
        };
        let known = index.iter().filter_map(|entry| entry.platform.as_ref());
        let names: Vec<String> = known.filter(|described| described.os != "unknown").map(shown).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    })
}

/// `sha256:` and 64 digits.
pub(super) fn hex_of(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(hex)
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// OCI's ChainID of every layer, the lowest first, in hexadecimal. `None`: a digest is none.
pub(super) fn chains(diff_ids: &[String]) -> Option<Vec<String>> {
    let mut chains: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let own = hex_of(diff_id)?;
        chains.push(match chains.last() {
            None => own.to_owned(),
            Some(below) => hex(&Sha256::digest(format!("sha256:{below} {diff_id}"))),
        });
    }
    Some(chains)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Vec<Descriptor> {
        let text = r#"[
            {"digest": "arm6", "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
            {"digest": "arm7", "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
            {"digest": "arm64", "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"digest": "windows", "platform": {"os": "windows", "architecture": "amd64"}},
            {"digest": "attestation", "platform": {"os": "unknown", "architecture": "unknown"}},
            {"digest": "amd64", "platform": {"os": "linux", "architecture": "amd64"}}]"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_index_gives_what_fits_the_platform_best() {
        let index = index();
        for (platform, digest) in [
            ("linux/amd64", "amd64"),
            ("amd64", "amd64"),
            ("linux/x86_64", "amd64"),
            ("linux/arm64", "arm64"),
            ("linux/arm64/v8", "arm64"),
            ("linux/arm", "arm7"),
            ("linux/arm/v6", "arm6"),
            ("windows/amd64", "windows"),
        ] {
            let platform: Platform = platform.parse().unwrap();
            assert_eq!(
                choose(&index, &platform).map(|entry| entry.digest.as_str()),
                Ok(digest),
                "{platform}"
            );
        }
        let available = choose(&index, &"linux/s390x".parse().unwrap()).unwrap_err();
        assert!(available.contains("`linux/arm/v6`") && !available.contains("unknown"), "{available}");
        for text in ["", "linux/", "/amd64", "a/b/c/d"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn configurations_are_read_with_dockers_defaults() {
        let text = r#"{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["a"]}, "config": {
            "Env": ["PATH=/bin", "A=b=c", "EMPTY=", "BARE"], "Entrypoint": null, "Cmd": ["sh"], "User": "1000:5",
            "WorkingDir": "/w", "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}, "x/tcp": {}},
            "Volumes": {"/v": {}}, "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 2000000000}}}"#;
        let file: ImageFile = serde_json::from_str(text).unwrap();
        let config = file.config();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [pair("PATH", "/bin"), pair("A", "b=c"), pair("EMPTY", ""), pair("BARE", "")];
        assert_eq!(config.environment, expected);
        assert_eq!(config.ports, [80, 8080]);
        assert_eq!(config.volumes, [std::path::Path::new("/v")]);
        let health = config.health.unwrap();
        assert_eq!(health.command, ["/bin/sh", "-c", "true"]);
        assert_eq!((health.interval.as_secs(), health.timeout.as_secs(), health.retries), (2, 30, 3));
        let bare: ImageFile =
            serde_json::from_str(r#"{"config": {"Healthcheck": {"Test": ["NONE"]}}}"#).unwrap();
        assert_eq!(bare.config(), Config::default());
        assert!(serde_json::from_str::<ImageFile>("{}").unwrap().diff_ids().is_empty());
    }

    #[test]
    fn digests_are_never_paths() {
        assert!(hex_of(&sha256(b"x")).is_some());
        let upper = sha256(b"x").to_uppercase();
        for digest in ["sha256:../../etc", "sha256:", "md5:00", "", upper.as_str()] {
            assert_eq!(hex_of(digest), None, "{digest}");
        }
    }

    #[test]
    fn chains_depend_on_all_layers_below() {
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        let chains_of =
            |ids: &[&String]| chains(&ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>()).unwrap();
        assert_eq!(chains_of(&[&a])[0], a["sha256:".len()..]);
        let both = chains_of(&[&a, &b]);
        assert_eq!(both[1], sha256(format!("{a} {b}").as_bytes())["sha256:".len()..]);
        assert_ne!(both[1], chains_of(&[&b, &a])[1]);
    }
}
