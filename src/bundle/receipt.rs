//! The report that `install.sh` writes, and its way into the ledger.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{CliError, CliResult, ErrorKind};
use crate::ledger::{Arrival, Ended, Fact, Ledger, Transport, standing};
use crate::signature;

/// The report. What it says is somebody's word; the bundle's digest and a signature are what can be checked.
#[derive(Clone, Debug, Deserialize)]
pub struct Receipt {
    /// Version of this form: 1.
    pub format: u32,
    /// `slipway-receipt`.
    pub kind: String,
    /// The bundle's digest.
    pub bundle: String,
    /// Environment.
    pub environment: String,
    /// Release name.
    pub release: String,
    /// Release version.
    pub version: String,
    /// What is in the release.
    pub content: String,
    /// Host.
    pub host: String,
    /// When it ended.
    pub ended: String,
    /// What was done.
    pub strategy: String,
    /// How it ended.
    pub outcome: Ended,
    /// What ran before.
    pub from: Option<String>,
    /// Why it did not succeed.
    pub message: String,
}

/// Reads the report in `file` and compares it with the bundle that was made; the answer is for the ledger. A signature
/// beside it (`FILE.sig`) must be of somebody in `allowed` (lines of an `allowed_signers` file).
///
/// # Errors
/// It is no report, of no bundle of ours, was changed, or is in the ledger already.
pub fn verified(file: &Path, ledger: &Ledger, allowed: &str) -> CliResult<Fact> {
    let shown = file.display();
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| CliError::usage(format!("reading `{}`: {e}", path.display())))
    };
    let refused = |what: String| CliError::new(ErrorKind::Refused, format!("the report `{shown}` {what}"));
    let bytes = read(file)?;
    let receipt: Receipt =
        serde_json::from_slice(&bytes).map_err(|e| refused(format!("can't be read: {e}")))?;
    if receipt.format != 1 || receipt.kind != "slipway-receipt" {
        return Err(refused("is not of a form that this `ci` knows".to_owned()));
    }
    let entries = ledger.entries()?;
    let made = standing::bundle(&entries, &receipt.bundle).ok_or_else(|| {
        refused(format!("is of the bundle {}, which was not made here", receipt.bundle))
            .hint("import it where the bundle was made; the ledger there knows its digest")
    })?;
    if (&made.environment, &made.version, &made.content)
        != (&receipt.environment, &receipt.version, &receipt.content)
    {
        return Err(refused(format!(
            "says `{}` for `{}`, its bundle is `{}` for `{}`: it was changed",
            receipt.version, receipt.environment, made.version, made.environment
        )));
    }
    let beside = PathBuf::from(format!("{shown}.sig"));
    let signed_by = match beside.exists() {
        false => None,
        true => {
            let text = String::from_utf8_lossy(&read(&beside)?).into_owned();
            let who = signature::signer(allowed, signature::RECEIPT, &text, &bytes)?;
            Some(who.ok_or_else(|| {
                refused(
                    "has a signature of nobody in `people`, or was changed after it was signed".to_owned(),
                )
                .hint("add the operator's public key to `people` in `.ci/deploy.yml`")
            })?)
        }
    };
    let arrival = Arrival {
        environment: receipt.environment,
        release: receipt.release,
        version: receipt.version,
        content: receipt.content,
        from: receipt.from,
        strategy: receipt.strategy,
        targets: vec![receipt.host],
        outcome: receipt.outcome,
        reason: Some(receipt.message).filter(|message| !message.is_empty()),
        via: Transport::Bundle { bundle: receipt.bundle, signed_by, at: receipt.ended },
    };
    if standing::arrivals(&entries, &arrival.environment)
        .any(|(_, known)| known.via == arrival.via && known.targets == arrival.targets)
    {
        return Err(refused("was imported already".to_owned()));
    }
    Ok(Fact::Receipt(arrival))
}
