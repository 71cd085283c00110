//! Which network the jobs of a run get: what the settings ask for, or the best that this machine has.

use crate::error::{CliError, CliResult};
use crate::settings::NetworkSetting;
use anstream::eprintln;
use runners::sandbox::{Egress, Router, Sandbox};
use runners::services::Networking;

/// A network whose way out is being made in the background.
pub(super) struct Begun {
    setting: Option<NetworkSetting>,
    router: Option<Result<Router, runners::sandbox::Error>>,
}

/// Begins it; the way out takes longer than anything else that a run needs at its start.
pub(super) async fn begin(setting: Option<NetworkSetting>, sandbox: &Sandbox) -> Begun {
    let router = match setting {
        Some(NetworkSetting::Host) => None,
        _ => Some(Router::start(sandbox, setting != Some(NetworkSetting::None)).await),
    };
    Begun { setting, router }
}

impl Begun {
    /// Waits until it is known whether there is a way out. Without one, jobs are in the host's network, with one
    /// line that says so; if the settings insist, that is an error.
    pub(super) async fn finish(self) -> CliResult<Networking> {
        let reason = match (self.setting, self.router) {
            (_, None) => return Ok(Networking::Host),
            (Some(NetworkSetting::None), Some(Ok(router))) => return Ok(Networking::Closed(router)),
            (_, Some(Ok(router))) => match router.egress().await {
                Egress::Up(_) => return Ok(Networking::Isolated(router)),
                Egress::Down(reason) => reason,
                Egress::Starting => "it does not start".to_owned(),
            },
            (_, Some(Err(error))) => error.to_string(),
        };
        match self.setting {
            Some(NetworkSetting::None) => {
                Err(CliError::usage(format!("jobs can't have a network: {reason}")))
            }
            Some(NetworkSetting::Isolated) => Err(CliError::usage(format!(
                "jobs can't have a network of their own with a way out: {reason}"
            ))
            .hint("install pasta (package `passt`) or slirp4netns, or set `network: host`")),
            _ => {
                eprintln!(
                    "network: jobs share this machine's, there is no way out of one of their own ({reason}); \
                     install pasta (package `passt`) or slirp4netns, or set `network: host` to read this no more"
                );
                Ok(Networking::Host)
            }
        }
    }
}
