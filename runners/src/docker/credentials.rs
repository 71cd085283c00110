//! Credentials for pulling: the pipeline's `DOCKER_AUTH_CONFIG`, else the configuration of Docker or Podman.

use super::engine::Kind;
use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError as Why, DockerCredential};
use std::path::PathBuf;

/// Docker Hub's name in configurations.
const HUB: &str = "https://index.docker.io/v1/";

/// What the registry of an image is called in configurations.
fn server(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => HUB,
            host => host,
        },
        _ => HUB,
    }
}

/// The credentials for an image; none: nobody has configured any. `config` is the value of `DOCKER_AUTH_CONFIG`.
///
/// # Errors
/// There are some, and they can't be had; says why, without them.
pub(super) async fn find(
    kind: Kind,
    image: &str,
    config: Option<String>,
) -> Result<Option<DockerCredentials>, String> {
    let server = server(image).to_owned();
    // credential helpers are programs
    let asked = tokio::task::spawn_blocking(move || ask(kind, &server, config.as_deref()));
    asked.await.map_err(|error| format!("asking for credentials: {error}"))?
}

fn ask(kind: Kind, server: &str, config: Option<&str>) -> Result<Option<DockerCredentials>, String> {
    if let Some(config) = config.filter(|text| !text.trim().is_empty()) {
        let read = docker_credential::get_credential_from_reader(config.as_bytes(), server);
        if let Some(found) = judged(read, server, "`DOCKER_AUTH_CONFIG`")? {
            return Ok(Some(found));
        }
    }
    if kind == Kind::Podman {
        let read = docker_credential::get_podman_credential(server);
        // it has several places for its file and says the same of one that is not there
        let read = read.map_err(|why| if why == Why::ConfigReadError { Why::ConfigNotFound } else { why });
        if let Some(found) = judged(read, server, "podman's configuration")? {
            return Ok(Some(found));
        }
    }
    match config_file().filter(|path| path.exists()) {
        Some(path) => {
            judged(docker_credential::get_credential(server), server, &format!("`{}`", path.display()))
        }
        None => Ok(None),
    }
}

fn config_file() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
    Some(directory.join("config.json"))
}

fn judged(
    read: Result<DockerCredential, Why>,
    server: &str,
    place: &str,
) -> Result<Option<DockerCredentials>, String> {
    let serveraddress = Some(server.to_owned());
    let why = match read {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            let (username, password) = (Some(user), Some(password));
            return Ok(Some(DockerCredentials { username, password, serveraddress, ..Default::default() }));
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            let identitytoken = Some(token);
            return Ok(Some(DockerCredentials { identitytoken, serveraddress, ..Default::default() }));
        }
        Err(Why::NoCredentialConfigured | Why::ConfigNotFound) => return Ok(None),
        Err(Why::HelperFailure { helper, stdout, stderr }) => {
            // how helpers say that they have none
            if format!("{stdout}{stderr}").contains("credentials not found") {
                return Ok(None);
            }
            format!("the helper `docker-credential-{helper}` failed: {}", stderr.trim())
        }
        Err(Why::ConfigReadError) => "it is no valid JSON".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("credentials for `{server}` from {place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        let table = [
            ("debian:12", HUB),
            ("library/debian", HUB),
            ("docker.io/library/debian", HUB),
            ("localhost/x", "localhost"),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000"),
            ("registry.example.org/a/b@sha256:00", "registry.example.org"),
        ];
        for (image, expected) in table {
            assert_eq!(server(image), expected, "{image}");
        }
    }

    #[test]
    fn the_pipelines_own_configuration_comes_first() {
        // "me:hunter2"
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "bWU6aHVudGVyMg=="}}}"#;
        let found = ask(Kind::Docker, "127.0.0.1:5000", Some(config)).unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("me"), Some("hunter2")));
        for broken in ["{", r#"{"auths": {"127.0.0.1:5000": {"auth": "hunter2"}}}"#] {
            let why = ask(Kind::Docker, "127.0.0.1:5000", Some(broken)).unwrap_err();
            assert!(why.contains("DOCKER_AUTH_CONFIG") && !why.contains("hunter2"), "{why}");
        }
    }
}
