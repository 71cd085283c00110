//! How full a disk is.

use std::io;
use std::path::Path;

/// Bytes of the disk that holds a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Disk {
    /// For who is not root.
    pub free: u64,
    /// Altogether.
    pub all: u64,
}

impl Disk {
    /// The disk of a directory.
    ///
    /// # Errors
    /// It is not there.
    pub fn of(directory: &Path) -> io::Result<Disk> {
        let found = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Disk { free: bytes(found.f_bavail), all: bytes(found.f_blocks) })
    }
}
