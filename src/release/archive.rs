//! Release archives (`.tar.gz`): read, unpacked and rewritten, never trusted.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use sha2::{Digest, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use super::Error;

/// What an archive may cost at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes after decompression, headers included.
    pub bytes: u64,
}

/// A release with everything in it is some hundred megabytes; these leave room and stop bombs.
pub(super) const LIMITS: Limits = Limits { entries: 200_000, bytes: 4 << 30 };

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink(String),
}

/// One entry, its path already known to be safe.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Relative, without a leading `./`.
    pub path: String,
    /// Permission bits only.
    pub mode: u32,
    pub size: u64,
    pub kind: Kind,
}

fn refuse(path: &Path, reason: impl Into<String>) -> Error {
    Error::Archive { path: path.to_owned(), reason: reason.into() }
}

/// Calls `each` for every entry of the archive at `path`, to its very end, so that a cut archive is noticed
/// wherever it was cut.
///
/// # Errors
/// An unsafe path or link, a special file, a path twice, more than `limits`, a broken or cut stream; and
/// whatever `each` returns.
pub(super) fn visit(
    path: &Path,
    limits: Limits,
    mut each: impl FnMut(&Entry, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let mut stream = GzDecoder::new(BufReader::new(file)).take(limits.bytes + 1);
    let mut seen = BTreeSet::new();
    let mut links = BTreeSet::new();
    let broken = |e: io::Error| refuse(path, format!("it is broken or cut short ({e})"));
    let mut archive = Archive::new(&mut stream);
    for item in archive.entries().map_err(broken)? {
        let mut item = item.map_err(broken)?;
        let Some(entry) = checked_entry(path, &item, &links)? else { continue };
        if let Kind::Symlink(_) = entry.kind {
            links.insert(entry.path.clone());
        }
        if entry.kind != Kind::Directory && !seen.insert(entry.path.clone()) {
            return Err(refuse(path, format!("`{}` is in it twice", entry.path)));
        }
        if seen.len() > limits.entries {
            return Err(refuse(path, format!("it has more than {} files", limits.entries)));
        }
        each(&entry, &mut item)?;
    }
    // the checksum of the gzip stream stands at its end
    io::copy(&mut stream, &mut io::sink()).map_err(broken)?;
    if stream.limit() == 0 {
        return Err(refuse(path, format!("it unpacks to more than {} bytes", limits.bytes)));
    }
    Ok(())
}

fn checked_entry<R: Read>(
    archive: &Path,
    item: &tar::Entry<'_, R>,
    links: &BTreeSet<String>,
) -> Result<Option<Entry>, Error> {
    let raw = item.path_bytes();
    let name = std::str::from_utf8(&raw).map_err(|_| refuse(archive, "a path in it is not UTF-8"))?;
    let unsafe_path = || refuse(archive, format!("the path `{name}` leads outside"));
    let path = safe_path(name).ok_or_else(unsafe_path)?;
    if path.is_empty() {
        return Ok(None);
    }
    let parents = path.match_indices('/').map(|(i, _)| &path[..i]);
    if let Some(link) = parents.into_iter().find(|parent| links.contains(*parent)) {
        return Err(refuse(archive, format!("`{path}` would be written through the link `{link}`")));
    }
    let kind = match item.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => {
            let target = item.link_name_bytes().unwrap_or_default();
            let target = String::from_utf8(target.into_owned())
                .ok()
                .filter(|target| stays_inside(&path, target))
                .ok_or_else(|| refuse(archive, format!("the link `{path}` leads outside")))?;
            Kind::Symlink(target)
        }
        other => {
            return Err(refuse(archive, format!("`{path}` is neither file, directory nor link ({other:?})")));
        }
    };
    let mode = item.header().mode().unwrap_or(0o644) & 0o777;
    Ok(Some(Entry { path, mode, size: item.size(), kind }))
}

/// The path without `./` and trailing `/`; none when it is absolute, climbs or is odd.
fn safe_path(name: &str) -> Option<String> {
    if name.starts_with('/') || name.contains(['\0', '\\']) {
        return None;
    }
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") { None } else { Some(parts.join("/")) }
}

fn stays_inside(link: &str, target: &str) -> bool {
    let mut depth = link.matches('/').count();
    if target.starts_with('/') || target.is_empty() || target.contains('\0') {
        return false;
    }
    target.split('/').all(|part| match part {
        "" | "." => true,
        ".." => {
            let inside = depth > 0;
            depth = depth.saturating_sub(1);
            inside
        }
        _ => {
            depth += 1;
            true
        }
    })
}

/// Unpacks the archive into the new directory `to`.
pub(super) fn unpack(path: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("making the directory", to))?;
    visit(path, LIMITS, |entry, data| {
        let file = to.join(&entry.path);
        let mut write = || -> io::Result<()> {
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            match &entry.kind {
                Kind::Directory => fs::create_dir_all(&file),
                Kind::Symlink(target) => symlink(target, &file),
                Kind::File => {
                    let mut out = File::create_new(&file)?;
                    io::copy(data, &mut out)?;
                    // what we unpack is ours to write appups beside and to remove again
                    out.set_permissions(fs::Permissions::from_mode(entry.mode | 0o600))
                }
            }
        };
        write().map_err(Error::io("unpacking to", &file))
    })
}

/// A file to be put into an archive.
#[derive(Debug, Clone)]
pub(super) struct NewFile {
    pub path: String,
    pub mode: u32,
    pub data: Vec<u8>,
}

/// Writes the archive `from` again as `to`: entries that `keep` likes, in their order, then `add` (which also
/// replaces). Times and owners are zeroed, so the same input gives the same bytes.
pub(super) fn rewrite(
    from: &Path,
    to: &Path,
    keep: impl Fn(&str) -> bool,
    add: &[NewFile],
) -> Result<(), Error> {
    let part = to.with_extension("part");
    let file = File::create(&part).map_err(Error::io("creating", &part))?;
    let packed = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::default());
    let mut builder = Builder::new(packed);
    visit(from, LIMITS, |entry, data| {
        if !keep(&entry.path) || add.iter().any(|new| new.path == entry.path) {
            return Ok(());
        }
        append(&mut builder, entry, data).map_err(Error::io("writing", &part))
    })?;
    for new in add {
        let size = new.data.len() as u64;
        let entry = Entry { path: new.path.clone(), mode: new.mode, size, kind: Kind::File };
        append(&mut builder, &entry, &mut &*new.data).map_err(Error::io("writing", &part))?;
    }
    let finish = || -> io::Result<()> { builder.into_inner()?.finish()?.into_inner()?.sync_all() };
    finish().map_err(Error::io("writing", &part))?;
    fs::rename(&part, to).map_err(Error::io("renaming to", to))
}

/// Writes the archive `from` again as `to`, its entries in the order of their paths: whatever order a file system
/// gave them, the same files give the same bytes.
pub(super) fn sort(from: &Path, to: &Path) -> Result<(), Error> {
    let mut entries = std::collections::BTreeMap::new();
    visit(from, LIMITS, |entry, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).map_err(Error::io("reading", from))?;
        entries.insert(entry.path.clone(), (entry.clone(), bytes));
        Ok(())
    })?;
    let write = || -> io::Result<()> {
        let file = BufWriter::new(File::create(to)?);
        let mut builder = Builder::new(GzBuilder::new().mtime(0).write(file, Compression::default()));
        for (entry, bytes) in entries.values() {
            append(&mut builder, entry, &mut &**bytes)?;
        }
        builder.into_inner()?.finish()?.into_inner()?.sync_all()
    };
    write().map_err(Error::io("writing", to))
}

pub(super) fn append<W: Write>(
    builder: &mut Builder<W>,
    entry: &Entry,
    data: &mut dyn Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_mode(entry.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match &entry.kind {
        Kind::File => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(entry.size);
            builder.append_data(&mut header, &entry.path, data)
        }
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, &entry.path, io::empty())
        }
        Kind::Symlink(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, &entry.path, target)
        }
    }
}

/// The SHA-256 in hex and the size of a file.
pub(crate) fn digest(path: &Path) -> Result<(String, u64), Error> {
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    digest_of(&mut file).map_err(Error::io("reading", path))
}

/// The SHA-256 in hex and the count of all bytes of a stream.
pub(super) fn digest_of(stream: &mut dyn Read) -> io::Result<(String, u64)> {
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok((crate::digest::hex(&hash.finalize()), size));
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes an archive of `files` without any of the checks above.
    pub(crate) fn write_archive(path: &Path, files: &[(&str, &[u8])]) {
        let packed = GzBuilder::new().write(File::create(path).unwrap(), Compression::fast());
        let mut builder = Builder::new(packed);
        for (name, data) in files {
            let mut header = Header::new_ustar();
            // set directly: `set_path` would refuse what we want to see refused
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    fn reading(path: &Path, limits: Limits) -> Result<(), String> {
        let drain = |_: &Entry, data: &mut dyn Read| {
            io::copy(data, &mut io::sink()).map(|_| ()).map_err(Error::io("reading", path))
        };
        visit(path, limits, drain).map_err(|e| e.to_string())
    }

    #[test]
    fn paths_that_lead_outside_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        for name in ["../x", "/etc/x", "a/../../x", "a\\b"] {
            write_archive(&path, &[(name, b"x")]);
            assert!(reading(&path, LIMITS).unwrap_err().contains("leads outside"), "{name}");
            assert!(unpack(&path, &dir.path().join("out")).is_err());
        }
        assert!(!dir.path().join("x").exists());
        write_archive(&path, &[("a", b"1"), ("./a", b"2")]);
        assert!(reading(&path, LIMITS).unwrap_err().contains("twice"));
    }

    #[test]
    fn links_may_stay_inside_only() {
        let cases =
            [("bin/a", "b", true), ("bin/a", "../b", true), ("bin/a", "../../b", false), ("a", "/b", false)];
        for (link, target, inside) in cases {
            assert_eq!(stays_inside(link, target), inside, "{link} -> {target}");
        }
    }

    #[test]
    fn an_archive_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
        let noise: Vec<u8> =
            (0..20_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        write_archive(&whole, &[("a", b"hello"), ("b", &noise)]);
        assert_eq!(reading(&whole, LIMITS), Ok(()));
        let bytes = fs::read(&whole).unwrap();
        for len in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            fs::write(&cut, &bytes[..len]).unwrap();
            assert!(reading(&cut, LIMITS).is_err(), "cut at {len} of {}", bytes.len());
        }
    }

    #[test]
    fn bombs_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb");
        write_archive(&path, &[("a", &[0; 1 << 20]), ("b", b"")]);
        let bytes = Limits { bytes: 1 << 19, ..LIMITS };
        assert!(reading(&path, bytes).is_err());
        assert!(reading(&path, Limits { entries: 1, ..LIMITS }).unwrap_err().contains("more than 1 files"));
    }

    #[test]
    fn rewriting_keeps_what_is_wanted_and_is_deterministic() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_archive(&at("from"), &[("lib/a", b"1"), ("erts/b", b"2"), ("c", b"old")]);
        let new = [NewFile { path: "c".into(), mode: 0o644, data: b"new".to_vec() }];
        for name in ["one", "two"] {
            rewrite(&at("from"), &at(name), |path| !path.starts_with("erts/"), &new).unwrap();
        }
        assert_eq!(fs::read(at("one")).unwrap(), fs::read(at("two")).unwrap());
        unpack(&at("one"), &at("out")).unwrap();
        assert_eq!(fs::read(at("out/c")).unwrap(), b"new");
        assert!(at("out/lib/a").exists() && !at("out/erts").exists());
    }
}
