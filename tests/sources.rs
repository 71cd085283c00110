//! Includes from elsewhere: real git repositories over paths, `file://`, ssh, http and https,
//! and a real http server.

#![allow(clippy::unwrap_used, reason = "a test's panic is its report")]

mod support;

#[path = "sources/git_http.rs"]
mod git_http;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use support::target::{Said, Target, run, said, until};
use tempfile::TempDir;

/// A project, the state of `ci`, and room for other repositories.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(configuration: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        repository(&place.path("project"), &[(".gitlab-ci.yml", configuration)]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the project's configuration.
    fn configuration(&self, text: &str) -> &Place {
        fs::write(self.path("project/.gitlab-ci.yml"), text).unwrap();
        self
    }

    fn settings(&self, text: &str) -> &Place {
        fs::create_dir_all(self.path("project/.ci")).unwrap();
        fs::write(self.path("project/.ci/settings.yml"), text).unwrap();
        self
    }

    fn ci(&self, arguments: &[&str]) -> Said {
        self.ci_with(arguments, &[])
    }

    fn ci_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let mut ci = Command::new(env!("CARGO_BIN_EXE_ci"));
        ci.args(arguments).current_dir(self.path("project")).stdin(Stdio::null());
        ci.env_remove("XDG_CONFIG_HOME").env_remove("SSH_AUTH_SOCK").env("NO_PROXY", "127.0.0.1");
        ci.env("HOME", self.dir.path()).env("SLIPWAY_HOME", self.path("state")).env("NO_COLOR", "1");
        said(ci.envs(variables.iter().copied()))
    }
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    run(Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
        .args(arguments))
    .trim()
    .to_owned()
}

/// Makes a repository, or adds a commit to it.
fn repository(dir: &Path, files: &[(&str, &str)]) {
    if !dir.join(".git").exists() {
        fs::create_dir_all(dir).unwrap();
        git(dir, &["init", "-q", "-b", "main"]);
    }
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "-m", "more"]);
}

fn job(name: &str) -> String {
    format!("{name}: {{script: [x]}}\n")
}

/// `jobs` in the order of the plan.
fn planned(said: Said) -> Vec<String> {
    let plan = said.ended(0).json();
    let jobs = plan["jobs"].as_array().unwrap();
    jobs.iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect()
}

const PLAN: [&str; 3] = ["plan", "--format", "json"];
const OFFLINE: [&str; 4] = ["plan", "--format", "json", "--offline"];

#[test]
fn files_of_other_projects_come_from_a_directory_at_their_ref() {
    let place = Place::new("include: {project: Group/Library, file: /ci/a.yml, ref: v1.0}\n");
    let library = place.path("library");
    repository(&library, &[("ci/a.yml", "include: ci/parts/*.yml\n"), ("ci/parts/b.yml", &job("old"))]);
    git(&library, &["tag", "v1.0"]);
    repository(&library, &[("ci/parts/b.yml", &job("new"))]);
    place.settings("sources:\n  group/library: ../../library\n");
    assert_eq!(planned(place.ci(&PLAN)), ["old"], "nested includes look at the same commit");
    place.configuration("include: {project: group/library, file: ci/a.yml}\n");
    assert_eq!(planned(place.ci(&PLAN)), ["new"]);
    place.configuration("include: {project: group/library, file: a.yml}\n");
    let said = place.ci(&["lint"]).ended(1);
    said.says(&["Project `group/library` file `a.yml` does not exist!", "did you mean `ci/a.yml`?"]);
    place.configuration("include: {project: group/library, file: ci/a.yml, ref: v1.1}\n");
    let said = place.ci(&["lint"]).ended(1);
    said.says(&["Project `group/library` reference `v1.1` does not exist!", "did you mean `v1.0`?"]);
}

#[test]
fn a_directory_that_is_no_repository_stands_for_every_ref() {
    let place = Place::new("include: {project: group/library, file: a.yml, ref: v1}\n");
    fs::create_dir(place.path("library")).unwrap();
    fs::write(place.path("library/a.yml"), job("a")).unwrap();
    place.settings("sources:\n  group/*: ~/*\n");
    assert_eq!(planned(place.ci(&PLAN)), ["a"]);
}

#[test]
fn a_project_without_an_entry_is_told_which_to_write() {
    let place = Place::new("include: {project: group/library, file: a.yml}\n");
    place.ci(&["lint"]).ended(1).says(&[
        "Project `group/library` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined.",
        "say in `.ci/settings.yml` where it is: `sources: {group/library: https://HOST/group/library.git}`",
        ".gitlab-ci.yml:1:10",
    ]);
    place.configuration("include: {component: gitlab.com/group/library/x@1}\n");
    place.ci(&["lint"]).ended(1).says(&[
        "Component 'gitlab.com/group/library/x@1' - project does not exist or you don't have sufficient permissions",
        "`sources: {group/library: https://gitlab.com/group/library.git}`",
    ]);
    place.settings("sources:\n  group/library: https://me:hunter2@x/y.git\n");
    let said = place.ci(&["lint"]).ended(2).says(&[".ci/settings.yml", "line 2"]);
    assert!(!said.stderr.contains("hunter2"), "{said:?}");
}

#[test]
fn the_users_settings_are_below_those_of_the_project() {
    let place = Place::new("include: [{project: g/a, file: a.yml}, {project: g/b, file: a.yml}]\n");
    for name in ["one", "two"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::write(place.path(name).join("a.yml"), job(name)).unwrap();
    }
    fs::create_dir_all(place.path(".config/slipway")).unwrap();
    fs::write(place.path(".config/slipway/settings.yml"), "sources: {g/a: ~/one, g/b: ~/one}\n").unwrap();
    place.settings("sources: {g/b: ~/two}\n");
    assert_eq!(planned(place.ci(&PLAN)), ["one", "two"]);
}

#[test]
fn mirrors_serve_commits_and_tags_without_the_network_and_branches_anew() {
    let place = Place::new("");
    let library = place.path("library");
    repository(&library, &[("a.yml", &job("first"))]);
    git(&library, &["tag", "v1"]);
    let sha = git(&library, &["rev-parse", "HEAD"]);
    place.settings(&format!("sources:\n  g/l: file://{}\n", library.display()));
    let at = |reference: &str| {
        place.configuration(&format!("include: {{project: g/l, file: a.yml, ref: {reference}}}\n"));
    };
    at("main");
    let said = place.ci(&OFFLINE);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("was never fetched"), "{said:?}");
    assert_eq!(planned(place.ci(&PLAN)), ["first"]);
    repository(&library, &[("a.yml", &job("second"))]);
    assert_eq!(planned(place.ci(&OFFLINE)), ["first"], "offline takes what is there");
    assert_eq!(planned(place.ci(&PLAN)), ["second"], "a branch may have moved");
    place.configuration("include: {project: g/l, file: a.yml}\n");
    assert_eq!(planned(place.ci(&PLAN)), ["second"], "so may the default branch");
    fs::rename(&library, place.path("gone")).unwrap();
    for fixed in ["v1", &sha, &sha[..10]] {
        at(fixed);
        assert_eq!(planned(place.ci(&PLAN)), ["first"], "{fixed}");
    }
    at("main");
    assert_eq!(planned(place.ci(&OFFLINE)), ["second"]);
    let said = place.ci(&["lint"]).ended(1);
    said.says(&["`g/l`", "it was looked for in `file://"]);
}

#[test]
fn components_have_versions() {
    let place = Place::new("");
    let library = place.path("library");
    let component = |version: &str| {
        format!(
            "spec: {{inputs: {{name: {{default: x}}}}, component: [name, version, reference]}}\n---\n\
             $[[ inputs.name ]]-{version}: {{script: ['$[[ component.version ]] $[[ component.reference ]]']}}\n"
        )
    };
    for version in ["1.0.0", "1.1.0", "2.0.0-rc.1"] {
        let text = component(version);
        repository(
            &library,
            &[("templates/test.yml", text.as_str()), ("templates/big/template.yml", text.as_str())],
        );
        git(&library, &["tag", version]);
    }
    place.settings("sources:\n  gitlab.com/g/l: ../../library\n");
    let table = [
        ("test@1.0.0", "x-1.0.0"),
        ("test@1.0", "x-1.0.0"),
        ("test@1", "x-1.1.0"),
        ("big@~latest", "x-1.1.0"),
        ("big@2.0.0-rc.1", "x-2.0.0-rc.1"),
        ("test@main", "x-2.0.0-rc.1"),
    ];
    for (what, name) in table {
        place.configuration(&format!("include: {{component: gitlab.com/g/l/{what}}}\n"));
        assert_eq!(planned(place.ci(&PLAN)), [name], "{what}");
    }
    place.configuration("include: {component: gitlab.com/g/l/tset@1}\n");
    place.ci(&["lint"]).ended(1).says(&["content not found", "the components there are `big`, `test`"]);
    place.configuration("include: {component: gitlab.com/g/l/test@3}\n");
    place.ci(&["lint"]).ended(1).says(&["version not found"]);
}

#[test]
fn a_project_includes_its_own_components_and_its_own_other_refs() {
    let place = Place::new("");
    let own = place.path("project");
    repository(&own, &[("templates/test.yml", &job("old")), ("a.yml", &job("a"))]);
    git(&own, &["tag", "v1"]);
    fs::write(own.join("templates/test.yml"), job("uncommitted")).unwrap();
    place.configuration("include: {component: $CI_SERVER_FQDN/$CI_PROJECT_PATH/test@$CI_COMMIT_SHA}\n");
    assert_eq!(planned(place.ci(&PLAN)), ["uncommitted"]);
    place.configuration("include: {project: $CI_PROJECT_PATH, file: templates/test.yml, ref: v1}\n");
    assert_eq!(planned(place.ci(&PLAN)), ["old"]);
}

#[test]
fn exists_looks_into_other_projects() {
    let place = Place::new("");
    repository(&place.path("library"), &[("docs/a.md", "x"), ("b.yml", &job("b"))]);
    place.settings("sources:\n  g/l: ../../library\n");
    let rule =
        |path: &str, project: &str| format!("rules: [{{exists: {{paths: ['{path}'], project: {project}}}}}]");
    for (path, there) in
        [("docs/*.md", true), ("docs/", true), ("*.md", false), ("b.yml", true), ("c.yml", false)]
    {
        let rule = rule(path, "g/l");
        place.configuration(&format!(
            "include: [{{project: g/l, file: b.yml, {rule}}}]\nalways: {{script: [x]}}\na: {{script: [x], {rule}}}\n"
        ));
        let expected: &[&str] = if there { &["b", "always", "a"] } else { &["always"] };
        assert_eq!(planned(place.ci(&PLAN)), expected, "{path}");
    }
    place.configuration(&format!("a: {{script: [x], {}}}\n", rule("x", "g/none")));
    place.ci(&["plan"]).ended(1).says(&["rules:exists:project `g/none` is not a valid project path"]);
}

#[test]
fn templates_are_valid_and_have_jobs() {
    let place = Place::new("");
    let names = ["Docker-Build", "Elixir-Release", "Erlang-Release", "Go", "Node", "Python", "Rust"];
    for name in names {
        place.configuration(&format!("include: [{{template: {name}.gitlab-ci.yml}}]\n"));
        place.ci(&["lint"]).ended(0).says(&[".gitlab-ci.yml is valid"]);
        let lint = place.ci(&["lint", "--format", "json"]).ended(0).json();
        assert_eq!(lint["diagnostics"].as_array().map(Vec::len), Some(0), "{name}: {lint}");
        assert!(!planned(place.ci(&PLAN)).is_empty(), "{name}");
    }
    place.configuration("include: [{template: Rusty.gitlab-ci.yml}]\n");
    place.ci(&["lint"]).ended(1).says(&[
        "Included file `Rusty.gitlab-ci.yml` is empty or does not exist!",
        "did you mean `Rust.gitlab-ci.yml`?",
        "`Go.gitlab-ci.yml`",
    ]);
}

#[test]
fn release_templates_deploy_one_branch_and_bundle_by_hand_where_environments_are_described() {
    let urf = include_str!("../examples/urf/versions/common/.gitlab-ci.yml");
    assert!(urf.lines().count() <= 10, "the reference pipeline has ten lines");
    let elixir =
        "include:\n- {template: Elixir-Release.gitlab-ci.yml, inputs: {branch: d_dev, tags: [dockers]}}\n";
    let build = ["build", "test"];
    let deploy = ["build", "test", "deploy_dev", "deploy_sit"];
    let all = ["build", "test", "deploy_dev", "deploy_sit", "bundle_uat", "bundle_prod"];
    for text in [urf, elixir] {
        let place = Place::new(text);
        let plan = |arguments: &[&str]| planned(place.ci(&[&PLAN[..], arguments].concat()));
        assert_eq!(plan(&[]), build);
        assert_eq!(plan(&["--ref", "d_dev"]), deploy);
        place.ci(&["plan", "--ref", "v1", "--tag"]).ended(1).says(&["prevented any jobs"]);
        repository(&place.path("project"), &[(".ci/deploy.yml", "environments: {}\n")]);
        assert_eq!(plan(&["--ref", "d_dev"]), all);
        let document = place.ci(&[&PLAN[..], &["--ref", "d_dev"]].concat()).ended(0).json();
        for job in document["jobs"].as_array().unwrap() {
            let by_hand = job["name"].as_str().unwrap().starts_with("bundle");
            assert_eq!(job["when"] == "manual", by_hand, "{job}");
            assert_eq!(job["tags"], serde_json::json!(["dockers"]), "{job}");
        }
        place.ci(&["lint"]).ended(0).says(&["is valid"]);
    }
    // without an input it is the default branch
    let place = Place::new("include: [{template: Erlang-Release.gitlab-ci.yml}]\n");
    assert_eq!(planned(place.ci(&PLAN)), deploy);
}

#[test]
fn a_repository_over_ssh_needs_the_users_key_and_a_known_host() {
    let target = Target::start();
    let place = Place::new("include: {project: g/l, file: a.yml}\n");
    repository(&place.path("library"), &[("a.yml", &job("a"))]);
    let config = fs::read_to_string(target.path("config")).unwrap();
    let word = |key: &str| config.lines().find_map(|l| l.trim().strip_prefix(key)).unwrap().trim().to_owned();
    let (port, user) = (word("Port "), word("User "));
    place.settings(&format!(
        "sources:\n  g/l: ssh://{user}@127.0.0.1:{port}{}\n",
        place.path("library").display()
    ));
    place.ci(&["lint"]).ended(1).says(&["`g/l`", "connect once with `ssh`"]);

    let ssh = place.path(".ssh");
    fs::create_dir(&ssh).unwrap();
    let key = fs::read_to_string(target.path("host.pub")).unwrap();
    fs::write(ssh.join("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
    place
        .ci(&["lint"])
        .ended(1)
        .says(&["Project `g/l` not found or access denied!", "neither the ssh agent"]);

    let agent = Agent::start(&target.path("user"));
    let socket = agent.socket.display().to_string();
    assert_eq!(planned(place.ci_with(&PLAN, &[("SSH_AUTH_SOCK", &socket)])), ["a"]);

    fs::remove_dir_all(place.path("state")).unwrap();
    fs::copy(target.path("user"), ssh.join("id_ed25519")).unwrap();
    assert_eq!(planned(place.ci(&PLAN)), ["a"], "a key file does as well");
}

struct Agent {
    daemon: Child,
    socket: PathBuf,
    _dir: TempDir,
}

impl Agent {
    fn start(key: &Path) -> Agent {
        let dir = tempfile::Builder::new().prefix("ci-a").tempdir_in("/tmp").unwrap();
        let socket = dir.path().join("agent");
        let mut start = Command::new("ssh-agent");
        start.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let daemon = start.spawn().unwrap();
        until("the agent listens", || socket.exists());
        let agent = Agent { daemon, socket, _dir: dir };
        run(Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket));
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn remote_files_are_asked_for_once_and_kept() {
    let text = "remote: {script: [x]}\n";
    let server = Server::start(text);
    let url = server.url("/ci.yml");
    let place = Place::new(&format!("include: ['{url}', '{url}']\n"));
    assert_eq!(place.ci(&OFFLINE).code, 1, "nothing is kept yet");
    assert_eq!(server.count(), 0, "offline asks nobody");
    assert_eq!(planned(place.ci(&PLAN)), ["remote"]);
    assert_eq!(server.count(), 1);
    assert_eq!(planned(place.ci(&PLAN)), ["remote"]);
    let requests = server.requests.lock().unwrap().clone();
    assert!(requests[1].contains("if-none-match: \"1\""), "{requests:?}");
    assert_eq!(planned(place.ci(&OFFLINE)), ["remote"]);
    assert_eq!(server.count(), 2);
}

#[test]
fn remote_failures_are_said_as_gitlab_says_them() {
    let server = Server::start("a: {script: [x]}\n");
    let place = Place::new("");
    let table = [
        ("/missing.yml", "could not be fetched because of HTTP code `404` error!"),
        ("/broken.yml", "could not be fetched because of HTTP code `500` error!"),
        ("/loop.yml", "could not be fetched: more than 5 redirects"),
        ("/large.yml", "could not be fetched: it is larger than 2 MiB"),
    ];
    for (path, what) in table {
        place.configuration(&format!("include: {{remote: '{}'}}\n", server.url(path)));
        place.ci(&["lint"]).ended(1).says(&[what, &format!("Remote file `{}`", server.url(path))]);
    }
    place.configuration(&format!("include: {{remote: '{}'}}\n", server.url("/moved.yml")));
    assert_eq!(planned(place.ci(&PLAN)), ["a"]);
    let integrity = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let url = server.url("/ci.yml");
    place.configuration(&format!("include: {{remote: '{url}', integrity: '{integrity}'}}\n"));
    place.ci(&["lint"]).ended(1).says(&["does not have the expected integrity hash!"]);
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    place.configuration(&format!("include: {{remote: 'http://{nobody}/a.yml'}}\n"));
    place.ci(&["lint"]).ended(1).says(&["could not be fetched", "refused"]);
}

/// A tiny http server. It ends with the test process.
struct Server {
    address: std::net::SocketAddr,
    served: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(text: &'static str) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (served, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, seen) = (served.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let head = read_head(&stream);
                seen.lock().unwrap().push(head.to_lowercase());
                count.fetch_add(1, Ordering::SeqCst);
                // who has heard enough hangs up
                let _ = (&stream).write_all(answer(&head, text).as_bytes());
            }
        });
        Server { address, served, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn count(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

fn read_head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn answer(head: &str, text: &str) -> String {
    let whole = |status: &str, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    match head.split(' ').nth(1).unwrap_or_default() {
        "/ci.yml" if head.to_lowercase().contains("if-none-match: \"1\"") => {
            whole("304 Not Modified", "", "")
        }
        "/ci.yml" => whole("200 OK", "ETag: \"1\"\r\n", text),
        "/moved.yml" => whole("302 Found", "Location: /ci.yml\r\n", ""),
        "/loop.yml" => whole("302 Found", "Location: /loop.yml\r\n", ""),
        "/large.yml" => whole("200 OK", "", &"# long\n".repeat(400_000)),
        "/broken.yml" => whole("500 Internal Server Error", "", ""),
        _ => whole("404 Not Found", "", ""),
    }
}
