//! Which jobs of the plan a run has.

use super::RunArgs;
use crate::cli::print_raw;
use crate::error::{CliError, CliResult};
use crate::runs::{StoredRun, find};
use crate::settings::State;
use pipelines::plan::Plan;
use pipelines::schedule::{Selection, only, select};
use pipelines::status::Status;
use runners::job::Run;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The jobs to run, and what they build on.
pub(super) struct Choice {
    /// What runs.
    pub(super) plan: Plan,
    /// What artifacts flow through: the jobs to run, and those whose artifacts are reused.
    pub(super) flow: Plan,
    /// Where artifacts are reused from.
    pub(super) reused: Option<Reused>,
}

/// Jobs whose artifacts come from an earlier run.
pub(super) struct Reused {
    run: StoredRun,
    pub(super) jobs: Vec<String>,
}

/// What the arguments choose. None: nothing is to be done, and that has been said.
pub(super) fn choose(args: &RunArgs, plan: Plan, state: &State) -> CliResult<Option<Choice>> {
    if args.failed {
        return failed(plan, state);
    }
    let (jobs, stages, until) = (args.jobs.clone(), args.stages.clone(), args.until.clone());
    let selection = Selection { jobs, needs: args.needs, stages, until };
    let plan = select(&plan, &selection).map_err(|e| CliError::usage(e.to_string()))?;
    Ok(Some(Choice { flow: plan.clone(), plan, reused: None }))
}

/// What did not succeed in the last run; the rest is taken from there.
fn failed(plan: Plan, state: &State) -> CliResult<Option<Choice>> {
    let run = find(state, None)?;
    if run.is_running() {
        return Err(CliError::usage(format!(
            "run {} is still running: what failed is known when it is over",
            run.number
        ))
        .hint("`ci logs --follow` joins it"));
    }
    let statuses = run.statuses()?;
    let status = |index: usize| statuses.get(&plan.jobs[index].name).copied();
    let bad = |status: Status| {
        !matches!(status, Status::Success | Status::Skipped | Status::Manual | Status::Created)
    };
    let mut failed: Vec<&str> =
        statuses.iter().filter(|(_, status)| bad(**status)).map(|(job, _)| job.as_str()).collect();
    failed.sort_unstable();
    if failed.is_empty() {
        print_raw(format!("nothing failed in run {}\n", run.number).as_bytes())?;
        return Ok(None);
    }
    if !(0..plan.jobs.len()).any(|index| status(index).is_some_and(bad)) {
        let message =
            format!("what failed in run {} is not in this pipeline: {}", run.number, failed.join(", "));
        return Err(CliError::usage(message).hint("`ci plan` shows the jobs; `ci run` runs them all"));
    }
    // also what was skipped, or never began, since something before it failed
    let again = |index: usize| status(index).is_some_and(|status| status != Status::Success);
    let there = |name: &str| job_dir(&run.dir, name).is_dir();
    let reused: Vec<usize> =
        (0..plan.jobs.len()).filter(|index| !again(*index) && there(&plan.jobs[*index].name)).collect();
    let flow = only(&plan, |index| again(index) || reused.contains(&index));
    let jobs = reused.iter().map(|index| plan.jobs[*index].name.clone()).collect();
    Ok(Some(Choice { plan: only(&plan, again), flow, reused: Some(Reused { run, jobs }) }))
}

impl Reused {
    /// The sentence for people.
    pub(super) fn told(&self) -> String {
        let again = format!("what did not succeed in run {} runs again", self.run.number);
        match self.jobs.as_slice() {
            [] => again,
            [one] => format!("{again}; `{one}` is taken from there"),
            more => format!("{again}; {} jobs are taken from there", more.len()),
        }
    }

    /// Brings what the jobs left into the new run: the same files under new names, so that either run can be
    /// removed.
    pub(super) fn bring(&self, run: &Path) -> CliResult {
        for name in &self.jobs {
            link(&job_dir(&self.run.dir, name), &job_dir(run, name)).map_err(|e| {
                CliError::usage(format!("taking the artifacts of `{name}` from run {}: {e}", self.run.number))
                    .hint("`ci run` runs all jobs")
            })?;
        }
        Ok(())
    }
}

fn job_dir(run: &Path, job: &str) -> PathBuf {
    Run::job_dir_in(run, job)
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &to)?;
        } else if fs::hard_link(entry.path(), &to).is_err() {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
