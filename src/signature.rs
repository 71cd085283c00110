//! Signatures by ssh keys: `ssh-keygen -Y`, which is on every host that has ssh.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::error::{CliError, CliResult};

/// Namespace of bundles.
pub const BUNDLE: &str = "slipway-bundle";
/// Namespace of approvals.
pub const APPROVAL: &str = "slipway-approval";
/// Namespace of what operations report.
pub const RECEIPT: &str = "slipway-receipt";

/// Signs `data` with the private key in the file `key`, or with the agent's when `key` is its public half.
///
/// # Errors
/// There is no `ssh-keygen`, no such key, or it does not open.
pub fn sign(key: &Path, namespace: &str, data: &[u8]) -> CliResult<String> {
    let mut command = keygen();
    command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(key);
    let output = feed(command, data)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(CliError::usage(format!("signing with `{}`: {}", key.display(), last_line(&said)))
            .hint("give the file of an ssh key, or its `.pub` file when ssh-agent holds the key"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Who of `allowed` (lines of an `allowed_signers` file) signed `data`; `None` when nobody of them did.
///
/// # Errors
/// There is no `ssh-keygen`, or no temporary directory.
pub fn signer(allowed: &str, namespace: &str, signature: &str, data: &[u8]) -> CliResult<Option<String>> {
    let failed = |e: std::io::Error| CliError::failed(format!("checking a signature: {e}"));
    let directory = tempfile::tempdir().map_err(failed)?;
    let (signers, file) = (directory.path().join("allowed"), directory.path().join("signature"));
    std::fs::write(&signers, allowed).map_err(failed)?;
    std::fs::write(&file, signature).map_err(failed)?;
    let mut find = keygen();
    find.args(["-Y", "find-principals", "-s"]).arg(&file).arg("-f").arg(&signers);
    let found = feed(find, b"")?;
    let found = String::from_utf8_lossy(&found.stdout).lines().next().map(str::to_owned);
    let Some(person) = found.filter(|person| !person.is_empty()) else { return Ok(None) };
    let mut verify = keygen();
    verify.args(["-Y", "verify", "-n", namespace, "-I", &person, "-s"]).arg(&file).arg("-f").arg(&signers);
    Ok(feed(verify, data)?.status.success().then_some(person))
}

fn keygen() -> Command {
    Command::new("ssh-keygen")
}

fn feed(mut command: Command, data: &[u8]) -> CliResult<Output> {
    let failed = |e: std::io::Error| {
        CliError::usage(format!("running `ssh-keygen`: {e}")).hint("install the OpenSSH client")
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // one that ends without reading says why itself
        let _ = stdin.write_all(data);
    }
    child.wait_with_output().map_err(failed)
}

fn last_line(text: &str) -> &str {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ssh-keygen failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listed_key_over_the_same_bytes_in_the_same_namespace_counts() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let public = std::fs::read_to_string(directory.path().join("key.pub")).unwrap();
        let allowed = format!("ann {public}");
        let signature = sign(&key, BUNDLE, b"text").unwrap();
        let who = |allowed: &str, namespace: &str, data: &[u8]| {
            signer(allowed, namespace, &signature, data).unwrap()
        };
        assert_eq!(who(&allowed, BUNDLE, b"text").as_deref(), Some("ann"));
        assert_eq!(who(&allowed, BUNDLE, b"test"), None);
        assert_eq!(who(&allowed, APPROVAL, b"text"), None);
        assert_eq!(who("", BUNDLE, b"text"), None);
        let narrow = format!("ann namespaces=\"slipway-receipt\" {public}");
        assert_eq!(who(&narrow, BUNDLE, b"text"), None);
        assert!(sign(&directory.path().join("none"), BUNDLE, b"text").is_err());
    }
}
