//! `ci` as a client of the server.

use crate::support::{Repository, Server, eventually};
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

const JOBS: &str = r#"
build:
  script:
    - echo one
    - echo two
fails:
  script: [echo about to fail, exit 3]
  allow_failure: true
deploy:
  stage: deploy
  when: manual
  script: [echo deployed]
"#;

struct Person {
    server: Server,
    repository: Repository,
}

impl Person {
    fn with(configuration: &str) -> Person {
        let server = Server::with(json!({ "local_jobs": 2, "reconcile_seconds": 3600 }));
        let repository = Repository::with(&[(".gitlab-ci.yml", configuration)]);
        let made = json!({ "path": "group/app", "git_url": repository.url(), "forge": "generic" });
        server.post("/api/v1/projects", &made).is(201);
        Person { server, repository }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.server.command(arguments);
        command.env("SLIPWAY_SERVER", self.server.address()).env("SLIPWAY_TOKEN", self.server.token());
        command.env("XDG_CONFIG_HOME", self.server.home());
        command
    }

    fn ci(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    #[track_caller]
    fn told(&self, arguments: &[&str]) -> String {
        let output = self.ci(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> =
            arguments.iter().copied().chain(["--project", "group/app", "--format", "json"]).collect();
        serde_json::from_str(&self.told(&all)).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, texts: &[&str]) {
        let output = self.ci(arguments);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        for text in texts {
            assert!(told.contains(text), "{arguments:?}: {told}");
        }
    }

    fn status(&self, job: &str) -> String {
        let pipeline = self.json(&["jobs"]);
        let jobs = pipeline["jobs"].as_array().unwrap();
        jobs.iter().find(|known| known["name"] == job).unwrap()["status"].as_str().unwrap().to_owned()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn pipelines_are_listed_followed_played_retried_and_cancelled() {
    let person = Person::with(JOBS);
    person.server.post("/api/v1/admin/maintenance", &json!({ "on": true })).is(200);
    let run = json!({ "ref": "main" });
    person.server.post("/api/v1/projects/group%2Fapp/pipelines", &run).is(201);
    let project = ["--project", "group/app"];
    let listed = person.told(&["pipelines", project[0], project[1]]);
    assert!(
        listed.starts_with("PIPELINE") && listed.contains("main") && listed.contains("first"),
        "{listed}"
    );
    assert_eq!(person.json(&["pipelines", "--status", "success"]), json!([]));
    // it follows before the job has begun, and ends with the job
    let mut follow = person.command(&["logs", "build", "--follow", "--project", "group/app", "--raw"]);
    let follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it follows", || person.server.said().contains("log/events").then_some(()));
    person.server.post("/api/v1/admin/maintenance", &json!({ "on": false })).is(200);
    let followed = follow.wait_with_output().unwrap();
    assert!(followed.status.success(), "{}", said(&followed));
    eventually("the failure is there", || (person.status("fails") == "failed").then_some(()));
    eventually("it waits for a person", || (person.status("deploy") == "manual").then_some(()));
    let build = person.json(&["jobs"])["jobs"][0]["id"].as_i64().unwrap();
    let raw = person.server.get(&format!("/api/v1/projects/group%2Fapp/jobs/{build}/log")).text;
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), raw, "the very bytes");
    assert!(raw.contains("one") && raw.contains("two"), "{raw}");
    let whole = person.told(&["logs", &build.to_string(), "--project", "group/app", "--raw"]);
    assert_eq!(whole, raw);
    let table = person.told(&["jobs", project[0], project[1]]);
    assert!(table.contains("failed (allowed)") && table.contains("deploy"), "{table}");
    let played = person.told(&["play", "deploy", project[0], project[1]]);
    assert!(played.contains("`deploy` is ") && played.contains(person.server.address()), "{played}");
    eventually("it ran", || (person.status("deploy") == "success").then_some(()));
    let before = person.json(&["jobs"])["jobs"][1]["id"].clone();
    let again = person.json(&["retry", "fails"]);
    assert_eq!((&again["attempt"], &again["name"]), (&json!(2), &json!("fails")));
    assert_ne!(again["id"], before);
    person.refused(&["cancel", &build.to_string(), project[0], project[1]], 3, &["ended"]);
}

#[test]
fn the_project_is_the_one_whose_clone_this_is() {
    let person = Person::with(JOBS);
    let tree = person.repository.tree();
    let here = |arguments: &[&str]| person.command(arguments).current_dir(&tree).output().unwrap();
    person.repository.git(&["remote", "set-url", "origin", "https://git.example.org/group/app.git"]);
    let listed = here(&["pipelines", "--format", "json"]);
    assert!(listed.status.success(), "{}", said(&listed));
    person.repository.git(&["remote", "set-url", "origin", "https://git.example.org/group/ap.git"]);
    let other = here(&["pipelines"]);
    assert_eq!(other.status.code(), Some(2), "{}", said(&other));
    assert!(said(&other).contains("did you mean `--project group/app`?"), "{}", said(&other));
}

#[test]
fn mistakes_say_what_to_do() {
    let person = Person::with(JOBS);
    let project = ["--project", "group/app"];
    person.refused(&["pipelines"], 2, &["which project?", "`--project GROUP/PROJECT`"]);
    person.refused(&["jobs", project[0], project[1]], 2, &["no pipeline of `group/app` ran yet"]);
    person.refused(&["jobs", "77", project[0], project[1]], 2, &["there is no such pipeline"]);
    person.refused(&["logs", "--server", project[0], project[1]], 2, &["say which job", "`ci jobs`"]);
    person.refused(&["logs", "77", project[0], project[1]], 2, &["there is no such job"]);
    person.refused(&["cancel", project[0], project[1]], 2, &["<JOB>"]);
    person.refused(&["approve", "1.0", "--server", project[0], project[1]], 2, &["none waits"]);
    person.refused(&["promote", "1.0", "--to", "prod", project[0], project[1]], 3, &["`http://127.0.0.1"]);
    let signed_out = person.command(&["pipelines"]).env("SLIPWAY_TOKEN", "slp_wrong").output().unwrap();
    let told = said(&signed_out);
    assert_eq!(signed_out.status.code(), Some(2), "{told}");
    let nobody =
        person.command(&["pipelines", project[0], project[1]]).env("SLIPWAY_TOKEN", "slp_wrong").output();
    let told = said(&nobody.unwrap());
    assert!(told.contains("`ci login http://127.0.0.1"), "{told}");
    let mut away = person.command(&["pipelines", "--server=http://127.0.0.1:9", project[0], project[1]]);
    let away = away.output().unwrap();
    assert_eq!(away.status.code(), Some(1), "{}", said(&away));
    assert!(said(&away).contains("does it run, and is the address right?"), "{}", said(&away));
}

const DEPLOY: &str = "
environments:
  dev: {targets: [app@dev.invalid]}
  prod: {targets: [app@prod.invalid], approvals: {count: 1, from: [admin]}}
people:
  admin: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK1ApKaKBDYohABetO/o7NnJQ+Mg47GIcLDfMoDV3ABH]
";

#[test]
fn deployments_that_wait_are_agreed_to_and_rejected() {
    let person = Person::with(JOBS);
    person.repository.push(&[(".ci/deploy.yml", DEPLOY)], "environments");
    // a pipeline fetches the branch
    let run = json!({ "ref": "main" });
    person.server.post("/api/v1/projects/group%2Fapp/pipelines", &run).is(201);
    let grid = eventually("the grid is there", || {
        let grid: Value =
            serde_json::from_str(&person.told(&["env", "status", "--server", "--format", "json"])).unwrap();
        (grid[0]["cells"].as_array()?.len() == 2).then_some(grid)
    });
    assert_eq!(grid[0]["cells"][1]["environment"], "prod", "{grid}");
    let table = person.told(&["env", "status", "prod", "--project", "group/app"]);
    assert!(table.contains("prod") && !table.contains("dev "), "{table}");
    let wait = |version: &str| {
        person.server.execute(&format!(
            "INSERT INTO deployments (project_id, kind, environment, version, content, sha, status, plan, plan_digest, \
             reason, set_aside, requested_by, created_at) SELECT id, 'rollback', 'prod', '{version}', '', '', 'waiting', \
             '', 'c0ffee00c0ffee00', 'wants 1 approval', '', 'maya', 1 FROM projects"
        ));
    };
    wait("1.4.0");
    wait("1.5.0");
    let to = ["--to", "prod", "--server", "--project", "group/app"];
    let with = |first: &[&'static str]| first.iter().copied().chain(to).collect::<Vec<_>>();
    person.refused(&with(&["approve", "1.3.0"]), 2, &["(1.4.0 to prod)", "(1.5.0 to prod)"]);
    person.refused(
        &with(&["approve", "1.4.0", "--expect", "badbadbadbad"]),
        3,
        &["the plan is `c0ffee00c0ff` by now"],
    );
    let agreed =
        person.told(&with(&["approve", "1.4.0", "--expect", "c0ffee00c0ff", "--comment", "well tested"]));
    assert!(agreed.contains("of 1.4.0 to prod is "), "{agreed}");
    assert_eq!(person.server.texts("SELECT comment FROM approvals WHERE approved = 1"), ["well tested"]);
    let refused = person.told(&with(&["reject", "1.5.0", "--comment", "not today"]));
    assert!(refused.contains("is rejected: admin said no: not today"), "{refused}");
    person.refused(&with(&["approve", "1.5.0"]), 2, &["no deployment of `1.5.0` for `prod` waits"]);
}

#[test]
fn projects_are_added_changed_and_removed() {
    let person = Person::with(JOBS);
    let url = person.repository.url();
    let added = person.told(&["project", "add", "group/more", "--git-url", &url, "--forge", "github"]);
    assert!(added.contains("hook secret, shown this once") && added.contains("On GitHub"), "{added}");
    let list = person.told(&["project", "list"]);
    assert!(list.contains("group/app") && list.contains("github"), "{list}");
    let project = ["--project", "group/more"];
    let with = |first: &[&'static str]| first.iter().copied().chain(project).collect::<Vec<_>>();
    let set = [
        "project",
        "set",
        "--protect",
        "main,v*",
        "--forks",
        "ignore",
        "--keep-days",
        "9",
        "--paused",
        "true",
    ];
    person.told(&with(&set));
    let shown = person.told(&with(&["project", "set", "--keep-days", "default", "--public-badge", "true"]));
    for line in [
        "protected-refs   main, v*",
        "forks            ignore",
        "keep-days        -",
        "public-badge     true",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    person.refused(&with(&["project", "set"]), 2, &["say what to change"]);
    person.refused(&with(&["project", "set", "--keep-days", "soon"]), 2, &["`default`"]);
    let shown: Value =
        serde_json::from_str(&person.told(&with(&["project", "show", "--format", "json"]))).unwrap();
    assert_eq!((&shown["paused"], &shown["settings"]["forks"]), (&json!(true), &json!("ignore")));
    let made = person.told(&with(&["project", "hook", "--new-secret", "second"]));
    assert!(made.starts_with("hook secret 3, shown this once: "), "{made}");
    person.told(&with(&["project", "hook", "--remove-secret", "3"]));
    let hook = person.told(&with(&["project", "hook"]));
    assert!(
        hook.contains("/hooks/") && hook.contains("secret 2: first") && !hook.contains("secret 3"),
        "{hook}"
    );
    person.refused(&["project", "remove", "group/more"], 2, &["`--yes` does it"]);
    person.told(&["project", "remove", "group/more", "--yes"]);
    person.refused(&with(&["project", "show"]), 2, &["has no project `group/more`"]);
}

#[test]
fn variables_are_set_from_a_file_and_never_shown() {
    let person = Person::with(JOBS);
    let value = person.server.home().join("value");
    std::fs::write(&value, "canary-4711\n").unwrap();
    let project = ["--project", "group/app"];
    let variables = |rest: &[&str]| {
        let all: Vec<&str> = ["project", "variables"].iter().chain(rest).chain(&project).copied().collect();
        person.ci(&all)
    };
    let from = value.to_str().unwrap();
    for (scope, more) in [("*", "--protected"), ("prod", "--unmasked")] {
        let set = variables(&["set", "TOKEN", "--from", from, "--scope", scope, more]);
        assert!(set.status.success() && !said(&set).contains("canary"), "{}", said(&set));
    }
    let listed = said(&variables(&["list"]));
    assert!(
        listed.contains("protected, masked") && listed.contains("prod") && !listed.contains("canary"),
        "{listed}"
    );
    let id = person.server.number("SELECT id FROM variables WHERE environment_scope = 'prod'");
    let sealed = sqlx::query_scalar("SELECT sealed FROM variables WHERE id = $1").bind(id);
    let sealed: Vec<u8> = person.server.block_on(sealed.fetch_one(&person.server.db().pool)).unwrap();
    let vault = slipway::server::vault::Vault::open(&person.server.data().join("key")).unwrap();
    assert_eq!(vault.open_text(&format!("variable:{id}"), &sealed).as_deref(), Some("canary-4711"));
    let removed = variables(&["remove", "TOKEN"]);
    assert!(removed.status.success(), "{}", said(&removed));
    let again = variables(&["remove", "TOKEN"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("`--scope` names one of: prod"), "{}", said(&again));
}
