//! The rules of stages, needs, `when`, retry, cancel and resource groups, in tables.
//!
//! A job: `name@stage` and any of `needs=a,b` (`needs=` is the empty list), `on_failure`, `always`, `manual`,
//! `delayed`, `allow`, `allow=42`, `retry=2`, `group=g`. A step: `a:ok`, `a:fail`, `a:fail=42`, `a:lost` (the
//! runner failed), `a:play`, `a:retry`, `a:cancel`, `a:timer`, `a:stopped`, or `cancel` for the pipeline. Jobs
//! get their slot at once.

use pipelines::plan::{AutoCancel, Job, Plan};
use pipelines::schedule::{Action, Change, Input, JobId, Outcome, PlanError, Scheduler};
use pipelines::status::{FailureReason, Status};
use serde_json::json;
use std::sync::Arc;

fn job(text: &str) -> Job {
    let mut words = text.split_whitespace();
    let (name, stage) = words.next().and_then(|w| w.split_once('@')).expect("name@stage");
    let mut job = json!({ "name": name, "stage": stage, "when": "on_success", "allow_failure": false });
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "needs" => {
                let need = |n: &str| json!({ "job": n, "artifacts": true, "optional": true });
                job["needs"] = value.split(',').filter(|n| !n.is_empty()).map(need).collect();
            }
            "allow" if value.is_empty() => job["allow_failure"] = json!(true),
            "allow" => {
                job["allow_failure"] = json!({ "exit_codes": [value.parse::<i64>().expect("an exit code")] })
            }
            "retry" => job["retry"] = json!({ "max": value.parse::<u32>().expect("a count") }),
            "group" => job["resource_group"] = json!(value),
            when => {
                job["when"] = json!(when);
                if when == "delayed" {
                    job["start_in"] = json!("5 minutes");
                }
            }
        }
    }
    serde_json::from_value(job).expect("a job")
}

fn plan(jobs: &str) -> Plan {
    let jobs: Vec<Job> = jobs.split(';').map(job).collect();
    let mut stages: Vec<String> = jobs.iter().map(|j| j.stage.clone()).collect();
    stages.sort();
    stages.dedup();
    Plan { stages, jobs, ..Plan::default() }
}

struct World {
    scheduler: Scheduler,
    actions: Vec<Action>,
}

impl World {
    fn start(plan: Plan) -> World {
        let mut world =
            World { scheduler: Scheduler::new(Arc::new(plan)).expect("a plan"), actions: Vec::new() };
        world.feed(Input::Start);
        world
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.scheduler.handle(input) {
                if let Action::StartJob { job, .. } = action {
                    inputs.push(Input::JobStarted(job));
                }
                self.actions.push(action);
            }
        }
    }

    fn step(&mut self, step: &str) {
        let Some((name, what)) = step.split_once(':') else { return self.feed(Input::CancelAll) };
        let id = self.scheduler.find(name).expect(name);
        let failed = |reason, exit_code| Outcome::Failed { reason, exit_code, message: None };
        let script = |code| Input::JobFinished(id, failed(FailureReason::ScriptFailure, Some(code)));
        let input = match what {
            "ok" => Input::JobFinished(id, Outcome::Success),
            "fail" => script(1),
            "lost" => Input::JobFinished(id, failed(FailureReason::RunnerSystemFailure, None)),
            "stopped" => Input::JobFinished(id, Outcome::Canceled),
            "play" => Input::Play(id),
            "retry" => Input::Retry(id),
            "cancel" => Input::CancelJob(id),
            "timer" => Input::TimerFired(id),
            code => script(code.strip_prefix("fail=").expect(step).parse().expect(step)),
        };
        self.feed(input);
    }

    fn steps(&mut self, steps: &str) {
        steps.split_whitespace().for_each(|s| self.step(s));
    }

    fn statuses(&self) -> String {
        let jobs = self.scheduler.plan().jobs.iter().enumerate();
        jobs.map(|(i, j)| format!("{}={}", j.name, self.scheduler.status(JobId(i)).name()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn changes(&self, name: &str) -> Vec<Change> {
        let id = self.scheduler.find(name).expect(name);
        let change = |a: &Action| match a {
            Action::StatusChanged(change) if change.job == id => Some(change.clone()),
            _ => None,
        };
        self.actions.iter().filter_map(change).collect()
    }
}

/// Rows: jobs, steps, statuses of the jobs afterwards, status of the pipeline.
fn check(table: &[(&str, &str, &str, &str)]) {
    for (jobs, steps, expected, pipeline) in table {
        let mut world = World::start(plan(jobs));
        world.steps(steps);
        assert_eq!(world.statuses(), *expected, "{jobs} | {steps}");
        assert_eq!(world.scheduler.pipeline_status().name(), *pipeline, "{jobs} | {steps}");
    }
}

#[test]
fn stage_jobs_wait_for_all_earlier_stages() {
    check(&[
        ("a@1;b@1;c@2", "", "a=running b=running c=created", "running"),
        ("a@1;b@1;c@2", "a:ok", "a=success b=running c=created", "running"),
        ("a@1;b@1;c@2", "a:ok b:ok", "a=success b=success c=running", "running"),
        ("a@1;b@1;c@2", "a:ok b:ok c:ok", "a=success b=success c=success", "success"),
        ("a@1;b@1;c@2;d@3", "a:ok b:fail", "a=success b=failed c=skipped d=skipped", "failed"),
        // a job with needs placed in an earlier stage counts for that stage
        ("a@1;b@1 needs=a;c@2", "a:ok", "a=success b=running c=created", "running"),
        // and an empty stage does not hold anything
        ("a@1;b@3", "a:ok", "a=success b=running", "running"),
    ]);
}

#[test]
fn needs_start_jobs_without_waiting_for_the_stage() {
    check(&[
        ("a@1;b@1;c@2 needs=a", "a:ok", "a=success b=running c=running", "running"),
        ("a@1;b@2 needs=", "", "a=running b=running", "running"),
        ("a@1;b@2 needs=absent", "", "a=running b=running", "running"),
        ("a@1;b@1 needs=a;c@1 needs=a,b", "a:ok b:ok", "a=success b=success c=running", "running"),
        ("a@1;b@2 needs=a;c@3 needs=b", "a:fail", "a=failed b=skipped c=skipped", "failed"),
        ("a@1 allow;b@2 needs=a", "a:fail", "a=failed b=running", "running"),
    ]);
}

#[test]
fn when_decides_by_what_came_before() {
    let stage = "a@1;s@2;f@2 on_failure;w@2 always;m@2 manual";
    let dag = "a@1;s@2 needs=a;f@2 needs=a on_failure;w@2 needs=a always;m@2 needs=a manual";
    check(&[
        (stage, "a:ok", "a=success s=running f=skipped w=running m=manual", "running"),
        (stage, "a:fail", "a=failed s=skipped f=running w=running m=skipped", "running"),
        (stage, "a:cancel a:stopped", "a=canceled s=skipped f=skipped w=skipped m=skipped", "canceled"),
        (dag, "a:ok", "a=success s=running f=skipped w=running m=manual", "running"),
        (dag, "a:fail", "a=failed s=skipped f=running w=running m=skipped", "running"),
        (dag, "a:cancel a:stopped", "a=canceled s=skipped f=skipped w=skipped m=skipped", "canceled"),
        // failed, but allowed to: no failure for those behind it
        ("a@1 allow;f@2 on_failure;s@2", "a:fail", "a=failed f=skipped s=running", "running"),
        ("a@1 allow;s@2", "a:cancel a:stopped", "a=canceled s=running", "running"),
        ("a@1 needs= on_failure", "", "a=skipped", "skipped"),
        ("a@1 on_failure;b@2", "", "a=skipped b=running", "running"),
        ("a@1 on_failure;b@2 needs=a", "", "a=skipped b=skipped", "skipped"),
        ("a@1 on_failure;b@2 needs=a always", "", "a=skipped b=running", "running"),
        // one need that does not run decides at once, though another still runs: GitLab's own rule
        ("a@1 on_failure;b@1;c@2 needs=a,b", "", "a=skipped b=running c=skipped", "running"),
        ("a@1 on_failure;b@1;c@2 needs=a,b always", "", "a=skipped b=running c=running", "running"),
        // a cancelled and a failed one: failed
        ("a@1;b@1;f@2 on_failure", "a:cancel a:stopped b:fail", "a=canceled b=failed f=running", "running"),
    ]);
}

#[test]
fn manual_jobs_block_or_are_ignored() {
    check(&[
        ("m@1 manual allow;b@2", "", "m=manual b=running", "running"),
        ("m@1 manual allow;b@2", "b:ok", "m=manual b=success", "success"),
        ("m@1 manual;b@2;w@3 always", "", "m=manual b=created w=created", "manual"),
        ("m@1 manual;b@2", "m:play", "m=running b=created", "running"),
        ("m@1 manual;b@2", "m:play m:ok", "m=success b=running", "running"),
        ("m@1 manual allow=3", "", "m=manual", "manual"),
        ("m@1 manual allow=3;b@2", "m:play m:fail=3", "m=failed b=running", "running"),
        ("m@1 manual allow;b@2 needs=m", "", "m=manual b=skipped", "skipped"),
        ("m@1 manual;b@2 needs=m", "", "m=manual b=created", "manual"),
        // only manual and delayed jobs can be played
        ("a@1;b@2", "b:play", "a=running b=created", "running"),
    ]);
}

#[test]
fn playing_and_retrying_revive_what_was_skipped_behind() {
    let chain = "m@1 manual allow;b@2 needs=m;c@3 needs=b";
    let stages = "a@1;b@2;c@3;d@3 needs=b";
    check(&[
        (chain, "", "m=manual b=skipped c=skipped", "skipped"),
        (chain, "m:play", "m=running b=created c=created", "running"),
        (chain, "m:play m:ok", "m=success b=running c=created", "running"),
        (chain, "m:play m:fail", "m=failed b=running c=created", "running"),
        (stages, "a:fail", "a=failed b=skipped c=skipped d=skipped", "failed"),
        (stages, "a:fail a:retry", "a=running b=created c=created d=created", "running"),
        (stages, "a:fail a:retry a:ok", "a=success b=running c=created d=created", "running"),
        (stages, "a:fail a:retry a:fail", "a=failed b=skipped c=skipped d=skipped", "failed"),
        // what has run stays as it is
        ("a@1;f@2 on_failure;s@2", "a:fail f:ok a:retry a:ok", "a=success f=success s=running", "running"),
        ("a@1;b@2", "a:ok b:ok a:retry", "a=running b=success", "running"),
        ("a@1;b@1;c@2", "a:fail a:retry b:ok a:ok", "a=success b=success c=running", "running"),
        ("a@1;b@2", "a:cancel a:stopped a:retry a:ok", "a=success b=running", "running"),
        // a skipped or running job has nothing to retry
        ("a@1;b@2", "a:fail b:retry", "a=failed b=skipped", "failed"),
        ("a@1", "a:retry", "a=running", "running"),
    ]);
}

#[test]
fn delayed_jobs_wait_for_their_time() {
    check(&[
        ("a@1;d@2 delayed;b@3", "", "a=running d=created b=created", "running"),
        ("a@1;d@2 delayed;b@3", "a:ok", "a=success d=scheduled b=created", "scheduled"),
        ("d@1 delayed;b@2 always", "d:timer", "d=running b=created", "running"),
        ("d@1 delayed", "d:play", "d=running", "running"),
        ("d@1 delayed", "d:play d:timer", "d=running", "running"),
        ("d@1 delayed", "cancel d:timer", "d=canceled", "canceled"),
        ("a@1;d@2 delayed", "a:fail", "a=failed d=skipped", "failed"),
    ]);
    let world = World::start(plan("d@1 delayed"));
    let timer = Action::SetTimer { job: JobId(0), after: std::time::Duration::from_secs(300) };
    assert!(world.actions.contains(&timer), "{:?}", world.actions);
}

#[test]
fn allowed_failures_by_exit_code() {
    check(&[
        ("a@1 allow=42;b@2", "a:fail=42", "a=failed b=running", "running"),
        ("a@1 allow=42;b@2", "a:fail=1", "a=failed b=skipped", "failed"),
        ("a@1 allow=42;b@2", "a:lost", "a=failed b=skipped", "failed"),
        ("a@1 allow=42", "a:fail=42", "a=failed", "success"),
        ("a@1 allow=42", "a:fail=42 a:retry a:fail=1", "a=failed", "failed"),
        ("a@1 allow=42", "a:cancel a:stopped", "a=canceled", "canceled"),
    ]);
    let mut world = World::start(plan("a@1 allow=42"));
    world.steps("a:fail=42");
    let last = world.changes("a").pop().unwrap();
    assert!(last.allowed_to_fail);
    assert_eq!((last.reason, last.exit_code), (Some(FailureReason::ScriptFailure), Some(42)));
}

#[test]
fn automatic_retries_are_new_attempts_that_nobody_else_sees() {
    check(&[
        ("a@1 retry=1;b@2", "a:fail", "a=running b=created", "running"),
        ("a@1 retry=1;b@2", "a:fail a:fail", "a=failed b=skipped", "failed"),
        ("a@1 retry=2;b@2", "a:fail a:lost a:ok", "a=success b=running", "running"),
        ("a@1 retry=2;f@2 on_failure needs=a", "a:fail", "a=running f=created", "running"),
    ]);
    let mut world = World::start(plan("a@1 retry=1"));
    world.steps("a:fail a:fail");
    let seen: Vec<(Status, u32)> = world.changes("a").iter().map(|c| (c.status, c.attempt)).collect();
    use Status::{Failed, Pending, Running};
    assert_eq!(seen, [(Pending, 1), (Running, 1), (Pending, 2), (Running, 2), (Failed, 2)]);
    assert_eq!(world.changes("a")[2].reason, Some(FailureReason::ScriptFailure));
}

#[test]
fn resource_groups_run_one_job_at_a_time_in_order_of_readiness() {
    let three = "a@1 group=g;b@1 group=g;c@1 group=g;d@1 group=h";
    let waiting = "waiting_for_resource";
    check(&[
        (three, "", &format!("a=running b={waiting} c={waiting} d=running"), "running"),
        (three, "a:fail", &format!("a=failed b=running c={waiting} d=running"), "running"),
        (three, "b:cancel a:ok", "a=success b=canceled c=running d=running", "running"),
        (three, "a:cancel", &format!("a=canceling b={waiting} c={waiting} d=running"), "running"),
        (three, "a:cancel a:stopped", &format!("a=canceled b=running c={waiting} d=running"), "running"),
        (three, "cancel", "a=canceling b=canceled c=canceled d=canceling", "canceling"),
        ("a@1 group=g retry=1;b@1 group=g", "a:fail", &format!("a={waiting} b=running"), "running"),
        ("a@1 group=g retry=1;b@1 group=g", "a:fail b:ok", "a=running b=success", "running"),
        ("a@1 group=g retry=1", "a:fail", "a=running", "running"),
        ("a@1 group=g;m@1 group=g manual", "", "a=running m=manual", "running"),
    ]);
}

#[test]
fn cancelling() {
    check(&[
        ("a@1;b@2", "cancel", "a=canceling b=canceled", "canceling"),
        ("a@1;b@2", "cancel a:stopped", "a=canceled b=canceled", "canceled"),
        // the wish wins, whatever the job still came to
        ("a@1;b@2", "cancel a:ok", "a=canceled b=canceled", "canceled"),
        ("a@1 retry=2", "cancel a:fail", "a=canceled", "canceled"),
        ("a@1;m@1 manual allow;d@1 delayed", "cancel a:ok", "a=canceled m=manual d=canceled", "canceled"),
        ("a@1;m@1 manual", "cancel a:ok", "a=canceled m=manual", "manual"),
        ("a@1;b@1", "a:ok cancel b:stopped", "a=success b=canceled", "canceled"),
        // complete jobs stay as they are
        ("a@1", "a:fail cancel", "a=failed", "failed"),
        ("a@1", "a:ok a:cancel a:fail", "a=success", "success"),
    ]);
}

#[test]
fn a_job_cancelled_before_it_has_a_slot_never_starts() {
    let mut scheduler = Scheduler::new(Arc::new(plan("a@1"))).unwrap();
    scheduler.handle(Input::Start);
    let actions = scheduler.handle(Input::CancelAll);
    assert_eq!(actions[0], Action::CancelJob(JobId(0)));
    assert_eq!(actions.last(), Some(&Action::PipelineFinished(Status::Canceled)));
    assert_eq!(scheduler.handle(Input::JobStarted(JobId(0))), []);
}

#[test]
fn a_failure_cancels_the_rest_where_the_workflow_says_so() {
    let auto_cancel = AutoCancel { on_job_failure: Some("all".to_owned()), on_new_commit: None };
    let table = [
        ("a@1;b@1;c@2 always", "a:fail", "a=failed b=canceling c=canceled"),
        ("a@1 allow;b@1;c@2", "a:fail", "a=failed b=running c=created"),
        ("a@1 retry=1;b@1;c@2", "a:fail", "a=running b=running c=created"),
        ("a@1 group=g;b@1 group=g", "a:fail", "a=failed b=canceled"),
        ("a@1;b@1;c@2", "a:cancel a:stopped", "a=canceled b=running c=created"),
    ];
    for (jobs, steps, expected) in table {
        let mut world = World::start(Plan { auto_cancel: Some(auto_cancel.clone()), ..plan(jobs) });
        world.steps(steps);
        assert_eq!(world.statuses(), expected, "{jobs} | {steps}");
    }
}

#[test]
fn the_end_is_told_once_and_again_after_a_revival() {
    let mut world = World::start(plan("m@1 manual;b@2"));
    world.steps("m:play m:ok b:fail b:retry b:ok");
    let ends = world.actions.iter().filter_map(|a| match a {
        Action::PipelineFinished(status) => Some(*status),
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [Status::Manual, Status::Failed, Status::Success]);
}

#[test]
fn a_plan_without_jobs_is_a_success_at_once() {
    let world = World::start(Plan::default());
    let expected = [Action::PipelineChanged(Status::Success), Action::PipelineFinished(Status::Success)];
    assert_eq!(world.actions, expected);
}

#[test]
fn contradictory_plans_are_refused() {
    let error = |plan: Plan| Scheduler::new(Arc::new(plan)).unwrap_err();
    assert_eq!(error(plan("a@1 needs=b;b@1 needs=a")), PlanError::Cycle("a".to_owned()));
    assert_eq!(error(plan("a@1 needs=b;b@2")), PlanError::Cycle("a".to_owned()));
    assert_eq!(error(plan("a@1;a@2")), PlanError::SameName("a".to_owned()));
    let unlisted = Plan { stages: Vec::new(), ..plan("a@1") };
    assert!(matches!(error(unlisted), PlanError::UnknownStage { .. }));
    let mut undelayed = plan("a@1 delayed");
    undelayed.jobs[0].start_in = None;
    assert!(matches!(error(undelayed), PlanError::BadDelay { .. }));
}

#[test]
fn a_resource_group_is_named_with_the_variables_of_the_job() {
    let mut plan = plan("a@1 group=$PLACE;b@1 group=$PLACE;c@1 group=${PLACE}");
    for (job, place) in plan.jobs.iter_mut().zip(["north", "south", "north"]) {
        job.variables.insert("PLACE".to_owned(), place.to_owned());
    }
    assert_eq!(World::start(plan).statuses(), "a=running b=running c=waiting_for_resource");
}
