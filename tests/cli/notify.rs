//! `ci notify` against a server on loopback.

use crate::tree::{Said, Tree, said};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// What a server was sent.
#[derive(Debug)]
struct Got {
    first: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Got {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Answers one request with each of `answers` (status and body); gives what it was sent.
fn servers(answers: Vec<(&'static str, &'static str)>) -> (String, JoinHandle<Vec<Got>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/hooks/t0p-s3cret", listener.local_addr().unwrap());
    let answer = move |(status, text): (&str, &str)| {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let length = text.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
        Got { first: first.trim().to_owned(), headers, body: String::from_utf8(body).unwrap() }
    };
    (url, std::thread::spawn(move || answers.into_iter().map(answer).collect()))
}

/// Answers one request with `status`; gives its first line and its body.
fn server(status: &'static str) -> (String, JoinHandle<(String, String)>) {
    let (url, thread) = servers(vec![(status, "")]);
    let one = move || {
        let got = thread.join().unwrap().remove(0);
        (got.first, got.body)
    };
    (url, std::thread::spawn(one))
}

fn notify(url: Option<&str>, arguments: &[&str]) -> Said {
    let tree = Tree::bare();
    let mut ci = tree.ci(&["notify"]);
    ci.args(arguments).env("CI_PROJECT_PATH", "group/app").env("CI_JOB_NAME", "build");
    if let Some(url) = url {
        ci.env("NOTIFY_URL", url);
    }
    let said = said(&mut ci);
    assert!(!said.contains("t0p-s3cret"), "the URL is a secret\n{said}");
    said
}

#[test]
fn a_message_is_posted_with_its_place() {
    let (url, server) = server("200 OK");
    assert_eq!(notify(Some(&url), &["build failed \"again\""]).code, 0);
    let (first, body) = server.join().unwrap();
    assert_eq!(first.trim(), "POST /hooks/t0p-s3cret HTTP/1.1");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, serde_json::json!({"text": "build failed \"again\" (group/app build)"}));
}

#[test]
fn a_command_that_fails_is_told_and_its_code_kept() {
    for (command, code, told) in [
        (&["sh", "-c", "echo out; exit 7"][..], 7, "exit status: 7"),
        (&["sh", "-c", "kill -9 $$"], 137, "signal: 9"),
        (&["no-such-program-anywhere"], 127, "build broke"),
    ] {
        let (url, server) = server("200 OK");
        let said = notify(Some(&url), &[&["build broke", "--"], command].concat());
        assert_eq!(said.code, code, "{said}");
        assert!(server.join().unwrap().1.contains(told), "{told}");
    }
}

#[test]
fn a_command_that_succeeds_is_nobody_s_business() {
    // nobody listens there: a request would fail
    let said = notify(Some("http://127.0.0.1:9/t0p-s3cret"), &["m", "--", "echo", "output"]);
    assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "output\n", ""));
}

#[test]
fn a_failing_notifier_does_not_hide_the_failure() {
    let (url, refuses) = servers(vec![("500 Internal Server Error", ""); 3]);
    let said = notify(Some(&url), &["m", "--", "sh", "-c", "exit 5"]);
    assert_eq!(said.code, 5, "{said}");
    assert!(said.stderr.contains("500"), "{said}");
    refuses.join().unwrap();
    let said = notify(Some("http://127.0.0.1:9/t0p-s3cret"), &["m"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.stderr.contains("sending the notice"), "{said}");
    let said = notify(Some("not a url t0p-s3cret"), &["m"]);
    assert_eq!(said.code, 1, "{said}");
}

#[test]
fn without_a_url_the_notice_is_printed() {
    let said = notify(None, &["look here"]);
    assert_eq!(said.code, 0, "{said}");
    assert!(said.stderr.contains("look here") && said.stderr.contains("NOTIFY_URL is not set"), "{said}");
    assert_eq!(notify(Some(""), &["look here"]).code, 0);
    assert_eq!(notify(None, &[]).code, 2);
}

/// A project whose notifiers are `settings`, and whose `HOOK` is `url`.
fn project(settings: &str, url: &str) -> Tree {
    let tree = Tree::with(&[
        (".gitlab-ci.yml", "job: {image: host, script: ['test ! -e broken']}\n"),
        (".ci/settings.yml", settings),
        (".gitignore", ".ci/variables.yml\n"),
    ]);
    tree.write(
        ".ci/variables.yml",
        &format!("HOOK: {url}\nHOOK_SECRET: {{value: s3cret-key, masked: true}}\n"),
    );
    tree
}

#[test]
fn every_kind_is_posted_in_its_form_and_a_test_says_what_came_of_it() {
    let slack = |body: &Json| body["text"].as_str().unwrap().contains("trial message");
    let robot = |body: &Json| body["text"]["content"].as_str().unwrap().contains("trial message");
    let card =
        |body: &Json| body["card"]["header"]["title"]["content"].as_str().unwrap().contains("trial message");
    let event = |body: &Json| body["title"].as_str().unwrap().contains("trial message");
    type Looks = fn(&Json) -> bool;
    let table: [(&str, &str, Looks); 6] = [
        ("slack", "ok", slack),
        ("mattermost", "ok", slack),
        ("dingtalk, secret: HOOK_SECRET", r#"{"errcode":0}"#, robot),
        ("wecom", r#"{"errcode":0}"#, robot),
        ("feishu, secret: HOOK_SECRET", r#"{"code":0}"#, card),
        ("webhook, secret: HOOK_SECRET", "", event),
    ];
    for (kind, answer, looks) in table {
        let (url, server) = servers(vec![("200 OK", answer)]);
        let tree = project(&format!("notify: [{{name: team, kind: {kind}, url: HOOK}}]\n"), &url);
        let said = tree.run(&["notify", "test", "team"]);
        assert_eq!((said.code, said.stdout.as_str()), (0, "ok    team\n"), "{kind}: {said}");
        let got = server.join().unwrap().remove(0);
        assert!(looks(&got.json()), "{kind}: {got:?}");
        let signed = got.first.contains("&sign=")
            || got.json().get("sign").is_some()
            || got.headers.contains_key("x-slipway-signature");
        assert_eq!(signed, kind.contains("secret"), "{kind}: {got:?}");
        assert!(!format!("{got:?}").contains("s3cret-key"), "{got:?}");
    }
}

#[test]
fn a_test_shows_refusals_without_the_url() {
    let (url, server) = servers(vec![
        ("200 OK", r#"{"errcode":310000,"errmsg":"no robot t0p-s3cret"}"#),
        ("404 Not Found", ""),
        ("302 Found", ""),
    ]);
    let table = [
        ("dingtalk", "310000: no robot [hidden]"),
        ("slack", "the answer was 404 Not Found"),
        ("webhook", "the answer was 302 Found"),
    ];
    for (kind, expected) in table {
        let tree = project(&format!("notify: [{{kind: {kind}, url: HOOK}}]\n"), &url);
        let said = tree.run(&["notify", "test"]);
        assert_eq!(said.code, 1, "{said}");
        assert!(said.stdout.contains(&format!("FAIL  {kind}: ")) && said.contains(expected), "{said}");
        assert!(!said.contains("t0p-s3cret"), "{said}");
    }
    server.join().unwrap();
    let tree = project("notify: [{kind: slack, url: OTHER}]\n", "");
    for (arguments, code, expected) in [
        (&["notify", "test"][..], 1, "the variable `OTHER` is not set"),
        (&["notify", "test", "tem"], 2, "no notifier is named `tem`"),
        (&["notify", "--to", "tem", "m"], 2, "`slack`"),
    ] {
        let said = tree.run(arguments);
        assert!(said.code == code && said.contains(expected), "{said}");
    }
    let said = Tree::bare().run(&["notify", "test"]);
    assert!(said.code == 2 && said.contains("no notifier is set up"), "{said}");
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let (url, server) = servers(vec![("503 Service Unavailable", ""), ("200 OK", "")]);
    let said = notify(Some(&url), &["m"]);
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn the_kind_of_notify_url_is_said_by_a_variable() {
    let (url, server) = servers(vec![("200 OK", r#"{"errcode":0}"#)]);
    let tree = Tree::bare();
    let said = said(tree.ci(&["notify", "it broke"]).env("NOTIFY_URL", url).env("NOTIFY_KIND", "wecom"));
    assert_eq!(said.code, 0, "{said}");
    let body = server.join().unwrap().remove(0).json();
    assert_eq!(body, json!({"msgtype": "text", "text": {"content": "it broke"}}));
    let wrong =
        crate::tree::said(tree.ci(&["notify", "m"]).env("NOTIFY_URL", "http://h").env("NOTIFY_KIND", "irc"));
    assert!(wrong.code == 2 && wrong.contains("NOTIFY_KIND") && wrong.contains("wecom"), "{wrong}");
}

#[test]
fn a_pipeline_tells_of_failure_and_repair_and_nothing_else() {
    let (url, server) = servers(vec![("200 OK", ""); 2]);
    let tree = project("notify: [{kind: webhook, url: HOOK}]\n", &url);
    let run = |code: i32| {
        let said = tree.run(&["run", "--executor", "shell"]);
        assert_eq!(said.code, code, "{said}");
    };
    run(0);
    tree.write("broken", "");
    run(1);
    std::fs::remove_file(tree.dir().join("broken")).unwrap();
    run(0);
    run(0);
    let got: Vec<Json> = server.join().unwrap().iter().map(Got::json).collect();
    assert_eq!((&got[0]["occasion"], &got[0]["failed_jobs"]), (&json!("failed"), &json!(["job"])));
    assert_eq!((&got[0]["subject"], &got[0]["reference"]), (&json!("pipeline"), &json!("main")));
    assert_eq!((&got[1]["occasion"], &got[1]["run"]), (&json!("fixed"), &json!(3)));
}

#[test]
fn a_notifier_that_fails_changes_no_exit_code() {
    let settings = "notify: [{kind: slack, url: HOOK, on: [started, succeeded, failed]}]\n";
    for (broken, code) in [(false, 0), (true, 1)] {
        let tree = project(settings, "http://127.0.0.1:9/t0p-s3cret");
        if broken {
            tree.write("broken", "");
        }
        let said = tree.run(&["run", "--executor", "shell"]);
        assert_eq!(said.code, code, "{said}");
        assert_eq!(said.stderr.matches("warning: telling `slack`").count(), 2, "{said}");
        assert!(!said.contains("t0p-s3cret"), "{said}");
    }
    // a developer without the variable is not bothered
    let tree = project(settings, "");
    let said = tree.run(&["run", "--executor", "shell"]);
    assert!(said.code == 0 && !said.contains("telling"), "{said}");
}

#[test]
fn a_deployment_that_fails_is_told_with_its_reason() {
    let (url, server) = servers(vec![("200 OK", "")]);
    let tree = Tree::bare();
    tree.write(
        ".ci/deploy.yml",
        "environments: {dev: {}, sit: {}}\nnotify: [{kind: webhook, url: HOOK, environments: [dev]}]\n",
    );
    let deploy = |environment: &str| {
        let mut ci = tree.ci(&["deploy", environment]);
        said(ci.env("HOOK", &url).env("SSH_USER_HOST", "127.0.0.1").env("CI_COMMIT_REF_NAME", "main"))
    };
    let first = deploy("dev");
    assert_ne!(first.code, 0, "{first}");
    let got = server.join().unwrap().remove(0).json();
    assert_eq!((&got["subject"], &got["occasion"]), (&json!("deployment"), &json!("failed")));
    assert_eq!((&got["environment"], &got["reference"]), (&json!("dev"), &json!("main")));
    let text = got["text"].as_str().unwrap();
    assert!(first.contains(text.lines().next().unwrap()), "{text}\n{first}");
    // nobody listens any more: the code stays; other environments are not told at all
    let again = deploy("dev");
    assert!(again.code == first.code && again.contains("warning: telling `webhook`"), "{again}");
    let other = deploy("sit");
    assert!(other.code == first.code && !other.contains("telling"), "{other}");
}

/// Speaks SMTP with one client as `greeting` and `features` say; gives its lines.
fn smtp(features: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let speak = move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut all = String::new();
        let mut in_data = false;
        let mut answer = Some("220 hello\r\n".to_owned());
        loop {
            if let Some(answer) = answer.take() {
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return all;
            }
            all += &line;
            answer = match line.trim_end() {
                "." => {
                    in_data = false;
                    Some("250 taken\r\n".into())
                }
                _ if in_data => None,
                "DATA" => {
                    in_data = true;
                    Some("354 go on\r\n".into())
                }
                line if line.starts_with("EHLO") => Some(format!("250-here\r\n{features}250 8BITMIME\r\n")),
                line if line.starts_with("AUTH") => Some("235 welcome\r\n".into()),
                "QUIT" => Some("221 bye\r\n".into()),
                _ => Some("250 ok\r\n".into()),
            };
        }
    };
    (port, std::thread::spawn(speak))
}

const MAIL: &str =
    "notify: [{kind: email, url: HOOK, from: 'CI <ci@example.org>', to: [a@example.org, b@example.org]}]\n";

#[test]
fn mail_goes_to_every_address() {
    let (port, server) = smtp("250-AUTH PLAIN\r\n");
    let tree = project(MAIL, &format!("smtp://me:p%40ss-w0rd@127.0.0.1:{port}"));
    let said = tree.run(&["notify", "test"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "ok    email\n"), "{said}");
    let all = server.join().unwrap();
    // "\0me\0p@ss-w0rd" in base64
    for text in [
        "AUTH PLAIN AG1lAHBAc3MtdzByZA==",
        "MAIL FROM:<ci@example.org>",
        "RCPT TO:<a@example.org>",
        "RCPT TO:<b@example.org>",
        "Subject: A trial message",
        "text/html",
    ] {
        assert!(all.contains(text), "{text}\n{all}");
    }
}

#[test]
fn a_password_is_not_sent_where_encryption_was_asked_for_and_is_not_there() {
    let (port, server) = smtp("250-AUTH PLAIN\r\n");
    let tree = project(MAIL, &format!("smtp://me:p%40ss-w0rd@127.0.0.1:{port}?tls=required"));
    let said = tree.run(&["notify", "test"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.contains("FAIL  email: ") && !said.contains("ss-w0rd"), "{said}");
    let all = server.join().unwrap();
    assert!(all.starts_with("EHLO") && !all.contains("AUTH"), "{all}");
}
