//! Trigger jobs.

use super::Bench;
use crate::server::artifacts::blobs;
use crate::server::engine::{self, NewPipeline, bridges};
use std::io::Write;

async fn child_of(bench: &Bench, job: i64) -> i64 {
    bench.job(job).await.child_pipeline.expect("it has a pipeline")
}

#[tokio::test]
async fn a_child_pipeline_runs_and_its_parent_takes_over_its_status() {
    let yaml = "variables: { X: \"from $CI_PIPELINE_ID\" }\n\
                down: { trigger: { include: child.yml, strategy: depend } }\n\
                loose: { trigger: { include: child.yml } }\n";
    let mut bench = Bench::new(yaml).await;
    bench.commit("group/app", "main", &[("child.yml", "work: { script: [w] }\n")], "child");
    let pipeline = bench.create().await;
    assert_eq!(bench.jobs(pipeline).await, "down=pending loose=pending");
    let runner = bench.runner("[]").await;
    assert!(bench.claim(&runner).await.is_none(), "no runner gets a trigger job");
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "down=running loose=success");
    let down = bench.id(pipeline, "down").await;
    let child = child_of(&bench, down).await;
    let row = bench.app.pipeline(bench.project, child).await.unwrap();
    assert_eq!((row.source.as_str(), row.parent_job, row.iid), ("parent_pipeline", Some(down), 2));
    let context = engine::context(&bench.app, bench.id(child, "work").await).await.unwrap();
    let value = |key: &str| {
        let variables = &context.plan.jobs[0].environment_variables;
        variables.iter().rfind(|v| v.key == key).map(|v| v.value.clone())
    };
    assert_eq!(value("X"), Some(format!("from {pipeline}")));
    assert_eq!(value("CI_UPSTREAM_JOB_ID"), Some(down.to_string()));
    assert_eq!(value("CI_PIPELINE_ID"), Some(child.to_string()));
    assert_eq!(value("CI_PIPELINE_IID").as_deref(), Some("2"));
    bench.restart().await;
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(bench.count("pipelines").await, 3, "nothing is made twice");
    let work = bench.claims(&runner, "work").await;
    bench.ends(work.job, false).await;
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "down=failed loose=success");
    assert_eq!(bench.job(down).await.reason.as_deref(), Some("downstream_pipeline_failure"));
    assert_eq!(bench.count("statuses").await, 1, "children count through their parent");
    // the loose one is still there; again makes another
    engine::retry(&bench.app, down, &bench.actor).await.unwrap();
    bridges::run(&bench.app).await.unwrap();
    let again = child_of(&bench, bench.id(pipeline, "down").await).await;
    assert_ne!(again, child);
    engine::cancel_pipeline(&bench.app, pipeline, &bench.actor).await.unwrap();
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(
        (bench.status(again).await, bench.status(pipeline).await),
        ("canceled".into(), "canceled".into())
    );
}

#[tokio::test]
async fn a_trigger_job_that_makes_no_pipeline_says_why() {
    let yaml = "gone: { trigger: { include: gone.yml } }\nnobody: { trigger: other/app }\n\
                mirror: { needs: { pipeline: other/app } }\ndeep: { trigger: { include: deep.yml, strategy: depend } }\n";
    let bench = Bench::new(yaml).await;
    bench.commit(
        "group/app",
        "main",
        &[("deep.yml", "deep: { trigger: { include: deep.yml, strategy: depend } }\n")],
        "deep",
    );
    bench.add_project("other/app").await;
    let pipeline = bench.create().await;
    // each look goes one level down, and one up again
    for _ in 0..6 {
        bridges::run(&bench.app).await.unwrap();
    }
    assert_eq!(bench.jobs(pipeline).await, "gone=failed nobody=failed mirror=failed deep=failed");
    for (name, says) in [
        ("gone", "gone.yml"),
        ("nobody", "same top group"),
        ("mirror", "needs:pipeline"),
        ("deep", "came out as failed"),
    ] {
        let message = bench.job(bench.id(pipeline, name).await).await.message.unwrap_or_default();
        assert!(message.contains(says), "{name}: {message}");
    }
    let deepest = "jobs WHERE message LIKE '%nested 2 deep%'";
    assert_eq!(bench.count(deepest).await, 1);
}

#[tokio::test]
async fn pipelines_of_projects_in_the_group_and_files_that_jobs_made() {
    let yaml = "make: { stage: build, script: [m], artifacts: { paths: [out] } }\n\
                made: { stage: test, trigger: { include: [{ artifact: out/c.yml, job: make }], strategy: depend } }\n\
                other: { stage: test, trigger: { project: group/lib, strategy: depend }, variables: { WHO: app } }\n";
    let bench = Bench::new(yaml).await;
    let lib = bench.add_project("group/lib").await;
    let ci = "lib: { script: [l], rules: [{ if: '$WHO == \"app\"' }] }\n";
    bench.commit("group/lib", "main", &[(".gitlab-ci.yml", ci)], "lib");
    let runner = bench.runner("[]").await;
    let pipeline = bench.create().await;
    let make = bench.claims(&runner, "make").await;
    let path = blobs::path(&bench.app, &"ab".repeat(32));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    archive.start_file("out/c.yml", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"generated: { script: [g] }\n").unwrap();
    archive.finish().unwrap();
    bench
        .run(&format!(
            "INSERT INTO artifacts (job_id, project_id, file_type, file_format, filename, size, sha256, created_at) \
             VALUES ({}, {}, 'archive', 'zip', 'a.zip', 1, '{}', 0)",
            make.job,
            bench.project,
            "ab".repeat(32)
        ))
        .await;
    bench.ends(make.job, true).await;
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(bench.jobs(pipeline).await, "make=success made=running other=running");
    let generated = bench.claims(&runner, "generated").await;
    bench.ends(generated.job, true).await;
    let claimed = bench.claim(&runner).await.unwrap();
    let row = bench.app.job(lib, claimed.job).await.unwrap();
    assert_eq!(row.name, "lib");
    bench.ends(claimed.job, true).await;
    bridges::run(&bench.app).await.unwrap();
    assert_eq!(bench.status(pipeline).await, "success");

    let fork = bench.create_of(NewPipeline { trusted: false, ..bench.push("main") }).await;
    bench.run("UPDATE runners SET trusted_only = 0").await;
    let mut open = runner.clone();
    open.trusted_only = 0;
    let make = bench.claims(&open, "make").await;
    bench.ends(make.job, true).await;
    bridges::run(&bench.app).await.unwrap();
    let other = bench.job(bench.id(fork, "other").await).await;
    assert!(other.message.unwrap().contains("fork"), "a stranger starts nothing elsewhere");
}

#[tokio::test]
async fn includes_reach_projects_of_the_group_and_nothing_private() {
    let yaml = "include: [{ project: group/lib, file: /ci.yml }]\n";
    let bench = Bench::new(yaml).await;
    bench.add_project("group/lib").await;
    bench.add_project("other/lib").await;
    bench.commit("group/lib", "main", &[("ci.yml", "shared: { script: [s] }\n")], "lib");
    bench.commit("other/lib", "main", &[("ci.yml", "shared: { script: [s] }\n")], "lib");
    let pipeline = bench.create().await;
    assert_eq!(bench.jobs(pipeline).await, "shared=pending");
    for (include, says) in [
        ("{ project: other/lib, file: /ci.yml }", "not found"),
        ("{ remote: 'http://127.0.0.1:1/ci.yml' }", "private"),
        ("{ remote: 'http://localhost:1/ci.yml' }", "private"),
    ] {
        bench.commit(
            "group/app",
            "main",
            &[(".gitlab-ci.yml", &format!("include: [{include}]\n"))],
            "include",
        );
        let pipeline = bench.create().await;
        let row = bench.app.pipeline(bench.project, pipeline).await.unwrap();
        assert_eq!(row.status, "failed");
        assert!(row.errors.contains(says), "{include}: {}", row.errors);
    }
}
