//! Whatever happens, in whatever order, with the server killed in between: the same comes of it as without.

use super::Bench;
use crate::server::db::now;
use crate::server::engine::{self, bridges, invariants, leases, timers};

const YAML: &str = "stages: [a, b, c]\n\
    one: { stage: a, script: [x], retry: 1 }\n\
    two: { stage: a, script: [x], resource_group: g }\n\
    loose: { stage: a, script: [x], allow_failure: true, interruptible: true }\n\
    play: { stage: b, when: manual, script: [x], allow_failure: false }\n\
    late: { stage: b, when: delayed, start_in: 5 minutes, script: [x] }\n\
    dag: { stage: b, needs: [one], script: [x], resource_group: g, environment: prod, retry: 2 }\n\
    kid: { stage: b, needs: [two], trigger: { include: kid.yml, strategy: depend } }\n\
    always: { stage: c, when: always, script: [x] }\n\
    alarm: { stage: c, when: on_failure, script: [x] }\n";

/// A small generator: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// One thing that happens. What does not fit is refused, on both sides alike.
async fn happen(bench: &Bench, runner: &crate::server::rows::Runner, dice: &mut Dice) {
    let what = dice.roll(14);
    let pick = dice.roll(1000);
    let jobs: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM jobs ORDER BY id").fetch_all(&bench.app.db.pool).await.unwrap();
    let job = jobs[usize::try_from(pick).unwrap() % jobs.len()];
    let running: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM jobs WHERE lease_until IS NOT NULL ORDER BY id")
            .fetch_all(&bench.app.db.pool)
            .await
            .unwrap();
    match what {
        0..=3 => drop(bench.claim(runner).await),
        4..=7 if !running.is_empty() => {
            bench.ends(running[usize::try_from(pick).unwrap() % running.len()], what != 4).await;
        }
        4..=7 => {}
        8 => drop(engine::play(&bench.app, job, &bench.actor).await),
        9 => drop(engine::retry(&bench.app, job, &bench.actor).await),
        10 => drop(engine::cancel(&bench.app, job, &bench.actor).await),
        11 if pick < 300 => drop(engine::cancel_pipeline(&bench.app, 1, &bench.actor).await),
        11 => drop(engine::retry_pipeline(&bench.app, 1, &bench.actor).await),
        12 => timers::fire(&bench.app, now() + 600_000).await.unwrap(),
        _ if pick < 200 => leases::sweep(&bench.app, now() + 600_000).await.unwrap(),
        _ => bridges::run(&bench.app).await.unwrap(),
    }
}

async fn state(bench: &Bench) -> Vec<(String, i64, String, Option<String>)> {
    let all = "SELECT name, attempt, status, reason FROM jobs ORDER BY id";
    sqlx::query_as(all).fetch_all(&bench.app.db.pool).await.unwrap()
}

#[tokio::test]
async fn a_server_that_is_killed_comes_to_the_same_as_one_that_is_not() {
    for seed in 1..=3 {
        let (mut killed, steady) = (Bench::new(YAML).await, Bench::new(YAML).await);
        let (mut dice, mut same, mut kills) = (Dice(seed), Dice(seed), Dice(seed + 99));
        let mut runners = Vec::new();
        for bench in [&killed, &steady] {
            bench.commit("group/app", "main", &[("kid.yml", "kid: { script: [x] }\n")], "kid");
            bench.create().await;
            runners.push(bench.runner("[]").await);
        }
        for step in 0..50 {
            if kills.roll(5) == 0 {
                killed.restart().await;
            }
            happen(&killed, &runners[0], &mut dice).await;
            happen(&steady, &runners[1], &mut same).await;
            assert_eq!(state(&killed).await, state(&steady).await, "seed {seed}, step {step}");
            let stuck = invariants::check(&killed.app).await.unwrap();
            assert_eq!(stuck, 0, "seed {seed}, step {step}: {:?}", state(&killed).await);
        }
        assert!(killed.count("inputs").await > 5, "something has happened");
        settle(&killed, &runners[0]).await;
        let status = killed.status(1).await;
        assert!(
            ["success", "failed", "canceled", "skipped"].contains(&status.as_str()),
            "seed {seed}: {status}"
        );
        for table in ["pending", "timers", "held", "jobs WHERE token IS NOT NULL"] {
            assert_eq!(killed.count(table).await, 0, "seed {seed}: {table}");
        }
    }
}

/// Runs all that is left to its end.
async fn settle(bench: &Bench, runner: &crate::server::rows::Runner) {
    for _ in 0..20 {
        timers::fire(&bench.app, now() + 600_000).await.unwrap();
        bridges::run(&bench.app).await.unwrap();
        let manual = "SELECT id FROM jobs WHERE status = 'manual' AND newest = 1";
        let manual: Vec<i64> = sqlx::query_scalar(manual).fetch_all(&bench.app.db.pool).await.unwrap();
        for job in manual {
            engine::play(&bench.app, job, &bench.actor).await.unwrap();
        }
        while bench.claim(runner).await.is_some() {}
        let running: Vec<i64> = sqlx::query_scalar("SELECT id FROM jobs WHERE lease_until IS NOT NULL")
            .fetch_all(&bench.app.db.pool)
            .await
            .unwrap();
        for job in running {
            bench.ends(job, true).await;
        }
    }
}
