//! A pipeline's request and plan at rest. They hold the values of variables, so they are sealed; the plan that people
//! see in the database has none.

use crate::server::vault::Vault;
use pipelines::plan::{Job, JobVariable, Plan};
use pipelines::request::Request;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a pipeline runs with.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) request: Request,
    pub(super) plan: Plan,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    request: Cow<'a, Request>,
    plan: Cow<'a, Plan>,
    /// One for each job: what the plan document leaves out.
    beside: Vec<Beside>,
}

#[derive(Default, Serialize, Deserialize)]
struct Beside {
    environment: Vec<JobVariable>,
    forwarded: Vec<JobVariable>,
    /// Pipeline and job of `needs:pipeline:job`.
    pipeline_needs: Vec<(String, String)>,
    project_needs: Vec<String>,
}

impl Beside {
    fn of(job: &Job) -> Beside {
        let needs = job.work.pipeline_needs.iter();
        Beside {
            environment: job.environment_variables.clone(),
            forwarded: job.forwarded_variables.clone(),
            pipeline_needs: needs.map(|need| (need.pipeline.clone(), need.job.clone())).collect(),
            project_needs: job.work.project_needs.clone(),
        }
    }

    fn put(self, job: &mut Job) {
        let need = |(pipeline, job)| pipelines::plan::PipelineNeed { pipeline, job };
        job.environment_variables = self.environment;
        job.forwarded_variables = self.forwarded;
        job.work.pipeline_needs = self.pipeline_needs.into_iter().map(need).collect();
        job.work.project_needs = self.project_needs;
    }
}

/// Fast, and jobs' environments are mostly the same.
const LEVEL: i32 = 1;
/// Of what was stored, unpacked.
const LARGEST: usize = 1 << 30;

impl Sealed {
    /// For the database.
    pub(super) fn seal(&self, vault: &Vault, pipeline: i64) -> Result<Vec<u8>, String> {
        let beside = self.plan.jobs.iter().map(Beside::of).collect();
        let stored =
            Stored { request: Cow::Borrowed(&self.request), plan: Cow::Borrowed(&self.plan), beside };
        let json = serde_json::to_vec(&stored).map_err(|e| e.to_string())?;
        let packed = zstd::bulk::compress(&json, LEVEL).map_err(|e| e.to_string())?;
        Ok(vault.seal(&purpose(pipeline), &packed))
    }

    /// From the database.
    pub(super) fn open(vault: &Vault, pipeline: i64, sealed: &[u8]) -> Result<Sealed, String> {
        let packed = vault
            .open_sealed(&purpose(pipeline), sealed)
            .ok_or("it was sealed with another key than this server's")?;
        let json = zstd::decode_all(std::io::Read::take(packed.as_slice(), LARGEST as u64));
        let stored: Stored<'_> =
            serde_json::from_slice(&json.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        let mut plan = stored.plan.into_owned();
        plan.jobs.iter_mut().zip(stored.beside).for_each(|(job, beside)| beside.put(job));
        Ok(Sealed { request: stored.request.into_owned(), plan })
    }
}

fn purpose(pipeline: i64) -> String {
    format!("pipeline:{pipeline}")
}

/// The plan as people may see it: names of variables, no values.
pub(super) fn shown(plan: &Plan) -> String {
    let mut plan = plan.clone();
    for job in &mut plan.jobs {
        job.variables.values_mut().for_each(String::clear);
    }
    serde_json::to_string(&plan).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_sealed_comes_back_whole_and_what_is_shown_has_no_values() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("key")).unwrap();
        let mut job: Job = serde_json::from_value(json!({
            "name": "a", "stage": "test", "when": "on_success", "allow_failure": false,
            "variables": { "URL": "https://hunter2@host" }, "script": ["make"],
        }))
        .unwrap();
        let secret = JobVariable {
            key: "TOKEN".into(),
            value: "hunter2".into(),
            file: false,
            masked: true,
            raw: true,
        };
        job.environment_variables = vec![secret];
        job.work.pipeline_needs =
            vec![pipelines::plan::PipelineNeed { pipeline: "$UP".into(), job: "b".into() }];
        let plan = Plan { stages: vec!["test".into()], jobs: vec![job], ..Plan::default() };
        let request = Request {
            source: "push".into(),
            changes: Some(vec!["a.txt".to_owned()]).into(),
            ..Request::default()
        };
        let sealed = Sealed { request, plan: plan.clone() };
        let bytes = sealed.seal(&vault, 7).unwrap();
        let back = Sealed::open(&vault, 7, &bytes).unwrap();
        assert_eq!(back.plan, plan);
        assert_eq!(back.request.changes.get(), Some(&["a.txt".to_owned()][..]));
        assert!(Sealed::open(&vault, 8, &bytes).unwrap_err().contains("key"));
        assert!(!shown(&plan).contains("hunter2") && shown(&plan).contains("URL"));
    }
}
