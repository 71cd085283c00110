//! Deliveries, from a push to a pipeline: real git, real hooks, kills.

use crate::support::{Reply, Repository, Server, eventually};
use serde_json::{Value, json};
use slipway::server::hooks::signature::sign;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const CI: (&str, &str) = (".gitlab-ci.yml", "build:\n  script: [\"true\"]\n");
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A project, and its hook.
struct Project {
    id: i64,
    url: String,
    secret: String,
    setup: String,
}

impl Project {
    fn of(server: &Server, repository: &Repository, more: &Value) -> Project {
        let mut body = json!({ "path": "group/app", "git_url": repository.url(), "forge": "generic" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = server.post("/api/v1/projects", &body).is(201).json();
        assert_eq!(made["repository"]["ok"], true, "{made}");
        let text = |pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        Project {
            id: made["project"]["id"].as_i64().unwrap(),
            url: text("/hook/url"),
            secret: text("/hook/secret"),
            setup: text("/hook/setup"),
        }
    }

    /// A signed delivery of our own form.
    fn deliver(&self, server: &Server, id: &str, body: &Value) -> Reply {
        let body = body.to_string().into_bytes();
        self.deliver_bytes(server, &sign(&self.secret, id, now_s(), &body), body)
    }

    fn deliver_bytes(&self, server: &Server, headers: &[(&'static str, String)], body: Vec<u8>) -> Reply {
        let mut request = server.anonymous().post(&self.url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        Reply::of(request.body(body).send().unwrap())
    }

    /// What became of a delivery.
    fn verdict(&self, server: &Server, delivery: i64) -> Value {
        eventually("a verdict on the delivery", || {
            let told =
                server.get(&format!("/api/v1/projects/{}/deliveries/{delivery}", self.id)).is(200).json();
            (told["state"] != "waiting").then_some(told)
        })
    }

    fn deliveries(&self, server: &Server) -> Value {
        server.get(&format!("/api/v1/projects/{}/deliveries", self.id)).is(200).json()
    }
}

fn now_s() -> i64 {
    slipway::server::db::now() / 1000
}

fn push(reference: &str, before: &str, after: &str) -> Value {
    json!({ "type": "push", "ref": reference, "before": before, "after": after, "user": "ann" })
}

fn pipelines(server: &Server, sha: &str) -> i64 {
    server.number(&format!("SELECT COUNT(*) FROM pipelines WHERE sha = '{sha}'"))
}

#[test]
fn a_real_push_runs_a_pipeline_through_the_script_that_the_project_was_given() {
    let (server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    let script = project.setup.split_once("#!/bin/sh").unwrap().1;
    let hooks = repository.bare().join("hooks");
    std::fs::write(hooks.join("slipway-secret"), format!("{}\n", project.secret)).unwrap();
    let hook = hooks.join("post-receive");
    std::fs::write(&hook, format!("#!/bin/sh{script}")).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();

    let sha = repository.push(&[("a", "1")], "more");
    eventually("a pipeline", || (pipelines(&server, &sha) == 1).then_some(()));
    repository.git(&["checkout", "-q", "-b", "ünï/'$(touch${IFS}x)'"]);
    let odd = repository.push(&[("b", "1")], "odd");
    eventually("a pipeline of the odd branch", || (pipelines(&server, &odd) == 1).then_some(()));
    let refs = server.texts(&format!("SELECT ref FROM pipelines WHERE sha = '{odd}'"));
    assert_eq!(refs, ["ünï/'$(touch${IFS}x)'"]);
    repository.git(&["push", "-q", "origin", ":ünï/'$(touch${IFS}x)'"]);
    let gone = eventually("the deletion", || {
        let all = project.deliveries(&server);
        let gone = all["deliveries"][0].clone();
        (all["deliveries"].as_array().unwrap().len() == 3 && gone["state"] != "waiting").then_some(gone)
    });
    assert_eq!(gone["state"], "ignored");
    assert!(gone["reason"].as_str().unwrap().contains("was deleted"), "{gone}");
}

#[test]
fn a_delivery_that_comes_again_is_known_and_runs_once() {
    let (server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    let sha = repository.push(&[("a", "1")], "more");
    let first = project.deliver(&server, "msg_1", &push("refs/heads/main", NOTHING, &sha)).is(202).json();
    let again = project.deliver(&server, "msg_1", &push("refs/heads/main", NOTHING, &sha)).is(200).json();
    assert_eq!(first["id"], again["id"]);
    let verdict = project.verdict(&server, first["id"].as_i64().unwrap());
    assert_eq!(verdict["state"], "pipeline", "{verdict}");
    assert_eq!(pipelines(&server, &sha), 1);

    let replay = format!("/api/v1/projects/{}/deliveries/{}/replay", project.id, first["id"]);
    let replayed = server.post(&replay, &json!({})).is(202).json()["id"].as_i64().unwrap();
    assert_eq!(project.verdict(&server, replayed)["state"], "pipeline");
    assert_eq!(pipelines(&server, &sha), 2, "who replays means it");
}

#[test]
fn where_the_forge_does_not_sign_its_id_the_same_body_under_another_id_is_a_repetition() {
    let (server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({ "forge": "gitlab" }));
    let send = |id: &str, body: &Value| {
        let headers = [
            ("x-gitlab-token", project.secret.clone()),
            ("x-gitlab-event", "Push Hook".to_owned()),
            ("x-gitlab-event-uuid", id.to_owned()),
        ];
        project.deliver_bytes(&server, &headers, body.to_string().into_bytes())
    };
    let body = json!({ "object_kind": "push", "ref": "refs/heads/gone", "before": NOTHING, "after": "b".repeat(40) });
    let first = send("1", &body).is(202).json();
    assert_eq!(send("2", &body).is(200).json()["id"], first["id"]);
    let stored = project.verdict(&server, first["id"].as_i64().unwrap());
    assert_eq!(stored["state"], "ignored", "{stored}");
    assert!(!stored.to_string().contains(&project.secret), "the token is not kept");
    let skipped = json!({ "object_kind": "push", "ref": "refs/heads/main", "before": NOTHING, "after": repository.push(&[("a", "1")], "more"),
        "push_options": { "ci": { "skip": true } } });
    let id = send("3", &skipped).is(202).json()["id"].as_i64().unwrap();
    let verdict = project.verdict(&server, id);
    assert_eq!(verdict["state"], "skipped");
    let pipeline = format!("/api/v1/projects/{}/pipelines/{}", project.id, verdict["pipeline_id"]);
    assert_eq!(server.get(&pipeline).is(200).json()["status"], "skipped");
}

#[test]
fn whoever_is_turned_away_learns_nothing_and_leaves_nothing() {
    let (server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    let body = push("refs/heads/main", NOTHING, &"a".repeat(40)).to_string().into_bytes();
    let signed = |secret: &str| sign(secret, "msg_1", now_s(), &body);
    let wrong = project.deliver_bytes(&server, &signed("whsec_AAAA"), body.clone()).is(404);
    let unsigned = project.deliver_bytes(&server, &[], body.clone()).is(404);
    let old = project
        .deliver_bytes(&server, &sign(&project.secret, "m", now_s() - 3600, &body), body.clone())
        .is(404);
    let nowhere = Project { url: server.url("/hooks/0123456789"), ..Project::of_none(&project) };
    let unknown = nowhere.deliver_bytes(&server, &signed(&project.secret), body.clone()).is(404);
    for other in [&unsigned, &old, &unknown] {
        assert_eq!(other.text, wrong.text);
    }
    assert_eq!(server.number("SELECT COUNT(*) FROM deliveries"), 0);
    let told = project.deliveries(&server)["refused"].clone();
    assert_eq!(told["count"], 3, "{told}");
    assert!(told["reason"].as_str().unwrap().contains("five minutes"), "{told}");

    // from now on only from elsewhere
    let settings = json!({ "settings": { "allowed_ips": ["192.0.2.0/24"] } });
    server.send("PATCH", &format!("/api/v1/projects/{}", project.id), &settings).is(200);
    let elsewhere = project.deliver_bytes(&server, &signed(&project.secret), body.clone()).is(404);
    assert_eq!(elsewhere.text, wrong.text);
    // without any secret nothing is believed
    let settings = json!({ "settings": {} });
    server.send("PATCH", &format!("/api/v1/projects/{}", project.id), &settings).is(200);
    let secrets = server.get(&format!("/api/v1/projects/{}/secrets", project.id)).is(200).json();
    assert!(!secrets.to_string().contains(&project.secret));
    for secret in secrets.as_array().unwrap() {
        let path = format!("/api/v1/projects/{}/secrets/{}", project.id, secret["id"]);
        server.send("DELETE", &path, &json!({})).is(204);
    }
    project.deliver_bytes(&server, &signed(&project.secret), body.clone()).is(404);
    assert_eq!(server.number("SELECT COUNT(*) FROM deliveries"), 0);
}

impl Project {
    fn of_none(like: &Project) -> Project {
        Project { id: like.id, url: String::new(), secret: like.secret.clone(), setup: String::new() }
    }
}

#[test]
fn a_body_that_is_too_long_is_refused_by_its_length_and_while_it_comes() {
    let server = Server::with(json!({ "local_jobs": 0, "body_limit": 2000 }));
    let repository = Repository::with(&[CI]);
    let project = Project::of(&server, &repository, &json!({}));
    project.deliver_bytes(&server, &[], vec![b'x'; 2001]).is(413);
    let endless = reqwest::blocking::Body::new(std::io::repeat(b'x').take(1 << 20));
    let reply = server.anonymous().post(&project.url).body(endless).send();
    // the server may hang up before all is sent
    assert!(reply.map_or(true, |reply| reply.status() == 413));
    project.deliver(&server, "msg_1", &json!({ "type": "ping", "x": "y".repeat(1000) })).is(202);
}

#[test]
fn a_push_that_no_hook_told_of_is_found_when_the_server_starts_and_its_late_hook_runs_nothing() {
    let (mut server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    server.kill9();
    let sha = repository.push(&[("a", "1")], "while nobody listened");
    repository.git(&["tag", "-a", "-m", "one", "v1"]);
    repository.git(&["push", "-q", "origin", "v1"]);
    server.restart();
    eventually("pipelines of branch and tag", || (pipelines(&server, &sha) == 2).then_some(()));
    let keys = server.texts("SELECT key FROM deliveries ORDER BY id");
    assert_eq!(keys[0], format!("reconcile:refs/heads/main:{sha}"));
    assert!(keys[1].starts_with("reconcile:refs/tags/v1:"));

    let late = project.deliver(&server, "msg_1", &push("refs/heads/main", NOTHING, &sha)).is(202).json();
    let verdict = project.verdict(&server, late["id"].as_i64().unwrap());
    assert_eq!(verdict["state"], "ignored", "{verdict}");
    assert!(verdict["reason"].as_str().unwrap().contains("was seen"), "{verdict}");
    // forges name the tag, or its commit
    for (id, after) in [("msg_2", &sha), ("msg_3", &repository.git(&["rev-parse", "v1"]))] {
        let late = project.deliver(&server, id, &push("refs/tags/v1", NOTHING, after)).is(202).json();
        assert_eq!(project.verdict(&server, late["id"].as_i64().unwrap())["state"], "ignored");
    }
    server.post(&format!("/api/v1/projects/{}/look", project.id), &json!({})).is(200);
    assert_eq!(pipelines(&server, &sha), 2);
}

#[test]
fn a_paused_project_runs_nothing_and_then_what_its_branches_are() {
    let (server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    let path = format!("/api/v1/projects/{}", project.id);
    server.send("PATCH", &path, &json!({ "paused": true })).is(200);
    let mut shas = Vec::new();
    for (index, id) in ["msg_1", "msg_2"].into_iter().enumerate() {
        shas.push(repository.push(&[("a", &index.to_string())], "more"));
        let reply =
            project.deliver(&server, id, &push("refs/heads/main", NOTHING, &shas[index])).is(202).json();
        let verdict = project.verdict(&server, reply["id"].as_i64().unwrap());
        assert_eq!(
            (verdict["state"].as_str(), verdict["reason"].as_str()),
            (Some("ignored"), Some("the project is paused"))
        );
    }
    server.send("PATCH", &path, &json!({ "paused": false })).is(200);
    server.post(&format!("{path}/look"), &json!({})).is(200);
    eventually("the newest commit's pipeline", || (pipelines(&server, &shas[1]) == 1).then_some(()));
    assert_eq!(pipelines(&server, &shas[0]), 0);
}

fn proposal(action: &str, sha: &str) -> Value {
    json!({
        "action": action, "number": 7, "sender": { "login": "eve" },
        "pull_request": {
            "number": 7, "title": "Better", "head": { "ref": "topic", "sha": sha, "repo": { "id": 2 } },
            "base": { "ref": "main", "repo": { "id": 1 } },
        },
    })
}

#[test]
fn a_forks_merge_request_waits_for_a_maintainer_and_an_approval_holds_for_one_commit() {
    let ci = ("ci.yml", "x");
    let text =
        "build:\n  script: [\"true\"]\n  rules: [{ if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"' }]\n";
    let (server, repository) = (Server::start(), Repository::with(&[(".gitlab-ci.yml", text), ci]));
    let project = Project::of(&server, &repository, &json!({ "forge": "gitea" }));
    let propose = |action: &str, id: &str, change: &str| {
        repository.git(&["checkout", "-q", "-B", "topic", "main"]);
        std::fs::write(repository.tree().join("c"), change).unwrap();
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-q", "-m", change]);
        repository.git(&["push", "-q", "-f", "origin", "HEAD:refs/pull/7/head"]);
        let sha = repository.git(&["rev-parse", "HEAD"]);
        let body = proposal(action, &sha).to_string().into_bytes();
        let headers = [
            ("x-gitea-event", "pull_request".to_owned()),
            ("x-gitea-delivery", id.to_owned()),
            ("x-gitea-signature", hmac_hex(&project.secret, &body)),
        ];
        let delivery = project.deliver_bytes(&server, &headers, body).is(202).json()["id"].as_i64().unwrap();
        (sha, delivery)
    };
    let approve = |delivery: i64| format!("/api/v1/projects/{}/deliveries/{delivery}/approve", project.id);

    let (first, delivery) = propose("opened", "1", "one");
    let held = project.verdict(&server, delivery);
    assert_eq!(held["state"], "held", "{held}");
    assert!(held["reason"].as_str().unwrap().contains(&first), "{held}");
    let (second, newer) = propose("synchronized", "2", "two");
    assert_eq!(project.verdict(&server, newer)["state"], "held");
    assert_eq!(project.verdict(&server, delivery)["state"], "ignored", "its commit is no longer the newest");
    server.post(&approve(delivery), &json!({})).is(409);
    assert_eq!(server.number("SELECT COUNT(*) FROM pipelines"), 0);

    let run = server.post(&approve(newer), &json!({})).is(202).json()["id"].as_i64().unwrap();
    let verdict = project.verdict(&server, run);
    assert_eq!(verdict["state"], "pipeline", "{verdict}");
    assert_eq!((pipelines(&server, &first), pipelines(&server, &second)), (0, 1));
    assert_eq!(server.number("SELECT trusted FROM pipelines"), 0, "a yes gives no secrets");
    assert_eq!(server.texts("SELECT source FROM pipelines"), ["merge_request_event"]);
    server.post(&approve(newer), &json!({})).is(409);
    let (_, closed) = propose("closed", "3", "three");
    assert_eq!(project.verdict(&server, closed)["state"], "ignored");
}

fn hmac_hex(secret: &str, body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_delivery_that_was_accepted_before_a_kill_leads_to_exactly_one_pipeline() {
    const BRANCHES: usize = 24;
    let (mut server, repository) = (Server::start(), Repository::with(&[CI]));
    let project = Project::of(&server, &repository, &json!({}));
    let mut shas = Vec::new();
    for branch in 0..BRANCHES {
        repository.git(&["checkout", "-q", "-b", &format!("b{branch}"), "main"]);
        std::fs::write(repository.tree().join("n"), branch.to_string()).unwrap();
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-q", "-m", "n"]);
        shas.push(repository.git(&["rev-parse", "HEAD"]));
    }
    repository.git(&["push", "-q", "origin", "--all"]);
    for round in 0..3 {
        let (answered, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let pid = rustix::process::Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
        std::thread::scope(|scope| {
            for branch in (round..BRANCHES).step_by(3) {
                let (project, sha, answered, killed) = (&project, &shas[branch], &answered, &killed);
                scope.spawn(move || {
                    let body = push(&format!("refs/heads/b{branch}"), NOTHING, sha).to_string().into_bytes();
                    let headers = sign(&project.secret, &format!("msg_{branch}"), now_s(), &body);
                    let mut request = crate::support::client(None).post(&project.url).body(body);
                    for (name, value) in headers {
                        request = request.header(name, value);
                    }
                    // whoever is answered first pulls the plug on the others
                    if request.send().is_ok_and(|reply| reply.status() == 202) {
                        answered.fetch_or(1 << branch, Ordering::SeqCst);
                        if killed.fetch_add(1, Ordering::SeqCst) == 1 {
                            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                        }
                    }
                });
            }
        });
        server.kill9();
        server.restart();
        for branch in (round..BRANCHES).step_by(3) {
            let body = push(&format!("refs/heads/b{branch}"), NOTHING, &shas[branch]);
            let again = project.deliver(&server, &format!("msg_{branch}"), &body);
            let accepted = answered.load(Ordering::SeqCst) & (1 << branch) != 0;
            assert!(again.status == 200 || (again.status == 202 && !accepted), "{branch}: {}", again.status);
        }
    }
    eventually("an empty inbox", || {
        (server.number("SELECT COUNT(*) FROM deliveries WHERE state = 'waiting'") == 0).then_some(())
    });
    for sha in &shas {
        assert_eq!(pipelines(&server, sha), 1, "{sha}");
    }
    let without = "SELECT COUNT(*) FROM deliveries WHERE key LIKE 'msg%' AND pipeline_id IS NULL";
    assert_eq!(server.number(without), 0);
}

/// A forge's API: answers with these, the last of them for ever, and remembers what it was told.
fn forge(answers: &'static [(&'static str, &'static str)]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(Vec::new()));
    let remembers = Arc::clone(&told);
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            remembers.lock().unwrap().push(format!("{head}\n{}", String::from_utf8_lossy(&body)));
            let (status, more) = answers[index.min(answers.len() - 1)];
            let answer =
                format!("HTTP/1.1 {status}\r\n{more}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    (address, told)
}

#[test]
fn a_forge_that_is_away_is_told_later_and_only_the_last_word() {
    let (address, told) = forge(&[("503 Away", "Retry-After: 1\r\n"), ("201 Created", "")]);
    let (mut server, repository) = (Server::start(), Repository::with(&[CI]));
    let token = "forge-token-4711";
    let more = json!({ "forge": "gitea", "forge_url": format!("{address}/api/v1"), "forge_token": token });
    let project = Project::of(&server, &repository, &more);
    let name = "https://git.example.org/o/r.git";
    server
        .send(
            "PATCH",
            &format!("/api/v1/projects/{}", project.id),
            &json!({ "git_url": name, "paused": true }),
        )
        .is(200);
    let say = |server: &Server, state: &str| {
        let sha = "a".repeat(40);
        server.execute(&format!(
            "INSERT INTO statuses (project_id, sha, context, ref, state, description, target_url, version, sent, tries, \
             next_at, error) VALUES ({}, '{sha}', 'slipway/push', 'main', '{state}', 'x', 'http://ci/1', 1, 0, 0, 0, '') \
             ON CONFLICT (project_id, sha, context) DO UPDATE SET state = excluded.state, version = statuses.version + 1",
            project.id
        ));
    };
    say(&server, "running");
    eventually("the first try", || (told.lock().unwrap().len() == 1).then_some(()));
    server.kill9();
    say(&server, "success");
    server.restart();
    eventually("the last word", || (server.number("SELECT sent FROM statuses") == 2).then_some(()));
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with("POST /api/v1/repos/o/r/statuses/aaaa"), "{}", told[1]);
    assert!(told[1].contains(&format!("token {token}")) && told[1].contains("\"success\""), "{}", told[1]);
    assert!(!server.said().contains(token));
}
