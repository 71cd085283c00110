//! Images without a registry: `docker save` archives, OCI layouts (archives and directories), plain root file systems.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::manifest::{Descriptor, ImageFile, Manifest, choose, hex_of, sha256};
use super::pull::Described;
use super::shelf::full_name;
use super::store::{Store, Tell, Wanted};
use super::{Image, ImageError, Platform, layer};
use crate::digest::hex;

/// Documents are small.
const DOCUMENT_LIMIT: u64 = 16 << 20;
/// Links that lead to links, indexes that lead to indexes.
const DEPTH: usize = 8;

/// Files by their name.
enum Source {
    Directory(PathBuf),
    Archive { file: Arc<File>, entries: HashMap<String, Entry> },
}

enum Entry {
    /// Where its bytes are, and how many.
    File(u64, u64),
    /// Its target, from the top.
    Link(String),
}

/// An image in `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `index.json` of an OCI layout.
#[derive(Deserialize)]
struct Layout {
    manifests: Vec<NamedDescriptor>,
}

#[derive(Deserialize)]
struct NamedDescriptor {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// What an archive holds.
struct Found {
    described: Described,
    /// Where the layers are in the source, the lowest first.
    files: Vec<String>,
    name: Option<String>,
}

impl Store {
    /// Imports the image in `path`, under `name` or the name that it has in there.
    ///
    /// # Errors
    /// It holds no image, several, or one without a name; or a layer is damaged.
    pub async fn import(&self, path: &Path, name: Option<&str>, tell: &Tell) -> Result<Image, ImageError> {
        let reading = || ImageError::io(format!("reading an image from `{}`", path.display()));
        let (own, scrap) = (path.to_owned(), self.shelf.scrap());
        let opened = tokio::task::spawn_blocking(move || {
            let source = Source::open(&own, &scrap)?;
            let found = source.image()?;
            Ok::<_, io::Error>((source, found))
        });
        let opened = opened.await.map_err(io::Error::other).and_then(|opened| opened);
        let (source, found) = opened.map_err(reading())?;
        let name = name.map(str::to_owned).or(found.name).ok_or_else(|| {
            reading()(io::Error::other("it doesn't say the name of its image: give one with `--name`"))
        })?;
        let whole = full_name(&name)?.whole();
        let wanted = Wanted { name: &name, ..Wanted::default() };
        let (source, files) = (&source, &found.files);
        let held = self
            .make(&wanted, found.described, tell, |index, descriptor, into| async move {
                let bytes = source.open_file(&files[index]).map_err(reading())?;
                let unpacked = layer::read(&self.sandbox, &descriptor.digest, bytes, &into).await?;
                Ok((into, unpacked))
            })
            .await?;
        self.shelf.keep(&whole, None, &held)?;
        Ok(self.shelf.take(&name, &self.shelf.name(&whole, None), &held))
    }
}

impl Source {
    fn open(path: &Path, scrap: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut file = File::open(path)?;
        let mut head = [0; 4];
        let read = file.read_at(&mut head, 0)?;
        let plain: Option<Box<dyn Read>> = match &head[..read] {
            [0x1f, 0x8b, ..] => Some(Box::new(flate2::read::MultiGzDecoder::new(file.try_clone()?))),
            [0x28, 0xb5, 0x2f, 0xfd] => Some(Box::new(zstd::Decoder::new(file.try_clone()?)?)),
            _ => None,
        };
        if let Some(mut plain) = plain {
            // its members are read out of order
            let mut unpacked = tempfile::tempfile_in(scrap)?;
            io::copy(&mut plain, &mut unpacked)?;
            file = unpacked;
        }
        file.rewind()?;
        let entries = entries(&file)?;
        Ok(Self::Archive { file: Arc::new(file), entries })
    }

    fn open_file(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Directory(top) => Ok(Box::new(File::open(top.join(clean(name)?))?)),
            // of a plain root file system, the archive itself is the layer
            Self::Archive { file, .. } if name.is_empty() => Ok(Box::new(Part::whole(file)?)),
            Self::Archive { file, entries } => {
                let mut name = clean(name)?;
                for _ in 0..DEPTH {
                    match entries.get(&name) {
                        Some(Entry::File(at, len)) => {
                            return Ok(Box::new(Part { file: file.clone(), at: *at, end: at + len }));
                        }
                        Some(Entry::Link(target)) => name.clone_from(target),
                        None => break,
                    }
                }
                Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no file `{name}`")))
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::Directory(top) => top.join(name).is_file(),
            Self::Archive { entries, .. } => entries.contains_key(name),
        }
    }

    fn document(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.open_file(name)?.take(DOCUMENT_LIMIT).read_to_end(&mut text)?;
        Ok(text)
    }

    /// A document of an OCI layout, verified.
    fn blob(&self, digest: &str) -> io::Result<Vec<u8>> {
        let text = self.document(&blob_name(digest)?)?;
        let actual = sha256(&text);
        if actual != digest {
            return Err(io::Error::other(format!("`{digest}` is damaged: its digest is `{actual}`")));
        }
        Ok(text)
    }

    fn image(&self) -> io::Result<Found> {
        if self.has("manifest.json") {
            self.saved()
        } else if self.has("index.json") {
            self.layout()
        } else if let Self::Archive { file, .. } = self {
            plain(file)
        } else {
            Err(io::Error::other("it holds neither `index.json` (OCI) nor `manifest.json` (docker save)"))
        }
    }

    fn saved(&self) -> io::Result<Found> {
        let mut images: Vec<Saved> = serde_json::from_slice(&self.document("manifest.json")?)?;
        let count = images.len();
        let (Some(image), 1) = (images.pop(), count) else {
            return Err(io::Error::other(format!("it holds {count} images: save them one by one")));
        };
        let config = self.document(&image.config)?;
        let file: ImageFile = serde_json::from_slice(&config)?;
        if file.diff_ids().len() != image.layers.len() {
            return Err(io::Error::other("its layers are not those of its configuration"));
        }
        let layers = file.diff_ids().iter().map(|diff_id| described(diff_id)).collect();
        Ok(Found {
            described: Described { digest: sha256(&config), file, layers },
            files: image.layers,
            name: image.repo_tags.unwrap_or_default().into_iter().next(),
        })
    }

    fn layout(&self) -> io::Result<Found> {
        let index: Layout = serde_json::from_slice(&self.document("index.json")?)?;
        let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        // `ref.name` is often a tag alone, which names no image
        let is_whole = |name: &&String| name.contains([':', '/']);
        let name = match index.manifests.as_slice() {
            [only] => names.iter().find_map(|key| only.annotations.get(*key).filter(is_whole)).cloned(),
            _ => None,
        };
        let platform = Platform::host();
        let mut among: Vec<Descriptor> = index.manifests.into_iter().map(|entry| entry.descriptor).collect();
        for _ in 0..DEPTH {
            let chosen = match among.as_slice() {
                [only] => only.clone(),
                many => choose(many, &platform).cloned().map_err(|available| {
                    io::Error::other(format!("it holds nothing for `{platform}`, but {available}"))
                })?,
            };
            let manifest: Manifest = serde_json::from_slice(&self.blob(&chosen.digest)?)?;
            if !manifest.manifests.is_empty() {
                among = manifest.manifests;
                continue;
            }
            let config =
                manifest.config.ok_or_else(|| io::Error::other("its manifest has no configuration"))?;
            let file: ImageFile = serde_json::from_slice(&self.blob(&config.digest)?)?;
            let files: io::Result<_> = manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
            let described = Described { digest: chosen.digest, file, layers: manifest.layers };
            return Ok(Found { described, files: files?, name });
        }
        Err(io::Error::other("its indexes lead to indexes"))
    }
}

fn blob_name(digest: &str) -> io::Result<String> {
    let hex = hex_of(digest).ok_or_else(|| io::Error::other(format!("`{digest}` is no SHA-256 digest")))?;
    Ok(format!("blobs/sha256/{hex}"))
}

fn described(digest: &str) -> Descriptor {
    Descriptor { digest: digest.to_owned(), size: 0, platform: None }
}

/// A root file system as one layer, with no configuration.
fn plain(file: &Arc<File>) -> io::Result<Found> {
    let mut hash = Sha256::new();
    let mut part = Part::whole(file)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        match part.read(&mut chunk)? {
            0 => break,
            len => hash.update(&chunk[..len]),
        }
    }
    let diff_id = format!("sha256:{}", hex(&hash.finalize()));
    let Platform { os, architecture, .. } = Platform::host();
    let config = serde_json::json!({
        "os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let digest = sha256(config.to_string().as_bytes());
    let layers = vec![described(&diff_id)];
    let file = serde_json::from_value(config)?;
    Ok(Found { described: Described { digest, file, layers }, files: vec![String::new()], name: None })
}

/// A part of a file.
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Part {
    fn whole(file: &Arc<File>) -> io::Result<Self> {
        Ok(Self { file: file.clone(), at: 0, end: file.metadata()?.len() })
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..len], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn entries(file: &File) -> io::Result<HashMap<String, Entry>> {
    let mut archive = tar::Archive::new(file);
    let mut entries = HashMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        // the names that matter here are plain ones
        let Ok(name) = clean(&String::from_utf8_lossy(&entry.path_bytes())) else { continue };
        let kind = entry.header().entry_type();
        if kind.is_file() {
            entries.insert(name, Entry::File(entry.raw_file_position(), entry.size()));
        } else if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name_bytes().unwrap_or_default();
            let parent = Path::new(&name).parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
            if let Some(target) = resolved(&parent.join(String::from_utf8_lossy(&target).as_ref())) {
                entries.insert(name, Entry::Link(target));
            }
        }
    }
    Ok(entries)
}

/// `./a//b` as `a/b`.
fn clean(name: &str) -> io::Result<String> {
    let inside = !Path::new(name).components().any(|part| part == Component::ParentDir);
    let resolved = resolved(Path::new(name)).filter(|_| inside);
    resolved.ok_or_else(|| io::Error::other(format!("`{name}` leads out of it")))
}

/// A path from the top with its `..` resolved; `None`: it leads out.
fn resolved(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        assert_eq!(clean("./a//b").unwrap(), "a/b");
        assert_eq!(resolved(Path::new("a/../b/layer.tar")).unwrap(), "b/layer.tar");
        for name in ["../a", "/etc/passwd", "a/../../b", "a/.."] {
            assert!(clean(name).is_err(), "{name}");
        }
        assert_eq!(resolved(Path::new("a/../../b")), None);
    }
}
