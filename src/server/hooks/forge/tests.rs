//! Bodies in the shape in which the forges send them.

use super::*;
use crate::server::engine::MergeRequest;
use crate::server::hooks::event::{Event, NOTHING, Proposal, Push};
use proptest::prelude::*;
use serde_json::json;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn push(reference: &str, before: &str, after: &str) -> Event {
    Event::Push(Push::checked(reference, before, after, "ann").unwrap())
}

fn one(told: Result<Told, String>) -> Event {
    match told {
        Ok(Told::Events(mut events)) if events.len() == 1 => events.remove(0),
        other => panic!("{other:?}"),
    }
}

fn nothing(told: Result<Told, String>) -> String {
    match told {
        Ok(Told::Nothing(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn proposal(told: Result<Told, String>) -> (MergeRequest, String) {
    match one(told) {
        Event::Proposal(Proposal { request, sha, .. }) => (request, sha),
        other => panic!("{other:?}"),
    }
}

fn with(body: &Value, changes: &[(&str, Value)]) -> Value {
    let mut body = body.clone();
    for (pointer, value) in changes {
        *body.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    }
    body
}

fn github_push() -> Value {
    json!({
        "ref": "refs/heads/main", "before": A, "after": B, "created": false, "deleted": false, "forced": false,
        "compare": "https://github.com/o/r/compare/a...b",
        "head_commit": { "id": B, "message": "fix", "author": { "name": "Ann", "email": "ann@example.org" } },
        "repository": { "id": 1, "full_name": "o/r", "default_branch": "main" },
        "pusher": { "name": "ann", "email": "ann@example.org" }, "sender": { "login": "ann", "id": 7 },
    })
}

#[test]
fn a_push_is_the_same_event_from_every_forge() {
    let expected = push("refs/heads/main", A, B);
    let gitlab = json!({
        "object_kind": "push", "event_name": "push", "before": A, "after": B, "ref": "refs/heads/main",
        "checkout_sha": B, "user_username": "ann", "user_name": "Ann", "project_id": 15, "total_commits_count": 1,
        "commits": [{ "id": B, "message": "fix" }],
    });
    let cloud = json!({
        "actor": { "nickname": "ann", "display_name": "Ann" },
        "push": { "changes": [{
            "new": { "type": "branch", "name": "main", "target": { "hash": B, "message": "fix" } },
            "old": { "type": "branch", "name": "main", "target": { "hash": A } },
            "created": false, "closed": false, "forced": false,
        }] },
    });
    let dc = json!({
        "eventKey": "repo:refs_changed", "actor": { "name": "ann" },
        "changes": [{
            "ref": { "id": "refs/heads/main", "displayId": "main", "type": "BRANCH" }, "refId": "refs/heads/main",
            "fromHash": A, "toHash": B, "type": "UPDATE",
        }],
    });
    let generic = json!({ "type": "push", "ref": "refs/heads/main", "before": A, "after": B, "user": "ann" });
    let nested = json!({ "type": "push", "timestamp": "x", "data": {
        "ref": "refs/heads/main", "before": A, "after": B, "user": "ann" } });
    let gogs = with(&github_push(), &[("/sender", json!({ "username": "ann" }))]);
    assert_eq!(one(Forge::Github.told("push", &github_push())), expected);
    assert_eq!(one(Forge::Gitea.told("push", &github_push())), expected);
    assert_eq!(one(Forge::Gogs.told("push", &gogs)), expected);
    assert_eq!(one(Forge::Gitlab.told("Push Hook", &gitlab)), expected);
    assert_eq!(one(Forge::BitbucketCloud.told("repo:push", &cloud)), expected);
    assert_eq!(one(Forge::BitbucketDc.told("repo:refs_changed", &dc)), expected);
    assert_eq!(one(Forge::Generic.told("", &generic)), expected);
    assert_eq!(one(Forge::Generic.told("", &nested)), expected);
}

#[test]
fn creating_and_deleting_have_the_id_of_nothing() {
    let created = with(&github_push(), &[("/created", json!(true)), ("/before", json!(NOTHING))]);
    assert_eq!(one(Forge::Github.told("push", &created)), push("refs/heads/main", NOTHING, B));
    let tag = with(&created, &[("/ref", json!("refs/tags/v1"))]);
    assert_eq!(one(Forge::Github.told("push", &tag)), push("refs/tags/v1", NOTHING, B));
    let deleted = [("/deleted", json!(true)), ("/after", json!(NOTHING)), ("/head_commit", Value::Null)];
    let Event::Push(deleted) = one(Forge::Github.told("push", &with(&github_push(), &deleted))) else {
        panic!()
    };
    assert!(deleted.deleted());

    let gitlab = json!({ "object_kind": "tag_push", "ref": "refs/tags/v1", "before": NOTHING, "after": B,
        "checkout_sha": A, "user_username": "ann" });
    assert_eq!(one(Forge::Gitlab.told("Tag Push Hook", &gitlab)), push("refs/tags/v1", NOTHING, B));
    assert_eq!(one(Forge::Gitlab.told("System Hook", &gitlab)), push("refs/tags/v1", NOTHING, B));

    let cloud = json!({ "actor": { "nickname": "ann" }, "push": { "changes": [
        { "old": null, "new": { "type": "annotated_tag", "name": "v1", "target": { "hash": B } }, "created": true, "closed": false },
        { "old": { "type": "branch", "name": "x", "target": { "hash": A } }, "new": null, "created": false, "closed": true },
    ] } });
    let both = Told::Events(vec![push("refs/tags/v1", NOTHING, B), push("refs/heads/x", A, NOTHING)]);
    assert_eq!(Forge::BitbucketCloud.told("repo:push", &cloud), Ok(both.clone()));
    let dc = json!({ "actor": { "name": "ann" }, "changes": [
        { "ref": { "id": "refs/tags/v1", "type": "TAG" }, "fromHash": NOTHING, "toHash": B, "type": "ADD" },
        { "ref": { "id": "refs/heads/x", "type": "BRANCH" }, "fromHash": A, "toHash": NOTHING, "type": "DELETE" },
    ] });
    assert_eq!(Forge::BitbucketDc.told("repo:refs_changed", &dc), Ok(both));
}

#[test]
fn a_push_that_moved_nothing_runs_nothing() {
    let same = with(&github_push(), &[("/before", json!(B))]);
    assert!(nothing(Forge::Github.told("push", &same)).contains("did not move"));
    // a branch that is made where another is has moved from nowhere
    let created = with(&same, &[("/created", json!(true))]);
    assert_eq!(one(Forge::Github.told("push", &created)), push("refs/heads/main", NOTHING, B));
}

#[test]
fn a_tag_of_gitea_comes_twice_and_counts_once() {
    let create = json!({ "ref": "v1", "ref_type": "tag", "sha": B, "sender": { "login": "ann" } });
    assert!(nothing(Forge::Gitea.told("create", &create)).contains("push"));
    let tag = with(&github_push(), &[("/ref", json!("refs/tags/v1")), ("/before", json!(NOTHING))]);
    assert_eq!(one(Forge::Gitea.told("push", &tag)), push("refs/tags/v1", NOTHING, B));
}

#[test]
fn forgejo_and_gitea_are_not_taken_for_github() {
    let headers: HeaderMap = [
        ("x-github-event", "push"),
        ("x-gogs-event", "push"),
        ("x-gitea-event", "push"),
        ("x-forgejo-event", "create"),
        ("x-github-delivery", "1"),
        ("x-gitea-delivery", "2"),
        ("x-forgejo-delivery", "3"),
    ]
    .into_iter()
    .map(|(name, value)| (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap()))
    .collect();
    assert_eq!((Forge::Gitea.event(&headers).as_str(), Forge::Gitea.id(&headers)), ("create", "3"));
    assert_eq!((Forge::Github.event(&headers).as_str(), Forge::Github.id(&headers)), ("push", "1"));
    assert_eq!((Forge::Gitlab.event(&headers).as_str(), Forge::Gitlab.id(&headers)), ("", ""));
}

#[test]
fn push_options_of_gitlab_skip_and_set_variables() {
    let body = json!({ "object_kind": "push", "ref": "refs/heads/main", "before": A, "after": B, "user_username": "ann",
        "push_options": { "ci": { "skip": true, "variable": { "LEVEL=3": 1, "URL=a=b": 1, "odd": 1 } } } });
    let Event::Push(push) = one(Forge::Gitlab.told("Push Hook", &body)) else { panic!() };
    assert!(push.skip);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(push.variables, [pair("LEVEL", "3"), pair("URL", "a=b")]);
}

fn github_proposal() -> Value {
    json!({
        "action": "synchronize", "number": 7,
        "pull_request": {
            "number": 7, "title": "Better", "draft": true, "html_url": "https://github.com/o/r/pull/7",
            "labels": [{ "name": "bug" }, { "name": "ui" }],
            "head": { "ref": "topic", "sha": B, "repo": { "id": 2 } },
            "base": { "ref": "main", "sha": A, "repo": { "id": 1 } },
        },
        "sender": { "login": "eve" },
    })
}

#[test]
fn a_merge_request_is_the_same_event_from_every_forge() {
    let gitlab = json!({
        "object_kind": "merge_request", "user": { "username": "eve" }, "labels": [{ "title": "bug" }, { "title": "ui" }],
        "object_attributes": {
            "iid": 7, "id": 99, "title": "Better", "action": "update", "oldrev": A, "draft": true, "url": "u",
            "source_branch": "topic", "target_branch": "main", "source_project_id": 2, "target_project_id": 1,
            "last_commit": { "id": B, "message": "x" },
        },
    });
    let dc = json!({ "actor": { "name": "eve" }, "pullRequest": {
        "id": 7, "title": "Better", "draft": true, "links": { "self": [{ "href": "u" }] },
        "fromRef": { "id": "refs/heads/topic", "latestCommit": B, "repository": { "id": 2 } },
        "toRef": { "id": "refs/heads/main", "latestCommit": A, "repository": { "id": 1 } },
    } });
    let gitea = with(&github_proposal(), &[("/action", json!("synchronized"))]);
    let table = [
        (Forge::Github.told("pull_request", &github_proposal()), "refs/pull/7/head", true),
        (Forge::Gitea.told("pull_request", &gitea), "refs/pull/7/head", true),
        (Forge::Gitlab.told("Merge Request Hook", &gitlab), "refs/merge-requests/7/head", true),
        (Forge::BitbucketDc.told("pr:from_ref_updated", &dc), "refs/pull-requests/7/from", false),
    ];
    for (told, git_ref, labels) in table {
        let (request, sha) = proposal(told);
        assert_eq!((request.iid, request.title.as_str(), sha.as_str()), (7, "Better", B));
        assert_eq!((request.source_branch.as_str(), request.target_branch.as_str()), ("topic", "main"));
        assert!(request.fork && request.draft, "{git_ref}");
        assert_eq!(request.git_ref, git_ref);
        assert_eq!(request.labels.len(), if labels { 2 } else { 0 });
    }
}

#[test]
fn whatever_is_not_surely_the_same_repository_is_a_fork() {
    let fork = |body: &Value| proposal(Forge::Github.told("pull_request", body)).0.fork;
    let with_repo = |value: Value| with(&github_proposal(), &[("/pull_request/head/repo", value)]);
    assert!(!fork(&with_repo(json!({ "id": 1 }))));
    assert!(fork(&with_repo(json!({ "id": 2 }))));
    assert!(fork(&with_repo(Value::Null)), "the fork was deleted");
    assert!(fork(&with_repo(json!({}))));
    assert!(fork(&with_repo(json!({ "id": "1" }))));
    let both_gone = with(
        &github_proposal(),
        &[
            ("/pull_request/head/repo", json!({ "id": null })),
            ("/pull_request/base/repo", json!({ "id": null })),
        ],
    );
    assert!(fork(&both_gone));
}

#[test]
fn only_new_code_of_a_merge_request_runs() {
    for action in ["closed", "edited", "labeled", "ready_for_review", "synchronized", ""] {
        let body = with(&github_proposal(), &[("/action", json!(action))]);
        assert!(nothing(Forge::Github.told("pull_request", &body)).contains("no new code"), "{action}");
    }
    for action in ["opened", "reopened", "synchronize"] {
        proposal(
            Forge::Github.told("pull_request", &with(&github_proposal(), &[("/action", json!(action))])),
        );
    }
    let gitlab =
        |attributes: Value| json!({ "object_kind": "merge_request", "object_attributes": attributes });
    for attributes in
        [json!({ "action": "update" }), json!({ "action": "close" }), json!({ "action": "merge" }), json!({})]
    {
        nothing(Forge::Gitlab.told("Merge Request Hook", &gitlab(attributes)));
    }
    for event in ["pullrequest:fulfilled", "pullrequest:rejected", "pullrequest:approved"] {
        nothing(Forge::BitbucketCloud.told(event, &json!({})));
    }
    for event in ["pr:merged", "pr:declined", "pr:modified"] {
        nothing(Forge::BitbucketDc.told(event, &json!({})));
    }
}

#[test]
fn bitbucket_cloud_gives_part_of_a_commit_and_nothing_of_forks() {
    let body = json!({ "actor": { "nickname": "ann" }, "pullrequest": {
        "id": 7, "title": "Better",
        "source": { "branch": { "name": "topic" }, "commit": { "hash": "bbbbbbbbbbbb" }, "repository": { "uuid": "{1}" } },
        "destination": { "branch": { "name": "main" }, "repository": { "uuid": "{1}" } },
    } });
    let (request, sha) = proposal(Forge::BitbucketCloud.told("pullrequest:updated", &body));
    assert_eq!((request.fork, sha.as_str(), request.git_ref.as_str()), (false, "", "refs/heads/topic"));
    let fork = with(&body, &[("/pullrequest/source/repository/uuid", json!("{2}"))]);
    assert!(nothing(Forge::BitbucketCloud.told("pullrequest:created", &fork)).contains("forks"));
}

#[test]
fn pings_say_that_the_hook_works() {
    assert!(
        nothing(Forge::Github.told("ping", &json!({ "zen": "Keep it logically awesome." }))).contains("ping")
    );
    assert!(nothing(Forge::BitbucketDc.told("diagnostics:ping", &json!({ "test": true }))).contains("ping"));
    assert!(nothing(Forge::Generic.told("", &json!({ "type": "ping" }))).contains("ping"));
}

#[test]
fn hostile_refs_and_ids_are_refused_by_every_parser() {
    let refs = [
        "-x",
        "refs/heads/-x",
        "refs/heads/a..b",
        "refs/heads/a b",
        "refs/heads/\u{0}",
        "main",
        "refs/heads/../../x",
    ];
    for reference in refs {
        let body = with(&github_push(), &[("/ref", json!(reference))]);
        assert!(Forge::Github.told("push", &body).is_err(), "{reference}");
        let body = json!({ "object_kind": "push", "ref": reference, "before": A, "after": B });
        assert!(Forge::Gitlab.told("Push Hook", &body).is_err(), "{reference}");
        let body = json!({ "changes": [{ "ref": { "id": reference }, "fromHash": A, "toHash": B, "type": "UPDATE" }] });
        assert!(Forge::BitbucketDc.told("repo:refs_changed", &body).is_err(), "{reference}");
        assert!(
            Forge::Generic.told("", &json!({ "ref": reference, "before": A, "after": B })).is_err(),
            "{reference}"
        );
    }
    for id in ["", "x", "--upload-pack=x", &"A".repeat(40), "HEAD"] {
        let body = with(&github_push(), &[("/after", json!(id))]);
        assert!(Forge::Github.told("push", &body).is_err(), "{id}");
    }
    let branch = with(&github_proposal(), &[("/pull_request/head/ref", json!("--exec=x"))]);
    assert!(Forge::Github.told("pull_request", &branch).is_err());
    let iid = with(&github_proposal(), &[("/pull_request/number", json!(-7)), ("/number", json!(-7))]);
    assert!(Forge::Github.told("pull_request", &iid).is_err());
    let title = with(&github_proposal(), &[("/pull_request/title", json!("a\nb\u{1b}[31m`$(id)`"))]);
    assert_eq!(proposal(Forge::Github.told("pull_request", &title)).0.title, "a b [31m`$(id)`");
}

#[test]
fn a_form_holds_the_json_in_its_field_payload() {
    let form = "application/x-www-form-urlencoded";
    let body = b"a=1&payload=%7B%22zen%22%3A%22x%22%7D";
    assert_eq!(Forge::Github.payload(form, body), Ok(json!({ "zen": "x" })));
    assert!(Forge::Github.payload(form, b"a=1").is_err());
    assert!(Forge::Github.payload("application/json", body).is_err());
    assert_eq!(Forge::Github.payload("", b"{}"), Ok(json!({})));
}

/// Any JSON, with the names that the parsers look for among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let names = [
        "ref",
        "before",
        "after",
        "created",
        "deleted",
        "sender",
        "login",
        "pusher",
        "action",
        "number",
        "iid",
        "id",
        "pull_request",
        "head",
        "base",
        "repo",
        "sha",
        "object_kind",
        "object_attributes",
        "last_commit",
        "push",
        "type",
        "changes",
        "new",
        "old",
        "target",
        "hash",
        "name",
        "closed",
        "pullrequest",
        "source",
        "destination",
        "branch",
        "commit",
        "repository",
        "uuid",
        "fromRef",
        "toRef",
        "latestCommit",
        "pullRequest",
        "data",
        "user",
        "labels",
        "push_options",
        "ci",
        "variable",
        "skip",
        "oldrev",
        "source_branch",
        "target_branch",
        "fromHash",
        "toHash",
    ];
    let texts = [
        "refs/heads/main",
        A,
        B,
        NOTHING,
        "push",
        "opened",
        "open",
        "update",
        "synchronize",
        "merge_request",
        "tag",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        proptest::sample::select(texts.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 8, move |inner| {
        let key = prop_oneof![
            8 => proptest::sample::select(names.to_vec()).prop_map(str::to_owned),
            1 => any::<String>()
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_makes_a_parser_panic_and_what_comes_out_is_valid(
        which in 0..Forge::ALL.len(),
        event in proptest::sample::select(vec!["push", "pull_request", "Push Hook", "Merge Request Hook", "repo:push",
            "pullrequest:created", "repo:refs_changed", "pr:opened", "ping", "", "x"]),
        body in any_json(),
    ) {
        if let Ok(Told::Events(events)) = Forge::ALL[which].told(event, &body) {
            for event in events {
                match event {
                    Event::Push(push) => {
                        prop_assert!(crate::server::hooks::event::is_ref(&push.reference));
                        prop_assert!(crate::server::hooks::event::is_id(&push.after));
                    }
                    Event::Proposal(proposal) => prop_assert!(proposal.request.iid > 0),
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(which in 0..Forge::ALL.len(), kind in "[ -~]{0,40}", body in any::<Vec<u8>>()) {
        let _ = Forge::ALL[which].payload(&kind, &body);
        let _ = Forge::ALL[which].payload("application/x-www-form-urlencoded", &body);
    }
}
