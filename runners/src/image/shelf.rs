//! The files of the store.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::config::{Config, Image, Platform};
use super::manifest::{hex_of, sha256};
use super::{ImageError, manifest};

/// Where what is kept.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    root: PathBuf,
}

/// A name, and the image that it means here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Named {
    /// In full: `docker.io/library/debian:bookworm`.
    pub(super) name: String,
    /// When one was asked for.
    pub(super) platform: Option<String>,
    /// Digest of the manifest.
    pub(super) manifest: String,
}

/// An image that is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) digest: String,
    pub(super) platform: String,
    pub(super) config: Config,
    /// Chains of its layers, the lowest first.
    pub(super) layers: Vec<String>,
}

/// A layer that is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayerFacts {
    pub(super) bytes: u64,
}

impl Shelf {
    /// Makes the directories.
    pub(super) fn open(root: PathBuf) -> Result<Self, ImageError> {
        let make = |path: &Path| {
            // a layer may have programs that are setuid root: nobody else may come near them
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(ImageError::io(format!("making `{}`", path.display())))
        };
        make(&root)?;
        for name in ["layers", "locks", "manifests", "names"] {
            make(&root.join(name))?;
        }
        Ok(Self { root })
    }

    pub(super) fn new_layers(&self) -> PathBuf {
        self.root.join("new")
    }

    /// For files that live shortly.
    pub(super) fn scrap(&self) -> PathBuf {
        self.root.clone()
    }

    pub(super) fn layer(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(chain)
    }

    pub(super) fn layer_facts(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(format!("{chain}.json"))
    }

    pub(super) fn manifest(&self, digest: &str) -> Option<PathBuf> {
        Some(self.root.join("manifests").join(format!("{}.json", hex_of(digest)?)))
    }

    pub(super) fn name(&self, name: &str, platform: Option<&Platform>) -> PathBuf {
        let key = match platform {
            Some(platform) => format!("{name} {platform}"),
            None => name.to_owned(),
        };
        let digest = sha256(key.as_bytes());
        self.root.join("names").join(format!("{}.json", digest.trim_start_matches("sha256:")))
    }

    /// The image that a name means here, if all of it is here.
    pub(super) fn find(&self, name: &str, platform: Option<&Platform>) -> Result<Option<Held>, ImageError> {
        let Some(named) = read::<Named>(&self.name(name, platform))? else { return Ok(None) };
        self.held(&named.manifest)
    }

    /// The image of a manifest, if all of it is here.
    pub(super) fn held(&self, digest: &str) -> Result<Option<Held>, ImageError> {
        let Some(path) = self.manifest(digest) else { return Ok(None) };
        let held = read::<Held>(&path)?;
        Ok(held.filter(|held| held.layers.iter().all(|chain| self.layer(chain).is_dir())))
    }

    /// Makes `name` mean `held`.
    pub(super) fn keep(
        &self,
        name: &str,
        platform: Option<&Platform>,
        held: &Held,
    ) -> Result<(), ImageError> {
        let path = self.manifest(&held.digest).ok_or_else(|| ImageError::Unsupported {
            name: name.to_owned(),
            reason: format!("`{}` is no SHA-256 digest", held.digest),
        })?;
        write(&path, held)?;
        let platform_text = platform.map(Platform::to_string);
        let named = Named { name: name.to_owned(), platform: platform_text, manifest: held.digest.clone() };
        write(&self.name(name, platform), &named)
    }

    /// `held` as jobs use it; notes that it is used now.
    pub(super) fn take(&self, reference: &str, name_file: &Path, held: &Held) -> Image {
        // the time of use is a hint for what to remove first: not worth an error
        let _hint =
            File::options().append(true).open(name_file).and_then(|f| f.set_modified(SystemTime::now()));
        Image {
            reference: reference.to_owned(),
            digest: held.digest.clone(),
            layers: held.layers.iter().rev().map(|chain| self.layer(chain)).collect(),
            config: held.config.clone(),
        }
    }

    /// All names with their last use, the latest first.
    pub(super) fn names(&self) -> Result<Vec<(PathBuf, Named, SystemTime)>, ImageError> {
        let mut names = Vec::new();
        for path in self.entries("names")? {
            let used = fs::metadata(&path)
                .and_then(|metadata| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            if let Some(named) = read::<Named>(&path)? {
                names.push((path, named, used));
            }
        }
        names.sort_by(|(_, a, used_a), (_, b, used_b)| used_b.cmp(used_a).then_with(|| a.name.cmp(&b.name)));
        Ok(names)
    }

    pub(super) fn entries(&self, directory: &str) -> Result<Vec<PathBuf>, ImageError> {
        let path = self.root.join(directory);
        let listed = fs::read_dir(&path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(ImageError::io(format!("reading `{}`", path.display()))),
        }
    }

    pub(super) fn layer_bytes(&self, chain: &str) -> u64 {
        let facts = read::<LayerFacts>(&self.layer_facts(chain));
        facts.ok().flatten().map_or(0, |facts| facts.bytes)
    }

    /// The lock that says that somebody works with images: shared.
    pub(super) fn lock_shared(&self) -> Result<File, ImageError> {
        let path = self.root.join("lock");
        let locked = File::options().create(true).append(true).open(&path).and_then(|file| {
            file.lock_shared()?;
            Ok(file)
        });
        locked.map_err(ImageError::io(format!("locking `{}`", path.display())))
    }

    /// The lock of a layer that is being made. Waits without blocking a thread, so that a cancelled job needn't wait.
    pub(super) async fn lock_layer(
        &self,
        chain: &str,
        waiting: &(dyn Fn() + Sync),
    ) -> Result<File, ImageError> {
        let path = self.root.join("locks").join(chain);
        let doing = || format!("locking `{}`", path.display());
        let file = File::options().create(true).append(true).open(&path).map_err(ImageError::io(doing()))?;
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(ImageError::io(doing())(error)),
            }
            if !told {
                waiting();
                told = true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A document; `None`: not there, or of another version of ours.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ImageError> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ImageError::io(format!("reading `{}`", path.display()))(error)),
    }
}

/// Whole or not at all.
pub(super) fn write(path: &Path, document: &impl Serialize) -> Result<(), ImageError> {
    let written = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".").tempfile_in(directory)?;
        serde_json::to_writer(&mut file, document)?;
        file.flush()?;
        file.persist(path)?;
        Ok(())
    };
    written().map_err(ImageError::io(format!("writing `{}`", path.display())))
}

/// The full name that different spellings share.
pub(super) fn full_name(name: &str) -> Result<oci_client::Reference, ImageError> {
    let reference: oci_client::Reference = name
        .parse()
        .map_err(|error| ImageError::Name { name: name.to_owned(), reason: format!("{error}") })?;
    if let Some(digest) = reference.digest()
        && manifest::hex_of(digest).is_none()
    {
        return Err(ImageError::Name {
            name: name.to_owned(),
            reason: "its digest is not a SHA-256".to_owned(),
        });
    }
    Ok(reference)
}
