//! What people, clocks and silent runners do to jobs.

use super::Bench;
use crate::server::db::now;
use crate::server::engine::{self, NewPipeline, invariants, leases, timers, waits};
use crate::server::schedules;
use pipelines::schedule::Outcome;

const MINUTE: i64 = 60_000;

#[tokio::test]
async fn a_retry_is_another_row_and_the_old_token_is_worth_nothing() {
    let bench = Bench::new("a: { script: [a], retry: 1 }\nb: { stage: deploy, script: [b] }\n").await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    let first = bench.claims(&runner, "a").await;
    bench.ends(first.job, false).await;
    assert_eq!(bench.jobs(pipeline).await, "a#2=pending b=created");
    let old = bench.job(first.job).await;
    assert_eq!(
        (old.status.as_str(), old.reason.as_deref(), old.exit_code),
        ("failed", Some("script_failure"), Some(1))
    );
    assert!(old.message.unwrap().contains("retried"));
    assert!(engine::by_token(&bench.app, &first.token).await.is_err());
    let second = bench.claims(&runner, "a").await;
    bench.ends(first.job, true).await;
    bench.ends(second.job, false).await;
    assert_eq!(bench.jobs(pipeline).await, "a#2=failed b=skipped");
    assert_eq!(bench.status(pipeline).await, "failed");

    engine::retry(&bench.app, second.job, &bench.actor).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a#3=pending b=created");
    let refused = engine::retry(&bench.app, second.job, &bench.actor).await.unwrap_err();
    assert!(refused.status == 409 && refused.message.contains("newest"), "{refused}");
    let third = bench.claims(&runner, "a").await;
    bench.ends(third.job, true).await;
    let b = bench.claims(&runner, "b").await;
    bench.ends(b.job, true).await;
    assert_eq!(bench.status(pipeline).await, "success");
    assert_eq!(bench.count("jobs").await, 4);
    assert_eq!(bench.count("notices").await, 1);
    bench.create().await;
    assert_eq!(invariants::check(&bench.app).await.unwrap(), 0);
}

#[tokio::test]
async fn a_whole_pipeline_is_run_again_in_its_order() {
    let yaml = "stages: [a, b, c]\na: { stage: a, script: [a] }\nok: { stage: a, script: [a] }\n\
                b: { stage: b, script: [b] }\nc: { stage: c, needs: [b], script: [c] }\n";
    let bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    let (a, ok) = (bench.claims(&runner, "a").await, bench.claims(&runner, "ok").await);
    bench.ends(ok.job, true).await;
    engine::cancel_pipeline(&bench.app, pipeline, &bench.actor).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a=canceling ok=success b=canceled c=canceled");
    bench.ends(a.job, false).await;
    assert_eq!(bench.jobs(pipeline).await, "a=canceled ok=success b=canceled c=canceled");
    assert_eq!(bench.status(pipeline).await, "canceled");
    engine::retry_pipeline(&bench.app, pipeline, &bench.actor).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a#2=pending ok=success b=created c=created");
    for name in ["a", "b", "c"] {
        let job = bench.claims(&runner, name).await;
        bench.ends(job.job, true).await;
    }
    assert_eq!(bench.status(pipeline).await, "success");
    assert_eq!(engine::retry_pipeline(&bench.app, pipeline, &bench.actor).await.unwrap_err().status, 409);
}

#[tokio::test]
async fn a_job_that_no_runner_answers_for_goes_back_with_another_token() {
    let bench = Bench::new("a: { script: [a] }\n").await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    let first = bench.claims(&runner, "a").await;
    leases::sweep(&bench.app, now() + MINUTE / 2).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a=running", "nothing is judged early");
    leases::sweep(&bench.app, now() + 2 * MINUTE).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a=pending", "it is the same attempt");
    assert_eq!(engine::by_token(&bench.app, &first.token).await.unwrap_err().status, 403);
    let second = bench.claims(&runner, "a").await;
    assert_eq!(second.job, first.job);
    assert_ne!(second.token, first.token);
    // one that is cancelled while it is nobody's ends at once
    leases::sweep(&bench.app, now() + 2 * MINUTE).await.unwrap();
    engine::cancel(&bench.app, second.job, &bench.actor).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a=canceled");
    assert_eq!(bench.count("pending").await, 0);
}

#[tokio::test]
async fn a_job_that_ran_is_lost_and_what_deploys_is_never_repeated() {
    let yaml = "a: { script: [a], retry: 2 }\nb: { script: [b], retry: 2, environment: prod }\n";
    let mut bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    for name in ["a", "b"] {
        let job = bench.claims(&runner, name).await;
        let row = engine::by_token(&bench.app, &job.token).await.unwrap();
        engine::heard(&bench.app, &row).await.unwrap();
    }
    leases::sweep(&bench.app, now() + 2 * MINUTE).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a#2=pending b=failed");
    let b = bench.job(bench.id(pipeline, "b").await).await;
    assert_eq!(b.reason.as_deref(), Some("runner_system_failure"));
    assert!(b.message.as_deref().is_some_and(|m| m.starts_with("lost") && m.contains("`prod`")), "{b:?}");
    // who was away itself judges nobody at first
    let again = bench.claims(&runner, "a").await;
    bench.run("UPDATE jobs SET lease_until = 5, acknowledged = 1 WHERE lease_until IS NOT NULL").await;
    bench.restart().await;
    leases::sweep(&bench.app, now()).await.unwrap();
    assert!(engine::by_token(&bench.app, &again.token).await.is_ok());
}

#[tokio::test]
async fn what_the_servers_own_pool_took_without_starting_a_process_goes_back_at_once() {
    let bench = Bench::new("a: { script: [a] }\nb: { script: [b] }\nc: { script: [c] }\n").await;
    let pipeline = bench.create().await;
    let elsewhere = bench.runner("[]").await;
    let own = bench.runner("[]").await;
    bench.run(&format!("UPDATE runners SET local = 1 WHERE id = {}", own.id)).await;
    let (_, b) = (bench.claims(&own, "a").await, bench.claims(&own, "b").await);
    bench.claims(&elsewhere, "c").await;
    engine::never_started(&bench.app, &[b.job.to_string()]).await.unwrap();
    let waiting = "SELECT name FROM jobs WHERE status = 'pending'";
    let waiting: Vec<String> = sqlx::query_scalar(waiting).fetch_all(&bench.app.db.pool).await.unwrap();
    assert_eq!(waiting, ["a"]);
    bench.claims(&own, "a").await;
    assert_eq!(bench.jobs(pipeline).await, "a=running b=running c=running");
}

#[tokio::test]
async fn cancelling_ends_even_if_the_runner_never_says_so() {
    let bench = Bench::new("a: { script: [a] }\nb: { script: [b] }\n").await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    let (a, b) = (bench.claims(&runner, "a").await, bench.claims(&runner, "b").await);
    engine::cancel_pipeline(&bench.app, pipeline, &bench.actor).await.unwrap();
    let row = engine::by_token(&bench.app, &a.token).await.unwrap();
    assert_eq!((row.status.as_str(), row.cancel), ("canceling", 1));
    // b says nothing any more, a goes on to say that it is there
    let later = now() + MINUTE + 5000;
    sqlx::query("UPDATE jobs SET lease_until = $1 WHERE id = $2")
        .bind(later + MINUTE)
        .bind(a.job)
        .execute(&bench.app.db.pool)
        .await
        .unwrap();
    leases::sweep(&bench.app, later).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "a=canceling b=canceled");
    assert_eq!(bench.job(b.job).await.cancel, 2);
    bench.run(&format!("UPDATE jobs SET lease_until = {} WHERE id = {}", later + 20 * MINUTE, a.job)).await;
    leases::sweep(&bench.app, later + 10 * MINUTE).await.unwrap();
    assert_eq!(bench.status(pipeline).await, "canceled");
    assert!(engine::by_token(&bench.app, &a.token).await.is_err());
}

#[tokio::test]
async fn manual_and_delayed_jobs_wait_for_people_and_clocks() {
    let yaml = "m: { when: manual, allow_failure: false, script: [m] }\n\
                d: { when: delayed, start_in: 30 minutes, script: [d] }\n\
                e: { when: delayed, start_in: 30 minutes, script: [d] }\n";
    let mut bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    assert_eq!(bench.jobs(pipeline).await, "m=manual d=scheduled e=scheduled");
    assert!(bench.job(bench.id(pipeline, "d").await).await.waits_for.starts_with("waits until 20"));
    assert_eq!(bench.job(bench.id(pipeline, "m").await).await.waits_for, "waits for a person");
    timers::fire(&bench.app, now() + MINUTE).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "m=manual d=scheduled e=scheduled");
    engine::play(&bench.app, bench.id(pipeline, "e").await, &bench.actor).await.unwrap();
    assert_eq!(bench.count("timers").await, 1);
    bench.restart().await;
    timers::fire(&bench.app, now() + 31 * MINUTE).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "m=manual d=pending e=pending");
    assert_eq!(bench.count("timers").await, 0);
    let runner = bench.runner("[]").await;
    for name in ["d", "e"] {
        let job = bench.claims(&runner, name).await;
        bench.ends(job.job, true).await;
    }
    assert_eq!(bench.status(pipeline).await, "manual");
    let row = bench.app.pipeline(bench.project, pipeline).await.unwrap();
    assert!(row.finished_at.is_none(), "it waits for a person");
    engine::play(&bench.app, bench.id(pipeline, "m").await, &bench.actor).await.unwrap();
    let m = bench.claims(&runner, "m").await;
    assert_eq!(engine::play(&bench.app, m.job, &bench.actor).await.unwrap_err().status, 409);
    bench.ends(m.job, true).await;
    assert_eq!(bench.status(pipeline).await, "success");
    assert_eq!(invariants::check(&bench.app).await.unwrap(), 0);
}

#[tokio::test]
async fn a_newer_commit_ends_what_may_be_interrupted() {
    let yaml = "a: { script: [a], interruptible: true }\nb: { stage: deploy, script: [b] }\n";
    let bench = Bench::new(yaml).await;
    let runner = bench.runner("[]").await;
    let first = bench.create().await;
    let same = bench.create_of(NewPipeline { source: "web".into(), ..bench.push("main") }).await;
    assert_eq!(bench.status(first).await, "pending", "it is the same commit");
    let a = bench.claims(&runner, "a").await;
    let more = |n: &str| bench.commit("group/app", "main", &[("n", n)], "more");
    more("1");
    let second = bench.create().await;
    assert_eq!(bench.jobs(first).await, "a=canceling b=canceled");
    assert_eq!(bench.jobs(same).await, "a=canceled b=canceled");
    assert!(bench.job(a.job).await.message.unwrap().contains("newer commit of `main`"));
    let a = bench.claims(&runner, "a").await;
    bench.ends(a.job, true).await;
    bench.claims(&runner, "b").await;
    more("2");
    let third = bench.create().await;
    assert_eq!(bench.jobs(second).await, "a=success b=running", "what must not be interrupted has begun");
    bench.run(r#"UPDATE projects SET settings = '{"auto_cancel": false}'"#).await;
    more("3");
    bench.create().await;
    assert_eq!(bench.jobs(third).await, "a=pending b=created", "the project does not want it");
}

#[tokio::test]
async fn a_waiting_job_says_what_for() {
    let yaml = "a: { tags: [gpu], script: [a] }\nb: { stage: deploy, needs: [a], script: [b] }\n";
    let bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    let (a, b) = (bench.id(pipeline, "a").await, bench.id(pipeline, "b").await);
    assert_eq!(bench.job(b).await.waits_for, "waits for `a`");
    waits::explain(&bench.app, now()).await.unwrap();
    assert_eq!(bench.job(a).await.waits_for, "waits for a runner with tags gpu: none is there");
    let runner = bench.runner(r#"["gpu"]"#).await;
    waits::explain(&bench.app, now()).await.unwrap();
    assert_eq!(bench.job(a).await.waits_for, "waits for a free runner");
    let a = bench.claims(&runner, "a").await;
    assert_eq!(bench.job(a.job).await.waits_for, "");
}

#[tokio::test]
async fn a_schedule_runs_once_for_all_the_times_that_were_missed() {
    let yaml =
        "a: { script: [a], rules: [{ if: '$CI_PIPELINE_SOURCE == \"schedule\" && $NIGHT == \"1\"' }] }\n";
    let mut bench = Bench::new(yaml).await;
    bench
        .run(&format!(
            "INSERT INTO schedules (project_id, description, ref, cron, timezone, variables, active, owner) \
             VALUES ({}, 'nightly', 'main', '0 3 * * *', 'Europe/Berlin', '{{\"NIGHT\": \"1\"}}', 1, 'ann')",
            bench.project
        ))
        .await;
    let start = now();
    schedules::run(&bench.app, start).await.unwrap();
    assert_eq!(bench.count("pipelines").await, 0);
    let next = |bench: &Bench| {
        let pool = bench.app.db.pool.clone();
        async move {
            let one = sqlx::query_scalar("SELECT next_at FROM schedules");
            one.fetch_one(&pool).await.map(|next: Option<i64>| next.unwrap()).unwrap()
        }
    };
    let due = next(&bench).await;
    assert!(due > start && due <= start + 25 * 60 * MINUTE);
    let later = due + 3 * 24 * 60 * MINUTE;
    schedules::run(&bench.app, later).await.unwrap();
    assert_eq!(bench.count("pipelines WHERE source = 'schedule'").await, 1);
    assert!(next(&bench).await > later);
    // killed between the pipeline and the note of it
    bench.run(&format!("UPDATE schedules SET next_at = {due}, last_pipeline = NULL")).await;
    bench.restart().await;
    schedules::run(&bench.app, later).await.unwrap();
    assert_eq!(bench.count("pipelines").await, 1);
    assert_eq!(bench.count("schedules WHERE last_pipeline IS NOT NULL").await, 1);
    let job = bench.id(1, "a").await;
    let context = engine::context(&bench.app, job).await.unwrap();
    let told = context.plan.jobs[0].environment_variables.iter();
    assert!(told.clone().any(|v| v.key == "CI_PIPELINE_SCHEDULE_DESCRIPTION" && v.value == "nightly"));
    engine::finished(&bench.app, job, Outcome::Success).await.unwrap();
    assert_eq!(bench.jobs(1).await, "a=pending", "what nobody has can't end");
}
