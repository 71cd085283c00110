//! What each forge sends, as [`Told`]: pure functions of an event's name and a body.
//!
//! | module | forge |
//! |---|---|
//! | `github` | GitHub, and Gitea, Forgejo and Gogs, whose bodies are alike |
//! | `gitlab` | GitLab |
//! | `bitbucket_cloud`, `bitbucket_dc` | Bitbucket's two kinds |
//! | `generic` | our own: any git server's `post-receive` |
//! | `json` | looking into bodies |

mod bitbucket_cloud;
mod bitbucket_dc;
mod generic;
mod github;
mod gitlab;
mod json;

#[cfg(test)]
mod tests;

use super::event::Told;
use axum::http::HeaderMap;
use serde_json::Value;

/// The kinds of forges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Forge {
    /// github.com and GitHub Enterprise Server.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea and Forgejo.
    Gitea,
    /// bitbucket.org
    BitbucketCloud,
    /// Bitbucket Data Center.
    BitbucketDc,
    /// Gogs.
    Gogs,
    /// Anything that signs by Standard Webhooks.
    Generic,
}

impl Forge {
    /// All of them.
    pub const ALL: [Forge; 7] = [
        Forge::Github,
        Forge::Gitlab,
        Forge::Gitea,
        Forge::BitbucketCloud,
        Forge::BitbucketDc,
        Forge::Gogs,
        Forge::Generic,
    ];

    /// As `projects.forge` and the API name it.
    pub fn name(self) -> &'static str {
        match self {
            Forge::Github => "github",
            Forge::Gitlab => "gitlab",
            Forge::Gitea => "gitea",
            Forge::BitbucketCloud => "bitbucket-cloud",
            Forge::BitbucketDc => "bitbucket-dc",
            Forge::Gogs => "gogs",
            Forge::Generic => "generic",
        }
    }

    /// By [`Forge::name`].
    pub fn named(name: &str) -> Option<Forge> {
        Forge::ALL.into_iter().find(|forge| forge.name() == name)
    }

    /// Headers that hold the event's name, the best first.
    fn event_headers(self) -> &'static [&'static str] {
        match self {
            Forge::Github => &["x-github-event"],
            Forge::Gitlab => &["x-gitlab-event"],
            // they also send GitHub's and Gogs's
            Forge::Gitea => &["x-forgejo-event", "x-gitea-event"],
            Forge::BitbucketCloud | Forge::BitbucketDc => &["x-event-key"],
            Forge::Gogs => &["x-gogs-event"],
            Forge::Generic => &[],
        }
    }

    /// Headers that hold the delivery's id, the best first.
    fn id_headers(self) -> &'static [&'static str] {
        match self {
            Forge::Github => &["x-github-delivery"],
            Forge::Gitlab => &["webhook-id", "idempotency-key", "x-gitlab-event-uuid"],
            Forge::Gitea => &["x-forgejo-delivery", "x-gitea-delivery"],
            Forge::BitbucketCloud => &["x-request-uuid"],
            Forge::BitbucketDc => &["x-request-id"],
            Forge::Gogs => &["x-gogs-delivery"],
            Forge::Generic => &["webhook-id"],
        }
    }

    /// The event's name as the forge gives it; empty: none.
    pub fn event(self, headers: &HeaderMap) -> String {
        super::event::plain(first(headers, self.event_headers()))
    }

    /// The delivery's id as the forge gives it; empty: none.
    pub fn id(self, headers: &HeaderMap) -> &str {
        first(headers, self.id_headers())
    }

    /// The JSON in a body: all of it, or the field `payload` of a form.
    ///
    /// # Errors
    /// It is neither.
    pub fn payload(self, content_type: &str, body: &[u8]) -> Result<Value, String> {
        let wrong = |e: serde_json::Error| format!("the body is no JSON: {e}");
        if is_form(content_type) {
            let payload = form_payload(body).ok_or("the form has no field `payload`")?;
            return serde_json::from_str(&payload).map_err(wrong);
        }
        serde_json::from_slice(body).map_err(wrong)
    }

    /// What the body of an event tells.
    ///
    /// # Errors
    /// The body is not what this forge sends for this event.
    pub fn told(self, event: &str, body: &Value) -> Result<Told, String> {
        match self {
            Forge::Github => github::told(github::Dialect::Github, event, body),
            Forge::Gitea => github::told(github::Dialect::Gitea, event, body),
            Forge::Gogs => github::told(github::Dialect::Gogs, event, body),
            Forge::Gitlab => gitlab::told(event, body),
            Forge::BitbucketCloud => bitbucket_cloud::told(event, body),
            Forge::BitbucketDc => bitbucket_dc::told(event, body),
            Forge::Generic => generic::told(body),
        }
    }
}

/// Is it `application/x-www-form-urlencoded`?
pub(super) fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The field `payload` of a form.
pub(super) fn form_payload(body: &[u8]) -> Option<String> {
    url::form_urlencoded::parse(body).find(|(key, _)| key == "payload").map(|(_, value)| value.into_owned())
}

fn first<'h>(headers: &'h HeaderMap, names: &[&str]) -> &'h str {
    let values = names.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
    values.map(str::trim).find(|value| !value.is_empty()).unwrap_or_default()
}
