//! Keeping the store within limits.

use std::collections::BTreeSet;
use std::fs::{self, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::ImageError;
use super::shelf::Held;
use super::store::Store;

/// What may stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all images together; those used longest ago go first.
    pub bytes: Option<u64>,
    /// Images that were not used for longer than this go.
    pub age: Option<Duration>,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Names of images, in full.
    pub images: Vec<String>,
    /// Bytes of layers that no other image needs.
    pub bytes: u64,
}

impl Store {
    /// Removes images beyond `limits`, and what no image needs any more. With `dry_run` only says what that would be.
    /// Nothing may be pulled through this same store meanwhile.
    ///
    /// # Errors
    /// [`ImageError::Busy`]: another `ci` works with images; nothing was removed.
    pub async fn collect(&self, limits: Limits, dry_run: bool) -> Result<Collected, ImageError> {
        let mut kept: Vec<Held> = Vec::new();
        let mut beyond = Vec::new();
        let mut full = false;
        let now = SystemTime::now();
        // the last used first
        for (path, named, used) in self.shelf.names()? {
            let since = now.duration_since(used).unwrap_or_default();
            let old = limits.age.is_some_and(|age| since > age);
            if let (false, false, Some(held)) = (old, full, self.shelf.held(&named.manifest)?) {
                kept.push(held);
                if limits.bytes.is_none_or(|limit| self.bytes_of(&kept) <= limit) {
                    continue;
                }
                kept.pop();
                full = true;
            }
            beyond.push((path, named.name));
        }
        let keep = chains(&kept);
        let layers = self.layers()?;
        let collected = Collected {
            images: beyond.iter().map(|(_, name)| name.clone()).collect(),
            bytes: layers.difference(&keep).map(|chain| self.shelf.layer_bytes(chain)).sum(),
        };
        if dry_run || (beyond.is_empty() && layers.is_subset(&keep)) {
            return Ok(collected);
        }
        let paths: Vec<_> = beyond.into_iter().map(|(path, _)| path).collect();
        self.forget(&paths).await?;
        Ok(collected)
    }

    fn bytes_of(&self, images: &[Held]) -> u64 {
        chains(images).iter().map(|chain| self.shelf.layer_bytes(chain)).sum()
    }

    fn layers(&self) -> Result<BTreeSet<String>, ImageError> {
        let entries = self.shelf.entries("layers")?;
        let names = entries.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.filter(|name| !name.contains('.')).map(str::to_owned).collect())
    }

    /// Removes names, by their files, and what no other name needs, while no other `ci` works with images.
    pub(super) async fn forget(&self, names: &[std::path::PathBuf]) -> Result<(), ImageError> {
        let shared_again = || self.lock.lock_shared().map_err(ImageError::io("locking the images"));
        match self.lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // the kernel gave up the shared lock before it found out
                shared_again()?;
                return Err(ImageError::Busy);
            }
            Err(TryLockError::Error(error)) => return Err(ImageError::io("locking the images")(error)),
        }
        let done = match names.iter().try_for_each(|path| remove(path)) {
            Ok(()) => self.remove_unused().await,
            Err(error) => Err(error),
        };
        shared_again()?;
        done
    }

    /// Removes manifests that no name needs, and layers that no manifest needs. The lock is ours alone.
    async fn remove_unused(&self) -> Result<(), ImageError> {
        let mut manifests = BTreeSet::new();
        let mut images = Vec::new();
        for (_, named, _) in self.shelf.names()? {
            manifests.extend(self.shelf.manifest(&named.manifest));
            images.extend(self.shelf.held(&named.manifest)?);
        }
        for path in self.shelf.entries("manifests")? {
            if !manifests.contains(&path) {
                remove(&path)?;
            }
        }
        let needed = chains(&images);
        for chain in self.layers()?.difference(&needed) {
            let path = self.shelf.layer(chain);
            // at once, and beside itself: a directory that its owner may not write can't go elsewhere
            let renamed = fs::rename(&path, path.with_file_name(format!(".{chain}")));
            renamed.map_err(ImageError::io(format!("removing `{}`", path.display())))?;
        }
        for path in self.shelf.entries("layers")? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') && path.is_dir() {
                self.sandbox.delete(&path).await?;
            } else if name.strip_suffix(".json").is_some_and(|chain| !needed.contains(chain)) {
                remove(&path)?;
            }
        }
        self.shelf.entries("locks")?.iter().try_for_each(|path| remove(path))
    }
}

fn remove(path: &Path) -> Result<(), ImageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::io(format!("removing `{}`", path.display()))(error))
        }
        _ => Ok(()),
    }
}

fn chains(images: &[Held]) -> BTreeSet<String> {
    images.iter().flat_map(|held| held.layers.iter().cloned()).collect()
}
