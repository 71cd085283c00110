//! One layer: its bytes go from the registry, or a file, straight into the process that unpacks them.

use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use oci_client::errors::OciDistributionError;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::ImageError;
use super::manifest::Descriptor;
use super::registry::Endpoint;
use crate::digest::hex;
use crate::sandbox::{self, Process, Sandbox, UnpackedLayer};

/// What the kernel gives ordinary users at most.
const PIPE: usize = 1 << 20;
/// Times that a layer is fetched whole when its digest turns out wrong.
const WHOLE_ATTEMPTS: u32 = 2;

/// An unpacking process with the pipe that it reads.
struct Unpacking {
    process: Process,
    input: OwnedFd,
}

impl Unpacking {
    async fn start(sandbox: &Sandbox, into: &Path) -> Result<Self, ImageError> {
        let doing = || format!("making `{}`", into.display());
        DirBuilder::new().recursive(true).mode(0o755).create(into).map_err(ImageError::io(doing()))?;
        let (reader, writer) = io::pipe().map_err(ImageError::io("making a pipe"))?;
        // a larger pipe saves switches between the two processes; without it all works as well
        let _smaller = rustix::pipe::fcntl_setpipe_size(&writer, PIPE);
        let process = sandbox.unpack(OwnedFd::from(reader), into).await?;
        Ok(Self { process, input: OwnedFd::from(writer) })
    }
}

/// What the process tells, once its input has ended.
async fn answer(mut process: Process, digest: &str) -> Result<UnpackedLayer, ImageError> {
    let doing = "reading the answer of the unpacking process";
    let mut text = Vec::new();
    if let Some(mut stdout) = process.stdout.take() {
        stdout.read_to_end(&mut text).await.map_err(ImageError::io(doing))?;
    }
    let failed = |source: sandbox::Error| ImageError::Layer { digest: digest.to_owned(), source };
    process.wait().await.map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| ImageError::io(doing)(error.into()))
}

/// Fetches and unpacks a layer into a directory beside `into`, which is returned.
pub(super) async fn fetch(
    endpoint: &Endpoint,
    sandbox: &Sandbox,
    layer: &Descriptor,
    into: &Path,
    received: &(dyn Fn(u64) + Sync),
) -> Result<(PathBuf, UnpackedLayer), ImageError> {
    let mut attempt = 1;
    loop {
        let into = into.with_extension(attempt.to_string());
        let unpacking = Unpacking::start(sandbox, &into).await?;
        match download(endpoint, layer, unpacking, received).await {
            Err(ImageError::Damaged { .. }) if attempt < WHOLE_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
            Ok(unpacked) => return Ok((into, unpacked)),
        }
    }
}

async fn download(
    endpoint: &Endpoint,
    layer: &Descriptor,
    unpacking: Unpacking,
    received: &(dyn Fn(u64) + Sync),
) -> Result<UnpackedLayer, ImageError> {
    let Unpacking { process, input } = unpacking;
    let pipe = pipe::Sender::from_owned_fd(input).map_err(ImageError::io("opening a pipe"))?;
    let mut feed = Feed { pipe: Some(pipe), hash: Sha256::new(), at: 0, size: layer.size };
    let what = format!("layer `{}`", layer.digest);
    let mut tries = 0;
    while feed.at < feed.size {
        let before = feed.at;
        let broken = feed.follow(endpoint, &layer.digest, received).await?;
        if feed.at > before {
            // patience is for registries that give nothing
            tries = 0;
        }
        if let Some(error) = broken {
            endpoint.wait_or_give_up(&what, error, &mut tries).await?;
        }
    }
    let actual = format!("sha256:{}", hex(&feed.hash.finalize()));
    drop(feed.pipe);
    if actual != layer.digest {
        // the process may have choked on it: that is no news
        return Err(ImageError::Damaged { what, expected: layer.digest.clone(), actual });
    }
    answer(process, &layer.digest).await
}

/// The bytes of a layer on their way.
struct Feed {
    /// Gone when the process wants no more: it will say why.
    pipe: Option<pipe::Sender>,
    hash: Sha256,
    at: u64,
    size: u64,
}

impl Feed {
    /// Takes what the registry gives from where we are. Comes back with the reason if that was not all.
    async fn follow(
        &mut self,
        endpoint: &Endpoint,
        digest: &str,
        received: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<OciDistributionError>, ImageError> {
        let (mut stream, mut skip) = match endpoint.blob(digest, self.at).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(error)),
        };
        while self.at < self.size {
            let chunk = match stream.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Ok(Some(error.into())),
                None => {
                    let early = io::Error::new(io::ErrorKind::UnexpectedEof, "it ended early");
                    return Ok(Some(early.into()));
                }
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let room = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
            let fresh = &chunk[known..];
            let fresh = &fresh[..fresh.len().min(room)];
            self.take(fresh).await?;
            received(fresh.len() as u64);
        }
        Ok(None)
    }

    async fn take(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.write_all(bytes).await {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.pipe = None,
            other => other.map_err(ImageError::io("feeding the unpacking process"))?,
        }
        Ok(())
    }
}

/// Unpacks a layer that is a file, or a part of one, into `into`.
pub(super) async fn read(
    sandbox: &Sandbox,
    digest: &str,
    mut bytes: Box<dyn Read + Send>,
    into: &Path,
) -> Result<UnpackedLayer, ImageError> {
    let Unpacking { process, input } = Unpacking::start(sandbox, into).await?;
    let copied = tokio::task::spawn_blocking(move || io::copy(&mut bytes, &mut std::fs::File::from(input)));
    match copied.await.map_err(|error| ImageError::io("reading an archive")(io::Error::other(error)))? {
        // it will say why it wants no more
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => drop(other.map_err(ImageError::io("reading an archive"))?),
    }
    answer(process, digest).await
}
