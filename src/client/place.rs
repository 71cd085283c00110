//! A project on a server.

use super::Server;
use crate::error::{CliError, CliResult};
use crate::project::Project;
use pipelines::diagnostic::did_you_mean;
use serde_json::{Value as Json, json};
use std::path::Path;

/// A project on a server, by its path.
#[derive(Debug)]
pub struct Place {
    /// Where.
    pub server: Server,
    /// `group/project`.
    pub project: String,
}

impl Place {
    /// The project of that path, else the one whose clone this directory is.
    ///
    /// # Errors
    /// The directory does not tell, or the server knows no such project.
    pub fn find(server: Server, project: Option<&str>) -> CliResult<Place> {
        let project = match project {
            Some(project) => project.to_owned(),
            None => here()?,
        };
        let place = Place { server, project };
        let known: Vec<Json> = place.server.get("/api/v1/projects")?;
        let paths: Vec<&str> = known.iter().filter_map(|project| project["path"].as_str()).collect();
        let is_number = |project: &&Json| project["id"].as_i64() == place.project.parse().ok();
        if paths.contains(&place.project.as_str()) || known.iter().any(|project| is_number(&project)) {
            return Ok(place);
        }
        let told =
            format!("`{}` has no project `{}` that you may see", place.server.address(), place.project);
        Err(CliError::usage(told).hint(match did_you_mean(&place.project, paths.iter().copied()) {
            Some(near) => format!("did you mean `--project {near}`?"),
            None if paths.is_empty() => "you are a member of none: ask a maintainer".to_owned(),
            None => format!("`--project` names one of: {}", paths.join(", ")),
        }))
    }

    /// A path of the API below the project; the project's own without more.
    pub fn path(&self, rest: &str) -> String {
        let project: String = url::form_urlencoded::byte_serialize(self.project.as_bytes()).collect();
        let below = if rest.is_empty() { "" } else { "/" };
        format!("/api/v1/projects/{}{below}{rest}", project.replace('+', "%20"))
    }

    /// The newest pipelines.
    ///
    /// # Errors
    /// The server's.
    pub fn pipelines(&self, filter: &[(&str, String)]) -> CliResult<Vec<Json>> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(filter);
        self.server.get(&self.path(&format!("pipelines?{}", query.finish())))
    }

    /// A pipeline with its jobs; without a number the newest that has jobs.
    ///
    /// # Errors
    /// The server's, or there is none.
    pub fn pipeline(&self, number: Option<i64>) -> CliResult<Json> {
        let number = match number {
            Some(number) => number,
            None => {
                let newest = self.pipelines(&[])?;
                let ran = newest.iter().find(|pipeline| pipeline["status"] != "skipped");
                ran.and_then(|pipeline| pipeline["id"].as_i64()).ok_or_else(|| {
                    CliError::usage(format!("no pipeline of `{}` ran yet", self.project))
                        .hint("push a commit; `ci server`'s page of deliveries says why nothing ran")
                })?
            }
        };
        self.server.get(&self.path(&format!("pipelines/{number}")))
    }

    /// The number of a job: a number as it is, a name as that of the newest pipeline.
    ///
    /// # Errors
    /// The newest pipeline has no such job.
    pub fn job(&self, job: &str) -> CliResult<i64> {
        if let Ok(number) = job.parse() {
            return Ok(number);
        }
        let pipeline = self.pipeline(None)?;
        let jobs = pipeline["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(number) =
            jobs.iter().find(|known| known["name"] == job).and_then(|job| job["id"].as_i64())
        {
            return Ok(number);
        }
        let error = CliError::usage(format!("pipeline {} has no job `{job}`", pipeline["id"]));
        let names = jobs.iter().filter_map(|job| job["name"].as_str());
        Err(match did_you_mean(job, names) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("`ci jobs {}` lists its jobs", pipeline["id"])),
        })
    }

    /// Plays, retries, cancels: `action` of `jobs/1` or `pipelines/1`.
    ///
    /// # Errors
    /// The server's.
    pub fn act(&self, what: &str, action: &str) -> CliResult<Json> {
        self.server.post(&self.path(&format!("{what}/{action}")), None)
    }

    /// The deployment with that number, or the one of that version that waits for people there.
    ///
    /// # Errors
    /// There is none.
    pub fn waiting(&self, what: &str, environment: Option<&str>) -> CliResult<Json> {
        let all: Vec<Json> = self.server.get(&self.path("deployments"))?;
        let there = |deployment: &&Json| environment.is_none_or(|name| deployment["environment"] == name);
        let waits = |deployment: &&Json| deployment["version"] == what && deployment["status"] == "waiting";
        let by_number = all.iter().find(|deployment| deployment["id"].as_i64() == what.parse().ok());
        let found: Vec<&Json> = match by_number {
            Some(deployment) => vec![deployment],
            None => all.iter().filter(waits).collect(),
        };
        let found: Vec<&Json> = found.into_iter().filter(there).collect();
        let asked = match environment {
            Some(name) => format!("`{what}` for `{name}`"),
            None => format!("`{what}`"),
        };
        match found.as_slice() {
            [one] => self.server.get(&self.path(&format!("deployments/{}", one["id"]))),
            [] => {
                let waiting = all.iter().filter(|deployment| deployment["status"] == "waiting");
                let waiting: Vec<String> = waiting.map(told).collect();
                let error = CliError::usage(format!("no deployment of {asked} waits for people"));
                Err(match waiting.is_empty() {
                    true => error.hint("none waits; `ci promote VERSION --to ENV --server` asks for one"),
                    false => error.hint(format!("these do: {}", waiting.join(", "))),
                })
            }
            several => {
                Err(CliError::usage(format!("several deployments of {asked} wait for people")).hint(format!(
                    "`--to` names one: {}",
                    several.iter().copied().map(told).collect::<Vec<_>>().join(", ")
                )))
            }
        }
    }

    /// Asks for a promotion.
    ///
    /// # Errors
    /// A rule forbids it.
    pub fn promote(&self, version: &str, environment: &str, set_aside: &str) -> CliResult<Json> {
        let wanted = json!({ "kind": "promote", "version": version, "set_aside": set_aside });
        let environment: String = url::form_urlencoded::byte_serialize(environment.as_bytes()).collect();
        self.server.post(&self.path(&format!("environments/{environment}/deployments")), Some(&wanted))
    }
}

fn told(deployment: &Json) -> String {
    let text = |name: &str| deployment[name].as_str().unwrap_or_default().to_owned();
    format!("{} ({} to {})", deployment["id"], text("version"), text("environment"))
}

/// The project whose clone this is.
fn here() -> CliResult<String> {
    let unknown = || {
        CliError::usage("which project?")
            .hint("`--project GROUP/PROJECT` names it; in a clone of it, the remote `origin` does")
    };
    let path = Project::discover(Path::new(".")).map_err(|_| unknown())?.path();
    if path.starts_with("local/") { Err(unknown()) } else { Ok(path) }
}
