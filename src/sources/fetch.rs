//! Bringing one bare repository up to date, or only asking what is there, for the server.

use super::credentials;
use super::reach::Reach;
use super::smart_http::{SmartHttp, is_http};
use git2::{AutotagOption, Cred, CredentialType, FetchOptions, FetchPrune, RemoteCallbacks, Repository};
use std::collections::BTreeMap;
use std::path::Path;

/// What a repository has, as `git ls-remote` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The branch that HEAD is, without `refs/heads/`.
    pub(crate) default_branch: Option<String>,
    /// Branches and tags by full name, and their objects.
    pub(crate) refs: BTreeMap<String, String>,
}

impl Listed {
    pub(super) fn of(head: Option<&str>, refs: impl Iterator<Item = (String, git2::Oid)>) -> Listed {
        let ours = |name: &str| name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
        Listed {
            default_branch: head.and_then(|head| head.strip_prefix("refs/heads/")).map(str::to_owned),
            // tags come a second time, as the commit that they mean: `refs/tags/v1^{}`
            refs: refs
                .filter(|(name, _)| ours(name) && !name.ends_with("^{}"))
                .map(|(n, id)| (n, id.to_string()))
                .collect(),
        }
    }
}

/// Refs of merge requests as the forges name them.
pub(super) const REQUESTS: [&str; 3] = ["refs/merge-requests/", "refs/pull/", "refs/pull-requests/"];

/// Where from, and how to get in.
pub(crate) struct Fetch<'a> {
    /// Anything that git fetches from.
    pub(crate) url: &'a str,
    /// For http: user and password or token.
    pub(crate) login: Option<(String, String)>,
    /// For ssh: a file with a private key.
    pub(crate) key: Option<&'a Path>,
    /// Hosts that may be reached.
    pub(crate) reach: Reach,
}

impl Fetch<'_> {
    /// Makes branches, tags and merge requests' refs what they are there; other refs stay. Blocks.
    ///
    /// # Errors
    /// Says why in words for people, without credentials.
    pub(crate) fn bring(&self, repository: &Repository) -> Result<(), String> {
        if is_http(self.url) {
            let http = SmartHttp::for_server(self.login.clone(), self.reach.clone());
            return http.fetch(self.url, repository).map_err(|refusal| refusal.why);
        }
        if let Some(host) = host(self.url) {
            self.reach.check_host(host)?;
        }
        self.by_libgit2(repository).map_err(|e| e.message().to_owned())
    }

    /// What is there. Blocks.
    ///
    /// # Errors
    /// As [`Fetch::bring`].
    pub(crate) fn list(&self) -> Result<Listed, String> {
        if is_http(self.url) {
            let http = SmartHttp::for_server(self.login.clone(), self.reach.clone());
            return http.list(self.url).map_err(|refusal| refusal.why);
        }
        if let Some(host) = host(self.url) {
            self.reach.check_host(host)?;
        }
        self.list_by_libgit2().map_err(|e| e.message().to_owned())
    }

    fn list_by_libgit2(&self) -> Result<Listed, git2::Error> {
        let mut remote = git2::Remote::create_detached(self.url)?;
        let connection = remote.connect_auth(git2::Direction::Fetch, Some(self.callbacks()), None)?;
        let head = connection.default_branch().ok();
        let head = head.as_ref().and_then(|head| head.as_str().ok());
        let refs = connection.list()?.iter().map(|head| (head.name().to_owned(), head.oid()));
        Ok(Listed::of(head, refs))
    }

    fn by_libgit2(&self, repository: &Repository) -> Result<(), git2::Error> {
        let mut remote = repository.remote_anonymous(self.url)?;
        let mut options = FetchOptions::new();
        options.remote_callbacks(self.callbacks());
        options.prune(FetchPrune::On).download_tags(AutotagOption::None).update_fetchhead(false);
        let kept = ["refs/heads/", "refs/tags/"].into_iter().chain(REQUESTS);
        let refspecs: Vec<String> = kept.map(|prefix| format!("+{prefix}*:{prefix}*")).collect();
        remote.fetch(&refspecs, Some(&mut options), None)?;
        if let Ok(name) = remote.default_branch()
            && let Ok(name) = name.as_str()
        {
            repository.set_head(name)?;
        }
        Ok(())
    }

    fn callbacks(&self) -> RemoteCallbacks<'static> {
        let Some(key) = self.key.map(Path::to_owned) else { return credentials::callbacks() };
        let mut offered = false;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(move |_, user, allowed| {
            let user = user.unwrap_or("git");
            if allowed.contains(CredentialType::USERNAME) {
                return Cred::username(user);
            }
            if std::mem::replace(&mut offered, true) {
                return Err(git2::Error::from_str("the server did not take the project's ssh key"));
            }
            Cred::ssh_key(user, None, &key, None)
        });
        callbacks
    }
}

/// The host of `ssh://user@host:22/path`, `git://host/path` or `user@host:path`; none: a path on this machine.
fn host(url: &str) -> Option<&str> {
    let authority = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.0,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => Some(v6),
        None => Some(host.split(':').next().unwrap_or(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_git_addresses() {
        let table = [
            ("ssh://git@example.org:2222/a/b.git", Some("example.org")),
            ("git@example.org:a/b.git", Some("example.org")),
            ("git://[::1]:9418/a", Some("::1")),
            ("file:///srv/a.git", None),
            ("/srv/a.git", None),
        ];
        for (url, expected) in table {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}
