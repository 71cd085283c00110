//! What tells whether files still are as they were unpacked: names, kinds, modes, lengths, times and the targets of
//! links. Contents are not read.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A digest of all that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State([u8; 32]);

/// Takes in the entries of an archive, or what stands in a directory, in the same order.
#[derive(Default)]
pub(super) struct Entries(Sha256);

impl Entries {
    pub(super) fn file(&mut self, path: &Path, mode: u32, time: u64, size: u64) {
        self.entry(b"file", path, &[&mode.to_le_bytes(), &time.to_le_bytes(), &size.to_le_bytes()]);
    }

    pub(super) fn directory(&mut self, path: &Path, mode: u32, time: u64) {
        self.entry(b"directory", path, &[&mode.to_le_bytes(), &time.to_le_bytes()]);
    }

    pub(super) fn link(&mut self, path: &Path, target: &[u8]) {
        self.entry(b"link", path, &[target]);
    }

    fn entry(&mut self, kind: &[u8], path: &Path, facts: &[&[u8]]) {
        let parts = [kind, path.as_os_str().as_bytes()];
        take_in(&mut self.0, parts.iter().chain(facts).copied());
    }

    pub(super) fn state(self) -> State {
        State(self.0.finalize().into())
    }
}

/// Each part behind its length, so that no two lists of parts look alike.
pub(super) fn take_in<'a>(hash: &mut Sha256, parts: impl IntoIterator<Item = &'a [u8]>) {
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
}

/// How these files stand in `root`; none if one was surely written after it was unpacked, or can't be looked at.
pub(super) fn of<'a>(root: &Path, paths: impl IntoIterator<Item = &'a PathBuf>) -> Option<State> {
    let mut entries = Entries::default();
    for path in paths {
        let full = root.join(path);
        let found = fs::symlink_metadata(&full).ok()?;
        if found.is_symlink() {
            entries.link(path, fs::read_link(&full).ok()?.as_os_str().as_bytes());
            continue;
        }
        // unpacking sets whole seconds; a program that writes in the very second of the archive's time does not
        if found.mtime_nsec() != 0 {
            return None;
        }
        let (mode, time) = (found.mode() & 0o7777, u64::try_from(found.mtime()).ok()?);
        match found.is_dir() {
            true => entries.directory(path, mode, time),
            false => entries.file(path, mode, time, found.len()),
        }
    }
    Some(entries.state())
}

#[cfg(test)]
mod tests {
    use super::super::{Packed, Selection, pack, unpack};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn packed(root: &Path, unless: Option<super::State>) -> (Packed, Vec<u8>) {
        let selection = Selection { paths: vec!["c".to_owned()], unless, ..Selection::default() };
        let mut archive = Vec::new();
        (pack(root, &selection, &mut archive).unwrap(), archive)
    }

    #[test]
    fn only_what_was_touched_since_it_was_unpacked_is_packed_again() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("c/deep")).unwrap();
        fs::write(from.path().join("c/deep/file"), "abc").unwrap();
        fs::write(from.path().join("c/other"), "").unwrap();
        symlink("deep", from.path().join("c/link")).unwrap();
        let (first, archive) = packed(from.path(), None);
        assert!(!first.unchanged);
        type Change = (&'static str, fn(&Path));
        let changes: &[Change] = &[
            ("nothing", |_| {}),
            ("same length", |c| fs::write(c.join("deep/file"), "xyz").unwrap()),
            ("removed", |c| fs::remove_file(c.join("other")).unwrap()),
            ("added", |c| fs::write(c.join("new"), "").unwrap()),
            ("mode", |c| fs::set_permissions(c.join("other"), fs::Permissions::from_mode(0o700)).unwrap()),
            ("link", |c| {
                fs::remove_file(c.join("link")).unwrap();
                symlink("other", c.join("link")).unwrap();
            }),
        ];
        for (name, change) in changes {
            let to = tempfile::tempdir().unwrap();
            let state = unpack(to.path(), &archive[..]).unwrap().state;
            change(&to.path().join("c"));
            let (again, bytes) = packed(to.path(), state);
            assert_eq!(again.unchanged, *name == "nothing", "{name}");
            assert_eq!(bytes.is_empty(), *name == "nothing", "{name}");
        }
    }
}
