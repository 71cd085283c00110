//! A job's sources: git's smart HTTP from the project's mirror, for the job's token, read only. No credential of the
//! forge reaches a runner. `git` (2.18 or newer) must be installed beside the server.

use crate::server::engine;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem, mirror};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio_util::io::ReaderStream;

/// Bytes of a request as it is sent.
pub(super) const REQUEST_LIMIT: usize = 16 << 20;
/// And unpacked.
const UNPACKED: u64 = 64 << 20;
const SERVICE: &str = "git-upload-pack";

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    service: String,
}

/// `GET PATH.git/info/refs?service=git-upload-pack`
pub(super) async fn advertise(
    State(app): State<App>,
    Path(path): Path<String>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Some(project) = path.strip_suffix("/info/refs") else { return Err(Problem::not_found("page")) };
    let project = project_of(&app, project, &headers).await;
    let project = match project {
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => return Ok(challenge(problem)),
        project => project?,
    };
    if asked.service != SERVICE {
        return Err(Problem::forbidden("only fetching is possible here, with git's smart HTTP"));
    }
    let mut child = start(&app, &project, &headers, true)?;
    drop(child.stdin.take());
    // version 2 answers without the announcement; git itself knows which it is to be
    let version_2 = protocol(&headers).is_some_and(|version| version == "version=2");
    let first: &'static [u8] = if version_2 { b"" } else { b"001e# service=git-upload-pack\n0000" };
    let out = child.stdout.take().ok_or_else(|| Problem::unavailable("git has no output"))?;
    let all = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok(Bytes::from_static(first))]),
        ReaderStream::with_capacity(out, 64 << 10),
    );
    watch(child, None);
    Ok(answer(Body::from_stream(all), "application/x-git-upload-pack-advertisement"))
}

/// `POST PATH.git/git-upload-pack`
pub(super) async fn upload_pack(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let Some(project) = path.strip_suffix("/git-upload-pack") else {
        return Err(Problem::forbidden("only fetching is possible here"));
    };
    let project = match project_of(&app, project, &headers).await {
        Err(problem) if problem.status == StatusCode::UNAUTHORIZED => return Ok(challenge(problem)),
        project => project?,
    };
    let body = unpacked(&headers, body).await?;
    let mut child = start(&app, &project, &headers, false)?;
    let out = child.stdout.take().ok_or_else(|| Problem::unavailable("git has no output"))?;
    watch(child, Some(body));
    let stream = ReaderStream::with_capacity(out, 64 << 10);
    Ok(answer(Body::from_stream(stream), "application/x-git-upload-pack-result"))
}

fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let basic = HeaderValue::from_static("Basic realm=\"Slipway\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    response
}

fn answer(body: Body, kind: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], body).into_response()
}

/// The project of `GROUP/NAME.git`, if a running job of it asks.
async fn project_of(app: &App, path: &str, headers: &HeaderMap) -> Answer<Project> {
    let unauthorized = || Problem::new(StatusCode::UNAUTHORIZED, "the token of a running job is needed");
    let token = token(headers).ok_or_else(unauthorized)?;
    let job = engine::by_token(app, &token).await?;
    let project = app.project(&job.project_id.to_string()).await?;
    let asked = path.strip_suffix(".git").unwrap_or(path);
    // of another project the job learns nothing, not even whether it is there
    if !asked.eq_ignore_ascii_case(&project.path) {
        return Err(Problem::not_found("repository"));
    }
    Ok(project)
}

fn token(headers: &HeaderMap) -> Option<String> {
    let basic = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = basic.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text =
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, token) = text.split_once(':')?;
    (user == "gitlab-ci-token" && !token.is_empty()).then(|| token.to_owned())
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    let version = headers.get("git-protocol")?.to_str().ok()?;
    matches!(version, "version=0" | "version=1" | "version=2").then_some(version)
}

/// `git upload-pack`, with nothing of our environment but the way to git.
fn start(app: &App, project: &Project, headers: &HeaderMap, advertise: bool) -> Answer<Child> {
    let mirror: PathBuf = std::path::absolute(mirror::path(app, project.id))
        .map_err(|e| Problem::internal("finding the mirror", &e))?;
    if !mirror.is_dir() {
        return Err(Problem::unavailable("the project's repository is not here yet; try again"));
    }
    let mut command = Command::new("git");
    // any commit that a ref reaches may be asked for: the branch may have gone on, or have been forced elsewhere
    command.args(["-c", "safe.directory=*", "-c", "uploadpack.allowAnySHA1InWant=true"]);
    command.args(["-c", "uploadpack.allowFilter=true", "upload-pack", "--stateless-rpc", "--strict"]);
    if advertise {
        command.arg("--advertise-refs");
    }
    command.arg("--timeout=600").arg(&mirror);
    command
        .env_clear()
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("LC_ALL", "C");
    command.env("HOME", "/nonexistent");
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(protocol(headers).map(|version| ("GIT_PROTOCOL", version)));
    command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().map_err(|error| {
        tracing::error!(
            "starting `git upload-pack`: {error}; install git on this machine, jobs fetch through it"
        );
        Problem::unavailable("sources can't be served now; the server's log says why")
    })
}

/// Feeds the process and waits for it. When the runner goes away nobody reads its output, and it ends by itself.
fn watch(mut child: Child, input: Option<Vec<u8>>) {
    tokio::spawn(async move {
        let (stdin, mut errors) = (child.stdin.take(), child.stderr.take());
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // git may have ended before it read everything
                let _ = stdin.write_all(&input).await;
            }
        };
        let listen = async {
            let mut said = Vec::new();
            if let Some(errors) = &mut errors {
                let mut errors = tokio::io::AsyncReadExt::take(errors, 4096);
                // what can't be read is not shown
                let _ = tokio::io::AsyncReadExt::read_to_end(&mut errors, &mut said).await;
            }
            said
        };
        let ((), said) = tokio::join!(feed, listen);
        drop(errors);
        match child.wait().await {
            Ok(status) if !status.success() => {
                tracing::warn!(
                    "`git upload-pack` ended with {status}: {}",
                    String::from_utf8_lossy(&said).trim()
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("waiting for `git upload-pack`: {error}"),
        }
    });
}

async fn unpacked(headers: &HeaderMap, body: Bytes) -> Answer<Vec<u8>> {
    let encoding = headers.get(header::CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok());
    match encoding {
        None | Some("identity") => Ok(body.to_vec()),
        Some("gzip" | "x-gzip") => {
            let unpack = move || {
                let mut out = Vec::new();
                GzDecoder::new(&body[..]).take(UNPACKED + 1).read_to_end(&mut out).map(|_| out)
            };
            let out = tokio::task::spawn_blocking(unpack).await;
            let out = out.map_err(|e| Problem::internal("unpacking git's request", &e))?;
            let out = out.map_err(|_| Problem::bad("the body is not gzip"))?;
            if out.len() as u64 > UNPACKED {
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"));
            }
            Ok(out)
        }
        Some(_) => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bodies are plain or gzip")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_job_token_by_basic_counts() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let table = [
            (format!("Basic {}", encode("gitlab-ci-token:glcbt-a")), Some("glcbt-a")),
            (format!("basic {}", encode("gitlab-ci-token:a:b")), Some("a:b")),
            (format!("Basic {}", encode("admin:glcbt-a")), None),
            (format!("Basic {}", encode("gitlab-ci-token:")), None),
            (format!("Bearer {}", encode("gitlab-ci-token:x")), None),
            ("Basic ???".to_owned(), None),
        ];
        for (value, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
            assert_eq!(token(&headers).as_deref(), expected, "{value}");
        }
    }
}
