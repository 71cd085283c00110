//! Opening a bundle that somebody handed over: nothing of it is used before it was checked.

use std::path::{Path, PathBuf};

use crate::digest::sha256_hex;
use crate::error::{CliError, CliResult, ErrorKind};
use crate::release::package;
use crate::signature;

use super::archive::SUMS;

/// An opened bundle; its files live as long as this.
pub struct Opened {
    /// Its directory, with `install.sh`.
    pub directory: PathBuf,
    /// Who signed it, if that was asked for.
    pub signed_by: Option<String>,
    _work: tempfile::TempDir,
}

/// Checks and unpacks the bundle at `path`. With `allowed` (lines of an `allowed_signers` file) its detached
/// signature `PATH.sig` must be of somebody in it.
///
/// # Errors
/// It is broken, was changed, or lacks the signature that is asked for.
pub fn open(path: &Path, allowed: Option<&str>) -> CliResult<Opened> {
    let refused =
        |what: String| CliError::new(ErrorKind::Refused, format!("the bundle `{}` {what}", path.display()));
    let signed_by = allowed.map(|allowed| signer(path, allowed)).transpose()?;
    let work = tempfile::tempdir()
        .map_err(|e| CliError::failed(format!("making a directory for the bundle: {e}")))?;
    let to = work.path().join("bundle");
    package::unpack(path, &to).map_err(|e| refused(format!("can't be unpacked: {e}")))?;
    let tops: Vec<PathBuf> = std::fs::read_dir(&to)
        .map_err(|e| CliError::failed(format!("reading the bundle: {e}")))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    let [directory] = &tops[..] else { return Err(refused("has not one top directory".to_owned())) };
    verify(directory).map_err(refused)?;
    Ok(Opened { directory: directory.clone(), signed_by, _work: work })
}

fn signer(path: &Path, allowed: &str) -> CliResult<String> {
    let refused = |what: &str| {
        CliError::new(ErrorKind::Refused, format!("the bundle `{}` {what}", path.display()))
            .hint("ask whoever sent it; do not apply it")
    };
    let beside = PathBuf::from(format!("{}.sig", path.display()));
    let signature = std::fs::read_to_string(&beside)
        .map_err(|e| refused(&format!("has no signature beside it (`{}`: {e})", beside.display())))?;
    let data = std::fs::read(path).map_err(|e| refused(&format!("can't be read: {e}")))?;
    signature::signer(allowed, signature::BUNDLE, &signature, &data)?
        .ok_or_else(|| refused("was not signed by anybody in the list, or was changed after it was signed"))
}

/// Every file in the list has its digest, and there is no other.
fn verify(directory: &Path) -> Result<(), String> {
    let sums = std::fs::read_to_string(directory.join(SUMS)).map_err(|e| format!("has no {SUMS}: {e}"))?;
    let mut install = false;
    for line in sums.lines() {
        let (want, file) = line.split_once("  ").ok_or_else(|| format!("has a broken {SUMS}"))?;
        if file.starts_with('/') || file.split('/').any(|part| part == "..") {
            return Err(format!("lists `{file}`, which is outside"));
        }
        let data = std::fs::read(directory.join(file)).map_err(|e| format!("lacks `{file}`: {e}"))?;
        if sha256_hex(&data) != want {
            return Err(format!("was changed: `{file}` is not what {SUMS} says"));
        }
        install |= file == "install.sh";
    }
    if install { Ok(()) } else { Err("holds no install.sh".to_owned()) }
}
