//! Submodules: mirrors inside of the mirror of their project, where a snapshot looks for them. Everything blocks.

use super::sources::From;
use crate::sources::{Wish, fetch};
use git2::{Config, Oid, Repository, Tree};
use reqwest::Url;
use runners::executor::{Said, Voice};
use std::path::Path;

/// Submodules of submodules of …: deeper than anybody nests them.
const DEEPEST: usize = 16;

/// One entry of `.gitmodules` that the tree has a commit of.
struct Entry {
    name: String,
    url: String,
    commit: Oid,
}

/// Fetches the submodules of a commit, and theirs, below the repository's `modules/`.
///
/// # Errors
/// One can't be had; names it.
pub(super) fn bring(repository: &Repository, commit: Oid, from: &From, said: &Voice) -> Result<(), String> {
    level(repository, commit, from, said, 0)
}

fn level(
    repository: &Repository,
    commit: Oid,
    from: &From,
    said: &Voice,
    depth: usize,
) -> Result<(), String> {
    let tree = repository.find_commit(commit).and_then(|commit| commit.tree());
    let tree = tree.map_err(|e| format!("reading the submodules: {}", e.message()))?;
    for entry in entries(repository, &tree).map_err(|e| format!("reading `.gitmodules`: {e}"))? {
        let name = &entry.name;
        let below = From { shown: address(&from.shown, &entry.url)?, login: from.login.clone() };
        let login = below.login.clone().filter(|_| same_server(&from.shown, &below.shown));
        let path = repository.path().join("modules").join(name);
        let failed = |e: git2::Error| format!("the mirror of submodule `{name}`: {}", e.message());
        let module =
            Repository::open_bare(&path).or_else(|_| Repository::init_bare(&path)).map_err(failed)?;
        if module.find_commit(entry.commit).is_err() {
            said.say(Said::Line(format!("Fetching submodule {name} from {}", below.shown)));
            let refspecs =
                ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"].map(str::to_owned);
            let wish = Wish { url: &below.shown, login, refspecs: &refspecs, commit: Some(entry.commit) };
            fetch(&module, &wish).map_err(|why| format!("fetching submodule `{name}`: {why}"))?;
        }
        if module.find_commit(entry.commit).is_err() {
            return Err(format!("submodule `{name}`: `{}` has no commit {}", below.shown, entry.commit));
        }
        if depth < DEEPEST {
            level(&module, entry.commit, &below, said, depth + 1)?;
        }
    }
    Ok(())
}

fn entries(repository: &Repository, tree: &Tree<'_>) -> Result<Vec<Entry>, String> {
    let Some(file) = tree.get_name(".gitmodules") else { return Ok(Vec::new()) };
    let plain = |e: git2::Error| e.message().to_owned();
    let blob = repository.find_blob(file.id()).map_err(plain)?;
    let written = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(written.path(), blob.content()).map_err(|e| e.to_string())?;
    let config = Config::open(written.path()).map_err(plain)?;
    let mut found = Vec::new();
    let mut paths = config.entries(Some("submodule\\..*\\.path")).map_err(plain)?;
    while let Some(entry) = paths.next() {
        let entry = entry.map_err(plain)?;
        let (Ok(key), Ok(path)) = (entry.name(), entry.value()) else { continue };
        let Some(name) = key.strip_prefix("submodule.").and_then(|key| key.strip_suffix(".path")) else {
            continue;
        };
        let recorded = tree.get_path(Path::new(path)).ok().filter(|entry| entry.filemode() == 0o160_000);
        let Some(recorded) = recorded else { continue };
        if !is_plain(name) {
            return Err(format!("`{name}` can't be the name of a submodule"));
        }
        let url = config.get_string(&format!("submodule.{name}.url")).map_err(plain)?;
        found.push(Entry { name: name.to_owned(), url, commit: recorded.id() });
    }
    Ok(found)
}

/// A name becomes a path: none that leads elsewhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.split('/').all(|part| !matches!(part, "" | "." | "..")) && !name.contains('\0')
}

/// Where a submodule is: an address, or one relative to that of the project around it. Nothing of this machine: a
/// project could name what is not its own.
fn address(of_project: &str, url: &str) -> Result<String, String> {
    let refused = || format!("a submodule at `{}` is not fetched: http, https and ssh are", plain(url));
    if url.starts_with("./") || url.starts_with("../") {
        return relative(of_project, url).ok_or_else(refused);
    }
    if let Ok(parsed) = Url::parse(url)
        && url.contains("://")
    {
        return match parsed.scheme() {
            "http" | "https" | "ssh" | "git" => Ok(url.to_owned()),
            _ => Err(refused()),
        };
    }
    // `user@host:path`
    let ssh = url.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'));
    if ssh && !url.starts_with('-') { Ok(url.to_owned()) } else { Err(refused()) }
}

fn relative(of_project: &str, url: &str) -> Option<String> {
    let mut base = of_project.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            let end = base.rfind(['/', ':'])?;
            base.truncate(end);
            rest = after;
        } else {
            break;
        }
    }
    let joined = format!("{base}/{rest}");
    // no further up than the server
    (joined.contains("://") == of_project.contains("://") && !joined.starts_with('/')).then_some(joined)
}

fn plain(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The job's token is for its own server only.
fn same_server(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin() && one.origin().is_tuple(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_servers() {
        let project = "https://h.example/group/project.git";
        let table = [
            ("../lib.git", Some("https://h.example/group/lib.git")),
            ("../../other/lib.git", Some("https://h.example/other/lib.git")),
            ("./sub.git", Some("https://h.example/group/project.git/sub.git")),
            ("https://x.example/lib.git", Some("https://x.example/lib.git")),
            ("git@x.example:lib.git", Some("git@x.example:lib.git")),
            ("file:///etc", None),
            ("/srv/git/secret.git", None),
            ("-oProxyCommand=x:y", None),
        ];
        for (url, expected) in table {
            let got = address(project, url);
            assert_eq!(got.ok().as_deref(), expected, "{url}");
        }
        assert!(same_server(project, "https://h.example/x") && !same_server(project, "http://h.example/x"));
        assert!(!same_server(project, "https://h.example:444/x") && !same_server("git@h:p", "git@h:q"));
    }

    #[test]
    fn names_lead_nowhere_else() {
        for (name, plain) in [("lib", true), ("a/b", true), ("../x", false), ("a//b", false), ("", false)] {
            assert_eq!(is_plain(name), plain, "{name}");
        }
    }
}
