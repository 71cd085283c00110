//! What a job's process is told, on its standard input: tokens never stand on a command line.

use super::Address;
use crate::settings::ExecutorKind;
use crate::wire::job::Job;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One job to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The job as the server handed it out.
    pub job: Job,
    /// Where its server is.
    pub address: Address,
    /// Whose job it is: caches and mirrors of projects are kept apart by this and the project's number.
    pub origin: String,
    /// What the log calls the runner.
    pub runner: String,
    /// The directory of the process: its lock, its log; removed at the end.
    pub dir: PathBuf,
    /// Where the job runs; none: as the settings say.
    pub executor: Option<ExecutorKind>,
    /// A bare repository of the project on this machine: nothing is fetched then.
    pub mirror: Option<PathBuf>,
    /// Directories that the job must not see, whatever it runs in.
    pub hidden: Vec<PathBuf>,
    /// Is the server on this machine? Then it is told of news more often.
    pub local: bool,
}
