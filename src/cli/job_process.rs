//! `ci __job`: the process of one job, started by `ci runner run` and `ci server`. Its order comes on standard input.

use super::run;
use super::runtime::runtime;
use crate::error::{CliError, CliResult};
use crate::runner::{Order, process};
use crate::settings::Settings;

pub(super) fn run_job() -> CliResult {
    let order = std::io::read_to_string(std::io::stdin())
        .map_err(|e| CliError::usage(format!("reading the order of a job: {e}")))?;
    let order: Order = serde_json::from_str(&order).map_err(|e| {
        CliError::usage(format!("reading the order of a job: {e}")).hint("`ci runner run` starts jobs")
    })?;
    // whatever ends our parent's session leaves us alone; already the leader of one is as good
    let _ = rustix::process::setsid();
    let settings = Settings::of_user()?;
    let runtime = runtime()?;
    let ended = runtime.block_on(process::run(order, settings, async |state, order, settings| {
        run::executor(order.executor.or(settings.executor), state, settings, order.hidden.clone()).await
    }));
    // a fetch that nobody waits for any more may still block
    runtime.shutdown_background();
    ended
}
