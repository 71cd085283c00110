//! The predefined variables that rules can see. Facts that only a runner knows are not among them.

use crate::request::Request;
use crate::variables::slug;
use indexmap::IndexMap;

const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Name to value of everything that GitLab predefines for a pipeline; [`Request::predefined`] wins. What does not
/// apply is absent, not empty: `CI_COMMIT_BRANCH` exists in branch pipelines only.
pub fn predefined(request: &Request) -> IndexMap<String, String> {
    let mut all = IndexMap::new();
    let mut set = |name: &str, value: &str| drop(all.insert(name.to_owned(), value.to_owned()));
    set("CI", "true");
    set("GITLAB_CI", "true");
    set("CI_CONFIG_PATH", ".gitlab-ci.yml");
    set("CI_PIPELINE_SOURCE", &request.source);
    set("CI_PIPELINE_IID", "1");
    match request.source.as_str() {
        "trigger" => set("CI_PIPELINE_TRIGGERED", "true"),
        // there is no schedule that somebody has described
        "schedule" => set("CI_PIPELINE_SCHEDULE_DESCRIPTION", ""),
        _ => {}
    }
    set("CI_DEFAULT_BRANCH", &request.default_branch);
    set("CI_DEFAULT_BRANCH_SLUG", &slug(&request.default_branch));
    server(&mut set);
    project(request, &mut set);
    commit(request, &mut set);
    if request.is_merge_request() {
        merge_request(request, &mut set);
    }
    if request.source == "external_pull_request_event" {
        external_pull_request(request, &mut set);
    }
    all.extend(request.predefined.iter().map(|(k, v)| (k.clone(), v.clone())));
    all
}

fn server(set: &mut dyn FnMut(&str, &str)) {
    set("CI_SERVER_NAME", "Slipway");
    set("CI_SERVER_PROTOCOL", "http");
    set("CI_SERVER_PORT", "80");
    for name in ["CI_SERVER_HOST", "CI_SERVER_FQDN", "CI_SERVER_SHELL_SSH_HOST"] {
        set(name, "localhost");
    }
    set("CI_SERVER_SHELL_SSH_PORT", "22");
    set("CI_SERVER_URL", "http://localhost");
    set("CI_API_V4_URL", "http://localhost/api/v4");
    set("CI_API_GRAPHQL_URL", "http://localhost/api/graphql");
    set("CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com");
    // the release whose language this is
    set("CI_SERVER_VERSION", "18.11.0");
    set("CI_SERVER_VERSION_MAJOR", "18");
    set("CI_SERVER_VERSION_MINOR", "11");
    set("CI_SERVER_VERSION_PATCH", "0");
    set("CI_SERVER_REVISION", "slipway");
}

fn project(request: &Request, set: &mut dyn FnMut(&str, &str)) {
    let path = request.project.as_str();
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    set("CI_PROJECT_ID", "1");
    set("CI_PROJECT_NAME", name);
    set("CI_PROJECT_TITLE", name);
    set("CI_PROJECT_DESCRIPTION", "");
    set("CI_PROJECT_PATH", path);
    set("CI_PROJECT_PATH_SLUG", &slug(path));
    set("CI_PROJECT_NAMESPACE", namespace);
    set("CI_PROJECT_NAMESPACE_ID", "1");
    set("CI_PROJECT_NAMESPACE_SLUG", &slug(namespace));
    set("CI_PROJECT_ROOT_NAMESPACE", namespace.split('/').next().unwrap_or_default());
    set("CI_PROJECT_URL", &format!("http://localhost/{path}"));
    set("CI_PROJECT_VISIBILITY", "private");
    set("CI_PROJECT_REPOSITORY_LANGUAGES", "");
    set("CI_PROJECT_TOPICS", "");
    set("CI_PROJECT_CLASSIFICATION_LABEL", "");
    set("GITLAB_FEATURES", "");
    let kind = if request.tag { "tags" } else { "heads" };
    set("CI_CONFIG_REF_URI", &format!("localhost/{path}//.gitlab-ci.yml@refs/{kind}/{}", request.reference));
}

fn commit(request: &Request, set: &mut dyn FnMut(&str, &str)) {
    let commit = &request.commit;
    let message = commit.message.as_str();
    let title = message.lines().next().unwrap_or_default();
    let below = message.split_once('\n').map_or("", |(_, rest)| rest.strip_suffix('\n').unwrap_or(rest));
    set("CI_COMMIT_SHA", &commit.sha);
    set("CI_COMMIT_SHORT_SHA", commit.sha.get(..8).unwrap_or(&commit.sha));
    let before = commit.before_sha.as_deref().filter(|_| request.source == "push");
    set("CI_COMMIT_BEFORE_SHA", before.unwrap_or(NO_COMMIT));
    set("CI_COMMIT_REF_NAME", &request.reference);
    set("CI_COMMIT_REF_SLUG", &slug(&request.reference));
    set("CI_COMMIT_REF_PROTECTED", if commit.protected { "true" } else { "false" });
    set("CI_COMMIT_MESSAGE", message);
    set("CI_COMMIT_MESSAGE_IS_TRUNCATED", "false");
    set("CI_COMMIT_TITLE", title);
    set("CI_COMMIT_DESCRIPTION", if title.chars().count() < 100 { below } else { message });
    set("CI_COMMIT_AUTHOR", &commit.author);
    set("CI_COMMIT_TIMESTAMP", &commit.timestamp);
    if request.tag {
        set("CI_COMMIT_TAG", &request.reference);
        set("CI_COMMIT_TAG_MESSAGE", commit.tag_message.as_deref().unwrap_or_default());
    } else if !request.is_merge_request() {
        set("CI_COMMIT_BRANCH", &request.reference);
    }
}

/// A merge request is known by its branches only: its numbers are 1, its title is the commit's.
fn merge_request(request: &Request, set: &mut dyn FnMut(&str, &str)) {
    let target = request.target_branch.as_deref().unwrap_or(&request.default_branch);
    let url = format!("http://localhost/{}", request.project);
    for name in ["ID", "IID", "DIFF_ID", "PROJECT_ID", "SOURCE_PROJECT_ID"] {
        set(&format!("CI_MERGE_REQUEST_{name}"), "1");
    }
    for name in ["PROJECT", "SOURCE_PROJECT"] {
        set(&format!("CI_MERGE_REQUEST_{name}_PATH"), &request.project);
        set(&format!("CI_MERGE_REQUEST_{name}_URL"), &url);
    }
    for name in ["APPROVED", "DRAFT", "SQUASH_ON_MERGE", "DESCRIPTION_IS_TRUNCATED"] {
        set(&format!("CI_MERGE_REQUEST_{name}"), "false");
    }
    // as for the commit's own ref: the default branch is the one that is protected
    for (name, branch) in [("SOURCE", request.reference.as_str()), ("TARGET", target)] {
        let protected = if branch == request.default_branch { "true" } else { "false" };
        set(&format!("CI_MERGE_REQUEST_{name}_BRANCH_PROTECTED"), protected);
    }
    set("CI_MERGE_REQUEST_EVENT_TYPE", "detached");
    set("CI_MERGE_REQUEST_REF_PATH", "refs/merge-requests/1/head");
    set("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", &request.reference);
    set("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "");
    set("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", target);
    set("CI_MERGE_REQUEST_TARGET_BRANCH_SHA", "");
    set("CI_MERGE_REQUEST_TITLE", request.commit.message.lines().next().unwrap_or_default());
    set("CI_MERGE_REQUEST_DESCRIPTION", "");
    let base = request.commit.merge_base.as_deref().unwrap_or(&request.commit.sha);
    set("CI_MERGE_REQUEST_DIFF_BASE_SHA", base);
    set("CI_OPEN_MERGE_REQUESTS", &format!("{}!1", request.project));
}

fn external_pull_request(request: &Request, set: &mut dyn FnMut(&str, &str)) {
    let target = request.target_branch.as_deref().unwrap_or(&request.default_branch);
    let base = request.commit.merge_base.as_deref().unwrap_or(&request.commit.sha);
    for (name, value) in [
        ("IID", "1"),
        ("SOURCE_REPOSITORY", request.project.as_str()),
        ("TARGET_REPOSITORY", request.project.as_str()),
        ("SOURCE_BRANCH_NAME", request.reference.as_str()),
        ("SOURCE_BRANCH_SHA", request.commit.sha.as_str()),
        ("TARGET_BRANCH_NAME", target),
        ("TARGET_BRANCH_SHA", base),
    ] {
        set(&format!("CI_EXTERNAL_PULL_REQUEST_{name}"), value);
    }
}
