//! Deployments are told of: a real target, real Erlang/OTP, a webhook on loopback.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use support::project::Project;
use support::target::Target;

/// Takes `count` posts; gives their bodies.
fn take(listener: &TcpListener, count: usize) -> Vec<Json> {
    let one = |_| {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let mut length = 0;
        // the line of the request
        reader.read_line(&mut String::new()).unwrap();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v)) else {
                break;
            };
            if name == "content-length" {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        reader.get_mut().write_all(answer).unwrap();
        serde_json::from_slice(&body).unwrap()
    };
    (0..count).map(one).collect()
}

#[test]
fn a_deployment_is_told_when_it_begins_and_ends_and_not_when_nothing_is_done() {
    let (target, project) = (Target::start(), Project::at("0.1.0"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // the variables of the target say where the environment is
    let ann = std::fs::read_to_string(target.path("user.pub")).unwrap();
    let settings = format!(
        "people: {{ann: ['{}']}}\nenvironments: {{dev: {{}}, sit: {{targets: [dev], approvals: {{count: 1}}}}}}\n\
         notify: [{{kind: webhook, url: HOOK, on: [started, succeeded, failed, approval_needed]}}]\n",
        ann.trim()
    );
    std::fs::create_dir_all(project.path().join(".ci")).unwrap();
    std::fs::write(project.path().join(".ci/deploy.yml"), settings).unwrap();
    let deploy = |arguments: &[&str]| {
        target.ci(project.path(), &[&["deploy", "dev"], arguments].concat(), &[("HOOK", &url)])
    };
    deploy(&["--plan"]).ended(0);
    let got = std::thread::scope(|scope| {
        let got = scope.spawn(|| take(&listener, 3));
        deploy(&[]).ended(0).says(&["installed and running"]);
        // the second time it only begins
        deploy(&[]).ended(0).says(&["nothing to do"]);
        got.join().unwrap()
    });
    let occasions: Vec<&Json> = got.iter().map(|event| &event["occasion"]).collect();
    assert_eq!(occasions, [&json!("started"), &json!("succeeded"), &json!("started")]);
    let event = &got[1];
    assert_eq!((&event["release"], &event["version"]), (&json!("urf"), &json!("0.1.0")));
    assert_eq!(event["title"], "Deployment of urf 0.1.0 to dev succeeded");
    assert!(event["strategy"].as_str().unwrap().contains("fresh"), "{event}");

    let got = std::thread::scope(|scope| {
        let got = scope.spawn(|| take(&listener, 1));
        let promote = ["promote", "0.1.0", "--to", "sit"];
        target.ci(project.path(), &promote, &[("HOOK", &url)]).ended(3).says(&["0 of 1 approvals"]);
        got.join().unwrap()
    });
    assert_eq!(got[0]["occasion"], "approval_needed");
    assert_eq!(got[0]["title"], "Deployment of urf 0.1.0 to sit waits for approval");
}
