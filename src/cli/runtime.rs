//! The threads that commands wait on.

use crate::error::{CliError, CliResult};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use tokio::runtime::{Builder, Runtime};

/// A runtime with a thread for every processor.
pub(super) fn runtime() -> CliResult<Runtime> {
    made(|| Builder::new_multi_thread().enable_all().build())
}

/// A runtime in this thread.
pub(super) fn small_runtime() -> CliResult<Runtime> {
    made(|| Builder::new_current_thread().enable_all().build())
}

/// tokio panics where the machine refuses a thread: that is no defect of ours, and no reason to look like one.
fn made(build: impl FnOnce() -> io::Result<Runtime>) -> CliResult<Runtime> {
    let before = take_hook();
    set_hook(Box::new(|_| {}));
    let built = catch_unwind(AssertUnwindSafe(build));
    set_hook(before);
    let why = match built {
        Ok(Ok(runtime)) => return Ok(runtime),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(text), _) => text.clone(),
            (None, Some(text)) => (*text).to_owned(),
            (None, None) => "no reason was given".to_owned(),
        },
    };
    Err(CliError::usage(format!("starting our threads: {why}")).hint(
        "this user may have no more processes and threads: `ulimit -u` shows the limit, in containers also \
         `cat /sys/fs/cgroup/pids.max`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_thread_for_us_is_an_error_that_says_so() {
        let error = made(|| panic!("OS can't spawn worker thread: {}", io::Error::from_raw_os_error(11)));
        let error = error.err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.message.contains("can't spawn worker thread: Resource temporarily"), "{error:?}");
        assert!(error.hints[0].contains("ulimit -u"), "{error:?}");
        assert!(runtime().is_ok() && small_runtime().is_ok());
    }
}
