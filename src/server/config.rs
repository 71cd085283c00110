//! `server.yml`.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Settings of the server. Unknown keys are errors.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How people and forges reach the server, without `/` at the end; none: `http://` and the listening address.
    pub url: Option<String>,
    /// Database, logs, artifacts, mirrors, the key.
    pub data: PathBuf,
    /// `postgres://…`; none: SQLite in the data directory. May be `env:NAME`, so that a password is not in the file.
    pub database: Option<String>,
    /// Jobs that run at once on this machine; 0: only elsewhere. None: as many as there are cores.
    pub local_jobs: Option<usize>,
    /// Addresses of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// Hosts (names or addresses) in private networks that includes, mirrors and notices may reach all the same.
    pub allow_private: Vec<String>,
    /// Bytes of a webhook's body.
    pub body_limit: usize,
    /// Seconds between looks at each project's repository for pushes that no hook told of.
    pub reconcile_seconds: u64,
    /// Seconds that an asking runner is held while there is no job.
    pub long_poll_seconds: u64,
    /// Seconds without a sign of life after which a job is lost.
    pub lease_seconds: u64,
    /// How long things are kept.
    pub keep: Keep,
    /// What whoever reads `/metrics` has to give as `Authorization: Bearer`; none: nobody reads them.
    pub metrics_token: Option<String>,
    /// Sign-in by OpenID Connect.
    pub oidc: Option<Oidc>,
}

/// How long things are kept. What is deployed, and the last success of each branch, always is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Days of pipelines with their logs.
    pub pipeline_days: u64,
    /// Pipelines of each project that are kept whatever their age.
    pub pipelines: u64,
    /// Days of stored deliveries.
    pub delivery_days: u64,
    /// Bytes that must stay free on the disk: below, the oldest go, and below half of it no job starts.
    pub free_bytes: u64,
}

/// An OpenID Connect provider.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// `https://issuer`: `/.well-known/openid-configuration` is read there.
    pub issuer: String,
    /// As registered.
    pub client_id: String,
    /// `env:NAME` or `file:PATH`.
    pub client_secret: String,
    /// What the button says.
    #[serde(default = "Oidc::label")]
    pub name: String,
    /// Mail domains that may sign in; empty: everybody whom the provider lets pass.
    #[serde(default)]
    pub domains: Vec<String>,
}

impl Oidc {
    fn label() -> String {
        "single sign-on".to_owned()
    }
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { pipeline_days: 90, pipelines: 50, delivery_days: 30, free_bytes: 2 << 30 }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8640)),
            url: None,
            data: PathBuf::from("slipway-data"),
            database: None,
            local_jobs: None,
            trusted_proxies: Vec::new(),
            allow_private: Vec::new(),
            body_limit: 25 << 20,
            reconcile_seconds: 60,
            long_poll_seconds: 40,
            lease_seconds: 60,
            keep: Keep::default(),
            metrics_token: None,
            oidc: None,
        }
    }
}

impl Config {
    /// What the database is opened with.
    pub fn database_url(&self) -> String {
        match &self.database {
            None => format!("sqlite:{}?mode=rwc", self.data.join("slipway.db").display()),
            Some(url) => match url.strip_prefix("env:") {
                Some(name) => std::env::var(name).unwrap_or_default(),
                None => url.clone(),
            },
        }
    }

    /// How the server is reached, without `/` at the end.
    pub fn public_url(&self) -> String {
        match &self.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reached(self.listen)),
        }
    }

    /// Do people reach the server over TLS? Then cookies go nowhere else.
    pub fn is_https(&self) -> bool {
        self.public_url().starts_with("https://")
    }
}

/// Who listens everywhere listens here as well.
pub(super) fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
