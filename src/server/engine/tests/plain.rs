//! A pipeline from push to end.

use super::Bench;
use super::bench::is_send;
use crate::server::engine::{self, Created, NewPipeline};
use crate::server::rows::Runner;
use pipelines::schedule::Outcome;

const TWO: &str = "stages: [build, test]\n\
    build: { stage: build, script: [make], variables: { A: $SECRET } }\n\
    unit: { stage: test, script: [make test] }\n";

#[tokio::test]
async fn a_push_runs_stage_by_stage_and_every_job_is_handed_out_once() {
    let bench = Bench::new(TWO).await;
    let pipeline = is_send(bench.create()).await;
    assert_eq!(bench.jobs(pipeline).await, "build=pending unit=created");
    let runner = bench.runner("[]").await;
    let build = is_send(bench.claims(&runner, "build")).await;
    assert!(bench.claim(&runner).await.is_none(), "it is handed out once");
    assert_eq!(bench.jobs(pipeline).await, "build=running unit=created");
    let row = engine::by_token(&bench.app, &build.token).await.unwrap();
    assert_eq!(row.id, build.job);
    engine::heard(&bench.app, &row).await.unwrap();
    bench.ends(build.job, true).await;
    assert_eq!(engine::by_token(&bench.app, &build.token).await.unwrap_err().status, 403);
    bench.ends(build.job, false).await;
    assert_eq!(bench.jobs(pipeline).await, "build=success unit=pending");
    let unit = bench.claims(&runner, "unit").await;
    bench.ends(unit.job, false).await;
    assert_eq!(bench.jobs(pipeline).await, "build=success unit=failed");
    assert_eq!(bench.status(pipeline).await, "failed");
    let row = bench.app.pipeline(bench.project, pipeline).await.unwrap();
    assert!(row.finished_at.is_some() && row.started_at.is_some());
    assert_eq!((row.iid, row.message.as_str(), row.actor.as_str()), (1, "first", "ann"));
    assert_eq!(bench.count("pending").await, 0);
    assert_eq!(bench.app.engine.in_memory(), 0, "what has ended needs no memory");
    let said: Vec<(String, String)> =
        sqlx::query_as("SELECT context, state FROM statuses").fetch_all(&bench.app.db.pool).await.unwrap();
    assert_eq!(said, [("slipway/push".to_owned(), "failed".to_owned())]);
    assert_eq!(bench.count("notices WHERE event = 'pipeline.failed'").await, 1);
}

#[tokio::test]
async fn jobs_of_earlier_stages_are_handed_out_before_jobs_with_needs_of_later_ones() {
    let yaml = "stages: [a, b]\nlate: {stage: b, needs: [], script: [x]}\nearly: {stage: a, script: [x]}\n";
    let bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    assert_eq!(bench.jobs(pipeline).await, "late=pending early=pending");
    let runner = bench.runner("[]").await;
    bench.claims(&runner, "early").await;
    bench.claims(&runner, "late").await;
}

#[tokio::test]
async fn a_job_runs_with_its_variables_and_the_database_holds_no_value_of_them() {
    let bench = Bench::new(TWO).await;
    let sealed = bench.app.vault.seal("variable:1", b"hunter2-hunter2");
    sqlx::query(
        "INSERT INTO variables (project_id, key, sealed, environment_scope, protected, masked, file, raw, updated_at, \
         updated_by) VALUES ($1, 'SECRET', $2, '*', 1, 1, 0, 0, 0, 'ann')",
    )
    .bind(bench.project)
    .bind(sealed)
    .execute(&bench.app.db.pool)
    .await
    .unwrap();
    let pipeline = bench.create().await;
    let build = bench.id(pipeline, "build").await;
    let context = engine::context(&bench.app, build).await.unwrap();
    let value = |key: &str| {
        let variables = &context.plan.jobs[0].environment_variables;
        variables.iter().rfind(|v| v.key == key).map(|v| v.value.clone())
    };
    assert_eq!(value("SECRET").as_deref(), Some("hunter2-hunter2"));
    assert_eq!(value("CI_PIPELINE_ID"), Some(pipeline.to_string()));
    assert_eq!(value("CI_PIPELINE_IID").as_deref(), Some("1"));
    assert_eq!(value("CI_COMMIT_REF_PROTECTED").as_deref(), Some("true"));
    assert_eq!(value("CI_COMMIT_BRANCH").as_deref(), Some("main"));
    assert_eq!(value("GITLAB_USER_LOGIN").as_deref(), Some("ann"));
    let own = engine::attempt_variables(&bench.app, &context, "glcbt-1");
    assert!(own.iter().any(|v| v.key == "CI_JOB_TOKEN" && v.masked && v.value == "glcbt-1"));
    let shown: String =
        sqlx::query_scalar("SELECT plan FROM pipelines").fetch_one(&bench.app.db.pool).await.unwrap();
    assert!(shown.contains("\"make\"") && !shown.contains("hunter2"), "{shown}");

    // on another branch, and from a fork
    for (reference, trusted) in [("work", true), ("main", false)] {
        bench.commit("group/app", reference, &[("a", "b")], "more");
        let id = bench.create_of(NewPipeline { trusted, ..bench.push(reference) }).await;
        let job = bench.id(id, "build").await;
        let context = engine::context(&bench.app, job).await.unwrap();
        let secret = context.plan.jobs[0].environment_variables.iter().any(|v| v.key == "SECRET");
        assert!(!secret, "{reference} {trusted}");
    }
}

#[tokio::test]
async fn what_asks_for_no_pipeline_gets_none_and_what_is_wrong_says_why() {
    let bench = Bench::new(TWO).await;
    let sha = bench.commit("group/app", "main", &[("a", "1")], "docs [skip ci]");
    let create = |new: NewPipeline| engine::create(&bench.app, new);
    match create(bench.push("main")).await.unwrap() {
        Created::Skipped(id, why) => {
            assert!(why.contains("message"));
            assert_eq!(bench.status(id).await, "skipped");
        }
        other => panic!("{other:?}"),
    }
    let web = NewPipeline { source: "web".into(), ..bench.push("main") };
    assert!(matches!(create(web).await.unwrap(), Created::Pipeline(_)));
    let again = NewPipeline { sha: sha.clone(), unless_there: true, ..bench.push("main") };
    assert!(matches!(create(again).await.unwrap(), Created::Nothing(why) if why.contains("already")));
    for reference in ["-x", "a..b", "a b", "x/-y", "a\u{7}"] {
        let refused = create(bench.push(reference)).await.unwrap();
        assert!(matches!(refused, Created::Nothing(why) if why.contains("git allows")), "{reference}");
    }
    let gone = create(bench.push("nowhere")).await.unwrap();
    assert!(matches!(gone, Created::Nothing(why) if why.contains("not in the repository")));
    let forced = NewPipeline { sha: "1".repeat(40), ..bench.push("main") };
    assert!(matches!(create(forced).await.unwrap(), Created::Nothing(why) if why.contains("any more")));

    bench.commit("group/app", "main", &[(".gitlab-ci.yml", "job: { scrip: [a] }\n")], "wrong");
    let id = bench.create().await;
    assert_eq!(bench.status(id).await, "failed");
    let row = bench.app.pipeline(bench.project, id).await.unwrap();
    assert!(row.errors.contains("scrip") && row.errors.contains(".gitlab-ci.yml:1"), "{}", row.errors);

    let rules = "workflow: { rules: [{ if: $CI_COMMIT_TAG }] }\njob: { script: [a] }\n";
    bench.commit("group/app", "main", &[(".gitlab-ci.yml", rules)], "tags only");
    let filtered = create(bench.push("main")).await.unwrap();
    assert!(matches!(filtered, Created::Nothing(why) if why.contains("workflow rules")));
    // forges name the tag's own object
    let tag = bench.tag("v1", "one");
    let new = NewPipeline { tag: true, sha: tag.clone(), ..bench.push("v1") };
    let id = bench.create_of(new).await;
    let row = bench.app.pipeline(bench.project, id).await.unwrap();
    assert_ne!(row.sha, tag);
    assert_eq!((row.tag, row.reference.as_str()), (1, "v1"));
}

#[tokio::test]
async fn a_server_that_comes_back_goes_on_where_it_was() {
    let mut bench = Bench::new(TWO).await;
    let pipeline = bench.create().await;
    let runner = bench.runner("[]").await;
    let build = bench.claims(&runner, "build").await;
    bench.restart().await;
    assert_eq!(engine::by_token(&bench.app, &build.token).await.unwrap().id, build.job);
    engine::finished(&bench.app, build.job, Outcome::Success).await.unwrap();
    bench.restart().await;
    let unit = bench.claims(&runner, "unit").await;
    bench.restart().await;
    bench.ends(unit.job, true).await;
    assert_eq!(bench.status(pipeline).await, "success");
}

#[tokio::test]
async fn a_job_waits_for_a_runner_that_can_do_what_it_asks_for() {
    let yaml = "a: { script: [a], image: alpine, artifacts: { paths: [x], reports: { junit: [x.xml] } } }\n";
    let bench = Bench::new(yaml).await;
    let pipeline = bench.create().await;
    let able = bench.runner("[]").await;
    let old = Runner { info: r#"{"features":{"artifacts":true}}"#.into(), ..able.clone() };
    assert!(bench.claim(&old).await.is_none());
    let first = bench.claims(&able, "a").await;
    bench.ends(first.job, false).await;
    engine::retry(&bench.app, first.job, &bench.actor).await.unwrap();
    assert!(bench.claim(&old).await.is_none(), "so does the next attempt");
    let id = bench.claims(&Runner { local: 1, ..old }, "a").await;
    bench.ends(id.job, true).await;
    assert_eq!(bench.status(pipeline).await, "success");
}

#[tokio::test]
async fn a_push_that_asks_for_no_pipeline_leaves_one_that_was_skipped() {
    let bench = Bench::new(TWO).await;
    let new = NewPipeline { skip: true, ..bench.push("main") };
    let Created::Skipped(id, why) = engine::create(&bench.app, new).await.unwrap() else {
        panic!("it was to be skipped")
    };
    assert!(why.contains("ci.skip"), "{why}");
    assert_eq!((bench.status(id).await.as_str(), bench.jobs(id).await.as_str()), ("skipped", ""));
}

#[tokio::test]
async fn runners_get_what_they_may_run() {
    let yaml = "a: { tags: [x, y], script: [a] }\nb: { script: [b] }\n";
    let bench = Bench::new(yaml).await;
    bench.create().await;
    let (plain, x, both) =
        (bench.runner("[]").await, bench.runner(r#"["x"]"#).await, bench.runner(r#"["y","x"]"#).await);
    let mut tagged_only = both.clone();
    tagged_only.run_untagged = 0;
    let mut paused = plain.clone();
    paused.paused = 1;
    let mut of_another = plain.clone();
    of_another.project_id = Some(bench.project + 1);
    assert!(bench.claim(&paused).await.is_none() && bench.claim(&of_another).await.is_none());
    bench.claims(&tagged_only, "a").await;
    assert!(bench.claim(&tagged_only).await.is_none());
    bench.claims(&x, "b").await;
    // of a fork, of an open branch
    bench.commit("group/app", "work", &[(".gitlab-ci.yml", "c: { script: [a] }\n")], "more");
    bench.create_of(NewPipeline { trusted: false, ..bench.push("work") }).await;
    assert!(bench.claim(&plain).await.is_none(), "it takes only what is trusted");
    let mut open = plain.clone();
    open.trusted_only = 0;
    let mut protected = open.clone();
    protected.protected_only = 1;
    assert!(bench.claim(&protected).await.is_none());
    bench.claims(&open, "c").await;
}
