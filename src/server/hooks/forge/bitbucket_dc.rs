//! Bitbucket Data Center.

use super::json::{list, number, same, text, yes};
use crate::server::engine::MergeRequest;
use crate::server::hooks::event::{Event, NOTHING, Proposal, Push, Told};
use serde_json::Value;

pub(super) fn told(event: &str, body: &Value) -> Result<Told, String> {
    match event {
        "repo:refs_changed" => pushes(body),
        "pr:opened" | "pr:from_ref_updated" | "pr:reopened" => proposal(body),
        "diagnostics:ping" => Ok(Told::nothing("a ping: the hook works")),
        "" => Err("the event has no name".to_owned()),
        _ => Ok(Told::nothing("no pipeline runs for this kind of event")),
    }
}

/// All refs of one push come together.
fn pushes(body: &Value) -> Result<Told, String> {
    let changes = list(body, "/changes");
    if changes.is_empty() {
        return Ok(Told::nothing("no ref was changed"));
    }
    let events = changes.iter().map(|change| push(change, text(body, "/actor/name")).map(Event::Push));
    events.collect::<Result<_, _>>().map(Told::Events)
}

fn push(change: &Value, sender: &str) -> Result<Push, String> {
    let after = if text(change, "/type") == "DELETE" { NOTHING } else { text(change, "/toHash") };
    let before = if text(change, "/type") == "ADD" { NOTHING } else { text(change, "/fromHash") };
    Push::checked(text(change, "/ref/id"), before, after, sender)
}

fn proposal(body: &Value) -> Result<Told, String> {
    let Some(request) = body.pointer("/pullRequest") else {
        return Err("there is no `pullRequest` in the body".to_owned());
    };
    let branch = |pointer| {
        let id = text(request, pointer);
        id.strip_prefix("refs/heads/").unwrap_or(id).to_owned()
    };
    let iid = number(request, "/id");
    let known = MergeRequest {
        iid,
        title: text(request, "/title").to_owned(),
        source_branch: branch("/fromRef/id"),
        target_branch: branch("/toRef/id"),
        fork: !same(request, "/fromRef/repository/id", "/toRef/repository/id"),
        draft: yes(request, "/draft"),
        labels: Vec::new(),
        git_ref: format!("refs/pull-requests/{iid}/from"),
        url: text(request, "/links/self/0/href").to_owned(),
    };
    let sha = text(request, "/fromRef/latestCommit");
    Proposal::checked(known, sha, text(body, "/actor/name")).map(Event::Proposal).map(Told::one)
}
