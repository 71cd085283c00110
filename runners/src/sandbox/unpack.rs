//! A layer of an image, from its archive to a directory that an overlay can use. The archive is somebody else's:
//! the process that reads it is shut into the directory and has no powers but those over files.
//!
//! Whiteouts become what overlayfs wants: a character device 0:0 for "deleted", an extended attribute for "nothing
//! below shows through". Parents that the archive leaves out are told, because they must look as in the layer below.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::error::Doing;
use super::spec::UnpackedLayer;
use super::{Failure, privilege, seccomp, sys, userns};

const CHUNK: usize = 256 * 1024;
/// Chunks that the reading thread may be ahead.
const AHEAD: usize = 16;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs' own files.
const RESERVED: &[u8] = b".wh..wh.";

/// Unpacks the layer on `input` into `into`, an empty directory, and tells on stdout what it was.
pub(super) fn unpack(into: &Path, input: Option<OwnedFd>, rootless: bool) -> Result<(), Failure> {
    let doing = || "unpacking a layer".to_owned();
    let input = File::from(input.ok_or_else(|| Failure::new(doing(), "no archive was given"))?);
    let one_id = rootless && userns::subordinate_ids().is_none();
    rustix::process::chroot(into).doing(|| format!("changing the root to `{}`", into.display()))?;
    rustix::process::chdir("/").doing(doing)?;
    rustix::process::umask(Mode::empty());
    sys::load_seccomp(&seccomp::program()).doing(|| "loading the seccomp filter".to_owned())?;
    privilege::keep_powers_over_files()?;

    let (chunks, ahead) = sync_channel(AHEAD);
    let reader = std::thread::spawn(move || read(input, &chunks));
    let mut layer = Layer { rootless, one_id, ..Layer::default() };
    let mut archive = Chunks { ahead, chunk: Vec::new(), at: 0 };
    let unpacked = layer.all(&mut archive);
    // the digest is of all bytes, also of those behind the end of the archive
    let drained = unpacked.and_then(|()| {
        io::copy(&mut archive, &mut io::sink()).map(drop).doing(|| "reading the archive".to_owned())
    });
    drop(archive);
    let read = reader.join().map_err(|_| Failure::new(doing(), "the reading thread broke"))?;
    // a stream that broke off is the reason for whatever was found wrong with its content
    let diff_id = read.doing(|| "decompressing the archive".to_owned())?;
    drained?;
    let told = UnpackedLayer {
        diff_id: diff_id.unwrap_or_default(),
        bytes: layer.bytes,
        implied: layer.implied.iter().map(|path| path.as_os_str().to_owned()).collect(),
    };
    let mut out = io::stdout().lock();
    let told = serde_json::to_writer(&mut out, &told).map_err(io::Error::from);
    told.and_then(|()| out.flush()).doing(doing)
}

/// Decompresses and hashes. `None`: the other side wants no more.
fn read(input: File, chunks: &SyncSender<Vec<u8>>) -> io::Result<Option<String>> {
    let mut buffered = BufReader::with_capacity(CHUNK, input);
    let head = buffered.fill_buf()?;
    let mut plain: Box<dyn Read> = if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(buffered)?)
    } else {
        Box::new(buffered)
    };
    let mut hash = Sha256::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        plain.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(Some(format!("sha256:{}", crate::digest::hex(&hash.finalize()))));
        }
        hash.update(&chunk);
        if chunks.send(chunk).is_err() {
            return Ok(None);
        }
    }
}

/// What the reading thread sends, as a stream.
struct Chunks {
    ahead: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.ahead.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.chunk[self.at..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

/// Owner, permissions and the rest of an entry.
struct Attributes {
    mode: Mode,
    uid: Uid,
    gid: Gid,
    time: Timestamps,
    extended: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Layer {
    rootless: bool,
    /// There is no other id than root's.
    one_id: bool,
    /// Directories that are known to be there.
    known: HashSet<PathBuf>,
    /// Set at the end: writing into a directory changes its time.
    directories: Vec<(PathBuf, Attributes)>,
    /// Directories without an entry of their own.
    implied: BTreeSet<PathBuf>,
    whiteouts: HashSet<PathBuf>,
    bytes: u64,
}

impl Layer {
    fn all(&mut self, archive: impl Read) -> Result<(), Failure> {
        let reading = || "reading the archive of a layer".to_owned();
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries().doing(reading)? {
            let mut entry = entry.doing(reading)?;
            let path = entry.path_bytes().into_owned();
            let shown = || format!("unpacking `{}`", String::from_utf8_lossy(&path));
            self.entry(&path, &mut entry).doing(shown)?;
        }
        for (path, attributes) in &std::mem::take(&mut self.directories) {
            let doing = || format!("setting the attributes of `{}`", path.display());
            // a later entry may have put something else here
            if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
                self.apply(path, attributes, false).doing(doing)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], entry: &mut tar::Entry<'_, impl Read>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = inside(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // the top directory itself
            let attributes = attributes(entry)?;
            self.directories.push((path, attributes));
            return Ok(());
        };
        self.parents(parent)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(parent, name.as_bytes());
        }
        let attributes = attributes(entry)?;
        if kind.is_dir() {
            self.directory(&path)?;
            self.directories.push((path, attributes));
            return Ok(());
        }
        self.vacate(&path)?;
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let mut file = File::create_new(&path)?;
                self.bytes += io::copy(entry, &mut file)?;
                return self.apply_to_file(&file, &attributes);
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                rustix::fs::symlink(OsStr::from_bytes(&target), &path)?;
            }
            tar::EntryType::Link => {
                let target = inside(&entry.link_name_bytes().unwrap_or_default())?;
                let linked = rustix::fs::linkat(CWD, &target, CWD, &path, AtFlags::empty());
                // its attributes are its target's
                return linked.map_err(|errno| {
                    io::Error::other(format!(
                        "linking it to `{}`: {}",
                        target.display(),
                        io::Error::from(errno)
                    ))
                });
            }
            tar::EntryType::Fifo => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::empty(), 0)?,
            tar::EntryType::Char | tar::EntryType::Block => match device(entry)? {
                // it could not be opened from a user namespace anyway
                _ if self.rootless => return Ok(()),
                (kind, number) => rustix::fs::mknodat(CWD, &path, kind, Mode::empty(), number)?,
            },
            other => return Err(refused(format!("it is of the unknown kind {:?}", other.as_byte()))),
        }
        self.apply(&path, &attributes, kind.is_symlink())
    }

    /// Makes the missing directories above an entry.
    fn parents(&mut self, directory: &Path) -> io::Result<()> {
        if self.known.contains(directory) {
            return Ok(());
        }
        match fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(refused(format!("`{}` is no directory", directory.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(above) = directory.parent() {
                    self.parents(above)?;
                }
                rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755))?;
                self.implied.insert(directory.to_owned());
            }
            Err(error) => return Err(error),
        }
        self.known.insert(directory.to_owned());
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let there = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
        if !there {
            let deleted_below = self.whiteouts.contains(path);
            self.vacate(path)?;
            rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
            if deleted_below {
                self.make_opaque(path)?;
            }
        }
        self.implied.remove(path);
        self.known.insert(path.to_owned());
        Ok(())
    }

    /// Removes what an earlier entry put at `path`.
    fn vacate(&mut self, path: &Path) -> io::Result<()> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(metadata) if metadata.is_dir() => {
                fs::remove_dir_all(path)?;
                self.known.clear();
                self.implied.retain(|implied| !implied.starts_with(path));
            }
            Ok(_) => {
                fs::remove_file(path)?;
                // it may have been a link that directories were reached through
                self.known.retain(|known| !known.starts_with(path));
            }
        }
        self.whiteouts.remove(path);
        Ok(())
    }

    /// Whiteouts hide what is in the layers below, never what this layer has itself.
    fn whiteout(&mut self, parent: &Path, name: &[u8]) -> io::Result<()> {
        if name == OPAQUE {
            return self.make_opaque(parent);
        }
        if name.starts_with(RESERVED) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused("it deletes no name".to_owned()));
        }
        let path = parent.join(OsStr::from_bytes(hidden));
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.make_opaque(&path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)?;
                self.whiteouts.insert(path);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn make_opaque(&self, path: &Path) -> io::Result<()> {
        let name = if self.rootless { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
        Ok(rustix::fs::lsetxattr(path, name, b"y", XattrFlags::empty())?)
    }

    fn apply_to_file(&self, file: &File, attributes: &Attributes) -> io::Result<()> {
        self.owned(rustix::fs::fchown(file, Some(attributes.uid), Some(attributes.gid)))?;
        // after the owner, whose change takes away setuid and capabilities
        rustix::fs::fchmod(file, attributes.mode)?;
        for (name, value) in &attributes.extended {
            settable(rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()))?;
        }
        Ok(rustix::fs::futimens(file, &attributes.time)?)
    }

    fn apply(&self, path: &Path, attributes: &Attributes, is_link: bool) -> io::Result<()> {
        let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
        self.owned(rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW))?;
        if !is_link {
            rustix::fs::chmod(path, attributes.mode)?;
        }
        for (name, value) in &attributes.extended {
            settable(rustix::fs::lsetxattr(path, name.as_str(), value, XattrFlags::empty()))?;
        }
        Ok(rustix::fs::utimensat(CWD, path, &attributes.time, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Ids that a user namespace has not can't own anything in it: such files stay root's.
    fn owned(&self, changed: rustix::io::Result<()>) -> io::Result<()> {
        match changed {
            Err(Errno::INVAL) if self.rootless => Ok(()),
            Err(Errno::PERM) if self.one_id => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Attributes that this file system or this user namespace doesn't have are left out, as Docker does.
fn settable(set: rustix::io::Result<()>) -> io::Result<()> {
    match set {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

fn refused(why: String) -> io::Error {
    io::Error::other(format!("the layer is refused: {why}"))
}

/// An absolute path below our root, which is the layer's directory.
fn inside(path: &[u8]) -> io::Result<PathBuf> {
    let mut safe = PathBuf::from("/");
    for component in Path::new(OsStr::from_bytes(path)).components() {
        match component {
            Component::Normal(part) => safe.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(refused(format!("`{}` leads out of it", String::from_utf8_lossy(path))));
            }
        }
    }
    Ok(safe)
}

fn device(entry: &tar::Entry<'_, impl Read>) -> io::Result<(FileType, u64)> {
    let header = entry.header();
    let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
    let (major, minor) = (number(header.device_major()), number(header.device_minor()));
    let character = header.entry_type().is_character_special();
    if character && (major, minor) == (0, 0) {
        return Err(refused("it is a whiteout of overlayfs".to_owned()));
    }
    let kind = if character { FileType::CharacterDevice } else { FileType::BlockDevice };
    Ok((kind, rustix::fs::makedev(major, minor)))
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    let too_large = || refused("its owner's number is too large".to_owned());
    // empty numbers are 0, as for other programs
    let (uid, gid) = (
        id(header.uid().unwrap_or(0)).ok_or_else(too_large)?,
        id(header.gid().unwrap_or(0)).ok_or_else(too_large)?,
    );
    let mode = Mode::from_raw_mode(header.mode().unwrap_or(0o644) & 0o7777);
    let mut time = Timespec { tv_sec: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), tv_nsec: 0 };
    let mut extended = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let Ok(key) = extension.key() else { continue };
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            if name.contains(".overlay.") {
                return Err(refused(format!("it sets `{name}`, which is overlayfs' own")));
            }
            extended.push((name.to_owned(), extension.value_bytes().to_owned()));
        } else if key.starts_with("GNU.sparse.") {
            // read as an ordinary file it would have another content
            return Err(refused(
                "it is a sparse file in the format of PAX, which is not supported".to_owned(),
            ));
        } else if key == "mtime"
            && let Some(precise) = extension.value().ok().and_then(precise_time)
        {
            time = precise;
        }
    }
    Ok(Attributes {
        mode,
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
        time: Timestamps { last_access: time, last_modification: time },
        extended,
    })
}

/// `1700000000.123456789`.
fn precise_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: nanoseconds.parse().ok()? })
}

/// Gives implied directories the look of the nearest layer below that has them.
///
/// `below` has the directories of the layers below, the lowest first.
pub(super) fn settle(directory: &Path, implied: &[OsString], below: &[PathBuf]) -> Result<(), Failure> {
    for path in implied {
        let relative = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
        let doing = || format!("setting the attributes of `{}`", relative.display());
        for layer in below.iter().rev() {
            let original = match open_directory(layer, relative) {
                Ok(original) => original,
                Err(Errno::NOENT) => continue,
                // something else is below: the directory is a new one
                Err(_) => break,
            };
            let stat = rustix::fs::fstat(&original).doing(doing)?;
            let own = open_directory(directory, relative).doing(doing)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&own, Some(uid), Some(gid)).doing(doing)?;
            rustix::fs::fchmod(&own, Mode::from_raw_mode(stat.st_mode & 0o7777)).doing(doing)?;
            let time =
                Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.try_into().unwrap_or(0) };
            rustix::fs::futimens(&own, &Timestamps { last_access: time, last_modification: time })
                .doing(doing)?;
            break;
        }
    }
    Ok(())
}

fn open_directory(layer: &Path, relative: &Path) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{OFlags, ResolveFlags};
    let top = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(&top, relative, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, expected) in
            [("a/b", "/a/b"), ("./a", "/a"), ("/etc/x", "/etc/x"), ("./", "/"), ("a//b/", "/a/b")]
        {
            assert_eq!(inside(path.as_bytes()).unwrap(), Path::new(expected), "{path}");
        }
        for path in ["..", "../a", "a/../../b", "/..", "a/.."] {
            assert!(inside(path.as_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn times_have_nanoseconds() {
        let time = |text| precise_time(text).map(|time| (time.tv_sec, time.tv_nsec));
        assert_eq!(time("17.5"), Some((17, 500_000_000)));
        assert_eq!(time("17"), Some((17, 0)));
        assert_eq!(time("17.1234567891"), Some((17, 123_456_789)));
        assert_eq!(time("soon"), None);
    }
}
