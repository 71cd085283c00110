//! Bitbucket Cloud.

use super::json::{first, list, number, same, text, yes};
use crate::server::engine::MergeRequest;
use crate::server::hooks::event::{Event, NOTHING, Proposal, Push, Told, is_id};
use serde_json::Value;

pub(super) fn told(event: &str, body: &Value) -> Result<Told, String> {
    match event {
        "repo:push" => pushes(body),
        "pullrequest:created" | "pullrequest:updated" => proposal(body),
        "" => Err("the event has no name".to_owned()),
        _ => Ok(Told::nothing("no pipeline runs for this kind of event")),
    }
}

fn sender(body: &Value) -> &str {
    first(body, &["/actor/nickname", "/actor/display_name"])
}

/// All refs of one push come together.
fn pushes(body: &Value) -> Result<Told, String> {
    let changes = list(body, "/push/changes");
    if changes.is_empty() {
        return Ok(Told::nothing("no ref was changed"));
    }
    let events = changes.iter().map(|change| push(change, sender(body)).map(Event::Push));
    events.collect::<Result<_, _>>().map(Told::Events)
}

fn push(change: &Value, sender: &str) -> Result<Push, String> {
    let kind = first(change, &["/new/type", "/old/type"]);
    let name = first(change, &["/new/name", "/old/name"]);
    let space = if matches!(kind, "tag" | "annotated_tag") { "tags" } else { "heads" };
    let hash = |pointer| Some(text(change, pointer)).filter(|hash| !hash.is_empty()).unwrap_or(NOTHING);
    let after = if yes(change, "/closed") { NOTHING } else { hash("/new/target/hash") };
    Push::checked(&format!("refs/{space}/{name}"), hash("/old/target/hash"), after, sender)
}

fn proposal(body: &Value) -> Result<Told, String> {
    let Some(request) = body.pointer("/pullrequest") else {
        return Err("there is no `pullrequest` in the body".to_owned());
    };
    let fork = !same(request, "/source/repository/uuid", "/destination/repository/uuid");
    if fork {
        return Ok(Told::nothing(
            "Bitbucket Cloud has no ref in the repository for pull requests of forks, so their code can't be had",
        ));
    }
    let source_branch = text(request, "/source/branch/name").to_owned();
    let known = MergeRequest {
        iid: number(request, "/id"),
        title: text(request, "/title").to_owned(),
        target_branch: text(request, "/destination/branch/name").to_owned(),
        fork,
        draft: yes(request, "/draft"),
        labels: Vec::new(),
        git_ref: format!("refs/heads/{source_branch}"),
        url: text(request, "/links/html/href").to_owned(),
        source_branch,
    };
    // only the first twelve digits are sent
    let hash = Some(text(request, "/source/commit/hash")).filter(|hash| is_id(hash)).unwrap_or_default();
    Proposal::checked(known, hash, sender(body)).map(Event::Proposal).map(Told::one)
}
