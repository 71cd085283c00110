//! Caches in an S3 bucket, beside those on disk: a job takes the newer of the two, and saves to both. Whatever the
//! bucket does, no job fails of it.

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path as Place;
use object_store::{BackoffConfig, ClientOptions, Error, ObjectStoreExt, RetryConfig};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncWriteExt, copy};

/// So long a bucket may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// So long a bucket may be silent.
const STALL: Duration = Duration::from_secs(30);
/// So long a request is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// Where a bucket is. What gives access comes from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
/// `AWS_SESSION_TOKEN`) or from a profile of `~/.aws/credentials` (`AWS_PROFILE`, else `default`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketAddress {
    /// Name of the bucket.
    pub bucket: String,
    /// `eu-west-1`; none: `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// URL of a server that is not Amazon's; `http` is allowed.
    pub endpoint: Option<String>,
    /// Path in front of every key; ends without a slash.
    pub prefix: String,
}

/// A bucket that caches are kept in.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: AmazonS3,
    prefix: String,
}

impl Bucket {
    /// The bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// There are no credentials, or the address is none; says what to set.
    pub fn new(address: &BucketAddress) -> Result<Bucket, String> {
        let mut builder = credentials(AmazonS3Builder::new())?.with_bucket_name(&address.bucket);
        let region = address
            .region
            .clone()
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".to_owned()));
        let mut options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_timeout_disabled()
            .with_read_timeout(STALL);
        if let Some(endpoint) = &address.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
            options = options.with_allow_http(endpoint.starts_with("http://"));
        }
        let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: RETRY };
        let store = builder.with_client_options(options).with_retry(retry).build().map_err(|e| brief(&e))?;
        Ok(Bucket { store, prefix: address.prefix.trim_matches('/').to_owned() })
    }

    fn place(&self, name: &str) -> Place {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        Place::from(format!("{prefix}{name}"))
    }

    /// Brings the archive to `file` when the bucket has one that is newer than `file`; true: it did.
    ///
    /// # Errors
    /// The bucket can't be asked, or the disk refuses; `file` is as before.
    pub async fn fetch(&self, name: &str, file: &Path) -> Result<bool, String> {
        let found = match self.store.get(&self.place(name)).await {
            Err(Error::NotFound { .. }) => return Ok(false),
            other => other.map_err(|e| brief(&e))?,
        };
        let own = fs::metadata(file).and_then(|found| found.modified()).ok();
        let own = own.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_secs());
        let theirs = u64::try_from(found.meta.last_modified.timestamp()).unwrap_or(0);
        if own.is_some_and(|own| own >= theirs) {
            return Ok(false);
        }
        let size = found.meta.size;
        let directory = file.parent().unwrap_or(Path::new("."));
        let disk = |e: std::io::Error| format!("writing `{}`: {e}", file.display());
        let temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(directory).map_err(disk)?;
        let mut out = tokio::fs::File::from_std(temporary.reopen().map_err(disk)?);
        let mut stream = found.into_stream();
        let mut got = 0;
        while let Some(part) = futures_util::StreamExt::next(&mut stream).await {
            let part = part.map_err(|e| brief(&e))?;
            got += part.len() as u64;
            out.write_all(&part).await.map_err(disk)?;
        }
        out.flush().await.map_err(disk)?;
        if got != size {
            return Err(format!("the bucket sent {got} of {size} bytes"));
        }
        let time = UNIX_EPOCH + Duration::from_secs(theirs);
        temporary.as_file().set_modified(time).map_err(disk)?;
        temporary.persist(file).map_err(|e| disk(e.error))?;
        Ok(true)
    }

    /// Writes the archive `file` to the bucket.
    ///
    /// # Errors
    /// The bucket refuses it; what was there before stays.
    pub async fn push(&self, name: &str, file: &Path) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("writing to the bucket: {}", short(&e.to_string()));
        let mut from =
            tokio::fs::File::open(file).await.map_err(|e| format!("reading `{}`: {e}", file.display()))?;
        let mut to = BufWriter::new(Arc::new(self.store.clone()), self.place(name));
        if let Err(error) = copy(&mut from, &mut to).await {
            // an unfinished upload costs money until it is given up
            let _ = to.abort().await;
            return Err(failed(error));
        }
        to.shutdown().await.map_err(failed)
    }
}

fn brief(error: &Error) -> String {
    short(&error.to_string())
}

/// The first line: servers answer with whole documents.
fn short(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The environment, else a profile. Never the metadata service of Amazon's machines: elsewhere it is silence.
fn credentials(builder: AmazonS3Builder) -> Result<AmazonS3Builder, String> {
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        return Ok(match variable("AWS_SESSION_TOKEN") {
            Some(token) => builder.with_token(token),
            None => builder,
        });
    }
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let file = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let file = file.or_else(|| Some(Path::new(&variable("HOME")?).join(".aws/credentials")));
    let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let keys = profile_keys(&text, &profile);
    let get = |name: &str| keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (Some(id), Some(secret)) = (get("aws_access_key_id"), get("aws_secret_access_key")) else {
        return Err(format!(
            "there are no credentials: set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or write profile \
             `{profile}` into `~/.aws/credentials`"
        ));
    };
    let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    Ok(match get("aws_session_token") {
        Some(token) => builder.with_config(AmazonS3ConfigKey::Token, token),
        None => builder,
    })
}

/// Keys and values of one section of an INI file.
fn profile_keys(text: &str, profile: &str) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            keys.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_one_section() {
        let text = "[default]\naws_access_key_id = A\n# x = y\n[ci]\naws_access_key_id=B\naws_secret_access_key = s=1\n";
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(profile_keys(text, "default"), [own("aws_access_key_id", "A")]);
        let expected = [own("aws_access_key_id", "B"), own("aws_secret_access_key", "s=1")];
        assert_eq!(profile_keys(text, "ci"), expected);
        assert_eq!(profile_keys(text, "other"), []);
    }
}
