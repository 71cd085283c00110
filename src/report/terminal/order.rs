//! Who waits for whom: the critical path of a run that is over, and the time that a running one still needs.

use super::state::{JobState, RunState};
use pipelines::plan::Plan;
use std::collections::HashMap;

/// How long jobs of these names took in earlier runs, in milliseconds.
pub type Estimates = HashMap<String, u64>;

/// The order of the jobs of one plan. Beside the jobs each stage is a node: it is over when all its jobs and all
/// stages before it are.
#[derive(Debug, Default)]
pub(in crate::report) struct Order {
    /// Nodes that each node waits for: the jobs in the plan's order, then the stages.
    before: Vec<Vec<usize>>,
    /// All nodes, each behind those that it waits for; without those on a circle, which rules' needs can form.
    sorted: Vec<usize>,
    jobs: usize,
}

impl Order {
    pub(super) fn of(plan: &Plan) -> Order {
        let jobs = plan.jobs.len();
        let stages: HashMap<&str, usize> =
            plan.stages.iter().zip(jobs..).map(|(s, node)| (s.as_str(), node)).collect();
        let names: HashMap<&str, usize> =
            plan.jobs.iter().zip(0..).map(|(job, node)| (job.name.as_str(), node)).collect();
        let mut before = vec![Vec::new(); jobs + plan.stages.len()];
        for (stage, waits) in before.iter_mut().enumerate().skip(jobs + 1) {
            waits.push(stage - 1);
        }
        for (node, job) in plan.jobs.iter().enumerate() {
            let stage = stages.get(job.stage.as_str()).copied();
            match (&job.needs, stage) {
                (Some(needs), _) => {
                    before[node]
                        .extend(needs.iter().filter_map(|need| names.get(need.job.as_str()).copied()));
                }
                (None, Some(stage)) if stage > jobs => before[node].push(stage - 1),
                (None, _) => {}
            }
            stage.into_iter().for_each(|stage| before[stage].push(node));
        }
        let sorted = sort(&before);
        Order { before, sorted, jobs }
    }

    /// The jobs that the end of the run waited for: each began when the one in front of it was over.
    pub(super) fn critical_path(&self, run: &RunState) -> Vec<usize> {
        // of every node, the job that was over last among what it waits for
        let mut last: Vec<Option<usize>> = vec![None; self.before.len()];
        let ended = |job: usize| run.jobs[job].ended.filter(|_| run.jobs[job].started.is_some());
        let later =
            |a: Option<usize>, b: Option<usize>| if b.and_then(ended) > a.and_then(ended) { b } else { a };
        for node in &self.sorted {
            let waited = self.before[*node].iter().map(|other| match last[*other] {
                // a job that never ran hands on what it waited for
                inherited if *other >= self.jobs || ended(*other).is_none() => inherited,
                _ => Some(*other),
            });
            last[*node] = waited.fold(None, later);
        }
        let end = (0..self.jobs).map(Some).fold(None, later);
        let mut path: Vec<usize> = std::iter::successors(end, |job| last[*job]).collect();
        path.reverse();
        path
    }

    /// Milliseconds until the run will be over, with so many jobs at once; none where nothing is known of any job.
    pub(super) fn remaining(&self, run: &RunState, estimates: &Estimates, slots: usize) -> Option<u64> {
        let mut known: Vec<u64> =
            run.jobs[..self.jobs].iter().filter_map(|j| estimates.get(&j.name).copied()).collect();
        known.sort_unstable();
        // jobs that never ran before are taken for usual ones
        let usual = *known.get(known.len() / 2)?;
        let left = |job: &JobState| {
            let whole = estimates.get(&job.name).copied().unwrap_or(usual);
            match () {
                () if job.status.is_complete() || job.status == pipelines::status::Status::Manual => 0,
                () if job.is_active() => whole.saturating_sub(job.elapsed(run.now).unwrap_or(0)),
                () => whole,
            }
        };
        let mut ends = vec![0; self.before.len()];
        let mut work = 0;
        for node in &self.sorted {
            let begins = self.before[*node].iter().map(|other| ends[*other]).max().unwrap_or(0);
            let own = if *node < self.jobs { left(&run.jobs[*node]) } else { 0 };
            ends[*node] = begins + own;
            work += own;
        }
        let longest = ends.into_iter().max().unwrap_or(0);
        Some(longest.max(work / u64::try_from(slots).unwrap_or(1).max(1)))
    }
}

/// Each node behind those that it waits for.
fn sort(before: &[Vec<usize>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); before.len()];
    for (node, others) in before.iter().enumerate() {
        others.iter().for_each(|other| after[*other].push(node));
    }
    let mut sorted: Vec<usize> = (0..before.len()).filter(|node| waiting[*node] == 0).collect();
    let mut next = 0;
    while let Some(node) = sorted.get(next).copied() {
        next += 1;
        for other in &after[node] {
            waiting[*other] -= 1;
            if waiting[*other] == 0 {
                sorted.push(*other);
            }
        }
    }
    sorted
}
