//! GitHub, and the forges whose bodies are alike.

use super::json::{first, number, same, text, texts, yes};
use crate::server::engine::MergeRequest;
use crate::server::hooks::event::{Event, NOTHING, Proposal, Push, Told};
use serde_json::Value;

/// Whose body it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Github,
    Gitea,
    Gogs,
}

pub(super) fn told(dialect: Dialect, event: &str, body: &Value) -> Result<Told, String> {
    match event {
        "push" => push(body),
        "pull_request" | "pull_request_sync" => proposal(dialect, body),
        "ping" => Ok(Told::nothing("a ping: the hook works")),
        // the same tag or branch comes as a push as well
        "create" => Ok(Told::nothing("the push of the same ref counts")),
        "delete" => Ok(Told::nothing("a branch or tag was deleted")),
        // the queue's temporary branch is pushed
        "merge_group" => Ok(Told::nothing("the push of the queue's branch counts")),
        "" => Err("the event has no name".to_owned()),
        _ => Ok(Told::nothing("no pipeline runs for this kind of event")),
    }
}

fn sender(body: &Value) -> &str {
    first(body, &["/sender/login", "/pusher/login", "/pusher/name", "/sender/username", "/pusher/username"])
}

fn push(body: &Value) -> Result<Told, String> {
    let (before, after) = (text(body, "/before"), text(body, "/after"));
    let after = if yes(body, "/deleted") { NOTHING } else { after };
    let before = if yes(body, "/created") || before.is_empty() { NOTHING } else { before };
    let reference = text(body, "/ref");
    if before == after && !yes(body, "/created") {
        // GitHub Enterprise sent each push twice, the second time like this
        return Ok(Told::nothing("the ref did not move"));
    }
    if reference.starts_with("refs/")
        && !reference.starts_with("refs/heads/")
        && !reference.starts_with("refs/tags/")
    {
        return Ok(Told::nothing("neither a branch nor a tag was pushed"));
    }
    Push::checked(reference, before, after, sender(body)).map(Event::Push).map(Told::one)
}

/// Actions after which there is code that has not been seen.
fn has_new_code(dialect: Dialect, action: &str) -> bool {
    match dialect {
        Dialect::Github => matches!(action, "opened" | "reopened" | "synchronize"),
        Dialect::Gitea | Dialect::Gogs => matches!(action, "opened" | "reopened" | "synchronized"),
    }
}

fn proposal(dialect: Dialect, body: &Value) -> Result<Told, String> {
    let action = text(body, "/action");
    if !has_new_code(dialect, action) {
        return Ok(Told::Nothing(format!(
            "the pull request was {}, which brings no new code",
            crate::server::hooks::event::plain(action)
        )));
    }
    let Some(request) = body.pointer("/pull_request") else {
        return Err("there is no `pull_request` in the body".to_owned());
    };
    let iid = Some(number(request, "/number")).filter(|n| *n > 0).unwrap_or_else(|| number(body, "/number"));
    // a fork that was deleted has no repository: still a fork
    let own = match dialect {
        Dialect::Gogs => same(request, "/head_repo/id", "/base_repo/id"),
        _ => same(request, "/head/repo/id", "/base/repo/id"),
    };
    let known = MergeRequest {
        iid,
        title: text(request, "/title").to_owned(),
        source_branch: first(request, &["/head/ref", "/head_branch"]).to_owned(),
        target_branch: first(request, &["/base/ref", "/base_branch"]).to_owned(),
        fork: !own,
        draft: yes(request, "/draft"),
        labels: texts(request, "/labels", "/name"),
        git_ref: format!("refs/pull/{iid}/head"),
        url: text(request, "/html_url").to_owned(),
    };
    Proposal::checked(known, text(request, "/head/sha"), sender(body)).map(Event::Proposal).map(Told::one)
}
