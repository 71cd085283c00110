//! The plan document: what `ci plan --format json` prints.

use super::{Job, Outcome};
use crate::diagnostic::Diagnostic;
use serde_json::{Map, Value as Json, json};

/// One object that says whether the configuration is valid, whether a pipeline comes into being, and its jobs.
/// `outcome` is absent when the configuration did not even load.
pub fn document(diagnostics: &[Diagnostic], outcome: Option<&Outcome>) -> Json {
    let texts = |errors: bool| -> Vec<&str> {
        let wanted = |d: &&Diagnostic| d.gitlab && d.is_error() == errors;
        diagnostics.iter().filter(wanted).map(|d| d.message.as_str()).collect()
    };
    let valid = !diagnostics.iter().any(Diagnostic::is_error);
    let outcome = outcome.filter(|_| valid);
    let plan = outcome.and_then(|o| o.plan.as_ref());
    let refused: Vec<&str> =
        outcome.map_or(Vec::new(), |o| o.creation_errors.iter().map(|d| d.message.as_str()).collect());
    let mut document = json!({
        "valid": valid,
        "errors": texts(true),
        "warnings": texts(false),
        "created": plan.is_some(),
        "creation_errors": refused,
    });
    if let (Some(plan), Json::Object(document)) = (plan, &mut document) {
        document.extend(plan.name.as_ref().map(|name| ("name".to_owned(), json!(name))));
        document.extend(plan.auto_cancel.as_ref().map(|cancel| ("auto_cancel".to_owned(), json!(cancel))));
        document.insert("stages".into(), json!(plan.stages));
        document.insert("jobs".into(), plan.jobs.iter().map(job).collect());
    }
    document
}

/// A job without the keywords that the document does not know, with whole seconds.
fn job(job: &Job) -> Json {
    let mut json = serde_json::to_value(job).unwrap_or_else(|_| Json::Object(Map::new()));
    if let Json::Object(map) = &mut json {
        map.remove("secrets");
        map.remove("run");
        if let Some(seconds) = job.work.timeout.filter(|s| s.fract() == 0.0 && s.abs() < 1e15) {
            map.insert("timeout".into(), json!(seconds as i64));
        }
    }
    json
}
