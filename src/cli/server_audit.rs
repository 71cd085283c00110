//! `ci server audit`

use super::runtime::runtime;
use super::server::open;
use super::{print_json, print_raw};
use crate::error::{CliError, CliResult};
use crate::server::config::Config;
use crate::server::people;
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Check that no entry was changed, taken out or put in. Exit code 1: one was
    Verify {
        /// `NUMBER:DIGEST` that an earlier check gave: it must still be there
        #[arg(long, value_name = "NUMBER:DIGEST")]
        head: Option<String>,
        /// Check an exported record instead of the database
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Write all entries, one JSON document a line, oldest first
    Export,
}

pub(super) fn run(config: Config, command: &AuditCommand) -> CliResult {
    match command {
        AuditCommand::Verify { head, file } => verify(config, head.as_deref(), file.as_ref()),
        AuditCommand::Export => runtime()?.block_on(async {
            let app = open(config).await?;
            let mut written = Ok(());
            let exported = people::export(&app, |text| {
                if written.is_ok() {
                    written = print_raw(text.as_bytes());
                }
            });
            exported.await.map_err(|e| CliError::failed(e.to_string()))?;
            written
        }),
    }
}

fn verify(config: Config, head: Option<&str>, file: Option<&PathBuf>) -> CliResult {
    let verdict = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| CliError::usage(format!("reading `{}`: {e}", file.display())))?;
            people::verify_text(&text, head).map_err(|e| CliError::usage(e.to_string()))?
        }
        None => runtime()?.block_on(async {
            let app = open(config).await?;
            people::verify(&app, head).await.map_err(|e| CliError::usage(e.to_string()))
        })?,
    };
    print_json(&verdict)?;
    match verdict.wrong {
        None => Ok(()),
        Some(wrong) => Err(CliError::failed(format!("the record is not whole: {wrong}"))),
    }
}
