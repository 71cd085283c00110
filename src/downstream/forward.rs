//! The variables that a trigger job hands to the pipeline it creates.

use pipelines::plan::Job;
use pipelines::request::Request;
use pipelines::variables::{Unknown, expand};
use serde_json::Value as Json;

/// Pipeline variables of the downstream pipeline.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// Names, each once, with their values.
    pub(crate) variables: Vec<(String, String)>,
    /// Those that are never expanded.
    pub(crate) raw: Vec<String>,
}

/// By `trigger:forward`: the YAML's variables unless it says no; those of dotenv reports and of the pipeline itself
/// only if it says so, above the YAML's. `known` are variables that exist only now, such as `CI_PIPELINE_ID`.
pub(crate) fn forwarded(
    job: &Job,
    request: &Request,
    dotenv: &[(String, String)],
    known: &dyn Fn(&str) -> Option<String>,
) -> Forwarded {
    let forward = job.work.trigger.as_ref().and_then(|trigger| trigger.get("forward"));
    let says = |key: &str| forward.and_then(|f| f.get(key)).and_then(Json::as_bool);
    let mut out = Forwarded::default();
    if says("yaml_variables") != Some(false) {
        let lookup = |name: &str| {
            let from_job = dotenv.iter().rfind(|(key, _)| key == name).map(|(_, value)| value.clone());
            from_job.or_else(|| known(name))
        };
        for variable in &job.forwarded_variables {
            let value = match variable.raw {
                true => variable.value.clone(),
                false => expand(&variable.value, Unknown::Remove, &lookup),
            };
            out.set(&variable.key, value, variable.raw);
        }
    }
    if says("pipeline_variables") == Some(true) {
        dotenv.iter().for_each(|(key, value)| out.set(key, value.clone(), true));
        for (key, value) in &request.variables {
            out.set(key, value.clone(), request.raw_variables.contains(key));
        }
    }
    out
}

impl Forwarded {
    fn set(&mut self, key: &str, value: String, raw: bool) {
        self.raw.retain(|name| name != key);
        if raw {
            self.raw.push(key.to_owned());
        }
        match self.variables.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.variables.push((key.to_owned(), value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipelines::plan::JobVariable;
    use serde_json::json;

    fn job(forward: &Json) -> Job {
        let mut job: Job = serde_json::from_value(json!({
            "name": "child", "stage": "test", "when": "on_success", "allow_failure": false,
            "trigger": { "include": "child.yml", "forward": forward },
        }))
        .expect("a job");
        let variable = |key: &str, value: &str, raw| JobVariable {
            key: key.into(),
            value: value.into(),
            file: false,
            masked: false,
            raw,
        };
        job.forwarded_variables = vec![
            variable("PARENT", "$CI_PIPELINE_ID", false),
            variable("RAW", "$CI_PIPELINE_ID", true),
            variable("BUILT", "v$VERSION$GONE", false),
            variable("BOTH", "yaml", true),
        ];
        job
    }

    #[test]
    fn forward_decides_which_variables_arrive() {
        let request = Request {
            variables: [("BOTH".to_owned(), "asked".to_owned())].into_iter().collect(),
            ..Request::default()
        };
        let dotenv = [("VERSION".to_owned(), "1.2".to_owned())];
        let yaml = [("PARENT", "7"), ("RAW", "$CI_PIPELINE_ID"), ("BUILT", "v1.2"), ("BOTH", "yaml")];
        let above = [("VERSION", "1.2"), ("BOTH", "asked")];
        let all = [
            ("PARENT", "7"),
            ("RAW", "$CI_PIPELINE_ID"),
            ("BUILT", "v1.2"),
            ("BOTH", "asked"),
            ("VERSION", "1.2"),
        ];
        type Row<'a> = (Json, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: [Row<'_>; 4] = [
            (json!(null), &yaml, &["RAW", "BOTH"]),
            (json!({"yaml_variables": false}), &[], &[]),
            (json!({"yaml_variables": false, "pipeline_variables": true}), &above, &["VERSION"]),
            (json!({"pipeline_variables": true}), &all, &["RAW", "VERSION"]),
        ];
        for (forward, variables, raw) in table {
            let known = |name: &str| (name == "CI_PIPELINE_ID").then(|| "7".to_owned());
            let got = forwarded(&job(&forward), &request, &dotenv, &known);
            let pairs: Vec<(&str, &str)> =
                got.variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(pairs, variables, "{forward}");
            assert_eq!(got.raw, raw, "{forward}");
        }
    }
}
