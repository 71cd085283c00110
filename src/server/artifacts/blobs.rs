//! Files by the SHA-256 of what is in them: `data/blobs/aa/SHA256`. The same file of many jobs is there once.

use crate::digest::hex;
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flate2::bufread::GzDecoder;
use runners::dotenv::{DotenvError, MAX_BYTES};
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::path::PathBuf;
use tempfile::NamedTempFile;
use tokio_util::io::ReaderStream;

/// What may be stored.
#[derive(Clone, Copy, Debug)]
pub struct Limits;

impl Limits {
    /// Bytes of one file.
    pub const FILE: u64 = 2 << 30;
}

/// Where the file with this digest is, or would be.
pub fn path(app: &App, sha256: &str) -> PathBuf {
    let first = sha256.get(..2).unwrap_or("00");
    app.dir("blobs").join(first).join(sha256)
}

/// A file that is being received; dropped, it leaves nothing.
#[derive(Debug)]
pub struct Blob {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

/// A file that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its digest.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl Blob {
    /// An empty one.
    ///
    /// # Errors
    /// The data directory can't be written.
    pub fn new(app: &App) -> io::Result<Blob> {
        let dir = app.dir("blobs");
        std::fs::create_dir_all(&dir)?;
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        Ok(Blob { file, hash: Sha256::new(), size: 0 })
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes.
    ///
    /// # Errors
    /// They can't be written.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// To read what was received, from its beginning.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn reader(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Stores it, so that it is there after a crash of the machine as well.
    ///
    /// # Errors
    /// The data directory can't be written.
    pub fn keep(self, app: &App) -> io::Result<Kept> {
        let sha256 = hex(&self.hash.finalize());
        let path = path(app, &sha256);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        self.file.as_file().sync_all()?;
        // also over one that is there: its time of change keeps the sweep away until the row is written
        self.file.persist(&path).map_err(|error| error.error)?;
        Ok(Kept { sha256, size: self.size })
    }
}

/// A row of `artifacts`.
#[derive(Clone, Debug, FromRow, serde::Serialize, utoipa::ToSchema)]
pub struct Artifact {
    /// Its number.
    pub id: i64,
    /// `archive`, `junit` …
    pub file_type: String,
    /// `zip`, `gzip`, `raw`.
    pub file_format: String,
    /// As the runner named it.
    pub filename: String,
    /// Bytes.
    pub size: i64,
    /// Of the file.
    pub sha256: String,
    /// ms; none: never.
    pub expires_at: Option<i64>,
    /// ms.
    pub created_at: i64,
}

/// All artifacts of a job that have not expired.
///
/// # Errors
/// The database does not answer.
pub async fn all(app: &App, job: i64) -> Answer<Vec<Artifact>> {
    let query = "SELECT id, file_type, file_format, filename, size, sha256, expires_at, created_at FROM artifacts \
                 WHERE job_id = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY id";
    Ok(sqlx::query_as(query).bind(job).bind(now()).fetch_all(&app.db.pool).await?)
}

/// The artifact of that type.
///
/// # Errors
/// 404: there is none, or it has expired.
pub async fn find(app: &App, job: i64, kind: &str) -> Answer<Artifact> {
    let all = all(app, job).await?;
    all.into_iter().find(|artifact| artifact.file_type == kind).ok_or_else(|| Problem::not_found("artifact"))
}

/// The whole file, to be saved and never to be shown: it comes from a job.
///
/// # Errors
/// 404: it is not there any more.
pub async fn attachment(app: &App, artifact: &Artifact) -> Answer<Response> {
    let file = match tokio::fs::File::open(path(app, &artifact.sha256)).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Problem::not_found("artifact")),
        Err(error) => return Err(Problem::internal("reading artifacts", &error)),
    };
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    let mut response = guarded(body.into_response(), &artifact.filename);
    let length = HeaderValue::from(artifact.size);
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    Ok(response)
}

/// The headers of a file that comes from a job: it is saved under its name, and runs nowhere.
pub fn guarded(mut response: Response, filename: &str) -> Response {
    let encoded: String = filename
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let disposition = format!("attachment; filename*=UTF-8''{encoded}");
    let all = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    for (name, value) in all {
        response.headers_mut().extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
    response
}

/// Is it a ZIP file?
///
/// # Errors
/// It is not; in words.
pub fn check_zip(file: File) -> Result<(), String> {
    match zip::ZipArchive::new(BufReader::new(file)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the archive is not a ZIP file that can be read: {error}")),
    }
}

/// Calls `each` with what every gzip member of a file unpacks to: a runner packs each file of a report by itself.
///
/// # Errors
/// The file is no gzip, or unpacks to more than `limit` bytes.
pub fn members(file: File, limit: u64, mut each: impl FnMut(Vec<u8>)) -> io::Result<()> {
    let mut reader = BufReader::new(file);
    reader.rewind()?;
    let mut left = limit;
    while !reader.fill_buf()?.is_empty() {
        let mut content = Vec::new();
        let mut member = GzDecoder::new(&mut reader);
        let read = (&mut member).take(left + 1).read_to_end(&mut content)? as u64;
        if read > left {
            return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
        }
        left -= read;
        each(content);
    }
    Ok(())
}

/// Why a dotenv report is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// As GitLab refuses it.
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    /// It can't be unpacked.
    #[error("dotenv report: {0}")]
    Unpacking(#[from] io::Error),
}

/// Variables of a dotenv report as it is stored.
///
/// # Errors
/// It can't be unpacked, or is not `KEY=value`.
pub fn dotenv(file: File) -> Result<Vec<(String, String)>, Refused> {
    let mut contents = Vec::new();
    // what is too big by one byte is told as GitLab tells it
    members(file, MAX_BYTES as u64 * 16, |content| contents.push(content))?;
    let mut all = Vec::new();
    for content in contents {
        all.extend(runners::dotenv::parse(&content)?);
    }
    Ok(all)
}
