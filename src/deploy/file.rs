//! `.ci/deploy.yml`: what is released, and the environments it goes through, in order.
//!
//! Without the file, one environment of any name is made from the variables of [`super::Settings`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::error::Error;
pub use crate::notify::Notifier;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeployFile {
    /// What is released.
    pub release: ReleaseSettings,
    /// By name, in the order of promotion.
    pub environments: IndexMap<String, Environment>,
    /// Who may approve: name and ssh public keys, as lines of an `allowed_signers` file or paths of `.pub` files. On a
    /// server the names are those of accounts, and need no keys.
    pub people: BTreeMap<String, Vec<String>>,
    /// Where deployments are told of.
    pub notify: Vec<Notifier>,
}

/// What is released.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseSettings {
    /// Name; default: of `rebar.config`, `mix.exs` or the directory.
    pub name: Option<String>,
    /// Default: by the files there.
    pub kind: Option<Kind>,
    /// Where the version comes from; default: the release's own files.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub version: Option<VersionSource>,
    /// Commands that build the package, in place of ours.
    pub build: Vec<String>,
    /// The package that `build` makes; `{name}` and `{version}` are replaced.
    pub package: Option<String>,
}

/// Kind of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// rebar3 and relx.
    Erlang,
    /// `mix release`; with a `service:` it is put into versioned directories, as an archive is.
    Elixir,
    /// A tar archive that is unpacked into a directory of its own.
    Archive,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// `git describe --tags`, without the `v`.
    Git,
    /// First line of a file.
    File(PathBuf),
    /// What a command prints.
    Command(String),
}

/// One environment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Environment {
    /// GitLab's tiers.
    pub tier: Tier,
    /// How releases get there.
    pub delivery: Delivery,
    /// `user@host`, a host of the ssh configuration, or `ssh://user@host:port`.
    pub targets: Vec<String>,
    /// Directory of the release on the targets; default `/data/NAME`.
    pub directory: Option<String>,
    /// rebar3 profile or `MIX_ENV`.
    pub profile: Option<String>,
    /// What is allowed and preferred.
    pub strategy: Policy,
    /// How many targets at once.
    pub batches: Batches,
    /// What must hold after a deployment.
    pub health: Vec<Health>,
    /// How long it must hold before the deployment is committed.
    #[serde(deserialize_with = "duration")]
    pub soak: Duration,
    /// Who must agree.
    pub approvals: Approvals,
    /// When nothing is deployed.
    pub freeze: Vec<Freeze>,
    /// Commands on this machine.
    pub hooks: Hooks,
    /// Old versions that stay on a target beside the running one.
    pub keep: Option<u32>,
    /// How a program that is no Erlang node is switched and restarted.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub service: Option<Service>,
}

/// Tier of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// DEV.
    Development,
    /// SIT.
    Testing,
    /// UAT.
    Staging,
    /// PROD.
    Production,
    /// Anything else.
    #[default]
    Other,
}

impl Tier {
    /// As it is written in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Testing => "testing",
            Self::Staging => "staging",
            Self::Production => "production",
            Self::Other => "other",
        }
    }
}

/// How releases get to an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// By us.
    #[default]
    Ssh,
    /// As a signed bundle that operations apply.
    Bundle,
}

/// Ways to put a release on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Upgrade of the running node.
    Hot,
    /// Stop the old version, start the new one.
    Restart,
    /// Installation where nothing is or nothing runs.
    Fresh,
}

/// Which ways are taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Taken when it is possible: `hot` or `restart`.
    pub prefer: Way,
    /// The others are refused.
    pub allow: Vec<Way>,
    /// Whether a hot upgrade must have been rehearsed on a copy, and what must hold there.
    #[serde(deserialize_with = "rehearsed")]
    pub rehearse: Option<Rehearse>,
}

/// What a rehearsal does beside the upgrade: Erlang expressions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rehearse {
    /// Evaluated in the old version before the upgrade.
    pub setup: Option<String>,
    /// Must be `true` after the upgrade, and again after going back.
    pub check: Option<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { prefer: Way::Hot, allow: vec![Way::Hot, Way::Restart, Way::Fresh], rehearse: None }
    }
}

/// How many targets at once; the first batch is the canary.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batches {
    /// Targets of the first batch.
    pub canary: u32,
    /// Targets of every other batch; 0: all that are left.
    pub size: u32,
    /// Between two batches.
    #[serde(deserialize_with = "duration")]
    pub pause: Duration,
}

impl Default for Batches {
    fn default() -> Self {
        Self { canary: 1, size: 0, pause: Duration::ZERO }
    }
}

/// One thing that must hold after a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenHealth")]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// How long it may take to become true.
    pub within: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHealth {
    http: Option<String>,
    tcp: Option<String>,
    eval: Option<String>,
    command: Option<String>,
    #[serde(default = "thirty_seconds", deserialize_with = "duration")]
    within: Duration,
}

impl TryFrom<WrittenHealth> for Health {
    type Error = &'static str;

    fn try_from(written: WrittenHealth) -> Result<Self, Self::Error> {
        let WrittenHealth { http, tcp, eval, command, within } = written;
        let check = match (http, tcp, eval, command) {
            (Some(url), None, None, None) => Check::Http(url),
            (None, Some(address), None, None) => Check::Tcp(address),
            (None, None, Some(expression), None) => Check::Eval(expression),
            (None, None, None, Some(command)) => Check::Command(command),
            _ => return Err("a health check is one of `http`, `tcp`, `eval` and `command`, with `within`"),
        };
        Ok(Health { check, within })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `GET` from the target itself; any 2xx or 3xx answer is good.
    Http(String),
    /// A port of the target takes connections: `host:port` as the target sees it.
    Tcp(String),
    /// An Erlang expression on the node; `true` or `ok` is good.
    Eval(String),
    /// A command on the target, its exit code 0.
    Command(String),
}

/// Who must agree to a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approvals {
    /// How many.
    pub count: u32,
    /// Of these; empty: of all `people`.
    pub from: Vec<String>,
    /// May the author of the released commit be one of them?
    pub author: bool,
}

/// A time in which nothing is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// `2026-12-20 00:00`, or weekly `Fri 16:00`.
    pub from: String,
    /// Like `from`.
    pub until: String,
    /// IANA name; default UTC.
    #[serde(default)]
    pub zone: Option<String>,
    /// Shown to whoever is refused.
    #[serde(default)]
    pub reason: String,
}

/// Commands on this machine, each with the deployment's facts as `CI_DEPLOY_*` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Before anything is sent; a failure refuses.
    pub before: Vec<String>,
    /// After success.
    pub after: Vec<String>,
    /// After failure or roll-back.
    pub failed: Vec<String>,
}

/// How a program that is no Erlang node is switched and restarted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Commands on the target.
    Commands {
        /// Starts `DIRECTORY/current`.
        start: String,
        /// Stops it; when it is empty, its processes get TERM.
        #[serde(default)]
        stop: String,
    },
    /// A unit of systemd.
    Systemd(String),
    /// A program of supervisord, by XML-RPC.
    Supervisord {
        /// Its name.
        program: String,
        /// `unix:///run/supervisor.sock` or `http://127.0.0.1:9001` as the target sees it.
        server: String,
        /// Variable with `user:password`, where the server asks for them.
        #[serde(default)]
        auth: Option<String>,
    },
    /// A program whose binary is exchanged by signals, as nginx's.
    Binary {
        /// The pid file.
        pid: String,
        /// Path of the binary on the target, below `DIRECTORY/current/`.
        binary: String,
        /// Tests the configuration before; `$DIRECTORY` is the new version's.
        #[serde(default)]
        test: Option<String>,
        /// Starts it where it does not run.
        #[serde(default)]
        start: Option<String>,
    },
    /// Weights of an nginx upstream are moved from the old to the new backend.
    Canary {
        /// Include file with the upstream, on the target.
        upstream: String,
        /// Name of the upstream.
        name: String,
        /// The two addresses that versions take turns in, as the upstream has them.
        backends: [String; 2],
        /// Starts `$DIRECTORY` at `$ADDRESS` (`$HOST`, `$PORT`).
        start: String,
        /// Stops it; without one its processes get TERM.
        #[serde(default)]
        stop: Option<String>,
        /// Tests nginx's configuration.
        #[serde(default = "nginx_test")]
        test: String,
        /// Makes nginx read it.
        #[serde(default = "nginx_reload")]
        reload: String,
        /// Access log in the form `$upstream_addr|$upstream_status`; errors are counted there.
        #[serde(default)]
        log: Option<String>,
        /// Weights of the new backend in percent, in order.
        steps: Vec<u32>,
        /// Between two weights.
        #[serde(deserialize_with = "duration")]
        hold: Duration,
        /// Errors in percent that abort.
        errors: u32,
    },
}

impl DeployFile {
    /// Where it lies in a project.
    pub const PATH: &str = ".ci/deploy.yml";

    /// The file of the project at `root`; `None` when there is none.
    ///
    /// # Errors
    /// It can't be read, or is not as described here; says where.
    pub fn load(root: &Path) -> Result<Option<DeployFile>, Error> {
        let path = root.join(Self::PATH);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::refused(format!("reading `{}`: {e}", Self::PATH))),
        };
        Self::parse(&text).map(Some)
    }

    /// The file with this text.
    ///
    /// # Errors
    /// It is not as described here: every mistake that can be told, with line and column.
    pub fn parse(text: &str) -> Result<DeployFile, Error> {
        let file: Option<DeployFile> = serde_yaml::from_str(text).map_err(|e| {
            let place = e.location().map_or(String::new(), |at| format!(":{}:{}", at.line(), at.column()));
            let said = e.to_string();
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
            Error::refused(format!("{}{place}: {said}", Self::PATH))
                .help("schemas/deploy.json describes the file")
        })?;
        let file = file.unwrap_or_default();
        super::mistake::check(&file, text)?;
        Ok(file)
    }
}

/// GitLab's way of writing durations: `30s`, `5 minutes`, `1h 30m`; a number is seconds.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }
    let seconds = match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => Some(seconds),
        Written::Text(text) => pipelines::duration::parse(&text),
    };
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| de::Error::custom("not a duration: write it as `30s`, `5 minutes` or `1h 30m`"))
}

/// `true`, `false`, or the expressions.
fn rehearsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Rehearse>, D::Error> {
    match serde_yaml::Value::deserialize(deserializer)? {
        serde_yaml::Value::Bool(demanded) => Ok(demanded.then(Rehearse::default)),
        written @ serde_yaml::Value::Mapping(_) => serde_yaml::from_value(written)
            .map(Some)
            .map_err(|error| de::Error::custom(format!("rehearse: {error}"))),
        _ => Err(de::Error::custom("`rehearse` is `true`, `false`, or has `setup` and `check`")),
    }
}

fn nginx_test() -> String {
    "nginx -t".to_owned()
}

fn nginx_reload() -> String {
    "nginx -s reload".to_owned()
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read() {
        let text = r"
release: {name: urf, kind: erlang, version: git}
people:
  ann: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ann]
environments:
  dev:
    tier: development
    targets: [urf@dev1, 'ssh://urf@dev2:2222']
    health: [{http: 'http://127.0.0.1:8080/health', within: 10s}, {eval: 'urf_store:ready().'}]
    soak: 30s
    strategy: {prefer: hot, allow: [hot, restart, fresh]}
    batches: {canary: 1, size: 2, pause: 1 minute}
  prod:
    tier: production
    delivery: bundle
    approvals: {count: 2, from: [ann]}
    freeze: [{from: 'Fri 16:00', until: 'Mon 08:00', zone: Europe/Berlin, reason: weekend}]
    service: {systemd: urf.service}
notify: [{kind: slack, url: SLACK_URL, on: [failed]}]
";
        let file: DeployFile = serde_yaml::from_str(text).unwrap();
        assert_eq!(file.environments.keys().collect::<Vec<_>>(), ["dev", "prod"]);
        let dev = &file.environments["dev"];
        assert_eq!(dev.soak, Duration::from_secs(30));
        assert_eq!(dev.health[0].within, Duration::from_secs(10));
        assert_eq!(dev.health[1].check, Check::Eval("urf_store:ready().".into()));
        assert_eq!(file.environments["prod"].delivery, Delivery::Bundle);
        assert_eq!(file.release.version, Some(VersionSource::Git));
    }
}
