//! The archive: `.tar.gz` with one top directory, entries in order, no times, no owners.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use crate::digest::sha256_hex;
use crate::error::{CliError, CliResult};

/// Name of the list of digests.
pub const SUMS: &str = "SHA256SUMS";

/// The files of a bundle by their path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The list of digests, as `sha256sum -c` reads it.
pub fn sums(files: &Files) -> String {
    files.iter().map(|(path, data)| format!("{}  {path}\n", sha256_hex(data))).collect()
}

/// Writes `files` below the directory `top`.
///
/// # Errors
/// The disk refuses.
pub fn write(to: &Path, top: &str, files: &Files) -> CliResult {
    let failed = |e: std::io::Error| CliError::failed(format!("writing the bundle `{}`: {e}", to.display()));
    let part = to.with_extension("part");
    let write = || -> std::io::Result<()> {
        let packed =
            GzBuilder::new().mtime(0).write(BufWriter::new(File::create(&part)?), Compression::default());
        let mut builder = Builder::new(packed);
        for (path, data) in files {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if path == "install.sh" { 0o755 } else { 0o644 });
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, format!("{top}/{path}"), &**data)?;
        }
        let mut file = builder.into_inner()?.finish()?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&part, to)
    };
    write().map_err(failed)
}
