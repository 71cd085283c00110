//! Services and networks of jobs: with the image `host`, which needs no registry, and with real servers from the
//! images of `scripts/test-images.sh`.

use crate::tree::{Tree, command_lines, until};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const SETTINGS: [&str; 2] = ["network: none\n", "network: host\n"];

const PIPELINE: &str = r#"
variables: {GREETING: hello, NAME: job}
.server: &server
  name: host
  command:
    - python3
    - -c
    - |
      import http.server, os
      class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
          self.send_response(200); self.end_headers()
          self.wfile.write(os.environ['WHO'].encode())
        def log_message(self, *_): print('asked', os.environ['WHO'], flush=True)
      http.server.HTTPServer(('', 8080), Answer).serve_forever()
two-on-one-port:
  services:
    - {<<: *server, alias: "one first", variables: {WHO: "$GREETING 1 {mark}", HEALTHCHECK_TCP_PORT: 8080}}
    - {<<: *server, alias: two, variables: {WHO: "$GREETING 2", HEALTHCHECK_TCP_PORT: 8080}}
  script:
    - &get "get() { python3 -c 'import sys, urllib.request as u; print(\"got\", u.urlopen(sys.argv[1]).read())' \"$1\"; }"
    - get http://one:8080/; get http://first:8080/; get http://two:8080/
"#;

#[test]
fn services_answer_by_name_with_their_own_variables_and_logs() {
    for settings in SETTINGS {
        let mark = format!("7{}{}", std::process::id(), settings.len());
        let tree = Tree::with(&[
            (".gitlab-ci.yml", &PIPELINE.replace("{mark}", &mark)),
            (".ci/settings.yml", settings),
        ]);
        let said = tree.run(&["run"]);
        assert_eq!(said.code, 0, "{settings}: {said}");
        let log = tree.log("two-on-one-port");
        let answer = format!("got b'hello 1 {mark}'\n");
        assert_eq!(log.matches(&answer).count(), 2, "{settings}: {log}");
        assert!(log.contains("got b'hello 2'\n"), "{settings}: {log}");
        assert!(!log.contains("WARNING"), "{settings}: {log}");
        let logs = tree.newest_run().unwrap().join("jobs/two-on-one-port/1/services");
        assert!(fs::read_to_string(logs.join("one.log")).unwrap().contains("asked hello 1"));
        assert!(fs::read_to_string(logs.join("two.log")).unwrap().contains("asked hello 2"));
        assert!(!command_lines().iter().any(|line| line.contains(&mark)), "{settings}");
        assert_eq!(tree.used_sandboxes(), [""; 0], "{settings}");
    }
}

#[test]
fn jobs_at_once_may_listen_on_one_port() {
    let tree = Tree::with(&[
        (
            ".gitlab-ci.yml",
            "
listen:
  parallel: 2
  script:
    - python3 -m http.server 8080 &
    - touch $CI_PROJECT_DIR/$CI_NODE_INDEX.txt
    - while ! python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8080/\").read())' 2>/dev/null
      | grep -o $CI_NODE_INDEX.txt; do :; done
",
        ),
        (".ci/settings.yml", "network: none\n"),
    ]);
    let said = tree.run(&["run", "-j", "2"]);
    assert_eq!(said.code, 0, "{said}");
}

#[test]
fn a_service_that_ends_is_a_warning_with_its_last_lines_and_no_failure() {
    let tree = Tree::with(&[
        (
            ".gitlab-ci.yml",
            "
job:
  services:
    - {name: host, alias: broken, command: [sh, -c, 'echo no licence; exit 3'], variables: {HEALTHCHECK_TCP_PORT: 1}}
  script: [echo ran]
",
        ),
        (".ci/settings.yml", "network: none\n"),
    ]);
    let said = tree.run(&["run"]);
    assert_eq!(said.code, 0, "{said}");
    let log = tree.log("job");
    let warning =
        "WARNING: service `broken` (image `host`) has ended with exit code 3; its last lines:\n  no licence";
    assert!(log.contains(warning), "{log}");
    assert!(said.contains("service `broken`"), "{said}");
}

#[test]
fn a_service_without_a_program_fails_the_job_and_says_so() {
    let tree = Tree::with(&[
        (".gitlab-ci.yml", "job:\n  services: [{name: host, alias: idle}]\n  script: [echo ran]\n"),
        (".ci/settings.yml", "network: none\n"),
    ]);
    let said = tree.run(&["run"]);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.contains("starting service `idle` (image `host`)") && said.contains("`command`"), "{said}");
}

#[test]
fn what_services_print_is_in_the_jobs_log_on_demand_and_masked() {
    let tree = Tree::with(&[
        (
            ".gitlab-ci.yml",
            "
job:
  variables: {CI_DEBUG_SERVICES: 'true'}
  services:
    - name: host
      alias: chat
      command: [sh, -c, 'echo I know $PASSED and ${TOKEN:-nothing}; exec python3 -m http.server 8080 >/dev/null']
      variables: {PASSED: $TOKEN, HEALTHCHECK_TCP_PORT: 8080}
  script: [echo ran]
",
        ),
        (".ci/settings.yml", "network: none\n"),
        (".ci/variables.yml", "TOKEN: {value: hunter2hunter2, masked: true}\n"),
    ]);
    let said = tree.run(&["run"]);
    assert_eq!(said.code, 0, "{said}");
    let expected = "[service:chat] I know [MASKED] and nothing\n";
    let log = tree.log("job");
    assert!(log.contains(expected), "{log}");
    let own = tree.newest_run().unwrap().join("jobs/job/1/services/chat.log");
    assert_eq!(fs::read_to_string(own).unwrap(), "I know [MASKED] and nothing\n");
}

#[test]
fn a_killed_ci_leaves_no_service() {
    let mark = format!("1000.8{}", std::process::id());
    let yaml = format!(
        "
job:
  services: [{{name: host, alias: s, command: [sleep, '{mark}1']}}]
  script: [echo ready, sleep {mark}2]
"
    );
    let tree = Tree::with(&[(".gitlab-ci.yml", yaml.as_str()), (".ci/settings.yml", "network: none\n")]);
    let mut ci = tree.ci(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runs = |number: u8| command_lines().iter().any(|line| line.contains(&format!("{mark}{number}")));
    until("the job and its service are there", || runs(1) && runs(2));
    ci.kill().unwrap();
    ci.wait().unwrap();
    until("both are gone", || !runs(1) && !runs(2));
}

/// The registry of `scripts/test-images.sh`, until it is dropped.
struct Registry {
    server: Child,
    address: String,
}

impl Registry {
    /// `None` where the images can't be built, with the reason on standard error.
    fn serve(images: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-images.sh");
        let mut server = Command::new(script)
            .arg("--serve")
            .args(images)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut lines = std::io::BufReader::new(server.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut lines, &mut address).unwrap();
        let address = address.trim().to_owned();
        if address.is_empty() {
            server.wait().unwrap();
            return None;
        }
        Some(Self { server, address })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

const REAL: &str = "
default: {image: '{registry}/base'}
sql:
  image: '{registry}/postgres:15'
  variables: {POSTGRES_PASSWORD: pass, PGPASSWORD: pass}
  services:
    - {name: '{registry}/postgres:15', alias: db, variables: {POSTGRES_DB: one}}
    - {name: '{registry}/postgres:15', alias: db2, variables: {POSTGRES_DB: two}}
  script:
    - psql -h db -U postgres -d one -Atc 'select 40 + 2'
    - psql -h db2 -U postgres -d two -Atc 'select 40 + 3'
keys:
  image: '{registry}/redis:7'
  services: [{name: '{registry}/redis:7', alias: kv}]
  script: [redis-cli -h kv set answer 44, redis-cli -h kv get answer]
web:
  services: [{name: '{registry}/nginx:1', alias: www}]
  script: [exec 3<>/dev/tcp/www/80, printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3, cat <&3]
gone:
  services: ['{registry}/nosuch:1']
  script: [echo never]
";

/// `many` has `HEALTHCHECK test -e /tmp/ready`, and ports that nobody listens on.
const CHECKED: &str = "
.service: &service {name: '{registry}/many', entrypoint: [sh, -c]}
ready:
  services: [{<<: *service, alias: slow, command: ['sleep 0.5; echo it is time; >/tmp/ready; exec sleep 1000']}]
  script: [echo ran]
never:
  services: [{<<: *service, alias: never, command: ['exec sleep 1000']}]
  script: [echo ran]
";

#[test]
fn services_are_ready_when_the_health_check_of_their_image_says_so() {
    let registry = crate::registry::Registry::with(&["many"]);
    for settings in SETTINGS {
        let tree = Tree::with(&[
            (".gitlab-ci.yml", &CHECKED.replace("{registry}", &registry.address)),
            (".ci/settings.yml", settings),
        ]);
        let said = tree.run(&["run"]);
        assert_eq!(said.code, 0, "{settings}: {said}");
        let run = tree.newest_run().unwrap();
        let slow = fs::read_to_string(run.join("jobs/ready/1/services/slow.log")).unwrap();
        assert_eq!(slow, "it is time\n", "{settings}: what checks print is not the service's");
        assert!(!tree.log("ready").contains("WARNING"), "{settings}: {}", tree.log("ready"));
        let log = tree.log("never");
        // four checks, two seconds apart
        let warning = "probably didn't start properly: its image's health check fails with exit code 1";
        assert!(log.contains(warning) && log.contains("ran\n"), "{settings}: {log}");
    }
}

#[test]
fn real_databases_and_web_servers_serve_jobs() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: building images of services takes root");
        return;
    }
    let Some(registry) = Registry::serve(&["base", "postgres", "redis", "nginx"]) else {
        eprintln!("skipped: scripts/test-images.sh has no images here");
        return;
    };
    let tree = Tree::pipeline(&REAL.replace("{registry}", &registry.address));
    let said = tree.run(&["run"]);
    assert_eq!(said.code, 1, "{said}");
    for (job, texts) in [
        ("sql", &["42\n", "43\n", "Waiting for services to be up and running"][..]),
        ("keys", &["OK\n", "44\n"]),
        ("web", &["Welcome to nginx!"]),
    ] {
        let log = tree.log(job);
        assert!(log.contains("Job succeeded") && texts.iter().all(|text| log.contains(text)), "{log}");
    }
    assert!(said.contains("image_pull_failure"), "{said}");
    let postgres = tree.newest_run().unwrap().join("jobs/sql/1/services/db2.log");
    assert!(fs::read_to_string(postgres).unwrap().contains("ready to accept connections"));
}
