//! Pages over a database that looks lived in: every one answers, says what it should, and lets no text become markup.

use crate::demo::{self, Demo};
use crate::support::{Reply, Server};

fn shown(server: &Server, path: &str) -> String {
    let answer = server.client().get(server.url(path)).header("accept", "text/html").send().unwrap();
    Reply::of(answer).is(200).text
}

/// Addresses of all pages of the demo.
pub(crate) fn addresses(demo: &Demo) -> Vec<String> {
    let base = "/projects/shop%2Fcheckout";
    let (running, failed, job, broken) = (demo.running, demo.failed, demo.job, demo.broken);
    let mut all: Vec<String> = [
        "/",
        "/projects",
        "/projects/new",
        "/wallboard",
        "/calendar",
        "/environments",
        "/approvals",
        "/queue",
        "/runners",
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend(["/admin", "/admin/users", "/admin/audit", "/account", "/device"].map(str::to_owned));
    for below in [
        String::new(),
        "?status=failed&q=tax".to_owned(),
        "/branches".to_owned(),
        format!("/pipelines/{running}"),
        format!("/pipelines/{running}?view=needs"),
        format!("/pipelines/{failed}?view=timing"),
        format!("/pipelines/{failed}?view=variables"),
        format!("/pipelines/{failed}?view=config"),
        format!("/pipelines/{failed}/tests"),
        format!("/jobs/{job}"),
        format!("/jobs/{broken}"),
        format!("/jobs/{broken}/artifacts"),
        "/environments".to_owned(),
        "/environments/prod".to_owned(),
        "/schedules".to_owned(),
        "/deliveries".to_owned(),
        "/deliveries/1".to_owned(),
        "/run".to_owned(),
        "/settings".to_owned(),
        "/members".to_owned(),
    ] {
        all.push(format!("{base}{below}"));
    }
    all
}

#[test]
fn every_page_answers_and_is_whole() {
    let server = Server::start();
    let demo = demo::fill(&server);
    for address in addresses(&demo) {
        let page = shown(&server, &address);
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"), "{address}");
        assert!(!page.contains("<script>") && !page.contains(" style=\""), "{address} has something inline");
        assert_eq!(page.matches("<h1").count(), 1, "{address} has one heading");
        assert!(page.contains("id=\"main\"") && page.contains("<nav"), "{address}");
        for id in ids(&page) {
            assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{address}: `{id}` is there once");
        }
    }
}

fn ids(page: &str) -> Vec<&str> {
    page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn what_did_not_run_says_why() {
    let server = Server::start();
    demo::fill(&server);
    let list = shown(&server, "/projects/shop%2Fcheckout");
    assert!(list.contains("the commit message says [ci skip]"), "{list}");
    assert!(list.contains("did you mean") || list.contains("is not defined in stages before it"));
    let deliveries = shown(&server, "/projects/shop%2Fcheckout/deliveries?state=failed");
    assert!(deliveries.contains("connection refused") && !deliveries.contains("only labelled"));
    let queue = shown(&server, "/queue");
    assert!(queue.contains("waits for a runner with tags erlang, arm64: none is there"), "{queue}");
}

#[test]
fn texts_from_outside_stay_texts() {
    let server = Server::start();
    let demo = demo::fill(&server);
    let hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{actor}}";
    let sql = "UPDATE pipelines SET message = $1, author = $1, ref = $1, why = $1, name = $1, errors = $2, merged = $1 \
               WHERE id = $3";
    let errors = serde_json::to_string(&[hostile]).unwrap();
    let query = sqlx::query(sql).bind(hostile).bind(errors).bind(demo.running);
    server.block_on(query.execute(&server.db().pool)).unwrap();
    let query = sqlx::query(
        "UPDATE jobs SET name = $1, stage = $1, waits_for = $1, message = $1, environment = $1 WHERE pipeline_id = $2",
    );
    server.block_on(query.bind(hostile).bind(demo.running).execute(&server.db().pool)).unwrap();
    for address in addresses(&demo) {
        let page = shown(&server, &address);
        assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{address}");
    }
    let errors =
        shown(&server, &format!("/projects/{}/pipelines/{}?view=errors", demo.project, demo.running));
    assert!(errors.contains("&lt;script&gt;alert(1)"), "{errors}");
}

#[test]
fn numbers_of_other_projects_are_not_found() {
    let server = Server::start();
    let demo = demo::fill(&server);
    let other = "/projects/shop%2Fbilling-service";
    for below in [
        format!("/pipelines/{}", demo.running),
        format!("/pipelines/{}/tests", demo.failed),
        format!("/jobs/{}", demo.job),
        format!("/jobs/{}/artifacts", demo.broken),
        format!("/jobs/{}/search?q=a", demo.broken),
        "/deliveries/1".to_owned(),
        "/environments/nowhere".to_owned(),
    ] {
        server.get(&format!("{other}{below}")).is(404);
    }
    let missing =
        server.client().get(server.url(&format!("{other}/jobs/1000000"))).header("accept", "text/html");
    let missing = Reply::of(missing.send().unwrap()).is(404).text;
    assert!(missing.contains("there is no such job") && missing.contains("</html>"), "{missing}");
}

#[test]
fn a_log_is_searched_as_a_whole() {
    let server = Server::start();
    let demo = demo::fill(&server);
    demo::long_log(&server, demo.broken, 200_000);
    let found =
        server.get(&format!("/projects/{}/jobs/{}/search?q=MODULE_976", demo.project, demo.broken)).json();
    assert_eq!(found["count"], 204);
    assert_eq!(found["lines"][0], 976);
}

#[test]
fn events_name_topics_and_end_with_the_server() {
    use std::io::{BufRead, BufReader};
    let mut server = Server::start();
    let answer = server.client().get(server.url("/events")).send().unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut lines = BufReader::new(answer).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "retry: 2000");
    server.stop();
    assert!(lines.all(|line| line.is_err() || line.is_ok_and(|line| line.is_empty())));
}
