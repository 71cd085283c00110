//! A push and its merge request, each with a pipeline.

use super::Subject;
use crate::diagnostic::Diagnostic;
use crate::plan::{self, Plan};
use crate::request::Request;
use std::collections::HashSet;

/// Plans a push to a branch with an open merge request, and that merge request: do jobs run in both?
pub(super) fn duplicate_pipelines(subject: &Subject<'_>) -> Option<Diagnostic> {
    let request = subject.request;
    let branch = if request.reference == request.default_branch { "feature" } else { &request.reference };
    let mut push = Request {
        reference: branch.to_owned(),
        tag: false,
        source: "push".to_owned(),
        changes: None.into(),
        known_refs: None,
        ..request.clone()
    };
    let merge_request = Request { source: "merge_request_event".to_owned(), ..push.clone() };
    push.predefined.insert("CI_OPEN_MERGE_REQUESTS".to_owned(), format!("{}!1", request.project));
    let merge_request = plan(subject, &merge_request)?;
    let push = plan(subject, &push)?;
    let pushed: HashSet<&str> = push.jobs.iter().map(|job| job.name.as_str()).collect();
    let twice = merge_request.jobs.iter().filter(|job| pushed.contains(job.name.as_str())).count();
    let first = merge_request.jobs.iter().find(|job| pushed.contains(job.name.as_str()))?;
    let config = subject.config.jobs.iter().find(|config| config.name == first.name)?;
    let others = if twice > 1 { format!(" and {} more", twice - 1) } else { String::new() };
    let text = format!(
        "a push to a branch with an open merge request starts two pipelines: job `{}`{others} would run in both",
        first.name
    );
    let hint = Diagnostic::hint("duplicate-pipelines", text).at(super::keyword(config, "rules"), "");
    Some(hint.help(
        "add `workflow:rules` that drop one of the two; `ci lint --explain duplicate-pipelines` shows them",
    ))
}

fn plan(subject: &Subject<'_>, request: &Request) -> Option<Plan> {
    plan::sketch(subject.config, request, subject.files, &mut Vec::new()).plan
}
