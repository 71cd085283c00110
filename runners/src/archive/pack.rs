//! From a selection of files to a compressed tar stream.

use super::{ArchiveError, Selection, select, state};
use crate::digest::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One file, link or directory of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedFile {
    /// Relative to the project directory; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// Bytes; 0 for links and directories.
    pub size: u64,
}

/// What an archive got, and what to tell about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// In the order of the archive; empty: nothing matched.
    pub files: Vec<PackedFile>,
    /// Each pattern and how many paths it brought.
    pub matches: Vec<(String, usize)>,
    /// Sentences for the job's log.
    pub warnings: Vec<String>,
    /// SHA-256 of what is in it, if that was wanted: paths, kinds, modes, targets of links, contents; not the times,
    /// which differ from run to run.
    #[serde(default)]
    pub digest: String,
    /// Nothing was packed, see [`Selection::unless`].
    pub unchanged: bool,
}

/// Writes the files of `selection` below `root` to `out`. Modes and modification times are kept, owners are
/// not; links are stored as links; sockets, pipes and devices are left out with a warning.
///
/// # Errors
/// A selected file can't be read, or `out` can't be written.
pub fn pack(root: &Path, selection: &Selection, out: impl Write) -> Result<Packed, ArchiveError> {
    let selected = select::select(root, selection);
    let mut packed = Packed { matches: selected.matches, warnings: selected.warnings, ..Packed::default() };
    if selection.unless.is_some() && state::of(root, &selected.paths) == selection.unless {
        packed.unchanged = true;
        return Ok(packed);
    }
    let writing = ArchiveError::archive("writing");
    let mut encoder = zstd::Encoder::new(out, 0).map_err(&writing)?;
    encoder.include_checksum(true).map_err(&writing)?;
    let mut builder = tar::Builder::new(encoder);
    let mut content = selection.digest.then(Sha256::new);
    for path in selected.paths {
        match append(&mut builder, root, &path, &mut content)? {
            Appended::Size(size) => {
                packed.files.push(PackedFile { path: path.to_string_lossy().into_owned(), size });
            }
            Appended::Skipped(why) => {
                packed.warnings.push(format!("`{}` is {why}: left out", path.display()))
            }
        }
    }
    let encoder = builder.into_inner().map_err(&writing)?;
    encoder.finish().and_then(|mut out| out.flush()).map_err(&writing)?;
    packed.digest = content.map(|hash| hex(&hash.finalize())).unwrap_or_default();
    Ok(packed)
}

enum Appended {
    Size(u64),
    Skipped(&'static str),
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    root: &Path,
    path: &Path,
    content: &mut Option<Sha256>,
) -> Result<Appended, ArchiveError> {
    let full = root.join(path);
    let found = match fs::symlink_metadata(&full) {
        Ok(found) => found,
        // something in the job's directory still works on its files: what is gone is not an error
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Appended::Skipped("gone")),
        Err(error) => return Err(ArchiveError::file("reading", path)(error)),
    };
    let mut header = tar::Header::new_gnu();
    header.set_mode(found.mode() & 0o7777);
    header.set_mtime(u64::try_from(found.mtime()).unwrap_or(0));
    header.set_size(0);
    let kind = found.file_type();
    let written = if kind.is_symlink() {
        let target = fs::read_link(&full).map_err(ArchiveError::file("reading", path))?;
        header.set_entry_type(tar::EntryType::Symlink);
        digest(content, path, &header, target.as_os_str().as_bytes());
        builder.append_link(&mut header, path, target).map(|()| 0)
    } else if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        digest(content, path, &header, &[]);
        builder.append_data(&mut header, path, io::empty()).map(|()| 0)
    } else if kind.is_file() {
        let file = File::open(&full).map_err(ArchiveError::file("reading", path))?;
        header.set_size(found.len());
        digest(content, path, &header, &[]);
        // a file that changes its length meanwhile must not shift the rest of the archive
        let exactly = file.take(found.len()).chain(io::repeat(0)).take(found.len());
        builder.append_data(&mut header, path, Digested { inner: exactly, content }).map(|()| found.len())
    } else {
        return Ok(Appended::Skipped("neither file, directory nor link"));
    };
    written.map(Appended::Size).map_err(ArchiveError::file("packing", path))
}

/// What the digest says of an entry before its content.
fn digest(content: &mut Option<Sha256>, path: &Path, header: &tar::Header, link: &[u8]) {
    let Some(hash) = content else { return };
    let mode = header.mode().unwrap_or_default().to_le_bytes();
    let size = header.entry_size().unwrap_or_default().to_le_bytes();
    let kind = [header.entry_type().as_byte()];
    state::take_in(hash, [path.as_os_str().as_bytes(), link, &mode, &size, &kind]);
}

/// Content that goes into the digest while it goes into the archive.
struct Digested<'a, R> {
    inner: R,
    content: &'a mut Option<Sha256>,
}

impl<R: Read> Read for Digested<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        if let Some(hash) = self.content {
            hash.update(&buffer[..length]);
        }
        Ok(length)
    }
}

/// Writes an archive of small files from memory, readable by their owner only.
///
/// # Errors
/// `out` can't be written.
pub fn pack_private<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let writing = ArchiveError::archive("writing");
    let mut builder = tar::Builder::new(zstd::Encoder::new(out, 0).map_err(&writing)?);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).map_err(&writing)?;
    }
    let encoder = builder.into_inner().map_err(&writing)?;
    encoder.finish().and_then(|mut out| out.flush()).map_err(&writing)
}

/// Path and content of every regular file in an archive, each content cut at `limit` bytes.
///
/// # Errors
/// The archive is damaged.
pub fn entries(archive: impl Read, limit: u64) -> Result<Vec<(PathBuf, Vec<u8>)>, ArchiveError> {
    let reading = ArchiveError::archive("reading");
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).map_err(&reading)?);
    let mut files = Vec::new();
    for entry in archive.entries().map_err(&reading)? {
        let entry = entry.map_err(&reading)?;
        if entry.header().entry_type().is_file() {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
            let mut content = Vec::new();
            entry.take(limit).read_to_end(&mut content).map_err(&reading)?;
            files.push((path, content));
        }
    }
    Ok(files)
}
