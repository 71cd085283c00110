//! What a project's maintainers decide. It lives here and never in the repository: a commit can't change the rules for
//! itself.

use crate::server::rows::Project;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// What happens to merge requests from forks. Whatever is chosen, their jobs get no secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forks {
    /// They run nothing.
    Ignore,
    /// A maintainer has to say yes to each commit.
    #[default]
    Approve,
    /// They run.
    Run,
}

/// Settings of a project, in `projects.settings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ProjectSettings)]
pub struct Settings {
    /// Merge requests from forks.
    pub forks: Forks,
    /// Addresses or networks (`192.0.2.0/24`) that may send deliveries; empty: any.
    pub allowed_ips: Vec<String>,
    /// Does a new pipeline of a branch cancel interruptible jobs of older ones, where the configuration does not say?
    pub auto_cancel: bool,
    /// Days that pipelines are kept; none: as the server's settings say.
    pub keep_days: Option<u64>,
    /// Pipelines that are kept whatever their age; none: as the server's settings say.
    pub keep_pipelines: Option<u64>,
    /// May anybody see the badge, `/projects/{project}/badge.svg?branch=`? Else only who may see the project.
    pub public_badge: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            forks: Forks::default(),
            allowed_ips: Vec::new(),
            auto_cancel: true,
            keep_days: None,
            keep_pipelines: None,
            public_badge: false,
        }
    }
}

impl Settings {
    /// Those of a project. What can't be read allows nothing.
    pub fn of(project: &Project) -> Settings {
        serde_json::from_str(&project.settings).unwrap_or_else(|error| {
            tracing::error!(project = project.id, "its settings can't be read: {error}");
            Settings { forks: Forks::Ignore, allowed_ips: vec![String::new()], ..Settings::default() }
        })
    }

    /// # Errors
    /// Which network is none.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.allowed_ips.iter().find(|network| parse(network).is_none()) {
            Some(network) => Err(format!(
                "`{network}` in `allowed_ips` is neither an address nor a network like `192.0.2.0/24`"
            )),
            None => Ok(()),
        }
    }

    /// May deliveries come from this address?
    pub fn allows(&self, address: &str) -> bool {
        if self.allowed_ips.is_empty() {
            return true;
        }
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let networks = self.allowed_ips.iter().filter_map(|network| parse(network));
        networks.into_iter().any(|(network, length)| contains(network, length, address.to_canonical()))
    }
}

fn parse(network: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = match network.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (network, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().ok().filter(|length| *length <= longest)?,
        None => longest,
    };
    Some((address, length))
}

fn contains(network: IpAddr, length: u32, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_may_send_deliveries() {
        let allows = |networks: &[&str], address: &str| {
            let allowed_ips = networks.iter().map(|network| (*network).to_owned()).collect();
            Settings { allowed_ips, ..Settings::default() }.allows(address)
        };
        let table = [
            (vec![], "192.0.2.1", true),
            (vec![], "", true),
            (vec!["192.0.2.0/24"], "192.0.2.255", true),
            (vec!["192.0.2.0/24"], "192.0.3.0", false),
            (vec!["192.0.2.0/24"], "::ffff:192.0.2.9", true),
            (vec!["192.0.2.7"], "192.0.2.7", true),
            (vec!["192.0.2.7"], "192.0.2.8", false),
            (vec!["0.0.0.0/0"], "203.0.113.1", true),
            (vec!["0.0.0.0/0"], "::1", false),
            (vec!["::/0"], "2001:db8::1", true),
            (vec!["2001:db8::/32", "10.0.0.0/8"], "10.9.8.7", true),
            (vec!["2001:db8::/32"], "2001:db9::1", false),
            (vec!["192.0.2.0/24"], "", false),
            (vec![""], "192.0.2.1", false),
        ];
        for (networks, address, expected) in table {
            assert_eq!(allows(&networks, address), expected, "{networks:?} {address}");
        }
    }

    #[test]
    fn networks_that_are_none_are_refused() {
        for bad in ["x", "192.0.2.0/33", "::/129", "192.0.2.0/-1", "192.0.2.0/", ""] {
            let settings = Settings { allowed_ips: vec![bad.to_owned()], ..Settings::default() };
            assert!(settings.check().is_err(), "{bad}");
        }
    }
}
