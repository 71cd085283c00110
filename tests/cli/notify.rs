//! `ci notify` against a server on loopback.

use crate::tree::{Said, Tree, said};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

/// Answers one request with `status`; gives its first line and its body.
fn server(status: &'static str) -> (String, JoinHandle<(String, String)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/hooks/t0p-s3cret", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((_, value)) =
                line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        reader.into_inner().write_all(answer.as_bytes()).unwrap();
        (first, String::from_utf8(body).unwrap())
    });
    (url, thread)
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
    let (url, refuses) = server("500 Internal Server Error");
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
