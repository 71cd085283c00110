//! Registries: how they are spoken to, and for how long we are patient.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol, SizedStream};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use serde::Deserialize;

use super::authority::authorities;
use super::manifest::{MANIFEST_TYPES, sha256};
use super::store::Tell;
use super::{ImageError, credentials};

/// Documents are small; what is larger is none.
const DOCUMENT_LIMIT: usize = 16 << 20;

/// What settings say of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Plain HTTP instead of HTTPS. By default only registries on loopback addresses.
    pub http: Option<bool>,
    /// Host (and port) that is asked first.
    pub mirror: Option<String>,
    /// File with the certificate authority of the registry, in PEM form, beside those that the system trusts.
    pub ca: Option<PathBuf>,
}

/// How long a registry may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a byte from it.
    pub stall: Duration,
    /// Before it is asked again; doubled every time.
    pub pause: Duration,
    /// How often it is asked.
    pub attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), pause: Duration::from_millis(500), attempts: 5 }
    }
}

/// All registries.
pub(super) struct Registries {
    settings: BTreeMap<String, Registry>,
    patience: Patience,
    /// A client takes 100 ms to make: its certificates.
    clients: Mutex<Vec<(Key, Client)>>,
}

/// Clients keep the credentials of their first request.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    registry: String,
    auth: RegistryAuth,
}

/// One registry, asked for one image.
pub(super) struct Endpoint {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    patience: Patience,
    /// As the user wrote it.
    name: String,
}

/// What an error means for the next attempt.
enum Verdict {
    Final,
    Again,
    /// Too many requests.
    Slower,
}

impl Registries {
    pub(super) fn new(settings: BTreeMap<String, Registry>) -> Self {
        Self { settings, patience: Patience::default(), clients: Mutex::new(Vec::new()) }
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Where the image may come from, in the order in which to ask.
    pub(super) async fn endpoints(
        &self,
        reference: &Reference,
        name: &str,
        auth_config: Option<&str>,
        tell: &Tell,
    ) -> Result<Vec<Endpoint>, ImageError> {
        let settings = self.settings.get(reference.registry());
        let mut references = Vec::new();
        if let Some(mirror) = settings.and_then(|settings| settings.mirror.as_ref()) {
            let mut mirrored = reference.clone();
            mirrored.set_mirror_registry(mirror.clone());
            references.push(mirrored);
        }
        references.push(reference.clone());
        let mut endpoints = Vec::new();
        for reference in references {
            let auth = credentials::find(reference.resolve_registry(), auth_config, tell).await;
            let key = Key { registry: reference.resolve_registry().to_owned(), auth: auth.clone() };
            let client = self.client(key)?;
            let (patience, name) = (self.patience, name.to_owned());
            endpoints.push(Endpoint { client, reference, auth, patience, name });
        }
        Ok(endpoints)
    }

    fn client(&self, key: Key) -> Result<Client, ImageError> {
        let mut clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == key) {
            return Ok(client.clone());
        }
        let settings = self.settings.get(&key.registry);
        let authority = settings.and_then(|settings| settings.ca.as_deref());
        let authorities = authorities(&key.registry, authority)?;
        let http = settings.and_then(|settings| settings.http);
        let plain = http.unwrap_or_else(|| authorities.is_empty() && is_loopback(&key.registry));
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            read_timeout: Some(self.patience.stall),
            connect_timeout: Some(self.patience.stall.min(Duration::from_secs(10))),
            user_agent: concat!("slipway/", env!("CARGO_PKG_VERSION")),
            extra_root_certificates: authorities,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| ImageError::Unreachable {
            registry: key.registry.clone(),
            reason: said(&error),
        })?;
        clients.push((key, client.clone()));
        Ok(client)
    }
}

/// Docker takes registries there for insecure ones.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Endpoint {
    pub(super) fn registry(&self) -> &str {
        self.reference.resolve_registry()
    }

    /// The bytes of the manifest that the name means, or of that with a digest; and its digest.
    pub(super) async fn manifest(&self, digest: Option<&str>) -> Result<(Vec<u8>, String), ImageError> {
        let reference = match digest {
            Some(digest) => self.reference.clone_with_digest(digest.to_owned()),
            None => self.reference.clone(),
        };
        let mut tries = 0;
        loop {
            // explicitly, because requests themselves swallow why there is no token
            let asked = match self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await {
                Ok(_) => self.client.pull_manifest_raw(&reference, &self.auth, &MANIFEST_TYPES).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok((bytes, _)) => {
                    let digest = sha256(&bytes);
                    return Ok((bytes.to_vec(), digest));
                }
                Err(error) => self.wait_or_give_up("the manifest", error, &mut tries).await?,
            }
        }
    }

    /// A small blob, verified.
    pub(super) async fn document(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let mut tries = 0;
        loop {
            match self.read_document(digest).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => self.wait_or_give_up("the configuration", error, &mut tries).await?,
            }
        }
    }

    async fn read_document(&self, digest: &str) -> Result<Vec<u8>, OciDistributionError> {
        // at its end the stream compares the digest
        let mut stream = self.client.pull_blob_stream(&self.reference, digest).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > DOCUMENT_LIMIT {
                let text = format!("a document is larger than {DOCUMENT_LIMIT} bytes");
                return Err(OciDistributionError::SpecViolationError(text));
            }
        }
        Ok(bytes)
    }

    /// The bytes of a blob from `offset` on, not verified. The number: how many to skip, where the registry doesn't
    /// know ranges.
    pub(super) async fn blob(
        &self,
        digest: &str,
        offset: u64,
    ) -> Result<(SizedStream, u64), OciDistributionError> {
        match self.client.pull_blob_stream_partial(&self.reference, digest, offset, None).await? {
            BlobResponse::Full(stream) => Ok((stream, offset)),
            BlobResponse::Partial(stream) => Ok((stream, 0)),
        }
    }

    /// Waits before the next attempt, or says why there is none.
    pub(super) async fn wait_or_give_up(
        &self,
        what: &str,
        error: OciDistributionError,
        tries: &mut u32,
    ) -> Result<(), ImageError> {
        let verdict = verdict(&error);
        *tries += 1;
        if matches!(verdict, Verdict::Final) || *tries >= self.patience.attempts {
            return Err(self.explain(what, &error));
        }
        tracing::debug!(reason = said(&error), tries, "asking the registry again");
        let factor = if matches!(verdict, Verdict::Slower) { 4 } else { 1 };
        tokio::time::sleep(self.patience.pause * factor * 2u32.saturating_pow(*tries - 1)).await;
        Ok(())
    }

    fn explain(&self, what: &str, error: &OciDistributionError) -> ImageError {
        let (name, registry) = (self.name.clone(), self.registry().to_owned());
        let anonymous = self.auth == RegistryAuth::Anonymous;
        match code(error) {
            Some(401 | 403) => ImageError::Denied { name, registry, anonymous },
            Some(404) => ImageError::NotFound { name, registry, anonymous },
            Some(429) => ImageError::RateLimited { registry },
            _ => match error {
                OciDistributionError::RequestError(request) if request.is_connect() => {
                    ImageError::Unreachable { registry, reason: said(error) }
                }
                _ => ImageError::Transfer { what: what.to_owned(), registry, reason: said(error) },
            },
        }
    }
}

/// The HTTP status that an error comes from, or is worth.
fn code(error: &OciDistributionError) -> Option<u16> {
    match error {
        OciDistributionError::UnauthorizedError { .. } => Some(401),
        OciDistributionError::AuthenticationFailure(text) if text.contains("TOOMANYREQUESTS") => Some(429),
        OciDistributionError::AuthenticationFailure(_) => Some(401),
        OciDistributionError::ServerError { code, .. } => Some(*code),
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().find_map(|error| match error.code {
                OciErrorCode::Toomanyrequests => Some(429),
                OciErrorCode::Unauthorized | OciErrorCode::Denied => Some(401),
                OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound
                | OciErrorCode::BlobUnknown => Some(404),
                _ => None,
            })
        }
        _ => None,
    }
}

fn verdict(error: &OciDistributionError) -> Verdict {
    match (code(error), error) {
        (Some(429), _) => Verdict::Slower,
        (Some(408 | 500..), _) => Verdict::Again,
        (Some(_), _) => Verdict::Final,
        // nobody there: that is no matter of patience
        (None, OciDistributionError::RequestError(request)) if request.is_connect() => Verdict::Final,
        (
            None,
            OciDistributionError::RequestError(_)
            | OciDistributionError::IoError(_)
            | OciDistributionError::DigestError(_),
        ) => Verdict::Again,
        (None, _) => Verdict::Final,
    }
}

/// An error with its causes, without addresses: those of blobs may carry signatures.
fn said(error: &OciDistributionError) -> String {
    let mut text = match error {
        OciDistributionError::RequestError(request) if request.is_timeout() => "no answer in time".to_owned(),
        OciDistributionError::RequestError(request) if request.is_connect() => "no connection".to_owned(),
        OciDistributionError::RequestError(_) => "the request failed".to_owned(),
        OciDistributionError::ServerError { code, .. } => format!("status {code}"),
        OciDistributionError::RegistryError { envelope, .. } => envelope.to_string().trim().to_owned(),
        OciDistributionError::IoError(_) => "the transfer broke off".to_owned(),
        other => other.to_string(),
    };
    let mut source = match error {
        OciDistributionError::RequestError(request) => request.source(),
        _ => None,
    };
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn registries_on_this_machine_are_plain_http() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"]
        {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["docker.io", "localhost.example:5000", "10.0.0.1:5000", "[fe80::1]:5000", ""] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
