//! Archives of any program: what is in one, whether it is safe, and how one is made of a directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use super::Error;
use super::archive::{self, Entry, Kind, LIMITS};

/// What does not count for the content of a package: mix makes another cookie for every clean build.
pub const IGNORED: &[&str] = &["releases/COOKIE"];

/// What is in an archive.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Paths of files and links.
    pub paths: Vec<String>,
    /// SHA-256 of the archive, hexadecimal.
    pub sha256: String,
    /// Size of the archive in bytes.
    pub size: u64,
    /// SHA-256 of what it holds: equal for archives that differ only in times, owners and order.
    pub tree: String,
}

impl Contents {
    /// Reads the archive to its end. `ignored` paths don't count for `tree`.
    ///
    /// # Errors
    /// It is broken, cut, a bomb, or would write outside of its directory.
    pub fn read(path: &Path, ignored: &[&str]) -> Result<Contents, Error> {
        let mut entries = BTreeMap::new();
        archive::visit(path, LIMITS, |entry, data| {
            let what = match &entry.kind {
                Kind::Directory => return Ok(()),
                Kind::Symlink(target) => format!("link {target}"),
                Kind::File => {
                    let (digest, _) = archive::digest_of(data).map_err(Error::io("reading", path))?;
                    format!("{} {digest}", if entry.mode & 0o111 == 0 { "file" } else { "program" })
                }
            };
            entries.insert(entry.path.clone(), what);
            Ok(())
        })?;
        let mut hash = Sha256::new();
        for (name, what) in entries.iter().filter(|(name, _)| !ignored.contains(&name.as_str())) {
            hash.update(format!("{name}\0{what}\0"));
        }
        let (sha256, size) = archive::digest(path)?;
        Ok(Contents {
            paths: entries.into_keys().collect(),
            sha256,
            size,
            tree: crate::digest::hex(&hash.finalize()),
        })
    }
}

/// Writes the directory `tree` as the archive `to`: sorted, times and owners zeroed.
///
/// # Errors
/// Something can't be read or written.
pub fn pack(tree: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("making the directory", parent))?;
    }
    let part = to.with_extension("part");
    let file = File::create(&part).map_err(Error::io("creating", &part))?;
    let packed = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::default());
    let mut builder = tar::Builder::new(packed);
    add(&mut builder, tree, "").map_err(Error::io("packing", tree))?;
    let finish = || -> io::Result<()> { builder.into_inner()?.finish()?.into_inner()?.sync_all() };
    finish().map_err(Error::io("writing", &part))?;
    fs::rename(&part, to).map_err(Error::io("renaming to", to))
}

fn add<W: io::Write>(builder: &mut tar::Builder<W>, directory: &Path, prefix: &str) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for item in names {
        let Ok(name) = item.file_name().into_string() else {
            return Err(io::Error::other(format!("`{}` is not UTF-8", item.path().display())));
        };
        let path = format!("{prefix}{name}");
        let metadata = item.metadata()?;
        let (size, mode) = (metadata.len(), metadata.permissions().mode() & 0o777);
        let entry = |kind, size| Entry { path: path.clone(), mode, size, kind };
        if metadata.is_dir() {
            archive::append(builder, &entry(Kind::Directory, 0), &mut io::empty())?;
            add(builder, &item.path(), &format!("{path}/"))?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(item.path())?.to_string_lossy().into_owned();
            archive::append(builder, &entry(Kind::Symlink(target), 0), &mut io::empty())?;
        } else {
            archive::append(builder, &entry(Kind::File, size), &mut File::open(item.path())?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_one_digest_whenever_it_was_packed() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::write(tree.join("bin/run"), "x").unwrap();
        fs::write(tree.join("COOKIE"), "one").unwrap();
        let (a, b) = (directory.path().join("a.tar.gz"), directory.path().join("b.tar.gz"));
        pack(&tree, &a).unwrap();
        pack(&tree, &b).unwrap();
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
        let first = Contents::read(&a, &["COOKIE"]).unwrap();
        assert_eq!(first.paths, ["COOKIE", "bin/run"]);
        fs::write(tree.join("COOKIE"), "two").unwrap();
        pack(&tree, &b).unwrap();
        let second = Contents::read(&b, &["COOKIE"]).unwrap();
        assert_eq!(first.tree, second.tree);
        assert_ne!(first.sha256, second.sha256);
        fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
        pack(&tree, &b).unwrap();
        assert_ne!(Contents::read(&b, &["COOKIE"]).unwrap().tree, first.tree);
    }
}
