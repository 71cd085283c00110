//! Projects over the API.

use crate::support::{Repository, Server};
use serde_json::{Value, json};

fn new(path: &str, url: &str) -> Value {
    json!({ "path": path, "git_url": url, "forge": "github" })
}

#[test]
fn a_project_is_made_read_changed_and_removed() {
    let (server, repository) = (Server::start(), Repository::with(&[("a", "1")]));
    let made = server.post("/api/v1/projects", &new("group/app", &repository.url())).is(201).json();
    assert_eq!(made["repository"], json!({ "ok": true, "refs": 1, "default_branch": "main", "error": "" }));
    assert_eq!(made["project"]["protected_refs"], json!(["main"]));
    let url = made["hook"]["url"].as_str().unwrap();
    assert!(url.starts_with(&server.url("/hooks/")), "{url}");
    assert!(made["hook"]["setup"].as_str().unwrap().contains(url));
    assert!(made["hook"]["secret"].as_str().unwrap().len() >= 32);

    let read = server.get("/api/v1/projects/group%2Fapp").is(200).json();
    assert_eq!(read, made["project"]);
    assert_eq!(server.get(&format!("/api/v1/projects/{}", read["id"])).is(200).json(), read);
    assert_eq!(server.get("/api/v1/projects").is(200).json(), json!([read]));
    let changes =
        json!({ "path": "group/other", "protected_refs": ["main", "v*"], "settings": { "forks": "run" } });
    let changed = server.send("PATCH", "/api/v1/projects/group%2Fapp", &changes).is(200).json();
    assert_eq!(changed["settings"]["forks"], "run");
    assert_eq!(changed["protected_refs"], json!(["main", "v*"]));
    server.get("/api/v1/projects/group%2Fapp").is(404);
    server.send("DELETE", "/api/v1/projects/group%2Fother", &json!({})).is(204);
    assert_eq!(server.get("/api/v1/projects").is(200).json(), json!([]));
    for table in ["secrets", "refs", "deliveries"] {
        assert_eq!(server.number(&format!("SELECT COUNT(*) FROM {table}")), 0, "{table}");
    }
}

#[test]
fn what_is_wrong_with_a_project_is_said() {
    let (server, repository) = (Server::start(), Repository::with(&[("a", "1")]));
    server.post("/api/v1/projects", &new("app", &repository.url())).is(201);
    let table = [
        (new("app", &repository.url()), 409, "already"),
        (new("17", &repository.url()), 400, "no path"),
        (new("a/../b", &repository.url()), 400, "no path"),
        (new("b", "https://u:secret-password@host/r"), 400, "sealed"),
        (new("b", "ext::sh -c id"), 400, "git_url"),
        (
            json!({ "path": "b", "git_url": "https://host/r", "forge": "github", "settings": { "allowed_ips": ["x"] } }),
            400,
            "allowed_ips",
        ),
        (
            json!({ "path": "b", "git_url": "https://host/r", "forge": "github", "forge_url": "file:///x" }),
            400,
            "forge_url",
        ),
        (json!({ "path": "b", "git_url": "https://host/r", "forge": "sourceforge" }), 422, "sourceforge"),
    ];
    for (body, status, said) in table {
        let reply = server.post("/api/v1/projects", &body).is(status);
        assert!(reply.text.contains(said), "{body}: {}", reply.text);
        assert!(!reply.text.contains("secret-password"), "{}", reply.text);
    }
    // a repository that does not answer is no reason not to have the project
    let made = server.post("/api/v1/projects", &new("c", "file:///nowhere/app.git")).is(201).json();
    assert_eq!(made["repository"]["ok"], false);
    assert!(made["repository"]["error"].as_str().unwrap().contains("`c`"), "{made}");
    server
        .anonymous()
        .get(server.url("/api/v1/projects/app"))
        .send()
        .map(|r| assert_eq!(r.status(), 401))
        .unwrap();
}

#[test]
fn secrets_go_in_and_never_come_out() {
    let (server, repository) = (Server::start(), Repository::with(&[("a", "1")]));
    let id = server.post("/api/v1/projects", &new("app", &repository.url())).is(201).json()["project"]["id"]
        .clone();
    let path = format!("/api/v1/projects/{id}/secrets");
    let stored = server.post(&path, &json!({ "kind": "git", "name": "ann", "value": "canary-4711" })).is(201);
    assert!(!stored.text.contains("canary"));
    let made = server.post(&path, &json!({ "kind": "hook", "name": "second" })).is(201).json();
    assert!(made["value"].as_str().unwrap().len() >= 32);
    let all = server.get(&path).is(200);
    assert!(!all.text.contains("canary") && !all.text.contains(made["value"].as_str().unwrap()));
    assert_eq!(all.json().as_array().unwrap().len(), 3);
    server.post(&path, &json!({ "kind": "hook", "name": "x", "value": "short" })).is(400);
    server.post(&path, &json!({ "kind": "git", "name": "x" })).is(400);
    server.post(&path, &json!({ "kind": "other", "name": "x", "value": "y" })).is(400);
    let other = server.project("other", "file:///nowhere");
    server.send("DELETE", &format!("/api/v1/projects/{other}/secrets/{}", made["id"]), &json!({})).is(404);
    server.send("DELETE", &format!("{path}/{}", made["id"]), &json!({})).is(204);
    server.send("DELETE", &format!("{path}/{}", made["id"]), &json!({})).is(404);
}

#[test]
fn schedules_are_made_changed_and_removed() {
    let (server, repository) = (Server::start(), Repository::with(&[("a", "1")]));
    let id = server.post("/api/v1/projects", &new("app", &repository.url())).is(201).json()["project"]["id"]
        .clone();
    let path = format!("/api/v1/projects/{id}/schedules");
    let wish = json!({ "description": "nightly", "cron": "30 4 * * *", "timezone": "Europe/Berlin", "variables": { "A": "canary" } });
    let made = server.post(&path, &wish).is(201);
    assert!(!made.text.contains("canary"), "values are not shown");
    let made = made.json();
    assert_eq!((made["ref"].as_str(), made["variables"].clone()), (Some("main"), json!(["A"])));
    assert!(made["next_at"].as_i64().unwrap() > slipway::server::db::now());
    let one = format!("{path}/{}", made["id"]);
    let off = server.send("PATCH", &one, &json!({ "active": false })).is(200).json();
    assert_eq!((off["next_at"].clone(), off["cron"].as_str()), (Value::Null, Some("30 4 * * *")));
    for (wish, said) in [
        (json!({ "cron": "every day" }), "no cron line"),
        (json!({ "cron": "0 0 30 2 *" }), "never comes"),
        (json!({ "timezone": "Mars/Olympus" }), "no time zone"),
        (json!({ "ref": "--x" }), "no name"),
        (json!({ "variables": { "a b": "" } }), "name of a variable"),
    ] {
        let reply = server.send("PATCH", &one, &wish).is(400);
        assert!(reply.text.contains(said), "{wish}: {}", reply.text);
    }
    server.send("DELETE", &one, &json!({})).is(204);
    assert_eq!(server.get(&path).is(200).json(), json!([]));
}
