//! Releases that are no Erlang: what a job deployed to DEV is uploaded, promoted, rolled back and bundled.

use super::support::{Server, eventually};
use super::targets::target::{Target, free_port, run};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const SERVER: &str = include_str!("../support/answers.py");

struct Site {
    server: Server,
    dev: Target,
    work: tempfile::TempDir,
    ports: [u16; 2],
    api: String,
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

impl Site {
    fn new() -> Site {
        let (dev, work, ports) = (Target::start(), tempfile::tempdir().unwrap(), [free_port(), free_port()]);
        let environment = |name: &str, port: u16| {
            format!(
                "  {name}:\n    targets: [dev]\n    directory: {}\n    health: [{{http: 'http://127.0.0.1:{port}/', within: 15s}}]\n    \
                 service: {{commands: {{start: 'exec python3 server.py {port}'}}}}\n",
                dev.path(name).display()
            )
        };
        let text = "release: {name: site, kind: archive, version: {file: VERSION}, package: 'dist/{name}-{version}.tar.gz', build: \
             ['mkdir -p dist && tar czf dist/$NAME-$VERSION.tar.gz -C app .']}\nenvironments:\n"
            .to_owned()
            + &environment("dev", ports[0])
            + &environment("sit", ports[1])
            + "  uat: {delivery: bundle, directory: /srv/site, service: {systemd: site.service}}\n";
        write(work.path(), ".ci/deploy.yml", &text);
        write(work.path(), ".gitlab-ci.yml", super::environments::PIPELINE);
        write(work.path(), ".gitignore", "dist\n");
        write(work.path(), "app/server.py", SERVER);
        write(work.path(), "VERSION", "0.0.0");
        let git = |arguments: &[&str]| {
            run(Command::new("git")
                .arg("-C")
                .arg(work.path())
                .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
                .args(arguments))
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "Say where it runs"]);
        let path = format!("{}:{}", dev.path("bin").display(), std::env::var("PATH").unwrap());
        let settings = json!({ "local_jobs": 0, "lease_seconds": 900 });
        let server = Server::in_environment(settings, &[("PATH", &path)]);
        let url = format!("file://{}", work.path().display());
        let project =
            json!({ "path": "team/site", "git_url": url, "forge": "generic", "default_branch": "main" });
        let made = server.post("/api/v1/projects", &project).is(201).json();
        let api = format!("/api/v1/projects/{}", made["project"]["id"]);
        Site { server, dev, work, ports, api }
    }

    fn get(&self, path: &str) -> Value {
        self.server.get(&format!("{}{path}", self.api)).is(200).json()
    }

    /// What a runner does with the job of `main`.
    fn job_deploys(&self, version: &str) {
        let runner =
            self.server.post("/api/v1/runners", &json!({ "description": version, "tags": ["ours"] }));
        let token = runner.is(201).json()["token"].as_str().unwrap().to_owned();
        self.server.post(&format!("{}/pipelines", self.api), &json!({ "ref": "main" })).is(201);
        let ask = json!({ "token": token, "info": { "features": {} } });
        let job = eventually("a job", || {
            let reply = self.server.post("/api/v4/jobs/request", &ask);
            (reply.status == 201).then(|| reply.json())
        });
        let mut variables = vec![("DEV_SSH_USER_HOST", ""), ("TARGET_DIR", "")];
        for variable in job["variables"].as_array().unwrap() {
            let (key, value) = (variable["key"].as_str().unwrap(), variable["value"].as_str().unwrap());
            if ["CI_SERVER_NAME", "CI_API_V4_URL", "CI_JOB_TOKEN"].contains(&key) {
                variables.push((key, value));
            }
        }
        write(self.work.path(), "VERSION", version);
        write(self.work.path(), "app/version", version);
        self.dev.ci(self.work.path(), &["deploy", "dev"], &variables).ended(0);
    }

    fn asks(&self, environment: &str, body: &Value) -> Value {
        let path = format!("{}/environments/{environment}/deployments", self.api);
        let asked = self.server.post(&path, body).is(201).json();
        eventually("a deployment ends", || {
            let deployment = self.get(&format!("/deployments/{}", asked["id"]));
            let over = ["done", "failed", "refused", "rolled_back", "unknown"];
            over.iter().any(|state| deployment["status"] == *state).then_some(deployment)
        })
    }

    fn serves(&self, index: usize) -> String {
        let url = format!("http://127.0.0.1:{}/", self.ports[index]);
        run(Command::new("curl").args(["-s", "--max-time", "5", &url]))
    }
}

#[test]
fn an_archive_goes_on_as_an_erlang_release_does() {
    let site = Site::new();
    for version in ["1.0.0", "1.1.0"] {
        site.job_deploys(version);
        let done = site.asks("sit", &json!({ "version": version }));
        assert_eq!((&done["status"], site.serves(1)), (&json!("done"), version.to_owned()), "{done}");
    }
    let made = site.asks("uat", &json!({ "kind": "bundle", "version": "1.1.0" }));
    assert_eq!(made["status"], "done", "{made}");
    assert_eq!(site.get("/environments/uat")["bundles"].as_array().unwrap().len(), 1);
    let back = site.asks("sit", &json!({ "kind": "rollback" }));
    assert_eq!((&back["status"], site.serves(1)), (&json!("done"), "1.0.0".to_owned()), "{back}");
    assert_eq!(site.serves(0), "1.1.0");
}
