//! Images: the pull policies, tried in order.

use super::credentials;
use super::engine::{Engine, told};
use crate::executor::{ExecutorError, Place};
use bollard::errors::Error;
use bollard::models::ImageConfig;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use pipelines::plan::Image;
use pipelines::status::FailureReason;

/// An image that the engine has.
#[derive(Clone, Debug)]
pub(super) struct Pulled {
    /// As it was asked for.
    pub(super) name: String,
    /// `sha256:...`: the name may stand for another image a moment later.
    pub(super) id: String,
    pub(super) config: ImageConfig,
}

impl Pulled {
    /// TCP ports of `EXPOSE`, ascending.
    pub(super) fn ports(&self) -> Vec<u16> {
        let exposed = self.config.exposed_ports.iter().flatten();
        let mut ports: Vec<u16> = exposed
            .filter_map(|port| {
                let (number, protocol) = port.split_once('/').unwrap_or((port.as_str(), "tcp"));
                if protocol == "tcp" { number.parse().ok() } else { None }
            })
            .collect();
        ports.sort_unstable();
        ports
    }
}

/// Gets an image as its policies say; without any: pulled when it is not there.
pub(super) async fn get(engine: &Engine, image: &Image, place: &Place) -> Result<Pulled, ExecutorError> {
    let policies: Vec<&str> = match image.pull_policy.as_slice() {
        [] => vec!["if-not-present"],
        policies => policies.iter().map(String::as_str).collect(),
    };
    let mut last = String::new();
    for policy in &policies {
        match by_policy(engine, image, policy, place).await {
            Ok(pulled) => {
                place.say(format!("Using docker image {} for {}", pulled.id, pulled.name));
                return Ok(pulled);
            }
            Err(why) => {
                place.warn(format!("Failed to pull image with policy \"{policy}\": {why}"));
                last = why;
            }
        }
    }
    let message = format!(
        "failed to pull image \"{}\" with specified policies [{}]: {last}{}",
        image.name,
        policies.join(" "),
        cure(&last)
    );
    Err(ExecutorError { reason: FailureReason::ImagePullFailure, message })
}

/// What people can do about the usual troubles.
fn cure(why: &str) -> &'static str {
    let has = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    if has(&["unauthorized", "no basic auth", "denied", "authentication required"]) {
        " (log in with `docker login REGISTRY`, or set the variable `DOCKER_AUTH_CONFIG`)"
    } else if has(&["server gave HTTP response to HTTPS client"]) {
        " (the registry speaks plain http: the engine has to know it as an insecure registry)"
    } else if has(&["toomanyrequests", "429"]) {
        " (the registry limits how often one may pull: log in, or wait)"
    } else if has(&["no such host", "server misbehaving", "connection refused", "i/o timeout", "dial tcp"]) {
        " (the engine can't reach the registry; `pull_policy: if-not-present` uses what is there)"
    } else {
        ""
    }
}

async fn by_policy(engine: &Engine, image: &Image, policy: &str, place: &Place) -> Result<Pulled, String> {
    let (name, platform) = (image.name.as_str(), platform(image));
    match policy {
        "never" => match present(engine, name, platform).await? {
            Some(pulled) => Ok(pulled),
            None => Err(format!("No such image: {name}")),
        },
        "always" => pull(engine, name, platform, place).await,
        "if-not-present" => match present(engine, name, platform).await? {
            Some(pulled) => Ok(pulled),
            None => pull(engine, name, platform, place).await,
        },
        other => Err(format!("`{other}` is no pull policy: `always`, `if-not-present` and `never` are")),
    }
}

/// `image:docker:platform`.
pub(super) fn platform(image: &Image) -> Option<&str> {
    image.docker.as_ref()?.get("platform")?.as_str().filter(|text| !text.is_empty())
}

/// `image:docker:user`.
pub(super) fn user(image: &Image) -> Option<&str> {
    image.docker.as_ref()?.get("user")?.as_str().filter(|text| !text.is_empty())
}

async fn present(engine: &Engine, name: &str, platform: Option<&str>) -> Result<Option<Pulled>, String> {
    match engine.api.inspect_image(name).await {
        Ok(found) => {
            let fits = platform.is_none_or(|wanted| {
                let mut parts = wanted.split('/');
                let (os, architecture) = (parts.next(), parts.next());
                os == found.os.as_deref()
                    && (architecture.is_none() || architecture == found.architecture.as_deref())
            });
            Ok(fits.then(|| Pulled {
                name: name.to_owned(),
                id: found.id.unwrap_or_else(|| name.to_owned()),
                config: found.config.unwrap_or_default(),
            }))
        }
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        // podman: no configured registry to complete a short name with
        Err(Error::DockerResponseServerError { message, .. }) if message.contains("short-name") => Ok(None),
        Err(error) => Err(told(&error)),
    }
}

async fn pull(engine: &Engine, name: &str, platform: Option<&str>, place: &Place) -> Result<Pulled, String> {
    let config = place.variables.iter().find(|(key, _)| key == "DOCKER_AUTH_CONFIG");
    let credentials = credentials::find(engine.kind, name, config.map(|(_, value)| value.clone())).await?;
    let authenticated = if credentials.is_some() { " (with credentials)" } else { "" };
    place.say(format!("Pulling docker image {name} ...{authenticated}"));
    let mut options = CreateImageOptionsBuilder::new().from_image(&tagged(name));
    if let Some(platform) = platform {
        options = options.platform(platform);
    }
    let mut progress = engine.api.create_image(Some(options.build()), None, credentials);
    while let Some(step) = progress.next().await {
        step.map_err(|error| told(&error))?;
    }
    let pulled = present(engine, name, None).await?;
    pulled.ok_or_else(|| format!("the engine says that it has pulled `{name}`, and does not have it"))
}

/// Without a tag the engine would pull every tag there is.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tag_is_pulled() {
        let table = [
            ("debian", "debian:latest"),
            ("debian:12", "debian:12"),
            ("h:5000/debian", "h:5000/debian:latest"),
            ("debian@sha256:00", "debian@sha256:00"),
        ];
        for (name, expected) in table {
            assert_eq!(tagged(name), expected);
        }
    }

    #[test]
    fn usual_troubles_come_with_a_cure() {
        for (why, cured) in [
            ("unauthorized: authentication required", "docker login"),
            ("pull access denied for x, repository does not exist", "DOCKER_AUTH_CONFIG"),
            ("http: server gave HTTP response to HTTPS client", "insecure registry"),
            ("toomanyrequests: slow down", "limits"),
            ("dial tcp 127.0.0.1:1: connect: connection refused", "can't reach"),
        ] {
            assert!(cure(why).contains(cured), "{why}");
        }
        assert_eq!(cure("manifest unknown"), "");
    }
}
