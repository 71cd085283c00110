//! `include:remote`: files from http servers, kept with their ETag.

use super::reach::Reach;
use pipelines::request::FetchError;
use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::redirect::{Attempt, Policy};
use serde::{Deserialize, Serialize};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 5;
/// GitLab's limit for one configuration file.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// The remote files of one command.
#[derive(Default)]
pub(super) struct Remote {
    client: OnceCell<Client>,
    got: RefCell<HashMap<String, Result<Arc<str>, FetchError>>>,
    reach: Reach,
}

/// A file as it is kept. Its address may have a token in it, so it is not.
#[derive(Serialize, Deserialize)]
struct Kept {
    etag: Option<String>,
    text: String,
}

impl Remote {
    /// Only from hosts that may be reached.
    pub(super) fn within(reach: Reach) -> Remote {
        Remote { reach, ..Remote::default() }
    }

    /// The text at an address; each is asked for once in a command, with `offline` never.
    pub(super) fn text(&self, url: &str, dir: &Path, offline: bool) -> Result<Arc<str>, FetchError> {
        if let Some(known) = self.got.borrow().get(url) {
            return known.clone();
        }
        let file = kept_file(url, dir);
        let kept = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let result = match (offline, kept) {
            (true, Some(kept)) => Ok(kept.text.into()),
            (true, None) => Err(FetchError::Other(
                "it was never fetched, and `--offline` uses only what was fetched before".into(),
            )),
            (false, kept) => self.fetch(url, kept, &file),
        };
        self.got.borrow_mut().insert(url.to_owned(), result.clone());
        result
    }

    /// Is there a copy that `--offline` would use?
    pub(super) fn is_kept(url: &str, dir: &Path) -> bool {
        kept_file(url, dir).is_file()
    }

    fn client(&self) -> Result<&Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let reach = self.reach.clone();
        let client = Client::builder()
            .connect_timeout(PATIENCE)
            .timeout(PATIENCE)
            .redirect(Policy::custom(move |attempt| redirect(attempt, &reach)))
            .dns_resolver(std::sync::Arc::new(self.reach.clone()))
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    fn fetch(&self, url: &str, kept: Option<Kept>, file: &Path) -> Result<Arc<str>, FetchError> {
        let etag = kept.as_ref().and_then(|kept| HeaderValue::from_str(kept.etag.as_deref()?).ok());
        if let Ok(url) = reqwest::Url::parse(url) {
            self.reach.check(&url).map_err(FetchError::Other)?;
        }
        let client = self.client().map_err(failure)?;
        let request = client.get(url);
        let request = match etag {
            Some(etag) => request.header(IF_NONE_MATCH, etag),
            None => request,
        };
        let response = request.send().map_err(failure)?;
        match (response.status(), kept) {
            (StatusCode::NOT_MODIFIED, Some(kept)) => Ok(kept.text.into()),
            (status, _) if status.is_success() => {
                let fresh = body(response)?;
                // without the copy only `--offline` loses
                let _ = keep(&fresh, file);
                Ok(fresh.text.into())
            }
            (status, _) => Err(FetchError::Http(status.as_u16())),
        }
    }
}

fn redirect(attempt: Attempt<'_>, reach: &Reach) -> reqwest::redirect::Action {
    match reach.check(attempt.url()) {
        Err(refusal) => attempt.error(refusal),
        Ok(()) if attempt.previous().len() > REDIRECTS => attempt.error("too many redirects"),
        Ok(()) => attempt.follow(),
    }
}

fn kept_file(url: &str, dir: &Path) -> PathBuf {
    dir.join("remote").join(format!("{}.json", crate::digest::sha256_hex(url.as_bytes())))
}

fn body(response: Response) -> Result<Kept, FetchError> {
    let etag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut bytes = Vec::new();
    response.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::TimedOut => FetchError::Timeout,
        _ => FetchError::Other(format!("the answer broke off: {e}")),
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FetchError::Other("it is larger than 2 MiB".into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| FetchError::Other("it is not UTF-8 text".into()))?;
    Ok(Kept { etag, text })
}

fn keep(kept: &Kept, file: &Path) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut new = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut new, kept)?;
    new.persist(file).map_err(|e| e.error)?;
    Ok(())
}

/// The innermost reason; the address is in the message already.
fn failure(error: reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout;
    }
    if error.is_redirect() {
        return FetchError::Other(format!("more than {REDIRECTS} redirects, or one to nowhere"));
    }
    let error = error.without_url();
    let mut reason: &dyn std::error::Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    FetchError::Other(reason.to_string())
}
