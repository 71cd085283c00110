//! `ci`: CI/CD from commit to running release.

use std::process::ExitCode;

fn main() -> ExitCode {
    // a sandbox's supervisor is this executable again; it must have one thread, so nothing comes before
    if std::env::args_os().nth(1).is_some_and(|argument| argument == runners::sandbox::INIT_ARG) {
        return runners::sandbox::init_main();
    }
    slipway::cli::main()
}
