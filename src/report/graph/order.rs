//! What each job waits for.

use pipelines::plan::Plan;
use std::collections::HashMap;

/// When a job can start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// At once.
    Now,
    /// When all stages before this one (an index into the plan's) are done.
    Stages(usize),
    /// When these jobs (indices) are done; never empty.
    Jobs(Vec<usize>),
}

/// One for each job of the plan.
pub(super) fn starts(plan: &Plan) -> Vec<Start> {
    let stages: HashMap<&str, usize> = plan.stages.iter().enumerate().map(|(i, s)| (s.as_str(), i)).collect();
    let jobs: HashMap<&str, usize> =
        plan.jobs.iter().enumerate().map(|(i, j)| (j.name.as_str(), i)).collect();
    let start = |job: &pipelines::plan::Job| match &job.needs {
        None => match stages.get(job.stage.as_str()) {
            None | Some(0) => Start::Now,
            Some(stage) => Start::Stages(*stage),
        },
        Some(needs) => {
            let needed: Vec<usize> =
                needs.iter().filter_map(|need| jobs.get(need.job.as_str()).copied()).collect();
            if needed.is_empty() { Start::Now } else { Start::Jobs(needed) }
        }
    };
    plan.jobs.iter().map(start).collect()
}

/// The need that each job hangs on in a drawing: the one with the longest way to it. None for jobs that need
/// nothing, and for those in a circle, which needs of rules can form.
pub(super) fn parents(starts: &[Start]) -> Vec<Option<usize>> {
    let needs = |job: usize| match &starts[job] {
        Start::Jobs(needs) => needs.as_slice(),
        Start::Now | Start::Stages(_) => &[],
    };
    let mut waiting: Vec<usize> = (0..starts.len()).map(|job| needs(job).len()).collect();
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); starts.len()];
    for job in 0..starts.len() {
        needs(job).iter().for_each(|need| dependents[*need].push(job));
    }
    let mut depths = vec![0usize; starts.len()];
    let mut parents = vec![None; starts.len()];
    let mut ready: Vec<usize> = (0..starts.len()).filter(|job| waiting[*job] == 0).collect();
    while let Some(done) = ready.pop() {
        for job in std::mem::take(&mut dependents[done]) {
            waiting[job] -= 1;
            if waiting[job] == 0 {
                let deepest = needs(job).iter().copied().rev().max_by_key(|need| depths[*need]);
                depths[job] = deepest.map_or(0, |need| depths[need] + 1);
                parents[job] = deepest;
                ready.push(job);
            }
        }
    }
    parents
}
