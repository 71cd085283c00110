//! `ci receipt`: what operations send back.

use std::path::{Path, PathBuf};

use super::deploy::cli_error;
use super::print_raw;
use crate::bundle::receipt;
use crate::deploy::DeployFile;
use crate::error::CliResult;
use crate::ledger::{Fact, Ledger};
use crate::promotion::approval;
use crate::signature;

#[derive(clap::Args)]
pub(super) struct ReceiptArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(clap::Subcommand)]
enum ReceiptCommand {
    /// Check reports of `install.sh` against the bundles that were made, and record what they did. FILE.sig beside
    /// one must be of somebody in `people`
    Import {
        /// Reports
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(args: &ReceiptArgs) -> CliResult {
    let ReceiptCommand::Import { files } = &args.command;
    let root = Path::new(".");
    let people = DeployFile::load(root).map_err(cli_error)?.unwrap_or_default().people;
    let allowed = approval::allowed_signers(&people, root, signature::RECEIPT)?;
    let ledger = Ledger::of(root)?;
    for file in files {
        let entry = ledger.append(receipt::verified(file, &ledger, &allowed)?)?;
        if let Fact::Receipt(arrival) = &entry.fact {
            let line = format!(
                "{}: {} {} on {}: {}\n",
                arrival.environment,
                arrival.release,
                arrival.version,
                arrival.targets.join(" "),
                arrival.outcome.as_str()
            );
            print_raw(line.as_bytes())?;
        }
    }
    Ok(())
}
