//! Who we are to a registry: `DOCKER_AUTH_CONFIG` of the pipeline, else docker's own configuration with its helpers.

use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::secrets::RegistryAuth;

use super::store::{Tell, Told};

/// Credentials for `registry`; anonymous when nothing is configured.
pub(super) async fn find(registry: &str, auth_config: Option<&str>, tell: &Tell) -> RegistryAuth {
    if let Some(text) = auth_config {
        let text = text.to_owned();
        let read = move |server: &str| docker_credential::get_credential_from_reader(text.as_bytes(), server);
        if let Some(auth) = ask(registry, "$DOCKER_AUTH_CONFIG", read, tell).await {
            return auth;
        }
    }
    let found = ask(registry, "docker's configuration", docker_credential::get_credential, tell).await;
    found.unwrap_or(RegistryAuth::Anonymous)
}

async fn ask(
    registry: &str,
    origin: &str,
    read: impl Fn(&str) -> Result<DockerCredential, CredentialRetrievalError> + Send + 'static,
    tell: &Tell,
) -> Option<RegistryAuth> {
    let servers = servers(registry);
    // helpers are programs: they may take their time
    let answer = tokio::task::spawn_blocking(move || {
        let mut last = Err(CredentialRetrievalError::NoCredentialConfigured);
        for server in &servers {
            last = read(server);
            if last.is_ok() {
                break;
            }
        }
        last
    });
    match answer.await.ok()? {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            tell(Told::Line(format!("Authenticating with credentials from {origin}")));
            Some(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => {
            let text = format!(
                "the identity token for `{registry}` in {origin} can't be used, only user names with passwords \
                 or access tokens"
            );
            tell(Told::Warning(text));
            None
        }
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => {
            None
        }
        // the library says the same of a file that isn't there
        Err(CredentialRetrievalError::ConfigReadError) if !has_config() => None,
        // a helper's words may hold what it shall keep: its name must do
        Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("not found") => None,
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            tell(Told::Warning(format!("the credential helper `{helper}` for `{registry}` failed")));
            None
        }
        Err(error) => {
            tell(Told::Warning(format!("credentials for `{registry}` in {origin} are left out: {error}")));
            None
        }
    }
}

fn has_config() -> bool {
    let set = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let dir = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
    dir.is_some_and(|dir| dir.join("config.json").exists())
}

/// The names under which docker may keep credentials for a registry.
fn servers(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            vec!["https://index.docker.io/v1/".to_owned(), "index.docker.io".to_owned()]
        }
        other => vec![other.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_variable_names_users_by_registry() {
        // ann:s3cret
        let config = r#"{"auths": {"127.0.0.1:5000": {"auth": "YW5uOnMzY3JldA=="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"}}}"#;
        let basic =
            |user: &str, password: &str| Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()));
        assert_eq!(ask_variable("127.0.0.1:5000", config).await, basic("ann", "s3cret"));
        assert_eq!(ask_variable("docker.io", config).await, basic("hub", "p"));
        assert_eq!(ask_variable("other.example", config).await, None);
        assert_eq!(ask_variable("127.0.0.1:5000", "no json").await, None);
    }

    async fn ask_variable(registry: &str, config: &str) -> Option<RegistryAuth> {
        let text = config.to_owned();
        let read = move |server: &str| docker_credential::get_credential_from_reader(text.as_bytes(), server);
        ask(registry, "$DOCKER_AUTH_CONFIG", read, &|_| {}).await
    }
}
