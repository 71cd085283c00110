//! GitLab.

use super::json::{first, number, same, text, texts, yes};
use crate::server::engine::MergeRequest;
use crate::server::hooks::event::{Event, Proposal, Push, Told, plain};
use serde_json::Value;

pub(super) fn told(event: &str, body: &Value) -> Result<Told, String> {
    // system hooks have one header for all, and say in the body what they are
    let kind = first(body, &["/object_kind", "/event_name"]);
    match (event, kind) {
        (_, "push" | "tag_push") => push(body),
        (_, "merge_request") => proposal(body),
        ("", "") => Err("neither a header nor `object_kind` names the event".to_owned()),
        _ => Ok(Told::nothing("no pipeline runs for this kind of event")),
    }
}

fn push(body: &Value) -> Result<Told, String> {
    let (before, after) = (text(body, "/before"), text(body, "/after"));
    if before == after {
        return Ok(Told::nothing("the ref did not move"));
    }
    let sender = first(body, &["/user_username", "/user_name"]);
    let mut push = Push::checked(text(body, "/ref"), before, after, sender)?;
    push.skip = yes(body, "/push_options/ci/skip");
    push.variables = variables(body);
    Ok(Told::one(Event::Push(push)))
}

/// `git push -o ci.variable="KEY=value"`: each is a key of an object, and the value says how often.
fn variables(body: &Value) -> Vec<(String, String)> {
    let Some(Value::Object(given)) = body.pointer("/push_options/ci/variable") else { return Vec::new() };
    let pairs = given.keys().filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn proposal(body: &Value) -> Result<Told, String> {
    let Some(request) = body.pointer("/object_attributes") else {
        return Err("there is no `object_attributes` in the body".to_owned());
    };
    let action = text(request, "/action");
    let new_code = match action {
        "open" | "reopen" => true,
        // also titles and labels are updates; only code has an old revision
        "update" => !text(request, "/oldrev").is_empty(),
        _ => false,
    };
    if !new_code {
        let what = if action.is_empty() { "changed".to_owned() } else { plain(action) };
        return Ok(Told::Nothing(format!("the merge request's `{what}` brings no new code")));
    }
    let iid = number(request, "/iid");
    let known = MergeRequest {
        iid,
        title: text(request, "/title").to_owned(),
        source_branch: text(request, "/source_branch").to_owned(),
        target_branch: text(request, "/target_branch").to_owned(),
        fork: !same(request, "/source_project_id", "/target_project_id"),
        draft: yes(request, "/draft") || yes(request, "/work_in_progress"),
        labels: texts(body, "/labels", "/title"),
        git_ref: format!("refs/merge-requests/{iid}/head"),
        url: text(request, "/url").to_owned(),
    };
    let proposal = Proposal::checked(known, text(request, "/last_commit/id"), text(body, "/user/username"))?;
    Ok(Told::one(Event::Proposal(proposal)))
}
