//! The dispatcher with jobs that are closures.

use super::*;
use pipelines::event::{Event, EventKind, Phase};
use pipelines::plan::{Job, Plan};
use pipelines::schedule::Outcome;
use pipelines::status::{FailureReason, Status};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use tokio::sync::{Semaphore, mpsc};

fn job(text: &str) -> Job {
    let mut words = text.split_whitespace();
    let (name, stage) = words.next().and_then(|w| w.split_once('@')).expect("name@stage");
    let mut job = json!({ "name": name, "stage": stage, "when": "on_success", "allow_failure": false });
    for word in words {
        match word {
            "allow" => job["allow_failure"] = json!(true),
            "retry" => job["retry"] = json!({ "max": 1 }),
            "free" => job["needs"] = json!([]),
            when => job["when"] = json!(when),
        }
        if word == "delayed" {
            job["start_in"] = json!("1 second");
        }
    }
    serde_json::from_value(job).unwrap()
}

fn plan(jobs: &str) -> Arc<Plan> {
    let jobs: Vec<Job> = jobs.split(';').map(job).collect();
    let mut stages: Vec<String> = jobs.iter().map(|j| j.stage.clone()).collect();
    stages.sort();
    stages.dedup();
    Arc::new(Plan { stages, jobs, ..Plan::default() })
}

fn options(slots: usize, manual: &[&str]) -> Options {
    Options {
        slots: Arc::new(Semaphore::new(slots)),
        manual: manual.iter().map(|m| (*m).to_owned()).collect(),
        run: 1,
        reference: "main".to_owned(),
        sha: "0".repeat(40),
        dirty: false,
    }
}

struct Ran {
    end: RunEnd,
    events: Vec<Arc<Event>>,
    stored: Vec<Event>,
}

impl Ran {
    /// `a=running a=success ...` in the order of the events.
    fn statuses(&self) -> String {
        let status = |e: &Arc<Event>| match &e.kind {
            EventKind::JobStatus { job, status, .. } => Some(format!("{job}={}", status.name())),
            _ => None,
        };
        self.events.iter().filter_map(status).collect::<Vec<_>>().join(" ")
    }
}

async fn run<S, F>(
    plan: Arc<Plan>,
    options: Options,
    interrupts: mpsc::UnboundedReceiver<()>,
    start: S,
) -> Ran
where
    S: Fn(JobRun) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let mut journal = Journal::create(&path).unwrap();
    let events: std_mpsc::Receiver<Arc<Event>> = journal.subscribe();
    let end = dispatch(plan, options, journal, interrupts, start).await.unwrap();
    Ran { end, events: events.iter().collect(), stored: read_journal(&path).unwrap() }
}

fn never() -> mpsc::UnboundedReceiver<()> {
    mpsc::unbounded_channel().1
}

fn failed(exit_code: i32) -> Outcome {
    Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(exit_code), message: None }
}

#[tokio::test]
async fn runs_stages_in_order_and_keeps_what_it_tells() {
    let start = |run: JobRun| async move {
        let job = run.job().name.clone();
        run.events.send(EventKind::JobPhase { job: job.clone(), phase: Phase::Script }).unwrap();
        run.events.send(EventKind::Notice { job: Some(job), message: "so far".to_owned() }).unwrap();
        Outcome::Success
    };
    let ran = run(plan("a@1;b@2"), options(4, &[]), never(), start).await;
    assert_eq!((ran.end.status, ran.end.exit_code()), (Status::Success, 0));
    assert_eq!(ran.statuses(), "a=pending a=running a=success b=pending b=running b=success");
    let seqs: Vec<u64> = ran.events.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(ran.events.iter().map(Arc::as_ref).eq(&ran.stored));
    assert!(matches!(ran.stored.first().unwrap().kind, EventKind::RunStarted { run: 1, .. }));
    assert_eq!(ran.stored.last().unwrap().kind, EventKind::RunFinished { status: Status::Success });
    // a job's own events stand before its end
    let at = |wanted: &dyn Fn(&EventKind) -> bool| ran.stored.iter().position(|e| wanted(&e.kind)).unwrap();
    let phase = at(&|k| matches!(k, EventKind::JobPhase { job, .. } if job == "a"));
    let notice = at(&|k| matches!(k, EventKind::Notice { job: Some(job), .. } if job == "a"));
    let end = at(&|k| matches!(k, EventKind::JobStatus { job, status: Status::Success, .. } if job == "a"));
    assert!(phase < notice && notice < end);
}

#[tokio::test]
async fn never_runs_more_jobs_than_slots() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = |_: JobRun| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Outcome::Success
        }
    };
    let ran = run(plan("a@1;b@1;c@1;d@1;e@1"), options(2, &[]), never(), start).await;
    assert_eq!(ran.end.status, Status::Success);
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn earlier_stages_get_their_slots_before_jobs_with_needs_of_later_ones() {
    let start = |_: JobRun| async { Outcome::Success };
    let ran = run(plan("a@1;late@3 free;b@2;free@2 free;c@1"), options(1, &[]), never(), start).await;
    let statuses = ran.statuses();
    let begun: Vec<&str> = statuses.split(' ').filter_map(|s| s.strip_suffix("=running")).collect();
    // `b` is in the queue when its stage is; until then others may go
    assert_eq!(begun, ["a", "c", "b", "free", "late"]);
}

#[tokio::test]
async fn exit_codes_follow_the_pipeline() {
    let table: [(&str, &[&str], Status, u8); 8] = [
        ("a@1", &[], Status::Success, 0),
        ("bad@1;b@2", &[], Status::Failed, 1),
        ("bad@1 allow", &[], Status::Success, 0),
        ("m@1 manual allow;b@2", &[], Status::Success, 0),
        ("m@1 manual;b@2", &[], Status::Manual, 1),
        ("m@1 manual;b@2", &["m"], Status::Success, 0),
        ("d@1 delayed;b@2", &[], Status::Success, 0),
        ("stopped@1;b@2", &[], Status::Canceled, 130),
    ];
    for (jobs, manual, status, code) in table {
        let start = |run: JobRun| async move {
            match run.job().name.as_str() {
                "bad" => failed(1),
                "stopped" => Outcome::Canceled,
                _ => Outcome::Success,
            }
        };
        let ran = run(plan(jobs), options(2, manual), never(), start).await;
        assert_eq!((ran.end.status, ran.end.exit_code()), (status, code), "{jobs}");
    }
}

#[tokio::test]
async fn a_retry_runs_the_next_attempt() {
    let start = |run: JobRun| async move { if run.attempt == 1 { failed(3) } else { Outcome::Success } };
    let ran = run(plan("a@1 retry"), options(1, &[]), never(), start).await;
    assert_eq!(ran.statuses(), "a=pending a=running a=pending a=running a=success");
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_runner() {
    let start =
        |run: JobRun| async move { if run.job().name == "a" { panic!("broken") } else { Outcome::Success } };
    let ran = run(plan("a@1;b@1"), options(1, &[]), never(), start).await;
    assert_eq!((ran.end.status, ran.end.exit_code()), (Status::Failed, 1));
    let reason = ran.stored.iter().find_map(|e| match &e.kind {
        EventKind::JobStatus { reason, .. } => *reason,
        _ => None,
    });
    assert_eq!(reason, Some(FailureReason::RunnerSystemFailure));
}

#[tokio::test]
async fn the_first_interrupt_cancels_the_second_kills_the_third_leaves() {
    for (reacts_to, interrupts) in [(Some(Cancel::Graceful), 1), (Some(Cancel::Kill), 2), (None, 3)] {
        let (sender, receiver) = mpsc::unbounded_channel();
        let start = |run: JobRun| {
            let sender = sender.clone();
            async move {
                (0..interrupts).for_each(|_| sender.send(()).unwrap());
                let mut stop = run.stop;
                match reacts_to {
                    Some(level) => drop(stop.wait_for(|s| *s == level).await.unwrap()),
                    None => std::future::pending().await,
                }
                Outcome::Canceled
            }
        };
        let ran = run(plan("a@1;b@1;c@2"), options(1, &[]), receiver, start).await;
        assert!(ran.end.interrupted);
        assert_eq!((ran.end.status, ran.end.exit_code()), (Status::Canceled, 130));
        assert!(!ran.statuses().contains("b=running"), "{}", ran.statuses());
    }
}

#[tokio::test]
async fn an_interrupted_run_that_is_blocked_ends_as_cancelled() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let start = |run: JobRun| {
        sender.send(()).unwrap();
        let mut stop = run.stop;
        async move {
            stop.changed().await.unwrap();
            Outcome::Success
        }
    };
    let ran = run(plan("a@1;m@1 manual"), options(1, &[]), receiver, start).await;
    assert_eq!((ran.end.status, ran.end.exit_code()), (Status::Manual, 130));
}

#[tokio::test]
async fn only_manual_jobs_can_be_asked_to_play() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(&dir.path().join("journal.jsonl")).unwrap();
    let start = |_: JobRun| async { Outcome::Success };
    let result = dispatch(plan("a@1"), options(1, &["a"]), journal, never(), start).await;
    assert_eq!(result, Err(DispatchError::NotManual("a".to_owned())));
}

#[tokio::test]
async fn a_reader_that_does_not_read_or_has_gone_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(&dir.path().join("journal.jsonl")).unwrap();
    let idle = journal.subscribe();
    drop(journal.subscribe());
    let start = |run: JobRun| async move {
        for n in 0..10_000 {
            run.events.send(EventKind::Notice { job: None, message: n.to_string() }).unwrap();
        }
        Outcome::Success
    };
    let end = dispatch(plan("a@1"), options(1, &[]), journal, never(), start).await.unwrap();
    assert_eq!(end.status, Status::Success);
    assert_eq!(idle.iter().filter(|e| matches!(e.kind, EventKind::Notice { .. })).count(), 10_000);
}

#[test]
fn half_a_last_line_of_a_journal_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let line = r#"{"seq":1,"at":5,"event":"run_finished","status":"success"}"#;
    std::fs::write(&path, format!("{line}\n{{\"seq\":2,")).unwrap();
    let events = read_journal(&path).unwrap();
    assert_eq!(events, [Event { seq: 1, at: 5, kind: EventKind::RunFinished { status: Status::Success } }]);
    std::fs::write(&path, "nonsense\n").unwrap();
    assert!(read_journal(&path).is_err());
}
