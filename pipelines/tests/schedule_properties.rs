//! What holds for every plan and every course of events.

use pipelines::plan::{AllowFailure, Job, Plan};
use pipelines::schedule::{Action, Input, JobId, Outcome, Scheduler};
use pipelines::status::{FailureReason, Status, Weight, WeightSet};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Draft {
    stage: usize,
    needs: Option<Vec<prop::sample::Index>>,
    when: &'static str,
    allow: u8,
    retry: u32,
    group: Option<u8>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let when = prop_oneof![
        5 => Just("on_success"),
        1 => Just("on_failure"),
        1 => Just("always"),
        1 => Just("manual"),
        1 => Just("delayed"),
    ];
    let needs = prop::option::weighted(0.5, vec(any::<prop::sample::Index>(), 0..4));
    let group = prop::option::weighted(0.3, 0u8..2);
    (0usize..4, needs, when, 0u8..4, 0u32..3, group).prop_map(|(stage, needs, when, allow, retry, group)| {
        Draft { stage, needs, when, allow, retry, group }
    })
}

/// Needs go to jobs of the same or an earlier stage that come earlier in the list, so there are no cycles.
fn plan(drafts: Vec<Draft>) -> Plan {
    let mut stages: Vec<usize> = drafts.iter().map(|d| d.stage).collect();
    stages.sort_unstable();
    stages.dedup();
    let mut ordered = drafts;
    ordered.sort_by_key(|d| d.stage);
    let job = |(index, draft): (usize, &Draft)| -> Job {
        let mut job = json!({
            "name": format!("j{index}"), "stage": draft.stage.to_string(), "when": draft.when,
            "allow_failure": match draft.allow { 0 => json!(true), 1 => json!({"exit_codes": [2]}), _ => json!(false) },
            "retry": { "max": draft.retry },
        });
        if draft.when == "delayed" {
            job["start_in"] = json!("1 minute");
        }
        if let Some(needs) = &draft.needs {
            let names: BTreeSet<usize> =
                if index == 0 { BTreeSet::new() } else { needs.iter().map(|n| n.index(index)).collect() };
            job["needs"] = names
                .iter()
                .map(|n| json!({"job": format!("j{n}"), "artifacts": true, "optional": false}))
                .collect();
        }
        if let Some(group) = draft.group {
            job["resource_group"] = json!(format!("g{group}"));
        }
        serde_json::from_value(job).expect("a job")
    };
    let jobs = ordered.iter().enumerate().map(job).collect();
    Plan { stages: stages.iter().map(usize::to_string).collect(), jobs, ..Plan::default() }
}

/// One turn of events: which kind, which job, and how it ends.
type Turn = (u8, prop::sample::Index, u8);

struct World {
    scheduler: Scheduler,
    plan: Arc<Plan>,
    statuses: Vec<Status>,
    allowed: Vec<bool>,
    started: BTreeSet<usize>,
    handed_over: BTreeSet<usize>,
    inputs: Vec<Input>,
    actions: Vec<Action>,
    /// Do people retry jobs, and play those that nothing waits for? Then a job may start while what came before
    /// it runs again.
    people: bool,
}

impl World {
    fn new(plan: Arc<Plan>, people: bool) -> World {
        let allowed = plan.jobs.iter().map(|j| j.allow_failure == AllowFailure::Static(true)).collect();
        World {
            scheduler: Scheduler::new(Arc::clone(&plan)).expect("a plan"),
            statuses: vec![Status::Created; plan.jobs.len()],
            allowed,
            plan,
            started: BTreeSet::new(),
            handed_over: BTreeSet::new(),
            inputs: Vec::new(),
            actions: Vec::new(),
            people,
        }
    }

    fn feed(&mut self, input: Input) {
        if let Input::JobFinished(JobId(job), _) = &input {
            self.started.remove(job);
            self.handed_over.remove(job);
        }
        self.inputs.push(input.clone());
        let actions = self.scheduler.handle(input.clone());
        for action in &actions {
            self.watch(&input, action);
        }
        self.actions.extend(actions);
        self.check_rest();
    }

    fn watch(&mut self, input: &Input, action: &Action) {
        match action {
            Action::StartJob { job: JobId(job), attempt } => {
                assert_eq!(self.statuses[*job], Status::Pending);
                if !self.people && *attempt == 1 {
                    self.check_predecessors(*job);
                }
                self.handed_over.insert(*job);
                let group = |j: &usize| self.plan.jobs[*j].work.resource_group.as_ref();
                let same = self.handed_over.iter().filter(|j| group(j).is_some() && group(j) == group(job));
                assert!(same.count() <= 1, "two jobs of a resource group");
            }
            Action::CancelJob(JobId(job)) if !self.started.contains(job) => {
                self.handed_over.remove(job);
            }
            Action::StatusChanged(change) => {
                let old = std::mem::replace(&mut self.statuses[change.job.0], change.status);
                assert_ne!(old, change.status);
                if old.is_complete() {
                    let retried = matches!(input, Input::Retry(job) if *job == change.job);
                    let revived = matches!(input, Input::Retry(_) | Input::Play(_))
                        && (old, change.status) == (Status::Skipped, Status::Created);
                    assert!(retried || revived, "{old:?} -> {:?} by {input:?}", change.status);
                }
                let job = &self.plan.jobs[change.job.0];
                self.allowed[change.job.0] =
                    change.allowed_to_fail || job.allow_failure == AllowFailure::Static(true);
            }
            _ => {}
        }
    }

    fn weight(&self, job: usize) -> Weight {
        Weight::of(self.statuses[job], self.allowed[job])
    }

    fn predecessors(&self, job: usize) -> Vec<usize> {
        let plan = &self.plan;
        let place = |stage: &str| plan.stages.iter().position(|s| s == stage);
        let waits = |other: &usize| match &plan.jobs[job].needs {
            Some(needs) => needs.iter().any(|n| n.job == plan.jobs[*other].name),
            None => place(&plan.jobs[*other].stage) < place(&plan.jobs[job].stage),
        };
        (0..plan.jobs.len()).filter(waits).collect()
    }

    fn prior(&self, job: usize) -> Status {
        let set: WeightSet = self.predecessors(job).into_iter().map(|j| self.weight(j)).collect();
        if self.plan.jobs[job].needs.is_some() { set.composite_of_needs() } else { set.composite() }
    }

    fn check_predecessors(&self, job: usize) {
        let weights: Vec<Weight> = self.predecessors(job).into_iter().map(|j| self.weight(j)).collect();
        let decided_early = self.plan.jobs[job].needs.is_some()
            && weights.iter().any(|w| matches!(w, Weight::Ignored | Weight::Plain(Status::Skipped)));
        assert!(decided_early || weights.iter().all(|w| w.is_complete()), "{job} starts after {weights:?}");
    }

    /// The counters agree with a look at everything: no job is left that could have been decided.
    fn check_rest(&self) {
        for (job, status) in self.statuses.iter().enumerate() {
            assert_eq!(*status, self.scheduler.status(JobId(job)));
            if *status == Status::Created && !self.inputs.is_empty() {
                assert!(!self.prior(job).is_complete(), "job {job} was forgotten");
            }
        }
        let all: WeightSet = (0..self.statuses.len()).map(|j| self.weight(j)).collect();
        assert_eq!(all.composite(), self.scheduler.pipeline_status());
    }

    fn having(&self, status: Status) -> Vec<usize> {
        (0..self.statuses.len()).filter(|j| self.statuses[*j] == status).collect()
    }

    fn turn(&mut self, (kind, which, how): Turn) {
        let (statuses, make): (&[Status], fn(JobId) -> Input) = match kind % 16 {
            0..=4 => (&[Status::Pending], Input::JobStarted),
            5 => (&[Status::Scheduled], Input::TimerFired),
            6 => (&[Status::Manual], Input::Play),
            7 if self.people => (&[Status::Success, Status::Failed, Status::Canceled], Input::Retry),
            8 => (&[Status::Running, Status::Pending, Status::Created], Input::CancelJob),
            9 if how == 0 => return self.feed(Input::CancelAll),
            _ => return self.end(which, how),
        };
        let blocking = |j: &usize| self.people || self.statuses[*j] != Status::Manual || !self.allowed[*j];
        let jobs: Vec<usize> =
            statuses.iter().flat_map(|s| self.having(*s)).filter(|j| blocking(j)).collect();
        if jobs.is_empty() {
            return;
        }
        let job = jobs[which.index(jobs.len())];
        if kind % 16 <= 4 {
            self.started.insert(job);
        }
        self.feed(make(JobId(job)));
    }

    fn end(&mut self, which: prop::sample::Index, how: u8) {
        let jobs: Vec<usize> =
            [Status::Running, Status::Canceling].iter().flat_map(|s| self.having(*s)).collect();
        if jobs.is_empty() {
            return;
        }
        let failed = |reason, exit_code| Outcome::Failed { reason, exit_code, message: None };
        let outcome = match how % 6 {
            0 => failed(FailureReason::ScriptFailure, Some(1)),
            1 => failed(FailureReason::ScriptFailure, Some(2)),
            2 => failed(FailureReason::RunnerSystemFailure, None),
            3 => Outcome::Canceled,
            _ => Outcome::Success,
        };
        self.feed(Input::JobFinished(JobId(jobs[which.index(jobs.len())]), outcome));
    }

    /// Lets everything that moves come to its end.
    fn drain(&mut self) {
        for _ in 0..100_000 {
            let next = [Status::Running, Status::Canceling, Status::Pending, Status::Scheduled]
                .into_iter()
                .find_map(|s| self.having(s).first().map(|j| (s, *j)));
            let Some((status, job)) = next else { return };
            match status {
                Status::Pending => {
                    self.started.insert(job);
                    self.feed(Input::JobStarted(JobId(job)));
                }
                Status::Scheduled => self.feed(Input::TimerFired(JobId(job))),
                _ => self.feed(Input::JobFinished(JobId(job), Outcome::Success)),
            }
        }
        panic!("the run does not end");
    }
}

fn run(drafts: Vec<Draft>, turns: Vec<Turn>, people: bool) -> World {
    let mut world = World::new(Arc::new(plan(drafts)), people);
    world.feed(Input::Start);
    turns.into_iter().for_each(|turn| world.turn(turn));
    world.drain();
    world
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>()), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_on_the_way_and_every_run_ends(drafts in vec(draft(), 1..25), turns in turns(), people: bool) {
        let world = run(drafts, turns, people);
        let blocked = (0..world.statuses.len()).any(|j| world.weight(j) == Weight::Plain(Status::Manual));
        for status in &world.statuses {
            let rests = status.is_complete() || *status == Status::Manual;
            prop_assert!(rests || (blocked && *status == Status::Created), "{status:?}");
        }
        let last = world.actions.iter().rev().find_map(|a| match a {
            Action::PipelineFinished(status) => Some(*status),
            _ => None,
        });
        prop_assert_eq!(last, Some(world.scheduler.pipeline_status()));
    }

    #[test]
    fn the_same_inputs_give_the_same_actions(drafts in vec(draft(), 1..25), turns in turns()) {
        let world = run(drafts, turns, true);
        let mut again = Scheduler::new(Arc::clone(&world.plan)).unwrap();
        let actions: Vec<Action> = world.inputs.iter().flat_map(|i| again.handle(i.clone())).collect();
        prop_assert_eq!(actions, world.actions);
    }

    #[test]
    fn any_input_at_any_time_is_taken(drafts in vec(draft(), 1..10), inputs in vec((0u8..9, 0usize..12), 0..60)) {
        let mut scheduler = Scheduler::new(Arc::new(plan(drafts))).unwrap();
        for (kind, job) in inputs {
            let job = JobId(job);
            scheduler.handle(match kind {
                0 => Input::Start,
                1 => Input::JobStarted(job),
                2 => Input::JobFinished(job, Outcome::Success),
                3 => Input::JobFinished(job, Outcome::Canceled),
                4 => Input::TimerFired(job),
                5 => Input::Play(job),
                6 => Input::Retry(job),
                7 => Input::CancelJob(job),
                _ => Input::CancelAll,
            });
        }
    }
}

/// The counters are what makes this run in a moment; a look at everything for each event would take minutes.
#[test]
fn ten_thousand_jobs() {
    let job = |n: usize| -> Job {
        let mut job = json!({ "name": format!("j{n}"), "stage": (n / 100).to_string(), "when": "on_success",
                              "allow_failure": false });
        if n >= 100 && n.is_multiple_of(2) {
            let need = |k: usize| json!({"job": format!("j{}", n - k), "artifacts": true, "optional": false});
            job["needs"] = (50..100).map(need).collect();
        }
        serde_json::from_value(job).expect("a job")
    };
    let stages = (0..100).map(|s| s.to_string()).collect();
    let plan = Plan { stages, jobs: (0..10_000).map(job).collect(), ..Plan::default() };
    let mut scheduler = Scheduler::new(Arc::new(plan)).unwrap();
    let mut open = vec![Input::Start];
    let (mut ended, mut last) = (0, None);
    while let Some(input) = open.pop() {
        for action in scheduler.handle(input) {
            match action {
                Action::StartJob { job, .. } => {
                    ended += 1;
                    open.push(Input::JobFinished(job, Outcome::Success));
                    open.push(Input::JobStarted(job));
                }
                Action::PipelineFinished(status) => last = Some(status),
                _ => {}
            }
        }
    }
    assert_eq!((ended, last), (10_000, Some(Status::Success)));
}
