//! The plan: which jobs a request creates, and exactly how each would run.

mod build;
mod cache;
mod conditions;
mod document;
mod job;
mod layers;
mod outcome;

pub use build::{build, outline, sketch};
pub use document::document;
pub use outcome::{Because, JobReason, Outcome, Part, Trial};

pub use job::{
    AllowFailure, Artifacts, Cache, Environment, Hooks, Image, Instance, Job, JobVariable, Need,
    PipelineNeed, Retry, Service, When, Work,
};

use serde::{Deserialize, Serialize};

/// A created pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `workflow:name`, expanded and trimmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `workflow:auto_cancel`, rule over global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_cancel: Option<AutoCancel>,
    /// Stages that have a job, in order.
    pub stages: Vec<String>,
    /// The jobs, in configuration order.
    pub jobs: Vec<Job>,
}

impl Plan {
    /// Indexes of the jobs in the order in which GitLab makes them, stage by stage. Of jobs that wait for a runner it
    /// hands out the one that was made first, so jobs of earlier stages come before jobs with `needs` of later ones.
    pub fn queue_order(&self) -> Vec<usize> {
        let stage_of = |index: &usize| self.stages.iter().position(|stage| *stage == self.jobs[*index].stage);
        let mut order: Vec<usize> = (0..self.jobs.len()).collect();
        order.sort_by_cached_key(stage_of);
        order
    }
}

/// `workflow:auto_cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoCancel {
    /// `conservative`, `interruptible`, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_new_commit: Option<String>,
    /// `none`, `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_job_failure: Option<String>,
}

#[cfg(test)]
mod tests;
