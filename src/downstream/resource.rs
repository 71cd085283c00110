//! Resource groups between pipelines: jobs of one group run one at a time, also those of child pipelines and of
//! another `ci run` of the project. Within one pipeline the scheduler sees to it.

use crate::digest::sha256_hex;
use crate::dispatch::{Cancel, JobRun};
use pipelines::event::EventKind;
use pipelines::plan::Job;
use pipelines::variables::{Unknown, expand};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Time between two looks at a resource that another process has: the system tells nobody when it becomes free.
const LOOK: Duration = Duration::from_millis(200);

/// A resource that a job has until this is dropped, or the process ends.
pub(super) struct Held {
    _file: File,
}

/// Waits until the job's resource is free and takes it. None: the job was cancelled meanwhile.
///
/// # Errors
/// The lock file below `locks` can't be made or locked.
pub(super) async fn hold(group: &str, locks: &Path, run: &mut JobRun) -> io::Result<Option<Held>> {
    std::fs::create_dir_all(locks)?;
    let path = locks.join(&sha256_hex(group.as_bytes())[..16]);
    let file = File::options().create(true).append(true).open(path)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(Held { _file: file })),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        if !std::mem::replace(&mut told, true) {
            let message = format!("waits for resource group `{group}`, which another pipeline uses");
            // nobody listening is no reason to stop a job
            let _ = run.events.send(EventKind::Notice { job: Some(run.job().name.clone()), message });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Ok(_) = run.stop.wait_for(|stop| *stop != Cancel::No) => return Ok(None),
        }
    }
}

/// The job's group with its variables in the name.
pub(super) fn group(job: &Job) -> Option<String> {
    let lookup =
        |name: &str| job.environment_variables.iter().rfind(|v| v.key == name).map(|v| v.value.clone());
    job.work.resource_group.as_ref().map(|text| expand(text, Unknown::Remove, &lookup))
}
