//! What each forge wants to hear about a commit: pure functions.

use super::forge::Forge;
use serde_json::{Value, json};

/// A row of `statuses`.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
pub(super) struct Status {
    pub(super) project_id: i64,
    pub(super) sha: String,
    pub(super) context: String,
    #[sqlx(rename = "ref")]
    pub(super) reference: String,
    pub(super) state: String,
    pub(super) description: String,
    pub(super) target_url: String,
    pub(super) version: i64,
    pub(super) tries: i64,
}

/// A POST of JSON.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) url: String,
    pub(super) body: Value,
    /// The header that holds the token, and what stands before it.
    pub(super) token: (&'static str, &'static str),
}

/// The call; none: the forge has no statuses, or the repository's name is not in its address.
pub(super) fn call(forge: Forge, api: &str, git_url: &str, status: &Status) -> Option<Call> {
    let repository = repository(git_url)?;
    let (api, sha) = (api.trim_end_matches('/'), &status.sha);
    let bearer = ("authorization", "Bearer ");
    let description = cut(&status.description, 140);
    let encoded: String = url::form_urlencoded::byte_serialize(repository.as_bytes()).collect();
    Some(match forge {
        Forge::Github => Call {
            url: format!("{api}/repos/{repository}/statuses/{sha}"),
            body: json!({
                "state": simple(&status.state, "failure"), "context": status.context, "description": description,
                "target_url": status.target_url,
            }),
            token: bearer,
        },
        Forge::Gitea => Call {
            url: format!("{api}/repos/{repository}/statuses/{sha}"),
            body: json!({
                "state": simple(&status.state, "failure"), "context": status.context, "description": description,
                "target_url": status.target_url,
            }),
            token: ("authorization", "token "),
        },
        Forge::Gitlab => Call {
            url: format!("{api}/projects/{encoded}/statuses/{sha}"),
            body: json!({
                "state": status.state, "name": status.context, "ref": status.reference, "description": description,
                "target_url": status.target_url,
            }),
            token: ("private-token", ""),
        },
        Forge::BitbucketCloud => Call {
            url: format!("{api}/repositories/{repository}/commit/{sha}/statuses/build"),
            body: bitbucket(status, &description, "STOPPED"),
            token: bearer,
        },
        Forge::BitbucketDc => Call {
            url: format!("{api}/build-status/1.0/commits/{sha}"),
            body: bitbucket(status, &description, "FAILED"),
            token: bearer,
        },
        Forge::Gogs | Forge::Generic => return None,
    })
}

fn simple<'s>(state: &'s str, failed: &'s str) -> &'s str {
    match state {
        "success" => "success",
        "failed" => failed,
        "canceled" => "error",
        // nothing was wrong, and a required check must not wait for ever
        "skipped" => "success",
        _ => "pending",
    }
}

fn bitbucket(status: &Status, description: &str, canceled: &str) -> Value {
    let state = match status.state.as_str() {
        "success" | "skipped" => "SUCCESSFUL",
        "failed" => "FAILED",
        "canceled" => canceled,
        _ => "INPROGRESS",
    };
    // keys have at most 40 characters
    let key = match status.context.chars().count() <= 40 {
        true => status.context.clone(),
        false => crate::digest::sha256_hex(status.context.as_bytes())[..40].to_owned(),
    };
    json!({
        "key": key, "name": status.context, "state": state, "description": description, "url": status.target_url,
    })
}

fn cut(text: &str, longest: usize) -> String {
    match text.chars().count() <= longest {
        true => text.to_owned(),
        false => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}

/// `owner/name` of a repository's address: the last two parts of a path or more, where the forge has groups in groups.
fn repository(git_url: &str) -> Option<String> {
    let path = match git_url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        None => git_url.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let good = |part: &str| {
        !part.is_empty()
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
    };
    (path.contains('/') && path.split('/').all(good)).then(|| path.to_owned())
}

/// The address of a forge's API, by the repository's address; empty: it has none for statuses.
pub(in crate::server) fn api_of(forge: Forge, git_url: &str) -> String {
    let host = match git_url.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => git_url.split(':').next().unwrap_or_default(),
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    // an ssh port is not the API's
    let plain = git_url.starts_with("http://");
    let host = if git_url.starts_with("http") { host } else { host.split(':').next().unwrap_or_default() };
    if host.is_empty() || git_url.starts_with("file:") || git_url.starts_with('/') {
        return String::new();
    }
    let scheme = if plain { "http" } else { "https" };
    match forge {
        Forge::Github if host == "github.com" => "https://api.github.com".to_owned(),
        Forge::Github => format!("{scheme}://{host}/api/v3"),
        Forge::Gitlab => format!("{scheme}://{host}/api/v4"),
        Forge::Gitea => format!("{scheme}://{host}/api/v1"),
        Forge::BitbucketCloud => "https://api.bitbucket.org/2.0".to_owned(),
        Forge::BitbucketDc => format!("{scheme}://{host}/rest"),
        Forge::Gogs | Forge::Generic => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str) -> Status {
        Status {
            sha: "a".repeat(40),
            context: "slipway/push".to_owned(),
            reference: "main".to_owned(),
            state: state.to_owned(),
            description: "x".repeat(200),
            target_url: "https://ci.example.org/p/1".to_owned(),
            ..Status::default()
        }
    }

    #[test]
    fn each_forge_is_told_in_its_own_words() {
        let sha = "a".repeat(40);
        let table = [
            (
                Forge::Github,
                "https://api.github.com",
                "git@github.com:o/r.git",
                "failed",
                "failure",
                format!("https://api.github.com/repos/o/r/statuses/{sha}"),
            ),
            (
                Forge::Github,
                "https://api.github.com",
                "https://github.com/o/r",
                "canceled",
                "error",
                format!("https://api.github.com/repos/o/r/statuses/{sha}"),
            ),
            (
                Forge::Gitea,
                "http://git/api/v1/",
                "ssh://git@git:2222/o/r.git",
                "running",
                "pending",
                format!("http://git/api/v1/repos/o/r/statuses/{sha}"),
            ),
            (
                Forge::Gitlab,
                "https://gl/api/v4",
                "https://gl/g/sub/r.git",
                "running",
                "running",
                format!("https://gl/api/v4/projects/g%2Fsub%2Fr/statuses/{sha}"),
            ),
            (
                Forge::BitbucketCloud,
                "https://api.bitbucket.org/2.0",
                "https://me@bitbucket.org/w/r.git",
                "canceled",
                "STOPPED",
                format!("https://api.bitbucket.org/2.0/repositories/w/r/commit/{sha}/statuses/build"),
            ),
            (
                Forge::BitbucketDc,
                "https://bb/rest",
                "https://bb/scm/p/r.git",
                "skipped",
                "SUCCESSFUL",
                format!("https://bb/rest/build-status/1.0/commits/{sha}"),
            ),
        ];
        for (forge, api, git_url, state, said, url) in table {
            let call = call(forge, api, git_url, &status(state)).unwrap();
            assert_eq!(call.url, url);
            assert_eq!(call.body["state"], said, "{forge:?}");
            assert_eq!(call.body["description"].as_str().unwrap().chars().count(), 140);
        }
        for forge in [Forge::Gogs, Forge::Generic] {
            assert_eq!(call(forge, "https://x", "https://x/o/r", &status("failed")), None);
        }
        for odd in
            ["/srv/app.git", "https://host/app", "https://host/o/../r", "https://host/o/r?x#y", "host:o/r r"]
        {
            assert_eq!(call(Forge::Github, "https://x", odd, &status("failed")), None, "{odd}");
        }
    }

    #[test]
    fn long_contexts_still_have_a_key_that_bitbucket_takes() {
        let long = Status { context: "slipway/".repeat(9), ..status("failed") };
        let call = call(Forge::BitbucketCloud, "https://x", "https://x/o/r", &long).unwrap();
        assert_eq!(call.body["key"].as_str().unwrap().len(), 40);
        assert_eq!(call.body["name"], long.context);
    }

    #[test]
    fn the_api_is_where_the_forge_has_it() {
        let table = [
            (Forge::Github, "git@github.com:o/r.git", "https://api.github.com"),
            (Forge::Github, "https://ghe.corp/o/r", "https://ghe.corp/api/v3"),
            (Forge::Gitlab, "ssh://git@gitlab.corp:2222/g/r.git", "https://gitlab.corp/api/v4"),
            (Forge::Gitea, "http://127.0.0.1:3000/o/r.git", "http://127.0.0.1:3000/api/v1"),
            (Forge::BitbucketDc, "https://u@bb.corp:8443/scm/p/r.git", "https://bb.corp:8443/rest"),
            (Forge::Generic, "git@host:o/r.git", ""),
            (Forge::Gitlab, "file:///srv/r.git", ""),
            (Forge::Gitlab, "/srv/r.git", ""),
        ];
        for (forge, git_url, api) in table {
            assert_eq!(api_of(forge, git_url), api, "{git_url}");
        }
    }
}
