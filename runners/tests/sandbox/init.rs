//! What `ci` is to sandboxes, without the rest of `ci`: the tests' `__init`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(runners::sandbox::INIT_ARG) {
        return runners::sandbox::init_main();
    }
    ExitCode::FAILURE
}
