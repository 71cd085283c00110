//! What happens at the end of each run: artifacts expire, and what is beyond the limits goes.

use super::artifacts::{of_run, runs};
use super::blobs::share;
use super::{Limits, Record, empty_trash, inventory, remove, sweep_artifacts, victims};
use crate::settings::{KeepSettings, State};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// So long the end of a run may be held up; what is left then is deleted another time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tidies a project up after the run in `newest`, whose files are complete now. At the lowest priority: other jobs of
/// this machine may still run.
///
/// # Errors
/// The disk refuses. Nothing that was to be kept is lost.
pub fn tidy(state: &State, keep: &KeepSettings, newest: &Path) -> io::Result<()> {
    // of this thread only; being refused is no reason to leave the work undone
    let _ = rustix::process::setpriority_process(None, 19);
    let deadline = Instant::now() + PATIENCE;
    share(&state.dir, newest)?;
    Record::make(newest);
    let now = SystemTime::now();
    expire(&state.dir, newest, now)?;
    let items = inventory(&state.dir, false);
    let limits = Limits { runs: Some(keep.runs()), age: Some(keep.age()), size: Some(keep.size()) };
    let trash = state.trash();
    for index in victims(&items, &limits, now) {
        remove(&items[index], &trash)?;
    }
    empty_trash(&trash, Some(deadline))?;
    sweep_artifacts(&state.dir)
}

/// Removes artifacts whose time is over. Those of the newest run stay, as GitLab keeps the latest.
pub(super) fn expire(project: &Path, newest: &Path, now: SystemTime) -> io::Result<()> {
    for (_, run) in runs(project) {
        let due = Record::of(&run).expires().is_some_and(|time| time <= now);
        if run == newest || !due {
            continue;
        }
        for kept in of_run(&run)? {
            if kept.expires.is_some_and(|time| time <= now) {
                kept.index.expire(&kept.dir)?;
            }
        }
        Record::make(&run);
    }
    Ok(())
}
