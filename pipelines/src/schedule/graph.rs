//! What never changes while a plan runs: who waits for whom, stages, delays, resource groups.

use crate::duration;
use crate::plan::{Job, Plan, When};
use crate::variables::{Unknown, expand};
use std::collections::HashMap;
use std::time::Duration;

/// A plan that can't be scheduled. Plans built by [`crate::plan`] never give it, stored ones may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A job's stage is missing in `stages`.
    #[error("the plan puts job `{job}` into stage `{stage}`, which its `stages` does not list")]
    UnknownStage {
        /// The job.
        job: String,
        /// Its stage.
        stage: String,
    },
    /// Two jobs have one name.
    #[error("the plan has two jobs named `{0}`")]
    SameName(String),
    /// `start_in` is missing or no duration.
    #[error("job `{job}` is delayed, but its start_in `{text}` is not a duration")]
    BadDelay {
        /// The job.
        job: String,
        /// `start_in` as written.
        text: String,
    },
    /// Jobs wait for each other.
    #[error("the plan can never finish: the needs of job `{0}` lead back to it")]
    Cycle(String),
}

/// The fixed facts of one job.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Index into the stages.
    pub(super) stage: usize,
    /// Has `needs` (even empty): waits for these instead of the earlier stages.
    pub(super) by_needs: bool,
    /// Needed jobs that exist.
    pub(super) needs: Vec<usize>,
    /// Jobs that need this one.
    pub(super) dependants: Vec<usize>,
    /// Index of the resource group.
    pub(super) group: Option<usize>,
    /// Zero but for delayed jobs.
    pub(super) delay: Duration,
}

/// The fixed facts of a plan.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    /// One for each job of the plan.
    pub(super) nodes: Vec<Node>,
    /// The jobs of each stage, in the plan's order.
    pub(super) stages: Vec<Vec<usize>>,
    /// Number of resource groups.
    pub(super) groups: usize,
    /// Job names.
    pub(super) by_name: HashMap<String, usize>,
}

impl Graph {
    pub(super) fn new(plan: &Plan) -> Result<Graph, PlanError> {
        let mut by_name = HashMap::with_capacity(plan.jobs.len());
        for (index, job) in plan.jobs.iter().enumerate() {
            if by_name.insert(job.name.clone(), index).is_some() {
                return Err(PlanError::SameName(job.name.clone()));
            }
        }
        let stage_index: HashMap<&str, usize> =
            plan.stages.iter().enumerate().map(|(i, s)| (s.as_str(), i)).collect();
        let mut graph =
            Graph { nodes: Vec::new(), stages: vec![Vec::new(); plan.stages.len()], groups: 0, by_name };
        let mut groups = HashMap::new();
        for (index, job) in plan.jobs.iter().enumerate() {
            let stage = *stage_index
                .get(job.stage.as_str())
                .ok_or_else(|| PlanError::UnknownStage { job: job.name.clone(), stage: job.stage.clone() })?;
            graph.stages[stage].push(index);
            let group = job.work.resource_group.as_ref().map(|text| {
                let count = groups.len();
                *groups.entry(resource_group(job, text)).or_insert(count)
            });
            let mut needs: Vec<usize> = (job.needs.iter().flatten())
                .filter_map(|need| graph.by_name.get(&need.job).copied())
                .collect();
            needs.sort_unstable();
            needs.dedup();
            let (by_needs, delay) = (job.needs.is_some(), delay(job)?);
            graph.nodes.push(Node { stage, by_needs, needs, dependants: Vec::new(), group, delay });
        }
        graph.groups = groups.len();
        for index in 0..graph.nodes.len() {
            for needed in graph.nodes[index].needs.clone() {
                graph.nodes[needed].dependants.push(index);
            }
        }
        match graph.on_a_cycle() {
            Some(index) => Err(PlanError::Cycle(plan.jobs[index].name.clone())),
            None => Ok(graph),
        }
    }

    /// A job that can never start. Stages count as nodes: a stage job waits for all jobs of the stage before it
    /// and for that stage's own predecessors.
    fn on_a_cycle(&self) -> Option<usize> {
        let jobs = self.nodes.len();
        // node `jobs + s` stands for "all jobs of the stages up to s are done"
        let mut waits = vec![0usize; jobs + self.stages.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            waits[index] = if node.by_needs { node.needs.len() } else { usize::from(node.stage > 0) };
        }
        for (stage, members) in self.stages.iter().enumerate() {
            waits[jobs + stage] = members.len() + usize::from(stage > 0);
        }
        let mut open: Vec<usize> = (0..waits.len()).filter(|n| waits[*n] == 0).collect();
        while let Some(done) = open.pop() {
            let mut release = |next: usize| {
                waits[next] -= 1;
                if waits[next] == 0 {
                    open.push(next);
                }
            };
            if let Some(stage) = done.checked_sub(jobs) {
                if let Some(next) = self.stages.get(stage + 1) {
                    release(jobs + stage + 1);
                    next.iter().filter(|j| !self.nodes[**j].by_needs).for_each(|j| release(*j));
                }
            } else {
                self.nodes[done].dependants.iter().for_each(|d| release(*d));
                release(jobs + self.nodes[done].stage);
            }
        }
        (0..jobs).find(|job| waits[*job] > 0)
    }
}

fn delay(job: &Job) -> Result<Duration, PlanError> {
    if job.when != When::Delayed {
        return Ok(Duration::ZERO);
    }
    let text = job.start_in.as_deref().unwrap_or_default();
    duration::parse(text)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| PlanError::BadDelay { job: job.name.clone(), text: text.to_owned() })
}

/// The group's name with the job's variables in it, so that instances of a matrix may have groups of their own.
fn resource_group(job: &Job, text: &str) -> String {
    let lookup = |name: &str| {
        let known = job.environment_variables.iter().rfind(|v| v.key == name).map(|v| &v.value);
        known.or_else(|| job.variables.get(name)).cloned()
    };
    expand(text, Unknown::Remove, &lookup)
}
