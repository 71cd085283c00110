//! Job and pipeline states, and GitLab's composite of several.

use serde::{Deserialize, Serialize};

/// State of a job, a stage or a pipeline, in GitLab's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not looked at yet.
    Created,
    /// Its resource group is taken.
    WaitingForResource,
    /// Ready, waits for a slot.
    Pending,
    /// A runner has it.
    Running,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
    /// Being cancelled: after_script may still run.
    Canceling,
    /// Ended by a person, a newer pipeline, or a failure elsewhere.
    Canceled,
    /// Will not run.
    Skipped,
    /// Waits for a person.
    Manual,
    /// Waits for its time.
    Scheduled,
}

impl Status {
    /// Nothing more will happen by itself.
    pub fn is_complete(self) -> bool {
        matches!(self, Status::Success | Status::Failed | Status::Canceled | Status::Skipped)
    }
}

/// Why a job failed: GitLab's failure reasons, as `retry:when` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The script exited non-zero.
    ScriptFailure,
    /// The runner could not run the job.
    RunnerSystemFailure,
    /// The job took longer than its timeout.
    JobExecutionTimeout,
    /// Artifacts of a dependency are gone.
    MissingDependencyFailure,
    /// What the job asks for, this runner can't do.
    RunnerUnsupported,
    /// The image can't be had.
    ImagePullFailure,
    /// A trigger job's pipeline failed.
    DownstreamPipelineFailure,
    /// The data of the job are wrong (a bad variable, a bad artifact report).
    DataIntegrityFailure,
    /// None of the others.
    UnknownFailure,
}

impl Status {
    /// GitLab's name, as JSON has it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::WaitingForResource => "waiting_for_resource",
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Success => "success",
            Status::Failed => "failed",
            Status::Canceling => "canceling",
            Status::Canceled => "canceled",
            Status::Skipped => "skipped",
            Status::Manual => "manual",
            Status::Scheduled => "scheduled",
        }
    }
}

impl FailureReason {
    /// GitLab's name, as `retry:when` and JSON have it.
    pub fn name(self) -> &'static str {
        match self {
            FailureReason::ScriptFailure => "script_failure",
            FailureReason::RunnerSystemFailure => "runner_system_failure",
            FailureReason::JobExecutionTimeout => "job_execution_timeout",
            FailureReason::MissingDependencyFailure => "missing_dependency_failure",
            FailureReason::RunnerUnsupported => "runner_unsupported",
            FailureReason::ImagePullFailure => "image_pull_failure",
            FailureReason::DownstreamPipelineFailure => "downstream_pipeline_failure",
            FailureReason::DataIntegrityFailure => "data_integrity_failure",
            FailureReason::UnknownFailure => "unknown_failure",
        }
    }
}

/// What one job counts as in a composite: its status, unless it is allowed to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Weight {
    /// As it is.
    Plain(Status),
    /// Failed or cancelled, but allowed to.
    Warn,
    /// Manual, and nobody has to play it.
    Ignored,
}

impl Weight {
    /// Number of different weights.
    pub const COUNT: usize = 13;

    /// The weight of a job.
    pub fn of(status: Status, allow_failure: bool) -> Weight {
        match status {
            Status::Failed | Status::Canceled if allow_failure => Weight::Warn,
            Status::Manual if allow_failure => Weight::Ignored,
            _ => Weight::Plain(status),
        }
    }

    /// A number below [`Weight::COUNT`], different for each weight.
    pub fn index(self) -> usize {
        match self {
            Weight::Plain(status) => status as usize,
            Weight::Warn => 11,
            Weight::Ignored => 12,
        }
    }

    /// Can whoever waits for this job go on?
    pub fn is_complete(self) -> bool {
        match self {
            Weight::Plain(status) => status.is_complete(),
            Weight::Warn | Weight::Ignored => true,
        }
    }
}

/// Which weights occur among some jobs: all that a composite status depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WeightSet(u16);

impl WeightSet {
    /// Adds a weight.
    pub fn insert(&mut self, weight: Weight) {
        self.0 |= 1 << weight.index();
    }

    /// Adds the weight with that [`Weight::index`].
    pub(crate) fn insert_index(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// All weights of both.
    #[must_use]
    pub fn union(self, other: WeightSet) -> WeightSet {
        WeightSet(self.0 | other.0)
    }

    fn any(self, weight: Weight) -> bool {
        self.0 & (1 << weight.index()) != 0
    }

    fn any_status(self, status: Status) -> bool {
        self.any(Weight::Plain(status))
    }

    /// Only these statuses, `Warn` and `Ignored`?
    fn only(self, statuses: &[Status]) -> bool {
        let mut allowed = WeightSet::default();
        allowed.insert(Weight::Warn);
        allowed.insert(Weight::Ignored);
        statuses.iter().for_each(|s| allowed.insert(Weight::Plain(*s)));
        self.0 & !allowed.0 == 0
    }

    /// GitLab's composite for a stage, a pipeline, or all earlier stages. No jobs are a success.
    pub fn composite(self) -> Status {
        use Status::{
            Canceled, Canceling, Created, Failed, Manual, Pending, Running, Scheduled, Skipped, Success,
            WaitingForResource,
        };
        if self.0 == 0 {
            return Success;
        }
        if self.only(&[Skipped]) && !self.any(Weight::Warn) {
            return Skipped;
        }
        let exact: [(Status, &[Status]); 4] = [
            (Success, &[Success, Skipped]),
            (Created, &[Created]),
            (Canceled, &[Canceled, Success, Skipped]),
            (Pending, &[Pending, Created, Skipped]),
        ];
        if let Some((status, _)) = exact.iter().find(|(_, statuses)| self.only(statuses)) {
            return *status;
        }
        let by_presence = [
            (Running, Running),
            (Pending, Running),
            (WaitingForResource, WaitingForResource),
            (Manual, Manual),
            (Scheduled, Scheduled),
            (Created, Running),
            (Canceling, Canceling),
        ];
        by_presence.iter().find(|(present, _)| self.any_status(*present)).map_or(Failed, |(_, is)| *is)
    }

    /// GitLab's composite for the needs of a job: one that does not run at all decides at once, even while
    /// others still run.
    pub fn composite_of_needs(self) -> Status {
        if self.any_status(Status::Skipped) || self.any(Weight::Ignored) {
            return Status::Skipped;
        }
        self.composite()
    }
}

impl FromIterator<Weight> for WeightSet {
    fn from_iter<I: IntoIterator<Item = Weight>>(weights: I) -> WeightSet {
        let mut set = WeightSet::default();
        weights.into_iter().for_each(|w| set.insert(w));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Status::*;

    /// `!` marks allow_failure.
    fn set(words: &str) -> WeightSet {
        let weight = |word: &str| {
            let name = word.trim_end_matches('!');
            let status = serde_json::from_value(name.into()).expect(word);
            Weight::of(status, word.ends_with('!'))
        };
        words.split_whitespace().map(weight).collect()
    }

    #[test]
    fn composite_of_stages_and_pipelines() {
        let table = [
            ("", Success),
            ("skipped", Skipped),
            ("skipped manual!", Skipped),
            ("manual!", Skipped),
            ("success skipped manual!", Success),
            ("failed!", Success),
            ("canceled!", Success),
            ("failed! skipped", Success),
            ("created", Created),
            ("created failed! manual!", Created),
            ("canceled", Canceled),
            ("canceled success skipped failed! manual!", Canceled),
            ("pending created skipped", Pending),
            ("created skipped", Pending),
            ("pending success", Running),
            ("running failed", Running),
            ("waiting_for_resource manual success", WaitingForResource),
            ("manual", Manual),
            ("manual failed scheduled created", Manual),
            ("scheduled created success", Scheduled),
            ("created success", Running),
            ("created failed", Running),
            ("canceling", Canceling),
            ("canceling failed success", Canceling),
            ("canceling created", Running),
            ("failed success", Failed),
            ("failed canceled", Failed),
            ("failed skipped", Failed),
        ];
        for (words, expected) in table {
            assert_eq!(set(words).composite(), expected, "{words}");
        }
    }

    #[test]
    fn a_need_that_does_not_run_decides_at_once() {
        let table = [
            ("skipped running", Skipped),
            ("manual! success", Skipped),
            ("skipped failed", Skipped),
            ("manual success", Manual),
            ("success failed!", Success),
            ("failed running", Running),
            ("", Success),
        ];
        for (words, expected) in table {
            assert_eq!(set(words).composite_of_needs(), expected, "{words}");
        }
    }

    #[test]
    fn names_are_those_of_json() {
        let statuses = [
            Created,
            WaitingForResource,
            Pending,
            Running,
            Success,
            Failed,
            Canceling,
            Canceled,
            Skipped,
            Manual,
            Scheduled,
        ];
        for (index, status) in statuses.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(status).unwrap(), status.name());
            assert_eq!(Weight::Plain(status).index(), index);
        }
        let reason = FailureReason::DownstreamPipelineFailure;
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
    }
}
