//! `registries:` in `.ci/settings.yml`:
//!
//! ```yaml
//! registries:
//!   docker.io: {mirror: mirror.example.org}      # asked first
//!   registry.lan:5000: {http: true}              # without TLS; registries on loopback addresses are so anyway
//!   registry.corp: {ca: /etc/ssl/corp.pem}       # its certificate authority; also /etc/docker/certs.d/HOST/*.crt
//! ```

use runners::image::Registry;
use serde::Deserialize;
use serde::de::Error as _;
use std::collections::BTreeMap;

/// How registries of images are spoken to, by host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings(BTreeMap<String, Registry>);

impl RegistrySettings {
    /// These, and those of `below` that these don't name.
    #[must_use]
    pub fn over(self, below: RegistrySettings) -> RegistrySettings {
        let mut all = below.0;
        all.extend(self.0);
        RegistrySettings(all)
    }

    /// By host and port.
    pub fn into_inner(self) -> BTreeMap<String, Registry> {
        self.0
    }
}

impl<'de> Deserialize<'de> for RegistrySettings {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RegistrySettings, D::Error> {
        let registries = BTreeMap::<Host, Registry>::deserialize(deserializer)?;
        if let Some(mirror) =
            registries.values().filter_map(|registry| registry.mirror.as_ref()).find(|m| !is_host(m))
        {
            return Err(D::Error::custom(no_registry(mirror)));
        }
        if let Some(file) = registries.values().filter_map(|r| r.ca.as_ref()).find(|ca| !ca.is_absolute()) {
            let text =
                format!("`ca: {}` is not an absolute path: it holds for every project", file.display());
            return Err(D::Error::custom(text));
        }
        Ok(RegistrySettings(registries.into_iter().map(|(Host(host), registry)| (host, registry)).collect()))
    }
}

/// `host` or `host:port`; of its own, so that a mistake has its line.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Host(String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Host, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_host(&text) { Ok(Host(text)) } else { Err(D::Error::custom(no_registry(&text))) }
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '@', ' '])
}

fn no_registry(text: &str) -> String {
    format!("`{text}` is not a registry: `host` or `host:port` is, without `https://`")
}
