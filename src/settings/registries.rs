//! `registries:` in `.ci/settings.yml`:
//!
//! ```yaml
//! registries:
//!   docker.io: {mirror: mirror.example.org}      # asked first
//!   registry.lan:5000: {http: true}              # without TLS; registries on loopback addresses are so anyway
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
        let registries = BTreeMap::<String, Registry>::deserialize(deserializer)?;
        let hosts = registries.iter().flat_map(|(host, registry)| [Some(host), registry.mirror.as_ref()]);
        for host in hosts.flatten() {
            if host.is_empty() || host.contains(['/', '@', ' ']) {
                let text =
                    format!("`{host}` is not a registry: `host` or `host:port` is, without `https://`");
                return Err(D::Error::custom(text));
            }
        }
        Ok(RegistrySettings(registries))
    }
}
