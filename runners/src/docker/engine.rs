//! Finding an engine that answers.

use super::podman::Service;
use bollard::API_DEFAULT_VERSION;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// For one answer of the engine; streams may take longer.
const PATIENCE: u64 = 120;
/// An engine that takes longer to say who it is does not work.
const HELLO: Duration = Duration::from_secs(10);

/// Which engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Docker, or what says it is.
    Docker,
    /// Podman's own service.
    Podman,
}

impl Kind {
    /// As in `--executor`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Docker => "docker",
            Kind::Podman => "podman",
        }
    }
}

/// An engine that answered.
#[derive(Clone)]
pub struct Engine {
    pub(super) api: bollard::Docker,
    /// Docker or Podman.
    pub kind: Kind,
    /// `unix:///var/run/docker.sock`.
    pub address: String,
    /// Its own version.
    pub version: String,
    /// Does it run as an ordinary user?
    pub rootless: bool,
    /// Podman's service, when we had to start it; ends with the last clone.
    _service: Option<Arc<Service>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} at {}", self.kind.name(), self.version, self.address)
    }
}

/// No engine can be used.
#[derive(Debug, thiserror::Error)]
#[error("no {} engine can be used{}", .wanted.map_or("Docker or Podman", Kind::title), listed(.tried))]
pub struct EngineError {
    /// What was asked for; none: any.
    pub wanted: Option<Kind>,
    /// Addresses, and what is wrong with each.
    pub tried: Vec<(String, String)>,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Kind::Docker => "Docker",
            Kind::Podman => "Podman",
        }
    }
}

fn listed(tried: &[(String, String)]) -> String {
    let all: Vec<String> = tried.iter().map(|(address, why)| format!("`{address}`: {why}")).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join("; ")) }
}

/// Looks up an environment variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Engine {
    /// The engine that `DOCKER_HOST` (Podman: `CONTAINER_HOST`) or the current Docker context names; else the first
    /// that answers at one of the usual sockets, for Podman also one that we start ourselves.
    ///
    /// # Errors
    /// None answers: which were tried, and what is wrong with each.
    pub async fn find(wanted: Option<Kind>) -> Result<Engine, EngineError> {
        let lookup = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut tried = Vec::new();
        for address in addresses(wanted, &lookup) {
            match Engine::connect(&address).await {
                Ok(engine) => return Ok(engine),
                Err(why) => tried.push((address, why)),
            }
        }
        if wanted == Some(Kind::Podman) {
            match Service::start().await {
                Ok(service) => match Engine::connect(&service.address()).await {
                    Ok(engine) => return Ok(Engine { _service: Some(Arc::new(service)), ..engine }),
                    Err(why) => tried.push(("podman system service".to_owned(), why)),
                },
                Err(why) => tried.push(("podman system service".to_owned(), why)),
            }
        }
        Err(EngineError { wanted, tried })
    }

    /// The engine at an address: `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// A sentence: what is wrong.
    pub async fn connect(address: &str) -> Result<Engine, String> {
        let api = open(address)?;
        let api = answer(api.negotiate_version()).await?;
        let version = answer(api.version()).await?;
        let info = answer(api.info()).await?;
        let podman = version.components.iter().flatten().any(|part| part.name.starts_with("Podman"));
        let rootless = info.security_options.iter().flatten().any(|option| option.contains("rootless"));
        Ok(Engine {
            api,
            kind: if podman { Kind::Podman } else { Kind::Docker },
            address: address.to_owned(),
            version: version.version.unwrap_or_default(),
            rootless,
            _service: None,
        })
    }

    /// May the engine be one that sees the files of this machine?
    pub(super) fn is_near(&self) -> bool {
        self.address.starts_with("unix://")
    }
}

fn open(address: &str) -> Result<bollard::Docker, String> {
    if let Some(path) = address.strip_prefix("unix://") {
        if !Path::new(path).exists() {
            return Err("there is no such socket".to_owned());
        }
        return bollard::Docker::connect_with_unix(path, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|error| told(&error));
    }
    if address.starts_with("tcp://") || address.starts_with("http://") {
        if std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty()) {
            return Err("TLS (`DOCKER_TLS_VERIFY`) is not supported: forward the engine's socket by \
                        `ssh -NL /tmp/engine.sock:/var/run/docker.sock HOST` and set \
                        `DOCKER_HOST=unix:///tmp/engine.sock`"
                .to_owned());
        }
        return bollard::Docker::connect_with_http(address, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|error| told(&error));
    }
    if let Some(host) = address.strip_prefix("ssh://") {
        return Err(format!(
            "ssh is not supported directly: run `ssh -NL /tmp/engine.sock:/var/run/docker.sock {host}` and set \
             `DOCKER_HOST=unix:///tmp/engine.sock`"
        ));
    }
    Err("only `unix://` and `tcp://` addresses are supported".to_owned())
}

async fn answer<T>(asking: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, String> {
    match tokio::time::timeout(HELLO, asking).await {
        Ok(answered) => answered.map_err(|error| told(&error)),
        Err(_) => Err(format!("it did not answer within {} s", HELLO.as_secs())),
    }
}

/// What went wrong, down to its cause: "client error (Connect)" alone helps nobody.
pub(super) fn told(error: &bollard::errors::Error) -> String {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::RequestTimeoutError => format!("no answer within {PATIENCE} s"),
        other => {
            let mut last: &dyn std::error::Error = other;
            while let Some(source) = last.source() {
                last = source;
            }
            let text = last.to_string();
            if text.contains("Permission denied") {
                format!("{text}: this user may not use the socket (for Docker: the group `docker` may)")
            } else {
                text
            }
        }
    }
}

/// Where an engine may be, the likeliest first. One that was named is the only one.
fn addresses(wanted: Option<Kind>, lookup: Lookup<'_>) -> Vec<String> {
    let docker = wanted != Some(Kind::Podman);
    let named = if docker {
        lookup("DOCKER_HOST").or_else(|| context_address(lookup))
    } else {
        lookup("CONTAINER_HOST").or_else(|| lookup("DOCKER_HOST").filter(|host| host.contains("podman")))
    };
    if let Some(address) = named {
        return vec![address];
    }
    let home = lookup("HOME").map(PathBuf::from);
    let runtime = lookup("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut sockets: Vec<PathBuf> = Vec::new();
    if docker {
        sockets.push("/var/run/docker.sock".into());
        sockets.extend(runtime.as_ref().map(|dir| dir.join("docker.sock")));
        sockets.extend(home.map(|dir| dir.join(".docker/run/docker.sock")));
    }
    if wanted != Some(Kind::Docker) {
        sockets.extend(runtime.map(|dir| dir.join("podman/podman.sock")));
        sockets.push("/run/podman/podman.sock".into());
    }
    sockets.iter().map(|path| format!("unix://{}", path.display())).collect()
}

/// The address in Docker's current context, unless that is the default one.
fn context_address(lookup: Lookup<'_>) -> Option<String> {
    let config = lookup("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(lookup("HOME")?).join(".docker")))?;
    let json = |path: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let name = lookup("DOCKER_CONTEXT")
        .or_else(|| Some(json(config.join("config.json"))?.get("currentContext")?.as_str()?.to_owned()))?;
    if name.is_empty() || name == "default" {
        return None;
    }
    let hex = crate::digest::hex(&Sha256::digest(name.as_bytes()));
    let meta = json(config.join("contexts/meta").join(hex).join("meta.json"))?;
    Some(meta.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_engine_is_the_only_one_that_is_tried() {
        let with = |pairs: &'static [(&'static str, &'static str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned())
        };
        let usual = with(&[("HOME", "/nobody"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        assert_eq!(
            addresses(Some(Kind::Docker), &usual),
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/7/docker.sock",
                "unix:///nobody/.docker/run/docker.sock"
            ]
        );
        assert_eq!(
            addresses(Some(Kind::Podman), &usual),
            ["unix:///run/user/7/podman/podman.sock", "unix:///run/podman/podman.sock"]
        );
        assert_eq!(addresses(None, &usual).len(), 5);
        let named = with(&[("DOCKER_HOST", "tcp://1.2.3.4:2375"), ("HOME", "/nobody")]);
        assert_eq!(addresses(None, &named), ["tcp://1.2.3.4:2375"]);
        assert_eq!(addresses(Some(Kind::Podman), &named), ["unix:///run/podman/podman.sock"]);
    }

    #[test]
    fn the_current_context_names_an_engine() {
        let home = tempfile::tempdir().unwrap();
        let config = home.path().join(".docker");
        // sha256 of `far`
        let hex: String = Sha256::digest(b"far").iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = config.join("contexts/meta").join(hex);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(config.join("config.json"), r#"{"currentContext": "far"}"#).unwrap();
        let text = r#"{"Name":"far","Endpoints":{"docker":{"Host":"tcp://far:2375"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        let path = home.path().to_str().unwrap().to_owned();
        let lookup = move |name: &str| (name == "HOME").then(|| path.clone());
        assert_eq!(addresses(None, &lookup), ["tcp://far:2375"]);
    }

    #[tokio::test]
    async fn what_is_not_supported_says_what_to_do() {
        for (address, hint) in [
            ("ssh://me@far", "ssh -NL"),
            ("npipe:////./pipe/docker_engine", "`unix://` and `tcp://`"),
            ("unix:///no/such.sock", "no such socket"),
        ] {
            let why = Engine::connect(address).await.unwrap_err();
            assert!(why.contains(hint), "{why}");
        }
    }
}
