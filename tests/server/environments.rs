//! Environments with real targets (sshd, Erlang/OTP): what a job deploys to DEV, people promote to SIT.

use super::support::{PASSWORD, Reply, Server, client, eventually};
use super::targets::project::Project;
use super::targets::target::Target;
use serde_json::{Value, json};
use std::fs;

const STATE: &str = "urf_store:info().";
pub(super) const PIPELINE: &str = "deploy:\n  environment: dev\n  tags: [ours]\n  script: [ci deploy dev]\n";

/// A server, its project, and the targets of two environments.
struct Site {
    server: Server,
    dev: Target,
    sit: Target,
    /// What the server knows: `main`, with `.ci/deploy.yml`.
    origin: Project,
    /// Where a job works.
    work: Project,
    /// `/api/v1/projects/N`
    api: String,
}

impl Site {
    fn new() -> Site {
        let (dev, sit) = (Target::start(), Target::start());
        let of_sit = fs::read_to_string(sit.path("config")).unwrap();
        let config = dev.path("config");
        let both = fs::read_to_string(&config).unwrap() + &of_sit.replace("Host dev\n", "Host sit\n");
        fs::write(config, both).unwrap();
        let settings = format!(
            "people: {{bob: []}}\nenvironments:\n  dev:\n    targets: ['dev:{}']\n  sit:\n    targets: ['sit:{}']\n    approvals: {{count: 1}}\n  \
             uat:\n    delivery: bundle\n    directory: /srv/urf\n",
            dev.release().display(),
            sit.release().display()
        );
        let origin = Project::at("0.2.0");
        let write = |project: &Project, name: &str, text: &str| {
            let path = project.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        origin.git(&["checkout", "-q", "-B", "main"]);
        write(&origin, ".ci/deploy.yml", &settings);
        write(&origin, ".gitlab-ci.yml", PIPELINE);
        origin.git(&["add", "-A"]);
        origin.git(&["commit", "-q", "-m", "Say where it runs"]);
        let work = Project::at("0.1.0");
        write(&work, ".ci/deploy.yml", &settings);
        let path = format!("{}:{}", dev.path("bin").display(), std::env::var("PATH").unwrap());
        // what stands for a runner gives no sign of life while it deploys
        let settings = json!({ "local_jobs": 0, "lease_seconds": 900 });
        let server = Server::in_environment(settings, &[("PATH", &path)]);
        let url = format!("file://{}", origin.path().display());
        let project =
            json!({ "path": "team/urf", "git_url": url, "forge": "generic", "default_branch": "main" });
        let made = server.post("/api/v1/projects", &project).is(201).json();
        let api = format!("/api/v1/projects/{}", made["project"]["id"]);
        Site { server, dev, sit, origin, work, api }
    }

    fn get(&self, path: &str) -> Value {
        self.server.get(&format!("{}{path}", self.api)).is(200).json()
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.server.post(&format!("{}{path}", self.api), body)
    }

    /// What a runner does with the job of `main`: it deploys `version` to DEV.
    fn job_deploys(&self, version: &str) {
        let runner =
            self.server.post("/api/v1/runners", &json!({ "description": version, "tags": ["ours"] }));
        let token = runner.is(201).json()["token"].as_str().unwrap().to_owned();
        self.post("/pipelines", &json!({ "ref": "main" })).is(201);
        let ask = json!({ "token": token, "info": { "features": {} } });
        let job = eventually("a job", || {
            let reply = self.server.post("/api/v4/jobs/request", &ask);
            (reply.status == 201).then(|| reply.json())
        });
        let value = |name: &str| {
            let variables = job["variables"].as_array().unwrap();
            let found = variables.iter().rfind(|variable| variable["key"] == name);
            found.and_then(|variable| variable["value"].as_str()).unwrap_or_default().to_owned()
        };
        self.work.checkout(version);
        let names = ["CI_SERVER_NAME", "CI_API_V4_URL", "CI_JOB_TOKEN"];
        let mut variables: Vec<(&str, String)> = names.iter().map(|name| (*name, value(name))).collect();
        // the file says where, not the variables
        variables.extend([("DEV_SSH_USER_HOST", String::new()), ("TARGET_DIR", String::new())]);
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.dev.ci(self.work.path(), &["deploy", "dev"], &variables).ended(0);
    }

    fn cell(&self, environment: &str) -> Value {
        let row = self.get("/environments");
        let cells = row["cells"].as_array().unwrap();
        cells.iter().find(|cell| cell["environment"] == environment).cloned().unwrap()
    }

    /// The deployment when it has one of these states.
    fn when(&self, id: &Value, states: &[&str]) -> Value {
        eventually("a deployment moves on", || {
            let deployment = self.get(&format!("/deployments/{id}"));
            states.iter().any(|state| deployment["status"] == *state).then_some(deployment)
        })
    }

    /// Operations installed the bundle for UAT and sends its report: once, by who may, as the bundle was made.
    fn receipts_come_back(&self, bob: &reqwest::blocking::Client) {
        let history = self.get("/environments/uat")["history"].clone();
        let made = history.as_array().unwrap().iter().find(|entry| entry["kind"] == "bundle").unwrap();
        let receipt = json!({
            "format": 1, "kind": "slipway-receipt", "bundle": made["bundle"], "environment": "uat",
            "release": made["release"], "version": made["version"], "content": made["content"], "host": "uat1",
            "ended": "2026-01-31T12:00:00Z", "strategy": "fresh", "outcome": "done", "from": null, "message": "",
        });
        let url = self.server.url(&format!("{}/environments/uat/receipts", self.api));
        Reply::of(bob.post(url).json(&receipt).send().unwrap()).is(403);
        let mut changed = receipt.clone();
        changed["version"] = json!("9.9.9");
        let refused = self.post("/environments/uat/receipts", &changed).is(400);
        assert!(refused.text.contains("it was changed"), "{}", refused.text);
        let refused = self.post("/environments/sit/receipts", &receipt).is(400);
        assert!(refused.text.contains("is of `uat`"), "{}", refused.text);
        let entry = self.post("/environments/uat/receipts", &receipt).is(200).json();
        assert_eq!((&entry["kind"], &entry["version"]), (&json!("receipt"), &json!("0.2.0")), "{entry}");
        let refused = self.post("/environments/uat/receipts", &receipt).is(400);
        assert!(refused.text.contains("imported already"), "{}", refused.text);
        let uat = self.cell("uat");
        assert_eq!((&uat["versions"], &uat["last"]), (&json!(["0.2.0"]), &json!("done")), "{uat}");
    }

    /// Asks for it as `admin`, agrees as `bob`, waits for its end.
    fn promoted(&self, version: &str, bob: &reqwest::blocking::Client) -> Value {
        let asked = self.post("/environments/sit/deployments", &json!({ "version": version })).is(201).json();
        let waits = self.when(&asked["id"], &["waiting", "refused"]);
        assert_eq!(waits["status"], "waiting", "{waits}");
        let url = self.server.url(&format!("{}/deployments/{}/approve", self.api, asked["id"]));
        let said = json!({ "plan_digest": waits["plan_digest"], "comment": "fine" });
        Reply::of(bob.post(url).json(&said).send().unwrap()).is(200);
        self.when(&asked["id"], &["done", "failed", "refused", "rolled_back", "unknown"])
    }
}

#[test]
fn what_a_job_deployed_people_promote_lock_roll_back_and_bundle() {
    let site = Site::new();
    site.job_deploys("0.1.0");
    let (dev, sit) = (site.cell("dev"), site.cell("sit"));
    assert_eq!((&dev["versions"], &dev["last"]), (&json!(["0.1.0"]), &json!("done")), "{dev}");
    assert_eq!((&sit["versions"], &sit["next"]), (&json!([]), &json!("0.1.0")), "{sit}");

    // somebody who may deploy to SIT
    site.server.post("/api/v1/users", &json!({ "name": "bob", "password": PASSWORD })).is(201);
    let member = json!({ "user": "bob", "role": "deployer", "environment": "sit" });
    site.post("/members", &member).is(204);
    let login = json!({ "name": "bob", "password": PASSWORD, "scopes": ["write", "deploy"] });
    let token = site.server.post("/api/v1/login", &login).is(201).json();
    let bob = client(token["token"].as_str());

    // what nobody has seen in SIT does not go on; who asked does not agree; another plan is not this plan
    let skipped =
        site.post("/environments/uat/deployments", &json!({ "kind": "bundle", "version": "0.1.0" }));
    assert!(skipped.is(409).text.contains("has not succeeded in `sit`"));
    let asked = site.post("/environments/sit/deployments", &json!({ "version": "0.1.0" })).is(201).json();
    let waits = site.when(&asked["id"], &["waiting"]);
    let vote = format!("/deployments/{}/approve", asked["id"]);
    site.post(&vote, &json!({ "plan_digest": waits["plan_digest"] })).is(403);
    let url = site.server.url(&format!("{}{vote}", site.api));
    let wrong = bob.post(&url).json(&json!({ "plan_digest": "0".repeat(64) })).send().unwrap();
    Reply::of(wrong).is(409);

    // a newer request takes its place; it goes through, by the very package that DEV has
    let done = site.promoted("0.1.0", &bob);
    assert_eq!(done["status"], "done", "{done}");
    assert_eq!(site.get(&format!("/deployments/{}", asked["id"]))["status"], "superseded");
    assert_eq!(site.sit.eval(STATE), "{v1, {state, 0}}");
    site.sit.eval("urf_store:incr().");
    let boot = site.sit.boot();

    // the next version: hot, in the same process, with its state
    site.job_deploys("0.2.0");
    let done = site.promoted("0.2.0", &bob);
    assert_eq!(done["status"], "done", "{done}");
    assert!(done["plan"].as_str().unwrap().contains("\"hot\""), "{done}");
    assert_eq!(site.sit.boot(), boot, "the node restarted");
    assert!(site.sit.eval(STATE).starts_with("{v2, {state, 1, "), "{}", site.sit.eval(STATE));
    let one = site.get("/environments/sit");
    assert_eq!(one["cell"]["versions"], json!(["0.2.0"]), "{one}");
    let kinds: Vec<&str> =
        one["history"].as_array().unwrap().iter().filter_map(|e| e["kind"].as_str()).collect();
    assert!(kinds.contains(&"approval") && kinds.contains(&"deployment"), "{kinds:?}");

    // a bundle for where we can't reach
    let asked = site.post("/environments/uat/deployments", &json!({ "kind": "bundle", "version": "0.2.0" }));
    let made = site.when(&asked.is(201).json()["id"], &["done", "failed", "refused"]);
    assert_eq!(made["status"], "done", "{made}");
    let bundle = site.get("/environments/uat")["bundles"][0].clone();
    let file = site.server.get(&format!("{}/bundles/{}/file", site.api, bundle["id"])).is(200);
    assert_eq!(file.headers["content-length"], bundle["size"].to_string().as_str());

    site.receipts_come_back(&bob);

    // nothing comes to what is locked; a rollback goes back by the relup
    let lock = format!("{}/environments/sit/lock", site.api);
    site.server.send("PUT", &lock, &json!({ "reason": "audit" })).is(204);
    let locked = site.post("/environments/sit/deployments", &json!({ "kind": "rollback" })).is(409);
    assert!(locked.text.contains("audit"), "{}", locked.text);
    site.server.send("DELETE", &lock, &json!({})).is(204);
    let asked = site.post("/environments/sit/deployments", &json!({ "kind": "rollback" })).is(201).json();
    let back = site.when(&asked["id"], &["done", "failed", "refused", "unknown"]);
    assert_eq!(back["status"], "done", "{back}");
    assert!(site.sit.eval(STATE).starts_with("{v1, {state, 1}"), "{}", site.sit.eval(STATE));
    assert_eq!(site.sit.boot(), boot, "the node restarted");
    // what was rolled back is bad there until somebody clears it
    let again = site.post("/environments/sit/deployments", &json!({ "version": "0.2.0" })).is(409);
    assert!(again.text.contains("marked bad"), "{}", again.text);
    let cleared = json!({ "version": "0.2.0", "reason": "found the cause", "bad": false });
    site.post("/environments/sit/marks", &cleared).is(204);
    site.post("/environments/sit/deployments", &json!({ "version": "0.2.0" })).is(201);
    assert!(site.origin.path().join(".ci/deploy.yml").exists());
}
