//! From a registry: the manifest first, then the layers that are not here, several at once.

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::Reference;

use super::manifest::{Descriptor, ImageFile, Manifest, chains, choose};
use super::registry::Endpoint;
use super::shelf::{Held, LayerFacts, write};
use super::store::{Store, Tell, Told, Wanted};
use super::{ImageError, Platform, layer};
use crate::sandbox::{NewLayer, StateDir, UnpackedLayer, sweep};

/// Layers that are fetched at once.
const AT_ONCE: usize = 4;

/// An image as its documents describe it.
pub(super) struct Described {
    pub(super) digest: String,
    pub(super) file: ImageFile,
    pub(super) layers: Vec<Descriptor>,
}

/// A layer that was unpacked into a directory.
pub(super) type Unpacked = (PathBuf, UnpackedLayer);

impl Store {
    /// Brings the image that `wanted` names now, from its mirror or its registry.
    pub(super) async fn pull(
        &self,
        wanted: &Wanted<'_>,
        reference: &Reference,
        tell: &Tell,
    ) -> Result<Held, ImageError> {
        let endpoints = self.registries.endpoints(reference, wanted.name, wanted.auth_config, tell).await?;
        let mut last = None;
        for endpoint in endpoints {
            if let Some(error) = last.take() {
                tell(Told::Warning(format!("{error}; asking `{}`", endpoint.registry())));
            }
            match self.pull_from(&endpoint, wanted, tell).await {
                Ok(held) => return Ok(held),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ImageError::NotPresent { name: wanted.name.to_owned() }))
    }

    async fn pull_from(
        &self,
        endpoint: &Endpoint,
        wanted: &Wanted<'_>,
        tell: &Tell,
    ) -> Result<Held, ImageError> {
        let unsupported = |reason| ImageError::Unsupported { name: wanted.name.to_owned(), reason };
        let parse = |bytes: &[u8]| {
            serde_json::from_slice::<Manifest>(bytes)
                .map_err(|error| unsupported(format!("its manifest: {error}")))
        };
        let (bytes, mut digest) = endpoint.manifest(None).await?;
        let mut manifest = parse(&bytes)?;
        if !manifest.manifests.is_empty() {
            let platform = wanted.platform.cloned().unwrap_or_else(Platform::host);
            let chosen =
                choose(&manifest.manifests, &platform).map_err(|available| ImageError::Platform {
                    name: wanted.name.to_owned(),
                    platform: platform.to_string(),
                    available,
                })?;
            let chosen = chosen.digest.clone();
            let (bytes, _) = endpoint.manifest(Some(&chosen)).await?;
            (digest, manifest) = (chosen, parse(&bytes)?);
        }
        if let Some(held) = self.shelf.held(&digest)? {
            return Ok(held);
        }
        let config =
            manifest.config.ok_or_else(|| unsupported("its manifest has no configuration".to_owned()))?;
        let config = endpoint.document(&config.digest).await?;
        let file = serde_json::from_slice(&config)
            .map_err(|error| unsupported(format!("its configuration: {error}")))?;
        let described = Described { digest, file, layers: manifest.layers };
        let total: u64 = described.layers.iter().map(|layer| layer.size).sum();
        let received = AtomicU64::new(0);
        let count = |bytes| {
            let received = received.fetch_add(bytes, Ordering::Relaxed) + bytes;
            tell(Told::Received { received, total });
        };
        let count: &(dyn Fn(u64) + Sync) = &count;
        self.make(wanted, described, tell, |index, layer, into| async move {
            if layer.size == 0 {
                let reason = format!("layer {index} has no size in the manifest");
                return Err(ImageError::Unsupported { name: wanted.name.to_owned(), reason });
            }
            layer::fetch(endpoint, &self.sandbox, &layer, &into, count).await
        })
        .await
    }

    /// Makes the layers of an image that are not here; `fetch` unpacks one into a directory.
    pub(super) async fn make<F: Future<Output = Result<Unpacked, ImageError>> + Send>(
        &self,
        wanted: &Wanted<'_>,
        described: Described,
        tell: &Tell,
        fetch: impl Fn(usize, Descriptor, PathBuf) -> F + Sync,
    ) -> Result<Held, ImageError> {
        let unsupported = |reason| ImageError::Unsupported { name: wanted.name.to_owned(), reason };
        let Described { digest, file, layers } = described;
        let platform = wanted.platform.cloned().unwrap_or_else(Platform::host);
        let own = Platform { os: file.os.clone(), architecture: file.architecture.clone(), variant: None };
        if !platform.is_of(&file) {
            let text = format!("image `{}` is made for `{own}`, not for `{platform}`", wanted.name);
            tell(Told::Warning(text));
        }
        let diff_ids = file.diff_ids();
        if diff_ids.is_empty() || diff_ids.len() != layers.len() {
            return Err(unsupported(format!(
                "it has {} layers and {} digests of their content: it is no container image",
                layers.len(),
                diff_ids.len()
            )));
        }
        let chains =
            chains(diff_ids).ok_or_else(|| unsupported("a layer's digest is no SHA-256".to_owned()))?;
        let locks = self.lock_missing(&chains, tell).await?;
        if !locks.is_empty() {
            let missing: Vec<usize> = locks.iter().map(|(index, _)| *index).collect();
            let making = Making { missing: &missing, chains: &chains, diff_ids };
            self.make_missing(making, |index, into| fetch(index, layers[index].clone(), into)).await?;
        }
        Ok(Held { digest, platform: own.to_string(), config: file.config(), layers: chains })
    }

    /// Locks of the layers that are not here, the lowest first: in this order nobody waits in a circle.
    async fn lock_missing(&self, chains: &[String], tell: &Tell) -> Result<Vec<(usize, File)>, ImageError> {
        let waiting = || tell(Told::Line("Waiting for another pull of the same layers ...".to_owned()));
        let mut locks = Vec::new();
        for (index, chain) in chains.iter().enumerate() {
            if self.shelf.layer(chain).is_dir() {
                continue;
            }
            let lock = self.shelf.lock_layer(chain, &waiting).await?;
            if !self.shelf.layer(chain).is_dir() {
                locks.push((index, lock));
            }
        }
        Ok(locks)
    }

    async fn make_missing<F: Future<Output = Result<Unpacked, ImageError>> + Send>(
        &self,
        making: Making<'_>,
        fetch: impl Fn(usize, PathBuf) -> F + Sync,
    ) -> Result<(), ImageError> {
        let place = self.shelf.new_layers();
        sweep(&self.sandbox, &place).await?;
        let state = new_state(&place)?;
        let made = self.unpack_and_settle(&making, state.path(), fetch).await;
        // also after a failure: half a layer may have filled the disk
        let removed = state.remove(&self.sandbox).await;
        made.and_then(|()| Ok(removed?))
    }

    async fn unpack_and_settle<F: Future<Output = Result<Unpacked, ImageError>> + Send>(
        &self,
        Making { missing, chains, diff_ids }: &Making<'_>,
        place: &Path,
        fetch: impl Fn(usize, PathBuf) -> F + Sync,
    ) -> Result<(), ImageError> {
        let dir = place.join("layers");
        let mut fetches = Vec::new();
        for &index in *missing {
            fetches.push(fetch(index, dir.join(index.to_string())));
        }
        let unpacked: Vec<Unpacked> = stream::iter(fetches).buffered(AT_ONCE).try_collect().await?;
        let mut layers = Vec::new();
        for (&index, (from, layer)) in missing.iter().zip(unpacked) {
            if layer.diff_id != diff_ids[index] {
                return Err(ImageError::Damaged {
                    what: format!("the content of layer {index}"),
                    expected: diff_ids[index].clone(),
                    actual: layer.diff_id,
                });
            }
            write(&self.shelf.layer_facts(&chains[index]), &LayerFacts { bytes: layer.bytes })?;
            layers.push(NewLayer { from, to: self.shelf.layer(&chains[index]), implied: layer.implied });
        }
        let here = chains.iter().enumerate().filter(|(index, _)| !missing.contains(index));
        let below = here.map(|(_, chain)| self.shelf.layer(chain)).collect();
        Ok(self.sandbox.settle(below, layers).await?)
    }
}

/// The layers that are made.
struct Making<'a> {
    missing: &'a [usize],
    chains: &'a [String],
    diff_ids: &'a [String],
}

/// A directory of our own among those of other pulls.
fn new_state(place: &Path) -> Result<StateDir, ImageError> {
    Ok(StateDir::claim(place)?.1)
}
