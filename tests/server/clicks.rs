//! Every form of every page, filled in and clicked in Chromium: what it asks for has happened afterwards.

use crate::chromium::{Browser, Tab};
use crate::support::{PASSWORD, Repository, Server, client, eventually};
use serde_json::{Value, json};
use slipway::ledger::{Arrival, BundleMade, Ended, Fact, Ledger, Released};
use slipway::project::state_name;

const PIPELINE: &str = "build:\n  script: echo built\nship:\n  stage: deploy\n  when: manual\n  needs: []\n  script: echo shipped\n";
const DEPLOY: &str = "environments:\n  dev: {targets: [app@dev.invalid]}\n  sit: {targets: [app@sit.invalid], approvals: {count: 1, from: [admin]}}\n  \
     uat: {delivery: bundle, directory: /srv/app}\n\
     people:\n  admin: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK1ApKaKBDYohABetO/o7NnJQ+Mg47GIcLDfMoDV3ABH]\n";

/// Somebody in front of a page.
struct Person<'a> {
    server: &'a Server,
    browser: Browser,
    tab: Tab,
}

impl<'a> Person<'a> {
    fn signed_in(server: &'a Server) -> Person<'a> {
        let mut browser = Browser::start();
        let tab = browser.sign_in(server);
        Person { server, browser, tab }
    }

    #[track_caller]
    fn go(&mut self, path: &str) {
        self.browser.go(&self.tab, &self.server.url(path));
    }

    #[track_caller]
    fn eval(&mut self, script: &str) -> Value {
        self.browser.eval(&self.tab, script)
    }

    /// Fills a form in, says yes to what is asked, and clicks the button of it that says `button` (any, if it is
    /// empty). Says what came: `page`, or an answer that is shown in the form's place.
    #[track_caller]
    fn click(&mut self, form: &str, fields: &[(&str, &str)], button: &str) -> String {
        let script = format!(
            "(() => {{ const form = document.querySelector({}); if (!form) return 'there is no such form'; \
             for (let el = form; el; el = el.parentElement) if (el.tagName === 'DETAILS') el.open = true; \
             for (const [name, value] of {}) {{ const el = form.querySelector(name === 'data-type' ? '[data-type]' : `[name=\"${{name}}\"]`); \
             if (!el) return `there is no field ${{name}}`; \
             if (el.type === 'checkbox') el.checked = value === 'yes'; else el.value = value; }} \
             const button = [...form.querySelectorAll('button')].find((el) => el.textContent.includes({})); \
             if (!button) return 'there is no such button'; \
             if (!form.checkValidity()) return 'the form is not filled in'; \
             document.querySelectorAll('.alert[role=alert], .told').forEach((el) => el.remove()); \
             window.confirm = () => true; window.before = true; button.click(); return 'clicked'; }})()",
            json!(form),
            json!(fields),
            json!(button)
        );
        let clicked = self.eval(&script);
        assert_eq!(clicked, "clicked", "{form}");
        let came = "window.before ? document.querySelector('.alert[role=alert], .told') !== null : document.readyState === 'complete'";
        self.browser.until(&self.tab, came);
        let said = self
            .eval("window.before ? document.querySelector('.alert[role=alert], .told').textContent : 'page'");
        said.as_str().unwrap().to_owned()
    }

    /// As [`Person::click`], when a page is to come.
    #[track_caller]
    fn does(&mut self, form: &str, fields: &[(&str, &str)], button: &str) {
        assert_eq!(self.click(form, fields, button), "page", "{form}");
    }

    /// As [`Person::click`] for what speaks to the API at `path`.
    #[track_caller]
    fn asks(&mut self, path: &str, fields: &[(&str, &str)], button: &str) {
        self.does(&format!("form[data-api$={}]", json!(path)), fields, button);
    }

    #[track_caller]
    fn sees(&mut self, text: &str) {
        let shown = self.eval("document.querySelector('main').textContent");
        assert!(shown.as_str().unwrap().contains(text), "{text}: {shown}");
    }

    /// A number of the database.
    #[track_caller]
    fn counts(&self, expected: i64, sql: &str) {
        assert_eq!(self.server.number(sql), expected, "{sql}");
    }
}

#[test]
fn a_project_is_made_set_up_and_removed_by_clicks() {
    let server = Server::start();
    let repository = Repository::with(&[(".gitlab-ci.yml", PIPELINE)]);
    let mut person = Person::signed_in(&server);
    person.go("/projects/new");
    let new = [("path", "team/app"), ("git_url", &repository.url()), ("forge", "generic")];
    let told = person.click("form[data-api='POST /api/v1/projects']", &new, "Add it");
    assert!(told.contains("/hooks/") && told.contains("post-receive"), "{told}");
    settings(&mut person);
    variables(&mut person, "/projects/1/settings", "/api/v1/projects/1/variables");
    variables(&mut person, "/admin", "/api/v1/variables");
    secrets(&mut person);
    people(&mut person);
    schedules(&mut person);
    runners_of_the_project(&mut person);
    person.go("/projects/1/settings");
    person.does("form[data-api='PATCH /api/v1/projects/1']:has([name=paused])", &[], "Pause the project");
    person.sees("It is paused");
    person.does("form[data-api='PATCH /api/v1/projects/1']:has([name=paused])", &[], "Go on");
    person.counts(0, "SELECT paused FROM projects");
    let remove = "form[data-api='DELETE /api/v1/projects/1']";
    server.post("/api/v1/projects/1/pipelines/1/cancel", &json!({})).is(200);
    let told = person.click(remove, &[("data-type", "team/ap")], "Remove it");
    assert!(told.contains("team/next"), "{told}");
    person.does(remove, &[("data-type", "team/next")], "Remove it");
    person.counts(0, "SELECT COUNT(*) FROM projects");
    assert_eq!(person.eval("location.pathname"), "/projects");
}

fn settings(person: &mut Person<'_>) {
    person.go("/projects/1/settings");
    let project = [("path", "team/next"), ("forge_url", ""), ("protected_refs", "main, v*")];
    person.does("form[data-then='/projects/{path}/settings']", &project, "Save");
    let rules = [
        ("settings.forks", "run"),
        ("settings.allowed_ips", "192.0.2.0/24, 127.0.0.1"),
        ("settings.keep_days", "30"),
        ("settings.public_badge", "yes"),
    ];
    person.does("form:has([name='settings.forks'])", &rules, "Save");
    let stored = person.server.get("/api/v1/projects/team%2Fnext").is(200).json();
    assert_eq!(stored["protected_refs"], json!(["main", "v*"]));
    let settings = json!({ "forks": "run", "allowed_ips": ["192.0.2.0/24", "127.0.0.1"], "auto_cancel": true,
        "keep_days": 30, "keep_pipelines": null, "public_badge": true });
    assert_eq!(stored["settings"], settings);
    let wrong = person.click("form:has([name='settings.forks'])", &[("settings.allowed_ips", "x")], "Save");
    assert!(wrong.contains("neither an address nor a network"), "{wrong}");
    let told = person.click("form[data-api$='/look']", &[], "Ask");
    assert!(told.contains("main"), "{told}");
    person.does("form:has([name='settings.forks'])", &[("settings.allowed_ips", "")], "Save");
    let badge = person.server.anonymous().get(person.server.url("/projects/team%2Fnext/badge.svg"));
    let badge = badge.send().unwrap().text().unwrap();
    assert!(badge.contains("pipeline: unknown"), "{badge}");
}

fn variables(person: &mut Person<'_>, page: &str, api: &str) {
    person.go(page);
    let add = format!("details.add form[data-api='POST {api}']");
    let new = [("key", "TOKEN"), ("value", "canary-4711"), ("protected", "yes")];
    person.does(&add, &new, "Add it");
    let change = format!("li form[data-api='POST {api}']");
    person.does(&change, &[("value", "canary-4712"), ("raw", "yes"), ("protected", "no")], "Change it");
    assert_eq!(person.eval("document.documentElement.innerHTML.includes('canary')"), false);
    person.counts(
        1,
        "SELECT COUNT(*) FROM variables WHERE key = 'TOKEN' AND raw = 1 AND protected = 0 AND masked = 1",
    );
    let short = person.click(&add, &[("key", "A"), ("value", "short")], "Add it");
    assert!(short.contains("can't be masked"), "{short}");
    person.does(&format!("form[data-api^='DELETE {api}/']"), &[], "Remove");
    person.counts(0, "SELECT COUNT(*) FROM variables");
}

fn secrets(person: &mut Person<'_>) {
    person.go("/projects/1/settings");
    let form = |kind: &str| format!("form[data-api$='/secrets']:has([value={kind}])");
    let told = person.click(&form("hook"), &[("name", "second")], "Add it");
    assert!(told.len() > 20, "{told}");
    person.go("/projects/1/settings");
    person.does(&form("git"), &[("name", "ann"), ("value", "canary")], "Add them");
    person.does(&form("forge"), &[("name", "bot"), ("value", "canary")], "Add it");
    person.counts(4, "SELECT COUNT(*) FROM secrets");
    person.does("form[data-api^='DELETE /api/v1/projects/1/secrets/']", &[], "Remove");
    person.counts(3, "SELECT COUNT(*) FROM secrets");
}

fn people(person: &mut Person<'_>) {
    person.go("/admin/users");
    let account = [("name", "bob"), ("display", "Bob"), ("email", "bob@localhost")];
    person.does("form[action='/admin/users']", &account, "Make");
    person.sees("/welcome/");
    let bob = person.server.number("SELECT id FROM users WHERE name = 'bob'");
    let form = format!("form[action='/admin/users/{bob}']");
    for (button, sql) in [
        ("Make administrator", "admin = 1"),
        ("No administrator", "admin = 0"),
        ("Disable", "disabled = 1"),
        ("Enable", "disabled = 0"),
        ("One-time address", "password IS NULL"),
    ] {
        person.does(&form, &[], button);
        person.counts(1, &format!("SELECT COUNT(*) FROM users WHERE name = 'bob' AND {sql}"));
    }
    let role = [("user", "bob"), ("role", "deployer"), ("environment", "sit")];
    person.does("form[action='/admin/members']", &role, "Give");
    person.does("form[action^='/admin/members/']", &[], "Remove");
    person.go("/projects/1/members");
    person.does("form[action$='/members']", &role, "Give");
    person.sees("sit");
    person.does("form[action$='/remove']", &[], "Remove");
    person.counts(0, "SELECT COUNT(*) FROM members");
}

fn runners_of_the_project(person: &mut Person<'_>) {
    person.go("/projects/1/settings");
    let api = "/api/v1/projects/1/runners";
    let told = person.click(
        &format!("form[data-api='POST {api}']"),
        &[("description", "office-1"), ("tags", "signing")],
        "Make it",
    );
    assert!(told.contains("glrt-") && told.contains("ci runner register"), "{told}");
    person.go("/projects/1/settings");
    person.sees("office-1");
    let id = person.server.number("SELECT id FROM runners WHERE project_id = 1");
    let form = format!("form[data-api='PATCH {api}/{id}']");
    person.does(&format!("{form}.form"), &[("description", "office-2")], "Change it");
    person.does(&format!("{form}:not(.form)"), &[], "Pause");
    person.counts(1, "SELECT COUNT(*) FROM runners WHERE description = 'office-2' AND paused = 1");
    person.does(&format!("form[data-api='DELETE {api}/{id}']"), &[], "Remove");
    person.counts(0, "SELECT COUNT(*) FROM runners WHERE project_id = 1");
}

fn schedules(person: &mut Person<'_>) {
    person.go("/projects/1/schedules");
    let new = [("description", "nightly"), ("cron", "15 2 * * *"), ("variables", "A=b=c\nD=")];
    person.asks("/projects/1/schedules", &new, "Schedule it");
    let variables = person.server.texts("SELECT variables FROM schedules");
    assert_eq!(variables, [r#"{"A":"b=c","D":""}"#]);
    let change = "form[data-api='PATCH /api/v1/projects/1/schedules/1']";
    let wrong = person.click(&format!("{change}.form"), &[("timezone", "Mars/Olympus")], "Change it");
    assert!(wrong.contains("no time zone"), "{wrong}");
    person.does(&format!("{change}.form"), &[("timezone", "Europe/Berlin")], "Change it");
    person.does(&format!("{change}:not(.form)"), &[], "Turn off");
    person.does(&format!("{change}:not(.form)"), &[], "Turn on");
    person.asks("/schedules/1/run", &[], "Run now");
    person.counts(1, "SELECT COUNT(*) FROM pipelines WHERE source = 'schedule' AND actor = 'admin'");
    assert_eq!(person.eval("location.pathname"), "/projects/team%2Fnext/pipelines/1");
    person.go("/projects/1/schedules");
    person.does("form[data-api='DELETE /api/v1/projects/1/schedules/1']", &[], "Remove");
    person.counts(0, "SELECT COUNT(*) FROM schedules");
}

#[test]
fn pipelines_deliveries_and_the_server_itself_are_run_by_clicks() {
    let server = Server::start();
    let repository = Repository::with(&[(".gitlab-ci.yml", PIPELINE)]);
    let project = server.project("team/app", &repository.url());
    let mut person = Person::signed_in(&server);
    pipelines(&mut person);
    deliveries(&mut person, project);
    runners(&mut person);
    server_itself(&mut person);
    account(&mut person);
}

/// No runner takes a job here: what waits can be cancelled, run again, started.
fn pipelines(person: &mut Person<'_>) {
    person.go("/projects/1/run");
    person.does("main form", &[("ref", "main"), ("variables", "A=1")], "Run");
    let at = person.eval("location.pathname");
    let pipeline = at.as_str().unwrap().to_owned();
    let status =
        |job: &str| format!("SELECT COUNT(*) FROM jobs WHERE newest = 1 AND name = '{job}' AND status = ");
    person.does("form[action$='/play']", &[], "");
    person.counts(1, &format!("{} 'pending'", status("ship")));
    person.go(&pipeline);
    person.does("form[action$='/cancel']", &[], "Cancel");
    person.counts(1, &format!("{} 'canceled'", status("build")));
    person.does(&format!("form[action='{pipeline}/retry']"), &[], "Retry");
    person.counts(1, &format!("{} 'pending'", status("build")));
    person.eval("location.assign(document.querySelector('.job a').href)");
    person
        .browser
        .until(&person.tab, "document.querySelector('.job-page') && document.readyState === 'complete'");
    person.does("form[action$='/cancel']", &[], "Cancel");
    person.counts(1, &format!("{} 'canceled'", status("build")));
    person.does("form[action$='/retry']", &[], "Run again");
    person.counts(1, &format!("{} 'pending'", status("build")));
}

fn deliveries(person: &mut Person<'_>, project: i64) {
    for state in ["failed", "held"] {
        let insert = sqlx::query(
            "INSERT INTO deliveries (project_id, key, forge, event, headers, body, body_digest, received_at, state, reason, \
             tries) VALUES ($1, $2, 'generic', 'push', '{}', $3, '', 1, $2, 'because', 1)",
        );
        let insert = insert.bind(project).bind(state).bind(b"{}".to_vec());
        person.server.block_on(insert.execute(&person.server.db().pool)).unwrap();
    }
    person.go("/projects/1/deliveries/1");
    person.asks("/1/replay", &[], "Replay");
    assert_eq!(person.eval("location.pathname"), "/projects/team%2Fapp/deliveries/3");
    person.go("/projects/1/deliveries/2");
    person.asks("/2/approve", &[], "Let it run");
    assert_eq!(person.eval("location.pathname"), "/projects/team%2Fapp/deliveries/4");
    person.counts(2, "SELECT COUNT(*) FROM deliveries WHERE key LIKE 'replay:1:%' OR key = 'approved:2'");
}

fn runners(person: &mut Person<'_>) {
    person.go("/runners");
    let new = [("description", "build-07"), ("tags", "erlang, amd64"), ("run_untagged", "no")];
    let told = person.click("form[data-api='POST /api/v1/runners']", &new, "Make it");
    assert!(told.contains("glrt-") && told.contains("ci runner register"), "{told}");
    person.go("/runners");
    let id =
        person.server.number("SELECT id FROM runners WHERE description = 'build-07' AND run_untagged = 0");
    let form = format!("form[data-api='PATCH /api/v1/runners/{id}']");
    let change = [("description", "build-08"), ("maximum_timeout", "600"), ("protected", "yes")];
    person.does(&format!("{form}.form"), &change, "Change it");
    person.does(&format!("{form}:not(.form)"), &[], "Pause");
    let sql = "SELECT COUNT(*) FROM runners WHERE description = 'build-08' AND maximum_timeout = 600 AND protected_only = 1";
    person.counts(1, &format!("{sql} AND tags = '[\"erlang\",\"amd64\"]' AND paused = 1"));
    person.does(&format!("{form}:not(.form)"), &[], "Resume");
    person.does(&format!("form[data-api='DELETE /api/v1/runners/{id}']"), &[], "Remove");
    person.counts(0, "SELECT COUNT(*) FROM runners WHERE local = 0");
    person.click("form[data-api='POST /api/v1/registration-token']", &[], "Allow");
    person.go("/runners");
    person.does("form[data-api='DELETE /api/v1/registration-token']", &[], "Forbid");
    person.counts(0, "SELECT COUNT(*) FROM meta WHERE key = 'registration_token'");
}

fn server_itself(person: &mut Person<'_>) {
    person.go("/admin");
    person.asks("/maintenance", &[("reason", "a new disk")], "Begin");
    person.sees("a new disk");
    person.asks("/maintenance", &[], "Go on");
    person.asks("/admin/backup", &[], "Make a backup now");
    let file = person.eval("document.querySelector('a[href*=\"/admin/backups/\"]').getAttribute('href')");
    let copy = person.server.get(file.as_str().unwrap());
    assert_eq!((copy.status, &copy.headers["content-type"]), (200, &"application/zstd".parse().unwrap()));
    person.does("form[data-api^='DELETE /api/v1/admin/backups/']", &[], "Remove");
    person.server.get(file.as_str().unwrap()).is(404);
    person.go("/admin/audit");
    person.does("form[action='/admin/audit']", &[("action", "backup.remove")], "Filter");
    person.sees("backup.remove");
}

fn account(person: &mut Person<'_>) {
    // another browser, and a command line that asks to be let in
    let other = json!({ "name": "admin", "password": PASSWORD });
    let form = format!("name=admin&password={PASSWORD}");
    let login = client(None).post(person.server.url("/login")).body(form);
    login.header("content-type", "application/x-www-form-urlencoded").send().unwrap();
    person.server.post("/api/v1/login", &other).is(201);
    person.go("/account");
    person.does("form[action='/account/tokens']", &[("name", "for a script"), ("write", "yes")], "Make");
    person.sees("slp_");
    person.go("/account");
    let live = person.server.number("SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL");
    person.does("form[action$='/revoke']", &[("reason", "lost")], "Revoke");
    person.counts(live - 1, "SELECT COUNT(*) FROM tokens WHERE revoked_at IS NULL");
    person.does("form[action$='/end']", &[], "Sign out");
    person.counts(1, "SELECT COUNT(*) FROM sessions");
    let begun = person.server.anonymous().post(person.server.url("/api/v1/device"));
    let begun: Value = begun.json(&json!({ "name": "ann@desk" })).send().unwrap().json().unwrap();
    person.go("/device");
    person.does("form[action='/device']", &[("code", begun["code"].as_str().unwrap())], "Go ahead");
    person.does("form[method=post][action='/device']", &[], "Yes");
    person.sees("is signed in as you");
    person.go("/account");
    let password = [("current", PASSWORD), ("new", "another long password")];
    person.does("form[action='/account/password']", &password, "Change");
    person.sees("The password is changed");
    person.does("form[action='/logout']", &[], "Sign out");
    person.counts(0, "SELECT COUNT(*) FROM sessions");
}

#[test]
fn deployments_are_asked_for_agreed_to_and_stopped_by_clicks() {
    let server = Server::start();
    let repository = Repository::with(&[(".gitlab-ci.yml", PIPELINE), (".ci/deploy.yml", DEPLOY)]);
    let project = server.project("team/app", &repository.url());
    let api = format!("/api/v1/projects/{project}");
    server.post(&format!("{api}/look"), &json!({})).is(200);
    // what is asked for stays where it is
    server.post("/api/v1/admin/maintenance", &json!({ "on": true })).is(200);
    eventually("the branch is there", || {
        (server.get(&format!("{api}/environments")).status == 200).then_some(())
    });
    history(&server, project);
    let mut person = Person::signed_in(&server);
    let count = |status: &str, kind: &str| {
        format!("SELECT COUNT(*) FROM deployments WHERE status = '{status}' AND kind = '{kind}'")
    };
    let dev = "/projects/1/environments/dev";
    person.go(dev);
    person.does("form:has([value='promote']):has(.main)", &[], "Promote 1.1.0");
    person.sees("1.1.0");
    person.counts(1, "SELECT COUNT(*) FROM deployments WHERE environment = 'dev' AND version = '1.1.0'");
    person.does("form:has([value='rollback'])", &[], "Roll back");
    person.counts(1, "SELECT COUNT(*) FROM deployments WHERE environment = 'dev' AND kind = 'rollback'");
    person.asks("/dev/lock", &[("reason", "stock-taking")], "Lock");
    person.sees("stock-taking");
    person.asks("/dev/lock", &[], "Unlock");
    person.counts(0, "SELECT COUNT(*) FROM environment_locks");
    person.asks("/dev/marks", &[("reason", "it leaks")], "It is bad");
    person.sees("it leaks");
    person.asks("/dev/marks", &[("reason", "it does not")], "It is good again");
    let told = person.click("form[data-api$='/dev/look']", &[], "Ask the targets");
    assert!(told.contains("rebar.config"), "{told}");

    let wait = |version: &str| {
        server.execute(&format!(
            "INSERT INTO deployments (project_id, kind, environment, version, content, sha, status, plan, plan_digest, \
             reason, set_aside, requested_by, created_at) VALUES ({project}, 'rollback', 'sit', '{version}', '', '', \
             'waiting', '', 'c0ffee00c0ffee00', 'wants 1 approval', '', 'maya', 1)"
        ));
    };
    wait("1.0.0");
    person.go("/approvals");
    person.does("form.vote", &[("comment", "well tested")], "Approve");
    person.counts(1, "SELECT COUNT(*) FROM approvals WHERE approved = 1 AND comment = 'well tested'");
    wait("0.9.0");
    person.go("/projects/1/environments/sit");
    person.does("form.vote:has([value=c0ffee00c0ffee00])", &[("comment", "not today")], "Reject");
    person.counts(1, &count("rejected", "rollback"));
    wait("0.8.0");
    person.go("/projects/1/environments/sit");
    person.does("form[data-api*='DELETE']:has(button.small)", &[], "Withdraw");
    assert!(server.number("SELECT COUNT(*) FROM deployments WHERE reason LIKE 'withdrawn by%'") > 0);
    bundle(&mut person, project);
}

/// A bundle that was made is fetched, and the report of who installed it comes back.
fn bundle(person: &mut Person<'_>, project: i64) {
    let server = person.server;
    server.execute(&format!(
        "INSERT INTO deployments (project_id, kind, environment, version, content, sha, status, plan, plan_digest, reason, \
         set_aside, requested_by, created_at, finished_at) VALUES ({project}, 'bundle', 'uat', '1.0.0', '', '', 'done', '', \
         '', '', '', 'maya', 1, 1)"
    ));
    let id = server.number("SELECT MAX(id) FROM deployments");
    let (name, bytes) = ("app-1.0.0-uat.tar.gz", vec![7; 300_000]);
    let kept = server.data().join(format!("deployments/{id}"));
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(kept.join(name), &bytes).unwrap();
    server.execute(&format!(
        "INSERT INTO bundles (project_id, deployment_id, environment, version, filename, sha256, size, created_at) \
         VALUES ({project}, {id}, 'uat', '1.0.0', '{name}', 'c0ffee', {}, 1)",
        bytes.len()
    ));
    let fetched = tempfile::tempdir().unwrap();
    let allow = json!({ "behavior": "allow", "downloadPath": fetched.path() });
    person.browser.call("Browser.setDownloadBehavior", allow, None);
    person.go("/projects/1/environments/uat");
    person.eval("document.querySelector('a[href$=\"/file\"]').click()");
    eventually("the bundle is there", || {
        (std::fs::read(fetched.path().join(name)).ok()? == bytes).then_some(())
    });

    let receipt = fetched.path().join("receipt.json");
    let report = json!({
        "format": 1, "kind": "slipway-receipt", "bundle": "b0b0", "environment": "uat", "release": "app",
        "version": "1.0.0", "content": "1.0.0".repeat(20), "host": "uat1", "ended": "2026-01-31T12:00:00Z",
        "strategy": "fresh", "outcome": "done", "from": null, "message": "",
    });
    std::fs::write(&receipt, report.to_string()).unwrap();
    let chosen = json!({ "expression": "document.querySelector('input[type=file]')" });
    for refused in [true, false] {
        let input = person.browser.call("Runtime.evaluate", chosen.clone(), Some(&person.tab));
        let files = json!({ "files": [receipt], "objectId": input["result"]["objectId"] });
        person.browser.call("DOM.setFileInputFiles", files, Some(&person.tab));
        let said = person.click("form[data-api$='/receipts']", &[], "Take it over");
        if refused {
            assert!(said.contains("was not made here"), "{said}");
            let made = BundleMade {
                environment: "uat".to_owned(),
                release: "app".to_owned(),
                version: "1.0.0".to_owned(),
                content: "1.0.0".repeat(20),
                bundle: "b0b0".to_owned(),
                ..BundleMade::default()
            };
            ledger(server, project).append_by(Fact::Bundle(made), "maya".to_owned()).unwrap();
        } else {
            assert_eq!(said, "page");
        }
    }
    person.sees("1.0.0 runs here");
    person.counts(1, "SELECT COUNT(*) FROM audit WHERE action = 'receipt.import'");
}

fn ledger(server: &Server, project: i64) -> Ledger {
    let home = server.data().join("home");
    let desk = server.data().join("desks").join(project.to_string());
    Ledger { state: home.join("projects").join(state_name(&desk)) }
}

/// Two releases were built; the first runs in DEV.
fn history(server: &Server, project: i64) {
    let ledger = ledger(server, project);
    let release = |version: &str| {
        Fact::Release(Released {
            release: "app".to_owned(),
            version: version.to_owned(),
            content: version.repeat(20),
            ..Released::default()
        })
    };
    let arrival = |version: &str| {
        Fact::Deployment(Arrival {
            environment: "dev".to_owned(),
            release: "app".to_owned(),
            version: version.to_owned(),
            content: version.repeat(20),
            strategy: "fresh".to_owned(),
            targets: vec!["dev".to_owned()],
            outcome: Ended::Done,
            ..Arrival::default()
        })
    };
    for fact in [release("1.0.0"), arrival("1.0.0"), release("1.1.0")] {
        ledger.append_by(fact, "maya".to_owned()).unwrap();
    }
}
