//! Requests about one job, and where its server is.

use super::transport::Transport;
use crate::wire::runner::Info;
use crate::wire::update::{
    ContentRange, INTERVAL_HEADER, JOB_STATUS_HEADER, JOB_TOKEN_HEADER, JobStatus, Stored, UpdateJob,
    UploadQuery,
};
use crate::wire::{self, Secret};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Body, Method, Request, Response, Url, multipart};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// For an answer to something small, and between two pieces of something big.
const ANSWER: Duration = Duration::from_secs(60);
/// For one artifact on its way.
const UPLOAD: Duration = Duration::from_secs(3600);
const REDIRECTS: usize = 5;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// Always there.
    Url(String),
    /// Where this file says: a server that starts again may have another port.
    File(PathBuf),
}

impl Address {
    /// `http://host:port`, without `/` at the end.
    ///
    /// # Errors
    /// The file can't be read; a later try may work.
    pub fn url(&self) -> Result<String, String> {
        match self {
            Address::Url(url) => Ok(url.trim_end_matches('/').to_owned()),
            Address::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim().trim_end_matches('/').to_owned()),
                Err(e) => Err(format!("reading the server's address from `{}`: {e}", path.display())),
            },
        }
    }
}

/// What the server said to an update or a piece of log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// HTTP status.
    pub(super) status: u16,
    /// How the job stands.
    pub(super) job: Option<JobStatus>,
    /// So many bytes of the log the server has.
    pub(super) stored: Option<u64>,
    /// Until the next piece is wanted.
    pub(super) interval: Option<Duration>,
    /// When to try again.
    pub(super) retry_after: Option<Duration>,
}

/// Why an artifact did not come or go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A later try may work.
    Later(String, Option<Duration>),
    /// None will.
    Never(u16, String),
}

/// One job of a server.
#[derive(Clone, Debug)]
pub(super) struct JobApi {
    http: Transport,
    pub(super) address: Address,
    pub(super) id: i64,
    token: Secret,
    info: Info,
}

impl JobApi {
    pub(super) fn new(
        address: Address,
        id: i64,
        token: Secret,
        info: Info,
    ) -> Result<JobApi, reqwest::Error> {
        Ok(JobApi { http: Transport::to(&address)?, address, id, token, info })
    }

    fn place(&self, rest: &str) -> Result<Url, String> {
        let place = format!("{}{}/jobs/{}{rest}", self.address.url()?, wire::BASE, self.id);
        Url::parse(&place).map_err(|e| e.to_string())
    }

    /// With the job's token.
    fn request(&self, method: Method, url: Url, patience: Duration) -> Result<Request, String> {
        let mut request = Request::new(method, url);
        *request.timeout_mut() = Some(patience);
        request.headers_mut().insert(JOB_TOKEN_HEADER, value(self.token.expose())?);
        Ok(request)
    }

    /// `PUT jobs/ID`. An error is one of the connection.
    pub(super) async fn update(&self, update: UpdateJob) -> Result<Reply, String> {
        let body = UpdateJob { info: self.info.clone(), token: self.token.clone(), ..update };
        let mut request = self.request(Method::PUT, self.place("")?, ANSWER)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(serde_json::to_vec(&body).map_err(|e| e.to_string())?.into());
        self.http.send(request).await.map(|response| Reply::of(&response))
    }

    /// `PATCH jobs/ID/trace`, with bytes of the log.
    pub(super) async fn append(&self, start: u64, bytes: Vec<u8>) -> Result<Reply, String> {
        let range = ContentRange::new(start, bytes.len() as u64).to_string();
        let mut request = self.request(Method::PATCH, self.place("/trace?debug_trace=false")?, ANSWER)?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        request.headers_mut().insert(CONTENT_RANGE, value(&range)?);
        *request.body_mut() = Some(bytes.into());
        self.http.send(request).await.map(|response| Reply::of(&response))
    }

    /// `POST jobs/ID/artifacts`: the file, under a name.
    pub(super) async fn upload(&self, file: &Path, name: &str, query: &UploadQuery) -> Result<(), Refusal> {
        let later = |why: String| Refusal::Later(why, None);
        let mut url = self.place("/artifacts").map_err(later)?;
        {
            let mut pairs = url.query_pairs_mut();
            let fields = [
                ("artifact_format", &query.artifact_format),
                ("artifact_type", &query.artifact_type),
                ("expire_in", &query.expire_in),
            ];
            for (key, value) in fields.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
                pairs.append_pair(key, value);
            }
        }
        for _ in 0..REDIRECTS {
            let part = part(file, name).await.map_err(|e| later(e.to_string()))?;
            let mut request = self.request(Method::POST, url.clone(), UPLOAD).map_err(later)?;
            if !self.is_own(&url) {
                request.headers_mut().remove(JOB_TOKEN_HEADER);
            }
            let form = multipart::Form::new().part("file", part);
            let response = self.http.send_form(request, form).await.map_err(later)?;
            match redirected(&response, &url) {
                // 307: the same again, elsewhere
                Some(to) if response.status().as_u16() == 307 => url = to,
                _ if response.status().is_success() => return Ok(()),
                _ => return Err(refusal(response).await),
            }
        }
        Err(later("too many redirects".to_owned()))
    }

    /// `GET jobs/OTHER/artifacts`, by the token that the job has for it, into a file.
    pub(super) async fn download(&self, other: i64, token: &Secret, to: &Path) -> Result<u64, Refusal> {
        let later = |why: String| Refusal::Later(why, None);
        let base = self.address.url().map_err(later)?;
        let address = format!("{base}{}/jobs/{other}/artifacts?direct_download=true", wire::BASE);
        let mut url = Url::parse(&address).map_err(|e| later(e.to_string()))?;
        let own = url.origin();
        for _ in 0..REDIRECTS {
            let mut request = Request::new(Method::GET, url.clone());
            if url.origin() == own {
                request.headers_mut().insert(JOB_TOKEN_HEADER, value(token.expose()).map_err(later)?);
            }
            let response = self.http.send(request).await.map_err(later)?;
            match redirected(&response, &url) {
                Some(next) => url = next,
                None if response.status().is_success() => return save(response, to).await.map_err(later),
                None => return Err(refusal(response).await),
            }
        }
        Err(later("too many redirects".to_owned()))
    }

    /// Is this the server itself? A storage elsewhere has no business with the token.
    fn is_own(&self, url: &Url) -> bool {
        let own = self.address.url().ok().and_then(|base| Url::parse(&base).ok());
        own.is_some_and(|own| own.origin() == url.origin())
    }
}

/// Of a header; what can't be one is not repeated: it may be a token.
fn value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a token has characters that no header may have".to_owned())
}

impl Reply {
    fn of(response: &Response) -> Reply {
        let headers = response.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Reply {
            status: response.status().as_u16(),
            job: text(JOB_STATUS_HEADER).and_then(JobStatus::of),
            stored: text(RANGE.as_str()).and_then(Stored::of).map(|stored| stored.0),
            interval: text(INTERVAL_HEADER).and_then(seconds).filter(|interval| !interval.is_zero()),
            retry_after: retry_after(headers),
        }
    }
}

/// Whole seconds of a header, at most a quarter of an hour.
fn seconds(text: &str) -> Option<Duration> {
    Some(Duration::from_secs(text.trim().parse::<u64>().ok()?.min(900)))
}

pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(seconds)
}

/// Statuses after which the same request may work.
pub(super) fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..)
}

fn redirected(response: &Response, from: &Url) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let to = from.join(location).ok()?;
    let allowed = to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http");
    allowed.then_some(to)
}

async fn part(file: &Path, name: &str) -> std::io::Result<multipart::Part> {
    let file = tokio::fs::File::open(file).await?;
    let length = file.metadata().await?.len();
    let body = Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024));
    let part = multipart::Part::stream_with_length(body, length).file_name(name.to_owned());
    part.mime_str("application/octet-stream").map_err(std::io::Error::other)
}

async fn save(mut response: Response, to: &Path) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("writing `{}`: {e}", to.display());
    let mut file = tokio::fs::File::create(to).await.map_err(failed)?;
    let (mut length, promised) = (0, response.content_length());
    loop {
        let chunk = tokio::time::timeout(ANSWER, response.chunk()).await;
        match chunk.map_err(|_| "the server sends nothing any more".to_owned())?.map_err(|e| told(&e))? {
            Some(bytes) => {
                length += bytes.len() as u64;
                file.write_all(&bytes).await.map_err(failed)?;
            }
            None => break,
        }
    }
    file.flush().await.map_err(failed)?;
    match promised {
        Some(promised) if promised != length => Err(format!("{length} of {promised} bytes came")),
        _ => Ok(length),
    }
}

async fn refusal(response: Response) -> Refusal {
    let (status, after) = (response.status().as_u16(), retry_after(response.headers()));
    let said = said(response).await;
    if passes(status) { Refusal::Later(said, after) } else { Refusal::Never(status, said) }
}

/// The status and what the server says about it, as one line.
pub(super) async fn said(response: Response) -> String {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    let message = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = message.and_then(|body| {
        let message = body.get("message")?;
        Some(message.as_str().map_or_else(|| message.to_string(), str::to_owned))
    });
    match message {
        Some(message) => {
            let plain = message.chars().map(|c| if c.is_control() { ' ' } else { c });
            format!("the server answered {status}: {}", plain.take(200).collect::<String>())
        }
        None => format!("the server answered {status}"),
    }
}

/// An error of the connection with its cause, without the address: that may hold a token.
pub(super) fn told(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match error.is_timeout() {
        true => "the server does not answer".to_owned(),
        false => cause.to_string(),
    }
}
