//! One attempt of a job: its phases, from the empty place to the outcome.
//!
//! `prepare`, `get_sources`, `restore_cache`, `download_artifacts`, `script`, `after_script`, `archive_cache`,
//! `upload_artifacts`, `cleanup`, in gitlab-runner's order. A phase with nothing to do is left out.
//!
//! | ended by | after_script | cache and artifacts |
//! |---|---|---|
//! | script, whatever its exit code | runs | as their `when` says |
//! | `RUNNER_SCRIPT_TIMEOUT` | runs | as after a failure |
//! | [`Cancel::Graceful`] | runs | as after a failure |
//! | the job's timeout, [`Cancel::Kill`] | does not run | nothing is kept |
//! | a failure before the script, or of the runner | does not run | nothing is kept |

mod attempt;
mod courier;
mod environment;
mod keep;
mod outcome;
mod prepare;
mod release;
mod script_phases;
mod spec;
mod supervise;

pub use attempt::run;
pub use courier::{Brought, Courier, Errand};
pub use pipelines::schedule::Outcome;
pub use release::{Assets, Link, RELEASE, Release};
pub use spec::{Cancel, JobSources, JobSpec, Run, Runner};
