//! Files in and out of a sandbox. Runs inside it: whatever links a job made, they lead nowhere else.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use crate::archive::Selection;

use super::Failure;
use super::error::Doing;

const BUFFER: usize = 256 * 1024;

/// Packs what `selection` finds, and tells what that was.
pub(super) fn archive(dir: &Path, selection: &Selection) -> Result<(), Failure> {
    let doing = || format!("packing files of `{}`", dir.display());
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned().doing(doing)?);
    let out = BufWriter::with_capacity(BUFFER, out);
    let packed = crate::archive::pack(dir, selection, out)
        .map_err(|error| Failure::new(doing(), error.to_string()))?;
    let told = serde_json::to_writer(std::io::stderr().lock(), &packed);
    told.map_err(std::io::Error::from).doing(doing)
}

/// Unpacks an archive of [`archive`], and tells what that was.
pub(super) fn restore(dir: &Path, archive: Option<OwnedFd>) -> Result<(), Failure> {
    let doing = || format!("unpacking into `{}`", dir.display());
    let archive = File::from(archive.ok_or_else(|| Failure::new(doing(), "no archive was given"))?);
    let unpacked =
        crate::archive::unpack(dir, archive).map_err(|error| Failure::new(doing(), error.to_string()))?;
    let mut out = std::io::stdout().lock();
    let told = serde_json::to_writer(&mut out, &unpacked).map_err(std::io::Error::from);
    // flushed here: the task ends without Rust's own clean-up
    told.and_then(|()| out.flush()).doing(doing)
}
