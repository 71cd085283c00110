//! What programs are told.

use super::Bench;
use crate::server::engine::api::{self, Filter, Mode, Wish};
use axum::Json;
use axum::extract::{Path, Query, State};
use std::collections::BTreeMap;

fn wish(reference: &str, variable: &str) -> Json<Wish> {
    let variables = BTreeMap::from([(variable.to_owned(), "1".to_owned())]);
    Json(Wish { reference: reference.to_owned(), tag: false, variables })
}

#[tokio::test]
async fn pipelines_are_run_listed_and_acted_on_by_the_api() {
    let yaml = "a: { script: [a] }\nm: { when: manual, script: [m], resource_group: g, rules: [{ if: $GO, when: manual }] }\n";
    let yaml = yaml.replace("when: manual, script", "script");
    let bench = Bench::new(&yaml).await;
    let (app, project) = (|| State(bench.app.clone()), || "group/app".to_owned());
    let actor = || bench.actor.clone();
    let (status, Json(made)) =
        api::create_pipeline(app(), actor(), Path(project()), wish("main", "GO")).await.unwrap();
    assert_eq!(status, 201);
    let jobs = made.jobs.unwrap();
    let text: Vec<String> = jobs.iter().map(|job| format!("{}={}", job.name, job.status)).collect();
    assert_eq!(text, ["a=pending", "m=manual"]);
    for (reference, variable, code) in [("gone", "GO", 422), ("main", "a b", 400), ("-x", "GO", 422)] {
        let refused = api::create_pipeline(app(), actor(), Path(project()), wish(reference, variable)).await;
        assert_eq!(refused.unwrap_err().status, code, "{reference} {variable}");
    }
    let act =
        |job: i64, action: &str| api::act_on_job(app(), actor(), Path((project(), job, action.to_owned())));
    assert_eq!(act(jobs[1].id, "play").await.unwrap().0.status, "pending");
    assert_eq!(act(jobs[1].id, "play").await.unwrap_err().status, 409);
    assert_eq!(act(jobs[1].id, "dance").await.unwrap_err().status, 404);
    assert_eq!(act(jobs[1].id + 9, "play").await.unwrap_err().status, 404);
    let Json(groups) = api::list_resource_groups(app(), Path(project())).await.unwrap();
    assert_eq!((groups.len(), groups[0].mode.as_str()), (1, "unordered"));
    let mode = |mode: &str| {
        let path = Path((project(), "g".to_owned()));
        api::set_resource_group(app(), actor(), path, Json(Mode { mode: mode.to_owned() }))
    };
    assert_eq!(mode("newest_first").await.unwrap(), 204);
    assert_eq!(mode("luck").await.unwrap_err().status, 400);
    let on_pipeline =
        |action: &str| api::act_on_pipeline(app(), actor(), Path((project(), made.id, action.to_owned())));
    assert_eq!(on_pipeline("cancel").await.unwrap().0.status, "canceled");
    assert_eq!(on_pipeline("retry").await.unwrap().0.status, "running");
    let list = |reference: &str, status: Option<&str>| {
        let status = status.map(str::to_owned);
        let filter = Filter { reference: Some(reference.to_owned()), status, ..Filter::default() };
        api::list_pipelines(app(), Path(project()), Query(filter))
    };
    assert_eq!(list("main", None).await.unwrap().0.len(), 1);
    assert_eq!(list("main", Some("failed")).await.unwrap().0.len(), 0);
    assert_eq!(list("' OR 1=1 --", None).await.unwrap().0.len(), 0);
    let other = bench.add_project("group/other").await;
    let foreign = api::show_pipeline(app(), Path((other.to_string(), made.id))).await;
    assert_eq!(foreign.unwrap_err().status, 404, "ids of other projects are not there");
}
