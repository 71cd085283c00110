//! Resource groups across pipelines.

use super::Bench;
use crate::server::db::now;
use crate::server::engine::{self, invariants, timers};

const ONE: &str = "build: { script: [b] }\ndeploy: { stage: deploy, script: [d], resource_group: prod }\n";

async fn reach_deploy(bench: &Bench, runner: &crate::server::rows::Runner, count: usize) {
    let mut builds = Vec::new();
    for _ in 0..count {
        builds.push(bench.claims(runner, "build").await.job);
    }
    for build in builds {
        bench.ends(build, true).await;
    }
}

#[tokio::test]
async fn one_job_has_the_resource_and_the_others_say_who() {
    let mut bench = Bench::new(ONE).await;
    let runner = bench.runner("[]").await;
    let (first, second) = (bench.create().await, bench.create().await);
    reach_deploy(&bench, &runner, 2).await;
    assert_eq!(bench.jobs(first).await, "build=success deploy=pending");
    assert_eq!(bench.jobs(second).await, "build=success deploy=waiting_for_resource");
    let holder = bench.claims(&runner, "deploy").await;
    assert!(bench.claim(&runner).await.is_none());
    let waits = bench.job(bench.id(second, "deploy").await).await.waits_for;
    assert_eq!(waits, format!("resource group `prod` is held by job {} `deploy` of pipeline 1", holder.job));
    assert_eq!(invariants::check(&bench.app).await.unwrap(), 0);
    bench.restart().await;
    bench.ends(holder.job, true).await;
    assert_eq!(bench.jobs(second).await, "build=success deploy=pending");
    // two that let go at once may not have seen each other
    bench.run("DELETE FROM held").await;
    bench.run("DELETE FROM pending").await;
    bench.run("UPDATE jobs SET status = 'waiting_for_resource' WHERE status = 'pending'").await;
    timers::grant(&bench.app, now()).await.unwrap();
    let job = bench.claims(&runner, "deploy").await;
    engine::cancel(&bench.app, job.job, &bench.actor).await.unwrap();
    bench.ends(job.job, true).await;
    assert_eq!(bench.status(second).await, "canceled");
    assert_eq!(bench.count("held").await, 0);
}

#[tokio::test]
async fn the_mode_says_who_is_next() {
    for (mode, expected) in [
        ("unordered", [1, 2, 3]),
        ("oldest_first", [1, 2, 3]),
        ("newest_first", [3, 2, 1]),
        ("newest_ready_first", [1, 3, 2]),
    ] {
        let bench = Bench::new(ONE).await;
        bench
            .run(&format!(
                "INSERT INTO resource_groups (project_id, name, mode) VALUES ({}, 'prod', '{mode}')",
                bench.project
            ))
            .await;
        let runner = bench.runner("[]").await;
        for _ in 0..3 {
            bench.create().await;
        }
        reach_deploy(&bench, &runner, 3).await;
        let mut order = Vec::new();
        while let Some(job) = bench.claim(&runner).await {
            order.push(bench.job(job.job).await.pipeline_id);
            bench.ends(job.job, true).await;
        }
        assert_eq!(order, expected, "{mode}");
    }
}

#[tokio::test]
async fn within_a_pipeline_the_group_is_one_at_a_time_as_well() {
    let yaml = "a: { script: [a], resource_group: g }\nb: { script: [b], resource_group: g }\n";
    let bench = Bench::new(yaml).await;
    let runner = bench.runner("[]").await;
    let (first, second) = (bench.create().await, bench.create().await);
    assert_eq!(bench.jobs(first).await, "a=pending b=waiting_for_resource");
    assert_eq!(bench.jobs(second).await, "a=waiting_for_resource b=waiting_for_resource");
    assert_eq!(invariants::check(&bench.app).await.unwrap(), 0);
    let mut names = Vec::new();
    while let Some(job) = bench.claim(&runner).await {
        assert!(bench.claim(&runner).await.is_none());
        names.push(bench.job(job.job).await.name);
        bench.ends(job.job, true).await;
    }
    assert_eq!(names.len(), 4);
    assert_eq!((bench.status(first).await, bench.status(second).await), ("success".into(), "success".into()));
}
