//! `ci apply`: checks a bundle and runs its installer.

use anstream::eprintln;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bundle::open;
use crate::error::{CliError, CliResult, ErrorKind};

/// Checks a bundle (digests and signature), then runs its installer on this host. Without --yes it only looks, and
/// says what it would do
#[derive(clap::Args)]
pub(super) struct ApplyArgs {
    /// The archive
    bundle: PathBuf,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Directory of the release, in place of the one that the bundle names
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Take this way and no other
    #[arg(long, value_name = "WAY", value_parser = ["hot", "restart", "fresh"])]
    strategy: Option<String>,
    /// Go back to the version that this bundle's installation replaced
    #[arg(long)]
    rollback: bool,
    /// ssh's list of signers: BUNDLE.sig must be of one of them [default: ~/.ssh/allowed_signers, if it is there]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Sign the report with this ssh key
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
}

pub(super) fn run(args: &ApplyArgs) -> CliResult {
    let of_home = || {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".ssh/allowed_signers")).filter(|file| file.exists())
    };
    let list = args.allowed_signers.clone().or_else(of_home);
    let allowed = list
        .as_ref()
        .map(|file| {
            std::fs::read_to_string(file)
                .map_err(|e| CliError::usage(format!("reading the signers `{}`: {e}", file.display())))
        })
        .transpose()?;
    let opened = open::open(&args.bundle, allowed.as_deref())?;
    match &opened.signed_by {
        Some(who) => eprintln!("the bundle is signed by {who}"),
        None => {
            eprintln!("warning: the bundle's signature was not checked; `--allowed-signers FILE` checks it")
        }
    }
    let mut installer = Command::new("sh");
    installer.arg(opened.directory.join("install.sh"));
    for (flag, wanted) in [("--yes", args.yes), ("--rollback", args.rollback)] {
        installer.args(wanted.then_some(flag));
    }
    let dir = args.dir.as_ref().map(std::path::absolute).transpose();
    let dir = dir.map_err(|e| CliError::usage(format!("finding the directory: {e}")))?;
    let strategy = args.strategy.as_ref().map(PathBuf::from);
    for (flag, value) in [
        ("--dir", &dir),
        ("--strategy", &strategy),
        ("--allowed-signers", &list),
        ("--report", &args.report),
        ("--sign", &args.sign),
    ] {
        if let Some(value) = value {
            installer.arg(flag).arg(value);
        }
    }
    let status =
        installer.status().map_err(|e| CliError::failed(format!("running the bundle's installer: {e}")))?;
    match status.code() {
        Some(0) => Ok(()),
        code => {
            Err(CliError::silent(ErrorKind::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))))
        }
    }
}
