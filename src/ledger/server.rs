//! In a job of a Slipway server: what the job deploys is told to the server's ledger as well, and packages are kept
//! there, so that people can promote them.

use super::entry::Fact;
use crate::error::{CliError, CliResult};
use crate::release::Plain;
use reqwest::blocking::{Client, Response};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(300);

/// The server that runs this job.
pub(super) struct Server {
    api: String,
    token: String,
}

impl Server {
    /// None: this is no job of a Slipway server.
    pub(super) fn of_job() -> Option<Server> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let ours = set("CI_SERVER_NAME").is_some_and(|name| name == "Slipway");
        ours.then(|| Some(Server { api: set("CI_API_V4_URL")?, token: set("CI_JOB_TOKEN")? }))?
    }

    /// Adds a fact to the server's ledger.
    pub(super) fn tell(&self, fact: &Fact) -> CliResult {
        // packages tell of themselves; people agree on the server itself
        if !matches!(fact, Fact::Deployment(_) | Fact::Bad(_) | Fact::Cleared(_) | Fact::Override(_)) {
            return Ok(());
        }
        let send = |client: Client| {
            client
                .post(format!("{}/jobs/ledger", self.api))
                .header("JOB-TOKEN", &self.token)
                .json(fact)
                .send()
        };
        answered("telling the server what was deployed", send)
    }

    /// Keeps a package there; the server can't read the name and version of what is `plain`.
    pub(super) fn send(&self, package: &Path, plain: Option<&Plain>) -> CliResult {
        let named: Vec<(&str, &str)> =
            plain.map(|plain| vec![("name", &*plain.name), ("version", &*plain.version)]).unwrap_or_default();
        let doing = format!("keeping the package `{}` on the server", package.display());
        let file = File::open(package).map_err(|e| CliError::failed(format!("{doing}: {e}")))?;
        let send = |client: Client| {
            client
                .put(format!("{}/jobs/packages", self.api))
                .query(&named)
                .header("JOB-TOKEN", &self.token)
                .body(file)
                .send()
        };
        answered(&doing, send)
    }
}

fn answered(doing: &str, send: impl FnOnce(Client) -> reqwest::Result<Response>) -> CliResult {
    let failed = |e: reqwest::Error| CliError::failed(format!("{doing}: {}", e.without_url()));
    let client = Client::builder().timeout(PATIENCE).build().map_err(failed)?;
    let response = send(client).map_err(failed)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said = response.text().unwrap_or_default();
    Err(CliError::failed(format!("{doing}: the server answered {status}: {said}")))
}
