//! Programs that systemd, supervisord or signals start, with the real ones: bundles by a plain sh, roll-back, status,
//! promotion, history, and what is interrupted half-way.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::systemd::Systemd;
use support::target::{Begun, Said, Target, free_port, run, signal, until, which};
use tempfile::TempDir;

/// Answers with its version; `broken` versions with 500, `crash` ones not at all.
const SERVER: &str = include_str!("support/answers.py");

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Systemd,
    Supervisord,
    Nginx,
}

/// What starts the programs: ended with the test.
#[allow(dead_code, reason = "held for their end")]
enum Starter {
    Systemd(Systemd),
    Supervisord(Child),
    Nginx(PathBuf),
}

impl Drop for Starter {
    fn drop(&mut self) {
        match self {
            Starter::Systemd(_) => {}
            Starter::Supervisord(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Starter::Nginx(home) => {
                for name in ["urf", "sit"] {
                    let pid = fs::read_to_string(home.join(format!("{name}.pid"))).unwrap_or_default();
                    let _ = pid.trim().parse().map(signal);
                }
            }
        }
    }
}

/// The environments `dev` and `prod` (by bundle) are one directory of one host, `sit` is another there.
struct Site {
    kind: Kind,
    directory: TempDir,
    ports: [u16; 2],
    _starter: Starter,
    target: Target,
}

impl Site {
    fn new(kind: Kind) -> Site {
        let (mut target, ports) = (Target::start(), [free_port(), free_port()]);
        fs::write(target.path("well"), "").unwrap();
        let starter = match kind {
            Kind::Systemd => systemd(&mut target, ports),
            Kind::Supervisord => supervisord(&target, ports),
            Kind::Nginx => nginx(&target, ports),
        };
        let site = Site { kind, directory: tempfile::tempdir().unwrap(), ports, _starter: starter, target };
        let release = "release: {name: site, kind: archive, version: {file: VERSION}, package: 'dist/{name}-{version}.tar.gz', build: \
            ['mkdir -p dist && tar czf dist/$NAME-$VERSION.tar.gz -C app .']}\n";
        let host = if kind == Kind::Systemd { "unit" } else { "dev" };
        let all = site.environment("dev", 0, &format!("targets: [{host}]"))
            + &site.environment("sit", 1, &format!("targets: [{host}]"))
            + &site.environment("prod", 0, "delivery: bundle");
        site.write(".ci/deploy.yml", &format!("{release}environments:\n{all}"));
        if kind == Kind::Nginx {
            fs::create_dir(site.directory.path().join("app")).unwrap();
            fs::copy(which("nginx"), site.directory.path().join("app/nginx")).unwrap();
        } else {
            site.write("app/server.py", SERVER);
        }
        site
    }

    fn environment(&self, name: &str, index: usize, more: &str) -> String {
        let home = self.target.path("").display().to_string();
        let (home, port) = (home.trim_end_matches('/'), self.ports[index]);
        let program = ["urf", "sit"][index];
        let service = match self.kind {
            Kind::Systemd => format!("systemd: {program}.service"),
            Kind::Supervisord => {
                format!("supervisord: {{program: {program}, server: 'unix://{home}/s.sock'}}")
            }
            Kind::Nginx => format!(
                "binary: {{pid: {home}/{program}.pid, binary: {home}/{program}/current/nginx, test: '\"$DIRECTORY/nginx\" -t -c {home}/{program}.conf', \
                 start: '{home}/{program}/current/nginx -c {home}/{program}.conf'}}"
            ),
        };
        format!(
            "  {name}:\n    directory: {home}/{program}\n    {more}\n    health: [{{http: 'http://127.0.0.1:{port}/', within: 10s}}, \
             {{command: 'test -f {home}/well', within: 60s}}]\n    service: {{{service}}}\n"
        )
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(&self, version: &str) -> &Self {
        self.write("VERSION", version);
        self.write("app/version", version);
        self
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        // the file says where, not the variables
        self.target.ci(self.directory.path(), arguments, &[("DEV_SSH_USER_HOST", ""), ("TARGET_DIR", "")])
    }

    /// Makes a bundle of `version` and unpacks it as operations would.
    fn bundle(&self, version: &str) -> PathBuf {
        let file = self.target.path("b.tar.gz").display().to_string();
        self.at(version).ci(&["bundle", "prod", "-o", &file, "--override", "test"]).ended(0);
        let to = tempfile::tempdir_in(self.target.path("")).unwrap().keep();
        run(Command::new("tar").args(["-xzf", &file, "-C"]).arg(&to));
        fs::read_dir(&to).unwrap().next().unwrap().unwrap().path()
    }

    fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap();
        format!("PATH={}:{path}:/usr/sbin", self.target.path("unit-bin").display())
    }

    fn install(&self, bundle: &Path, arguments: &[&str]) -> Said {
        let path = self.path();
        let command = [&["env", &path, "dash", "install.sh"][..], arguments].concat();
        self.target.operator(bundle, &command)
    }

    /// Begins an installation that waits for its health check, and says when it does.
    fn begin(&self, bundle: &Path, version: &str) -> Child {
        let _ = fs::remove_file(self.target.path("well"));
        let mut install = Command::new("env");
        install.arg(self.path()).args(["dash", "install.sh", "--yes"]).current_dir(bundle);
        let mut install =
            install.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = BufReader::new(install.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with(&format!("ok    start {version}")) {
            line.clear();
            assert_ne!(shown.read_line(&mut line).unwrap(), 0, "it ended before {version} served");
        }
        // it goes on talking
        install.stdout = Some(shown.into_inner());
        install
    }

    /// Begins a deployment that waits for its health check, and says when it does.
    fn begin_deployment(&self, version: &str) -> Begun {
        fs::remove_file(self.target.path("well")).unwrap();
        let home = [("DEV_SSH_USER_HOST", ""), ("TARGET_DIR", "")];
        let mut ci = self.target.begin_with(self.at(version).directory.path(), &["deploy", "dev"], &home);
        let nginx = self.kind == Kind::Nginx;
        ci.until(&if nginx { format!("binary of `{version}`") } else { format!("start `{version}`") });
        ci
    }

    fn import(&self, bundle: &Path) -> Said {
        let mut files = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().path());
        let report = files.find(|path| path.to_str().unwrap().ends_with("-report.json")).unwrap();
        self.ci(&["receipt", "import", report.to_str().unwrap()])
    }

    /// The version that answers.
    fn serves(&self) -> String {
        if self.kind == Kind::Nginx {
            let pid = fs::read_to_string(self.target.path("urf.pid")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{}/exe", pid.trim())).unwrap_or_default();
            let version = program.parent().and_then(Path::file_name).unwrap_or_default();
            return version.to_str().unwrap().to_owned();
        }
        let url = format!("http://127.0.0.1:{}/", self.ports[0]);
        let output = Command::new("curl").args(["-s", "--max-time", "5", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn current(&self) -> String {
        fs::read_link(self.target.path("urf/current"))
            .map(|link| link.display().to_string())
            .unwrap_or_default()
    }

    fn one_master(&self) {
        assert!(!self.target.path("urf.pid.oldbin").exists());
    }
}

fn systemd(target: &mut Target, ports: [u16; 2]) -> Starter {
    let unit = |name: &str, port: u16| {
        format!(
            "[Service]\nExecStartPre=/bin/sh -c '! grep -q crash {0}/current/version'\nExecStart=/usr/bin/python3 {0}/current/server.py {port}\n",
            target.path(name).display()
        )
    };
    let home = target.path("");
    fs::create_dir_all(home.join("units")).unwrap();
    let sit = format!("[Unit]\nDefaultDependencies=no\n{}", unit("sit", ports[1]));
    fs::write(home.join("units/sit.service"), sit).unwrap();
    let systemd = Systemd::start(&home, "urf.service", &unit("urf", ports[0]));
    target.with_program("unit", "systemctl", &systemd.systemctl());
    Starter::Systemd(systemd)
}

fn supervisord(target: &Target, ports: [u16; 2]) -> Starter {
    let home = target.path("").display().to_string();
    let home = home.trim_end_matches('/');
    let section = |name: &str, port: u16| {
        format!(
            "[program:{name}]\ncommand=python3 {home}/{name}/current/server.py {port}\nautostart=false\nstartsecs=1\nstartretries=0\n\
             autorestart=false\nstdout_logfile={home}/{name}.out\nstderr_logfile={home}/{name}.err\n"
        )
    };
    let server = format!(
        "[supervisord]\nnodaemon=true\nlogfile={home}/supervisord.log\npidfile={home}/supervisord.pid\nchildlogdir={home}\n\
         [unix_http_server]\nfile={home}/s.sock\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
    );
    let conf = target.path("supervisord.conf");
    fs::write(&conf, &server).unwrap();
    let mut supervisord = Command::new("supervisord");
    supervisord.arg("-c").arg(&conf).env("HOME", target.path("")).env("OF", target.path(""));
    let child = supervisord.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("supervisord listens", || target.path("s.sock").exists());
    // sections that were only written down are taken up
    fs::write(conf, server + &section("urf", ports[0]) + &section("sit", ports[1])).unwrap();
    Starter::Supervisord(child)
}

fn nginx(target: &Target, ports: [u16; 2]) -> Starter {
    let home = target.path("").display().to_string();
    let home = home.trim_end_matches('/');
    for (name, port) in ["urf", "sit"].into_iter().zip(ports) {
        let conf = format!(
            "pid {home}/{name}.pid;\nerror_log {home}/error.log notice;\nuser root;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; \
             scgi_temp_path {home}/s;\nserver {{ listen 127.0.0.1:{port}; location / {{ return 200 up; }} }} }}\n"
        );
        fs::write(target.path(&format!("{name}.conf")), conf).unwrap();
    }
    Starter::Nginx(target.path(""))
}

/// A bundle's life on a host.
fn is_handed_over(kind: Kind, way: &str) {
    let site = Site::new(kind);
    let first = site.bundle("1.0.0");
    site.install(&first, &[]).ended(0).says(&["absent", "plan:     fresh", "nothing was changed"]);
    assert!(!site.target.path("urf").exists(), "a dry run changed something");
    site.install(&first, &["--yes"]).ended(0).says(&["done:     1.0.0 runs, process"]);
    assert_eq!(site.serves(), "1.0.0");
    site.import(&first).ended(0).says(&["site 1.0.0", "done"]);
    site.install(&first, &["--yes"]).ended(0).says(&["nothing to do"]);

    let second = site.bundle("1.1.0");
    site.install(&second, &[]).ended(0).says(&[&format!("plan:     {way}, because 1.0.0 runs")]);
    assert_eq!(site.serves(), "1.0.0");
    site.install(&second, &["--yes"]).ended(0).says(&["done:     1.1.0 runs, process"]);
    assert_eq!(site.serves(), "1.1.0");
    site.one_master();
    site.import(&second).ended(0);
    site.install(&second, &["--rollback"])
        .ended(0)
        .says(&["back from 1.1.0 to 1.0.0", "nothing was changed"]);
    site.install(&second, &["--rollback", "--yes"]).ended(0).says(&["1.0.0 runs again"]);
    assert_eq!((site.serves(), site.current()), ("1.0.0".into(), "versions/1.0.0".into()));
    site.one_master();
    site.import(&second).ended(0).says(&["rolled back"]);
    let mut serves = "1.0.0";
    if kind != Kind::Systemd {
        is_interrupted(&site, &second);
        serves = "1.1.0";
    }

    if kind == Kind::Nginx {
        // passes its test, and ends when it is started by the old one
        site.write("app/nginx", "#!/bin/sh\n[ \"$1\" = -t ]\n");
    }
    let crash = site.bundle("1.3.0-crash");
    let back = format!("{serves} serves again");
    site.install(&crash, &["--yes"]).ended(4).says(&["FAIL  start 1.3.0-crash", &back]);
    assert_eq!((site.serves(), site.current()), (serves.to_owned(), format!("versions/{serves}")));
    site.one_master();
    site.import(&crash).ended(0).says(&["rolled back"]);
    site.install(&crash, &["--yes"]).ended(3).says(&["failed here before"]);
    assert!(!site.target.path("urf/.ci-lock").exists());
}

/// 1.0.0 serves, the bundle `second` is of 1.1.0.
fn is_interrupted(site: &Site, second: &Path) {
    let well = || fs::write(site.target.path("well"), "").unwrap();
    // killed half-way, and run again
    let mut killed = site.begin(second, "1.1.0");
    killed.kill().unwrap();
    killed.wait().unwrap();
    well();
    site.install(second, &[]).ended(0).says(&["1.0.0 was to be replaced, and that was interrupted"]);
    site.install(second, &["--yes"]).ended(0).says(&["taken over from", "who is gone", "1.1.0 runs"]);
    assert_eq!(site.serves(), "1.1.0");
    site.one_master();

    // told to end, it goes back first; that says nothing about the version
    let third = site.bundle("1.2.0");
    let told = site.begin(&third, "1.2.0");
    run(Command::new("kill").args(["-s", "TERM", &told.id().to_string()]));
    let said = told.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(4), "{text}");
    assert!(text.contains("interrupted; 1.1.0 serves again"), "{text}");
    assert_eq!((site.serves(), site.current()), ("1.1.0".into(), "versions/1.1.0".into()));
    site.one_master();

    // killed, and what comes next is worse: what served last does so again
    let mut killed = site.begin(&third, "1.2.0");
    killed.kill().unwrap();
    killed.wait().unwrap();
    well();
}

#[test]
fn every_kind_of_program_is_handed_over_in_a_bundle() {
    std::thread::scope(|scope| {
        scope.spawn(|| is_handed_over(Kind::Systemd, "restart"));
        scope.spawn(|| is_handed_over(Kind::Supervisord, "restart"));
        scope.spawn(|| is_handed_over(Kind::Nginx, "exchange"));
    });
}

/// The environments of a release by ssh.
fn is_looked_after(kind: Kind) {
    let site = Site::new(kind);
    for version in ["1.0.0", "1.1.0"] {
        site.at(version).ci(&["deploy", "dev"]).ended(0);
    }
    let status = site.ci(&["env", "status", "dev", "--format", "json"]).ended(0).json();
    let target = &status[0]["targets"][0];
    assert_eq!(target["installed"]["version"], "1.1.0", "{status}");
    // the test's systemd has a pid namespace of its own
    let since = target["since"].is_string() || kind == Kind::Systemd;
    assert!(target["pid"].as_u64().is_some() && since, "{status}");
    site.ci(&["promote", "1.1.0", "--to", "sit"]).ended(0);
    site.ci(&["env", "status"]).ended(0).says(&["sit", "running"]);
    site.ci(&["rollback", "dev"]).ended(0).says(&["site 1.0.0 runs again"]);
    assert_eq!(site.serves(), "1.0.0");
    site.one_master();
    site.ci(&["env", "history", "dev"]).ended(0).says(&["taken back to `1.0.0` by hand", "1.1.0"]);
    site.ci(&["env", "history", "sit"]).ended(0).says(&["1.1.0"]);

    // killed while it asks whether the new version is well; the next one is worse
    let mut ci = site.begin_deployment("1.2.0");
    ci.child.kill().unwrap();
    ci.end();
    fs::write(site.target.path("well"), "").unwrap();
    if kind == Kind::Nginx {
        site.write("app/nginx", "#!/bin/sh\n[ \"$1\" = -t ]\n");
    }
    let said = site.at("1.3.0-crash").ci(&["deploy", "dev"]);
    assert!(matches!(said.code, 1 | 4), "{said}");
    assert_eq!((site.serves(), site.current()), ("1.0.0".into(), "versions/1.0.0".into()), "{said}");
    site.one_master();
    site.ci(&["env", "status", "dev"]).ended(0).says(&["1.0.0", "running"]);
    if kind == Kind::Supervisord {
        loses_its_lock(&site);
    }
}

/// Whose lock is taken away is named, and changes nothing more: nothing is taken back either.
fn loses_its_lock(site: &Site) {
    let ci = site.begin_deployment("1.4.0");
    site.ci(&["env", "unlock", "dev"]).ended(3).says(&["the deployment is alive", "deploying `1.4.0`"]);
    site.ci(&["env", "unlock", "dev", "--force"])
        .ended(0)
        .says(&["removed the lock of", "deploying `1.4.0`"]);
    fs::write(site.target.path("well"), "").unwrap();
    let said = ci.end().says(&["the lock is not ours any more"]);
    assert_ne!(said.code, 0, "{said}");
    assert_eq!((site.serves(), site.current()), ("1.4.0".into(), "versions/1.4.0".into()), "{said}");
    site.ci(&["deploy", "dev"]).ended(0);
}

#[test]
fn every_kind_of_program_is_looked_after() {
    std::thread::scope(|scope| {
        scope.spawn(|| is_looked_after(Kind::Systemd));
        scope.spawn(|| is_looked_after(Kind::Supervisord));
        scope.spawn(|| is_looked_after(Kind::Nginx));
    });
}

#[test]
fn a_host_that_lacks_what_starts_the_program_is_refused_before_anything_changes() {
    let site = Site::new(Kind::Supervisord);
    let bundle = site.bundle("1.0.0");
    let refused = |path: &str, says: &str| {
        let command = ["env", &format!("PATH={path}"), "dash", "install.sh", "--yes"];
        site.target.operator(&bundle, &command).ended(3).says(&[says]);
        assert!(!site.target.path("urf").exists());
    };
    let empty = site.target.path("empty");
    fs::create_dir(&empty).unwrap();
    let tools = [
        "cat",
        "sed",
        "awk",
        "tr",
        "cut",
        "tar",
        "gzip",
        "df",
        "sha256sum",
        "head",
        "dirname",
        "uname",
        "date",
        "dash",
        "env",
        "id",
        "ls",
        "grep",
        "readlink",
        "curl",
    ];
    for tool in tools {
        std::os::unix::fs::symlink(which(tool), empty.join(tool)).unwrap();
    }
    refused(&empty.display().to_string(), "supervisorctl is not here");
    let conf = fs::read_to_string(site.target.path("supervisord.conf")).unwrap();
    fs::write(site.target.path("supervisord.conf"), conf.replace("[program:urf]", "[program:other]"))
        .unwrap();
    refused("/usr/bin:/bin", "has no program urf");
    fs::remove_file(site.target.path("s.sock")).unwrap();
    refused("/usr/bin:/bin", "can't be asked");
}
