//! Resource groups between pipelines: jobs of one group run one at a time, also those of child pipelines and of
//! another `ci run` of the project. Within one pipeline the scheduler sees to it.

use super::pipeline::Pipeline;
use super::ticket::Ticket;
use crate::digest::sha256_hex;
use crate::dispatch::{Cancel, JobRun};
use crate::settings::ProcessMode;
use pipelines::event::EventKind;
use pipelines::plan::Job;
use pipelines::variables::{Unknown, expand};
use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

/// Time between two looks at a resource that another process has: the system tells nobody when it becomes free.
const LOOK: Duration = Duration::from_millis(200);

/// A resource that a job has until this is dropped, or the process ends.
pub(super) struct Held {
    _file: File,
}

/// Waits until the job's resource is free and the job's turn, and takes it. None: the job was cancelled meanwhile.
///
/// # Errors
/// The lock file or the queue below the pipeline's locks can't be made, read or locked.
pub(super) async fn hold(group: &str, pipeline: &Pipeline, run: &mut JobRun) -> io::Result<Option<Held>> {
    std::fs::create_dir_all(&pipeline.locks)?;
    let path = pipeline.locks.join(&sha256_hex(group.as_bytes())[..16]);
    let newest = match pipeline.resource_groups.get(group).copied().unwrap_or_default() {
        ProcessMode::Unordered => None,
        ProcessMode::OldestFirst => Some(false),
        ProcessMode::NewestFirst | ProcessMode::NewestReadyFirst => Some(true),
    };
    let queue = path.with_extension("queue");
    let ticket = newest.map(|newest| Ok::<_, io::Error>((Ticket::take(&queue, pipeline.created)?, newest)));
    let ticket = ticket.transpose()?;
    let file = File::options().create(true).append(true).open(path)?;
    let mut told = false;
    loop {
        let turn = ticket.as_ref().map_or(Ok(true), |(ticket, newest)| ticket.is_next(*newest))?;
        match turn.then(|| file.try_lock()) {
            Some(Ok(())) => return Ok(Some(Held { _file: file })),
            Some(Err(TryLockError::Error(error))) => return Err(error),
            Some(Err(TryLockError::WouldBlock)) | None => {}
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
