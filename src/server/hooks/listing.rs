//! `git ls-remote`.

use super::event::is_ref;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem};
use std::collections::BTreeMap;

/// What a repository has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// The branch that HEAD is.
    pub(super) default_branch: Option<String>,
    /// Branches and tags by full name, and their objects.
    pub(super) refs: BTreeMap<String, String>,
}

pub(super) async fn list(_app: &App, project: &Project) -> Answer<Listed> {
    let url = project.git_url.clone();
    let listed = tokio::task::spawn_blocking(move || by_libgit2(&url)).await;
    let listed = listed.map_err(|e| Problem::internal("looking at a repository", &e))?;
    listed.map_err(|e| Problem::unavailable(format!("the repository does not answer: {}", e.message())))
}

fn by_libgit2(url: &str) -> Result<Listed, git2::Error> {
    let mut remote = git2::Remote::create_detached(url)?;
    let connection = remote.connect_auth(git2::Direction::Fetch, None, None)?;
    let name = connection.default_branch().ok();
    let name = name.as_ref().and_then(|name| name.as_str().ok()?.strip_prefix("refs/heads/"));
    let heads = connection.list()?.iter().filter(|head| is_ref(head.name()));
    Ok(Listed {
        default_branch: name.map(str::to_owned),
        refs: heads.map(|head| (head.name().to_owned(), head.oid().to_string())).collect(),
    })
}
