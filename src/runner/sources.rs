//! The sources of a job: a mirror of its project that is kept from job to job, so that only what is new is fetched, and
//! out of it a snapshot of the commit, as `ci run` makes it. Everything blocks.

use super::{Order, submodules};
use crate::project::{Project, Snapshot, View};
use crate::settings::State;
use crate::sources::{Wish, fetch};
use git2::{Oid, Repository};
use pipelines::plan::JobVariable;
use reqwest::Url;
use runners::executor::{Said, Voice};
use runners::job::Brought;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// More packs than this, one for each fetch, make a mirror slow: it is made anew then.
const MOST_PACKS: usize = 200;

/// The sources, and what has to be held as long as they are used.
pub(super) struct Sources {
    pub(super) brought: Brought,
    pub(super) snapshot: Snapshot,
}

/// Brings the sources of the job's commit.
///
/// # Errors
/// They can't be had; says why.
pub(super) fn bring(order: &Order, state: &State, said: &Voice) -> Result<Sources, String> {
    let git = &order.job.git_info;
    if !matches!(git.repo_object_format.as_str(), "" | "sha1") {
        return Err(format!("its object ids are {}, which `ci` does not read", git.repo_object_format));
    }
    let commit = Oid::from_str(&git.sha).map_err(|_| format!("`{}` is no id of a commit", git.sha))?;
    let mirror = state.dir.join("mirror.git");
    // held until the snapshot is there: a mirror that is made anew must not be read from
    let _lock = lock(&mirror).map_err(|e| format!("locking `{}`: {e}", mirror.display()))?;
    let from = From::of(order)?;
    let repository = open(&mirror, &from.shown)?;
    match &order.mirror {
        Some(here) => borrow(&repository, here)?,
        None => update(&repository, order, &from, commit, said)?,
    }
    if repository.find_commit(commit).is_err() {
        return Err(format!("`{}` has no commit {} any more: was it forced away?", from.shown, git.sha));
    }
    let view = View::of(&wishes(order))?;
    if view.wants_submodules() {
        submodules::bring(&repository, commit, &from, said)?;
    }
    let plain = |e: crate::error::CliError| e.message;
    let project = Project::of(repository);
    let snapshot = project.snapshot(&git.sha, true, &state.snapshots()).map_err(plain)?;
    let mut sources = snapshot.view(&view).map_err(plain)?;
    for note in &mut sources.notes {
        // what helps a person with a clone does not help here
        *note = note.replace("; `git lfs pull` fetches them", "");
    }
    let tracked = Project::discover(&snapshot.dir).and_then(|p| p.tracked()).map_err(plain)?;
    let brought = Brought { checkout: snapshot.dir.clone(), sources, tracked: Arc::new(tracked) };
    Ok(Sources { brought, snapshot })
}

/// Where a repository is fetched from.
pub(super) struct From {
    /// Without user and password.
    pub(super) shown: String,
    pub(super) login: Option<(String, String)>,
}

impl From {
    /// The job's repository. One that a server on this machine serves is where that server is now.
    fn of(order: &Order) -> Result<From, String> {
        let text = order.job.git_info.repo_url.expose();
        let Ok(mut url) = Url::parse(text) else {
            // `user@host:path` of ssh, or a path
            return Ok(From { shown: text.to_owned(), login: None });
        };
        let decoded = |text: &str| percent_decoded(text);
        let login = url.password().map(|password| (decoded(url.username()), decoded(password)));
        if matches!(url.scheme(), "http" | "https") {
            // an address that can have a host can be without a user
            let _ = url.set_username("");
        }
        let _ = url.set_password(None);
        if order.local
            && let Ok(now) = order.address.url()
            && let Ok(now) = Url::parse(&now)
        {
            let _ = url.set_scheme(now.scheme());
            let _ = url.set_host(now.host_str());
            let _ = url.set_port(now.port());
        }
        Ok(From { shown: url.to_string(), login })
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the job wants to see; the server's depth counts where the job says nothing.
fn wishes(order: &Order) -> Vec<JobVariable> {
    let variable = |key: &str, value: String| JobVariable {
        key: key.to_owned(),
        value,
        file: false,
        masked: false,
        raw: true,
    };
    let depth = Some(order.job.git_info.depth).filter(|depth| *depth > 0);
    let own = order.job.variables.iter().map(|v| variable(&v.key, v.value.expose().to_owned()));
    depth.map(|depth| variable("GIT_DEPTH", depth.to_string())).into_iter().chain(own).collect()
}

fn lock(mirror: &Path) -> std::io::Result<File> {
    if let Some(parent) = mirror.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = File::create(mirror.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

/// The mirror, made where there is none; `origin` is what scripts in the job see.
fn open(path: &Path, origin: &str) -> Result<Repository, String> {
    let failed = |e: git2::Error| format!("opening the mirror `{}`: {}", path.display(), e.message());
    let packs = std::fs::read_dir(path.join("objects/pack")).map_or(0, |entries| entries.count());
    if packs > MOST_PACKS * 2 {
        std::fs::remove_dir_all(path).map_err(|e| format!("removing `{}`: {e}", path.display()))?;
    }
    let repository = Repository::open_bare(path).or_else(|_| Repository::init_bare(path)).map_err(failed)?;
    if repository.find_remote("origin").is_ok_and(|remote| remote.url().is_ok_and(|url| url == origin)) {
        return Ok(repository);
    }
    match repository.remote("origin", origin) {
        Err(e) if e.code() == git2::ErrorCode::Exists => repository.remote_set_url("origin", origin),
        made => made.map(|_| ()),
    }
    .map_err(failed)?;
    Ok(repository)
}

/// Fetches, if the commit is not here or its ref has moved on.
fn update(
    repository: &Repository,
    order: &Order,
    from: &From,
    commit: Oid,
    said: &Voice,
) -> Result<(), String> {
    let git = &order.job.git_info;
    let here = match git.ref_type.as_str() {
        "tag" => format!("refs/tags/{}", git.reference),
        _ => format!("refs/remotes/origin/{}", git.reference),
    };
    let at = repository.find_reference(&here).and_then(|r| r.peel_to_commit()).map(|c| c.id());
    if at.is_ok_and(|at| at == commit) {
        return Ok(());
    }
    said.say(Said::Line(format!("Fetching {}", from.shown)));
    let usual =
        || vec!["+refs/heads/*:refs/remotes/origin/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
    let refspecs = if git.refspecs.is_empty() { usual() } else { git.refspecs.clone() };
    let wish =
        Wish { url: &from.shown, login: from.login.clone(), refspecs: &refspecs, commit: Some(commit) };
    fetch(repository, &wish).map_err(|why| format!("fetching `{}`: {why}", from.shown))
}

/// Shares the objects of a repository on this machine, and takes over its refs: branches as those of `origin`.
fn borrow(repository: &Repository, here: &Path) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| format!("sharing the repository `{}`: {e}", here.display());
    let alternates = repository.path().join("objects/info/alternates");
    let text = format!("{}\n", here.join("objects").display());
    if std::fs::read_to_string(&alternates).unwrap_or_default() != text {
        std::fs::write(&alternates, text).map_err(|e| failed(&e))?;
        // objects of a store that came in behind its back
        repository.odb().and_then(|odb| odb.refresh()).map_err(|e| failed(&e.message()))?;
    }
    let there = Repository::open_bare(here).map_err(|e| failed(&e.message()))?;
    let mut refs = BTreeMap::new();
    for reference in there.references().map_err(|e| failed(&e.message()))? {
        let reference = reference.map_err(|e| failed(&e.message()))?;
        let (Ok(name), Some(id)) = (reference.name(), reference.target()) else { continue };
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            refs.insert(format!("refs/remotes/origin/{branch}"), id);
        } else if name.starts_with("refs/tags/") {
            refs.insert(name.to_owned(), id);
        }
    }
    crate::sources::set_refs(repository, &refs).map_err(|e| failed(&e.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_out_of_addresses() {
        let of = |url: &str| {
            let mut order: Order = serde_json::from_value(serde_json::json!({
                "job": {}, "address": {"url": "http://127.0.0.1:9"}, "origin": "", "runner": "", "dir": "/",
                "executor": null, "mirror": null, "hidden": [], "local": false
            }))
            .expect("an order");
            order.job.git_info.repo_url = url.into();
            let from = From::of(&order).expect("an address");
            order.local = true;
            let local = From::of(&order).expect("an address").shown;
            (from.shown, from.login, local)
        };
        let (shown, login, local) = of("https://gitlab-ci-token:glcbt-a%40b@h.example/g/p.git");
        assert_eq!(shown, "https://h.example/g/p.git");
        assert_eq!(login, Some(("gitlab-ci-token".to_owned(), "glcbt-a@b".to_owned())));
        assert_eq!(local, "http://127.0.0.1:9/g/p.git");
        assert_eq!(of("git@h.example:g/p.git").0, "git@h.example:g/p.git");
        assert_eq!(of("ssh://git@h.example/g/p.git").0, "ssh://git@h.example/g/p.git");
    }
}
