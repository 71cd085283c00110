//! Deployments of programs that are no Erlang nodes of rebar3's, against a real sshd, supervisord, nginx and Elixir.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::systemd::Systemd;
use support::target::{Said, Target, free_port, run, signal, until, which};
use tempfile::TempDir;

/// Answers with its version; `broken` versions with 500, `crash` ones not at all.
const SERVER: &str = include_str!("support/answers.py");

/// A project whose package is the directory `app`.
struct Project(TempDir);

impl Project {
    fn new(environment: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        let release = "release:\n  name: site\n  kind: archive\n  version: {file: VERSION}\n  build: ['mkdir -p dist && tar czf \
            dist/$NAME-$VERSION.tar.gz -C app .']\n  package: 'dist/{name}-{version}.tar.gz'\n";
        project.write(".ci/deploy.yml", &format!("{release}environments:\n  dev:\n{environment}"));
        project.write("app/server.py", SERVER);
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(&self, version: &str) -> &Path {
        self.write("VERSION", version);
        self.write("app/version", version);
        self.0.path()
    }
}

fn get(port: u16) -> String {
    let output = Command::new("curl")
        .args(["-s", "--max-time", "5"])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

fn current(target: &Target) -> String {
    fs::read_link(target.path("urf/current")).map(|link| link.display().to_string()).unwrap_or_default()
}

fn deploy(target: &Target, project: &Project, version: &str) -> Said {
    target.ci(project.at(version), &["deploy", "dev"], &[])
}

fn http(port: u16) -> String {
    format!("    health: [{{http: 'http://127.0.0.1:{port}/', within: 15s}}]\n")
}

#[test]
fn an_archive_is_switched_by_its_link_and_rolled_back() {
    let (target, port) = (Target::start(), free_port());
    let service =
        format!("    keep: 1\n    service:\n      commands: {{start: 'exec python3 server.py {port}'}}\n");
    let project = Project::new(&(http(port) + &service));
    target
        .ci(project.at("1.0.0"), &["deploy", "dev", "--plan"], &[])
        .ended(0)
        .says(&["fresh install", "nothing was sent"]);
    assert!(!target.path("urf/versions").exists());
    deploy(&target, &project, "1.0.0").ended(0).says(&["fresh install"]);
    assert_eq!((get(port), current(&target)), ("1.0.0".into(), "versions/1.0.0".into()));
    deploy(&target, &project, "1.0.0").ended(0).says(&["nothing to do"]);
    deploy(&target, &project, "1.1.0").ended(0).says(&["restart: `1.0.0` runs there"]);
    assert_eq!(get(port), "1.1.0");

    deploy(&target, &project, "1.2.0-broken")
        .ended(4)
        .says(&["the answer is 500", "rolled back: `1.1.0` serves again"]);
    assert_eq!((get(port), current(&target)), ("1.1.0".into(), "versions/1.1.0".into()));
    deploy(&target, &project, "1.2.0-broken").ended(3).says(&["failed there before", "ci env clear"]);
    deploy(&target, &project, "1.2.0-crash").ended(4).says(&["no disk today", "rolled back"]);
    assert_eq!(get(port), "1.1.0");

    project.write("app/more", "not in what was released");
    deploy(&target, &project, "1.1.0").ended(3).says(&["from another package", "help: "]);
    deploy(&target, &project, "1.3.0").ended(0).says(&["keep 1 old"]);
    assert!(target.path("urf/versions/1.1.0").exists() && !target.path("urf/versions/1.0.0").exists());
    assert!(!target.path("urf/.ci-lock").exists());
}

#[test]
fn what_is_not_ours_or_not_safe_is_refused() {
    let target = Target::start();
    let project = Project::new("    service: {commands: {start: 'true'}}\n");
    fs::create_dir_all(target.path("urf/bin")).unwrap();
    deploy(&target, &project, "1.0.0").ended(3).says(&["holds `bin`", "directory of its own"]);
    assert!(!target.path("urf/current").exists());
    for version in ["../1", "1;id", "$(id)", "-rf"] {
        let said = target.ci(project.at(version), &["deploy", "dev"], &[]);
        assert_ne!(said.code, 0, "{version}");
        said.says(&["version"]);
    }
    std::os::unix::fs::symlink("/etc", project.0.path().join("app/out")).unwrap();
    deploy(&target, &project, "1.0.0").ended(3).says(&["leads outside"]);
}

/// A daemon of the test, ended with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_of_supervisord_is_restarted_verified_and_rolled_back() {
    let (target, port) = (Target::start(), free_port());
    let home = target.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let section = format!(
        "[program:site]\ncommand=python3 {home}/urf/current/server.py {port}\nautostart=false\nstartsecs=1\nstartretries=0\nautorestart=false\n\
         stopasgroup=true\nkillasgroup=true\nstdout_logfile={home}/out.log\nstderr_logfile={home}/err.log\n"
    );
    let server = format!(
        "[supervisord]\nnodaemon=true\nlogfile={home}/supervisord.log\npidfile={home}/supervisord.pid\nchildlogdir={home}\n\
         [unix_http_server]\nfile={home}/s.sock\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
    );
    fs::write(target.path("supervisord.conf"), &server).unwrap();
    let mut supervisord = Command::new("supervisord");
    supervisord
        .arg("-c")
        .arg(target.path("supervisord.conf"))
        .env("HOME", target.path(""))
        .env("OF", target.path(""));
    let _supervisord =
        Daemon(supervisord.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    until("supervisord listens", || target.path("s.sock").exists());

    let service =
        format!("    service:\n      supervisord: {{program: site, server: 'unix://{home}/s.sock'}}\n");
    let project = Project::new(&(http(port) + &service));
    deploy(&target, &project, "1.0.0").ended(3).says(&["no program `site`", "it has none"]);
    // a section that was only written down is taken up
    fs::write(target.path("supervisord.conf"), server + &section).unwrap();
    deploy(&target, &project, "1.0.0").ended(0).says(&["fresh install"]);
    assert_eq!(get(port), "1.0.0");
    deploy(&target, &project, "1.0.0").ended(0).says(&["nothing to do"]);
    deploy(&target, &project, "1.1.0").ended(0);
    assert_eq!(get(port), "1.1.0");
    deploy(&target, &project, "1.2.0-crash")
        .ended(4)
        .says(&["no disk today", "rolled back: `1.1.0` serves again"]);
    assert_eq!((get(port), current(&target)), ("1.1.0".into(), "versions/1.1.0".into()));
}

#[test]
fn a_running_nginx_is_exchanged_without_losing_a_request() {
    let (target, port) = (Target::start(), free_port());
    let home = target.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let conf = format!(
        "pid {home}/nginx.pid;\nerror_log {home}/error.log notice;\nuser root;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 up; }} location = /big {{ root {home}; limit_rate 200k; }} }} }}\n"
    );
    fs::write(target.path("nginx.conf"), conf).unwrap();
    fs::write(target.path("big"), vec![b'x'; 1_500_000]).unwrap();
    // what answers after an exchange is asked by a file that a test can take away
    fs::write(target.path("well"), "").unwrap();
    let service = format!(
        "    health: [{{http: 'http://127.0.0.1:{port}/', within: 15s}}, {{command: 'test -f {home}/well', within: 1s}}]\n    service:\n      binary:\n\
         \x20       pid: {home}/nginx.pid\n        binary: {home}/urf/current/nginx\n        test: '\"$DIRECTORY/nginx\" -t -c {home}/nginx.conf'\n\
         \x20       start: '{home}/urf/current/nginx -c {home}/nginx.conf'\n"
    );
    let project = Project::new(&service);
    fs::copy(which("nginx"), project.0.path().join("app/nginx")).unwrap();
    deploy(&target, &project, "1.0.0").ended(0).says(&["fresh install"]);
    let master = || fs::read_to_string(target.path("nginx.pid")).unwrap();
    let program = || fs::read_link(format!("/proc/{}/exe", master().trim())).unwrap().display().to_string();
    assert!(program().ends_with("/versions/1.0.0/nginx"));

    let download = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"])
        .arg(format!("http://127.0.0.1:{port}/big"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    deploy(&target, &project, "1.1.0").ended(0).says(&["exchange of the binary"]);
    assert!(program().ends_with("/versions/1.1.0/nginx"), "{}", program());
    assert!(!target.path("nginx.pid.oldbin").exists());
    let downloaded = download.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(downloaded.stdout).unwrap(), "200 1500000");

    let before = master();
    fs::remove_file(target.path("well")).unwrap();
    deploy(&target, &project, "1.2.0").ended(4).says(&["rolled back: `1.1.0`, process"]);
    assert_eq!(
        (master(), current(&target), get(port)),
        (before.clone(), "versions/1.1.0".into(), "up".into())
    );
    assert!(!target.path("nginx.pid.oldbin").exists());

    // a binary that passes its test and ends when it is started by the old one
    project.write("app/nginx", "#!/bin/sh\n[ \"$1\" = -t ]\n");
    deploy(&target, &project, "1.3.0").ended(1).says(&["did not start beside", "error log"]);
    assert_eq!((master(), get(port)), (before, "up".into()));
    fs::write(target.path("nginx.pid.oldbin"), "1\n").unwrap();
    deploy(&target, &project, "1.4.0").ended(3).says(&["an exchange is under way"]);
    fs::remove_file(target.path("nginx.pid.oldbin")).unwrap();
    signal(master().trim().parse().unwrap());
}

#[test]
fn a_canary_gets_its_share_and_loses_it_when_it_answers_with_errors() {
    let (target, front, a, b) = (Target::start(), free_port(), free_port(), free_port());
    let home = target.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let conf = format!(
        "pid {home}/nginx.pid;\nerror_log {home}/error.log;\nuser root;\nevents {{}}\nhttp {{ log_format slipway '$upstream_addr|$upstream_status';\n\
         access_log {home}/upstream.log slipway; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n\
         include {home}/site.upstream;\nserver {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://site; }} }} }}\n"
    );
    fs::write(target.path("nginx.conf"), conf).unwrap();
    fs::write(target.path("site.upstream"), format!("upstream site {{\n    server 127.0.0.1:{a};\n}}\n"))
        .unwrap();
    run(Command::new(which("nginx")).arg("-c").arg(target.path("nginx.conf")).env("OF", target.path("")));
    let nginx = fs::read_to_string(target.path("nginx.pid")).unwrap();
    // the health check does not see what clients see: `/` is only asked through nginx
    let service = format!(
        "    health: [{{tcp: '{{address}}', within: 10s}}]\n    service:\n      canary:\n        upstream: {home}/site.upstream\n        name: site\n\
         \x20       backends: ['127.0.0.1:{a}', '127.0.0.1:{b}']\n        start: 'exec python3 server.py $PORT'\n        steps: [50]\n        hold: 3s\n        errors: 10\n\
         \x20       log: {home}/upstream.log\n        test: '{nginx} -t -c {home}/nginx.conf'\n        reload: '{nginx} -s reload -c {home}/nginx.conf'\n",
        nginx = which("nginx")
    );
    let project = Project::new(&service);
    deploy(&target, &project, "1.0.0").ended(0);
    // its workers of before the reload may still answer: they know no backend that listens
    until("nginx asks the version", || get(front) == "1.0.0");
    let asking = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while asking.load(std::sync::atomic::Ordering::Relaxed) {
                get(front);
            }
        });
        deploy(&target, &project, "1.1.0-broken").ended(4).says(&[
            "requests to 127.0.0.1",
            "failed, more than 10 %",
            "rolled back",
        ]);
        deploy(&target, &project, "1.2.0")
            .ended(0)
            .says(&["canary: `1.0.0` runs there", "50 % of the requests"]);
        asking.store(false, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((get(front), current(&target)), ("1.2.0".into(), "versions/1.2.0".into()));
    signal(nginx.trim().parse().unwrap());
}

#[test]
fn a_unit_of_systemd_is_restarted_once_and_again_when_it_fails() {
    let (mut target, port) = (Target::start(), free_port());
    let home = target.path("");
    let unit = format!(
        "[Service]\nWorkingDirectory={0}\nExecStartPre=/bin/sh -c 'echo start >>{0}/starts; ! grep -q crash current/version'\n\
         ExecStart=/usr/bin/python3 current/server.py {port}\n",
        target.release().display()
    );
    let systemd = Systemd::start(&home, "site.service", &unit);
    target.with_program("unit", "systemctl", &systemd.systemctl());
    let project = Project::new(&format!("    service: {{systemd: site.service}}\n{}", http(port)));
    let deploy =
        |version: &str| target.ci(project.at(version), &["deploy", "dev"], &[("DEV_SSH_USER_HOST", "unit")]);
    let starts = || fs::read_to_string(target.path("urf/starts")).unwrap().lines().count();
    deploy("1.0.0").ended(0).says(&["fresh install"]);
    assert_eq!((get(port), starts()), ("1.0.0".to_owned(), 1));
    deploy("1.1.0").ended(0);
    deploy("1.1.0").ended(0).says(&["nothing to do"]);
    assert_eq!((get(port), starts()), ("1.1.0".to_owned(), 2));
    deploy("1.2.0-crash").ended(4).says(&["restarting `site.service` failed", "rolled back: `1.1.0`"]);
    until("the old version serves", || get(port) == "1.1.0");
    assert_eq!((current(&target), starts()), ("versions/1.1.0".to_owned(), 4));
    // it comes up, and its health check does not hold
    deploy("1.3.0-broken").ended(4).says(&["rolled back: `1.1.0`"]);
    until("the old version serves", || get(port) == "1.1.0");
    let no_unit = Project::new("    service: {systemd: other.service}\n");
    let said = target.ci(no_unit.at("2.0.0"), &["deploy", "dev"], &[("DEV_SSH_USER_HOST", "unit")]);
    said.ended(3).says(&["has no usable unit `other.service` (not-found)"]);
}

#[test]
fn a_mix_release_with_a_service_is_restarted_by_the_script_of_the_version_that_runs() {
    let target = Target::start();
    let project = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/mixrel");
    run(Command::new("cp").arg("-R").arg(example.join(".")).arg(project.path()));
    let start = r#"exec "$DIRECTORY/bin/$NAME" daemon"#;
    let service =
        format!("service: {{commands: {{start: '{start}', stop: '{}'}}}}", start.replace("daemon", "stop"));
    let settings = format!("release: {{kind: elixir}}\nenvironments: {{dev: {{{service}}}}}\n");
    fs::write(project.path().join(".ci/deploy.yml"), settings).unwrap();
    // a node name of our own: other tests may run the same release
    let node = format!("mixrel{}", free_port());
    let env = format!("export RELEASE_NODE={node}\n");
    fs::create_dir_all(project.path().join("rel")).unwrap();
    fs::write(project.path().join("rel/env.sh.eex"), env).unwrap();
    let deploy = |version: &str| {
        let mix = fs::read_to_string(example.join("mix.exs")).unwrap().replace("0.1.0", version);
        fs::write(project.path().join("mix.exs"), mix).unwrap();
        // as a clean build of a pipeline does: another cookie each time
        let _ = fs::remove_dir_all(project.path().join("_build/prod/rel"));
        target.ci(project.path(), &["deploy", "dev"], &[])
    };
    deploy("0.1.0").ended(0).says(&["fresh install", "ask the node for its version, `0.1.0`"]);
    let cookie = |version: &str| {
        fs::read_to_string(target.path(&format!("urf/versions/{version}/releases/COOKIE"))).unwrap()
    };
    deploy("0.2.0").ended(0).says(&["restart", "never upgraded hot", "`0.2.0`"]);
    assert_ne!(cookie("0.1.0"), cookie("0.2.0"));
    deploy("0.2.0").ended(0).says(&["nothing to do"]);
    let code = fs::read_to_string(project.path().join("lib/mixrel.ex")).unwrap();
    fs::write(
        project.path().join("lib/mixrel.ex"),
        code.replace(
            "def start(_type, _arguments) do",
            "def start(_type, _arguments) do\n    raise \"no disk today\"",
        ),
    )
    .unwrap();
    deploy("0.3.0").ended(4).says(&["rolled back: `0.2.0` serves again"]);
    assert_eq!(current(&target), "versions/0.2.0");
    assert!(target.lives());
}
