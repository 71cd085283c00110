//! `ci`: CI/CD from commit to running release.

use std::process::ExitCode;

fn main() -> ExitCode {
    slipway::cli::main()
}
