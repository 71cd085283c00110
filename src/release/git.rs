//! What the project's repository knows about versions: tags, and what changed between them.

use std::path::Path;

use git2::{Commit, DiffOptions, ErrorCode, Oid, Repository, Sort, StatusOptions};

use super::{Change, Error, Notes};

fn failed(doing: &str, path: &Path) -> impl FnOnce(git2::Error) -> Error {
    let (doing, path) = (doing.to_owned(), path.to_owned());
    move |source| Error::Git { doing, path, source }
}

fn open(dir: &Path) -> Result<Repository, Error> {
    Repository::discover(dir).map_err(failed("looking for the sources", dir))
}

/// The commit of a version's tag, `vVSN` or `VSN`.
fn tagged(repository: &Repository, version: &str) -> Option<Oid> {
    let commit =
        |name: String| repository.find_reference(&format!("refs/tags/{name}")).ok()?.peel_to_commit().ok();
    commit(format!("v{version}")).or_else(|| commit(version.to_owned())).map(|commit| commit.id())
}

/// Whether anything below `parts` of the directory `dir`, committed or not, differs from the tag of `version`. `None`
/// without git or without the tag.
///
/// # Errors
/// Git fails.
pub fn changed_since(dir: &Path, version: &str, parts: &[&str]) -> Result<Option<bool>, Error> {
    let repository = match Repository::discover(dir) {
        Ok(repository) => repository,
        Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
        Err(e) => return Err(failed("looking for the sources", dir)(e)),
    };
    let Some(commit) = tagged(&repository, version) else { return Ok(None) };
    let top = repository.workdir().and_then(|top| top.canonicalize().ok());
    let within = dir.canonicalize().ok().and_then(|dir| Some(dir.strip_prefix(top?).ok()?.to_owned()));
    let within = within.unwrap_or_default();
    let mut options = DiffOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).disable_pathspec_match(true);
    for part in parts {
        options.pathspec(within.join(part));
    }
    let mut differs = || -> Result<bool, git2::Error> {
        let tree = repository.find_commit(commit)?.tree()?;
        let diff = repository.diff_tree_to_workdir_with_index(Some(&tree), Some(&mut options))?;
        Ok(diff.deltas().len() > 0)
    };
    differs().map(Some).map_err(failed("comparing the sources", dir))
}

/// The commit of the sources in `dir`, in hex, if they are exactly what is committed.
#[must_use]
pub fn clean_commit(dir: &Path) -> Option<String> {
    let repository = Repository::discover(dir).ok()?;
    let commit = repository.head().ok()?.peel_to_commit().ok()?.id().to_string();
    (!is_dirty(&repository).ok()?).then_some(commit)
}

fn is_dirty(repository: &Repository) -> Result<bool, git2::Error> {
    let mut options = StatusOptions::new();
    options.include_untracked(false).include_ignored(false);
    Ok(!repository.statuses(Some(&mut options))?.is_empty())
}

/// Tags what is checked out as `version`, and returns the tag's name: `vVSN`, or `VSN` where the tags there are have no `v`.
///
/// # Errors
/// There are changes that are not committed; the tag is there already; git knows no name for the tagger.
pub fn tag(dir: &Path, release: &str, version: &str) -> Result<String, Error> {
    let repository = open(dir)?;
    let failed_tag = |e| failed("tagging", dir)(e);
    if is_dirty(&repository).map_err(failed_tag)? {
        return Err(Error::Project(
            "there are changes that are not committed; commit them first: a tag is for a commit".to_owned(),
        ));
    }
    let names = repository.tag_names(None).map_err(|e| failed("reading the tags", dir)(e))?;
    let begins =
        |wanted: fn(&str) -> bool| (0..names.len()).filter_map(|i| names.get(i).ok().flatten()).any(wanted);
    let plain = begins(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        && !begins(|name| {
            name.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
    let name = if plain { version.to_owned() } else { format!("v{version}") };
    if let Some(commit) = tagged(&repository, version) {
        return Err(Error::Project(format!(
            "version `{version}` is tagged already, at commit `{}`; a released version is not released again: `ci release bump`",
            &commit.to_string()[..8]
        )));
    }
    let make = || -> Result<(), git2::Error> {
        let head = repository.head()?.peel_to_commit()?;
        let tagger = repository.signature()?;
        repository.tag(&name, head.as_object(), &tagger, &format!("{release} {version}\n"), false)?;
        Ok(())
    };
    make().map_err(failed("tagging", dir))?;
    Ok(name)
}

/// What changed from `from` to `to` (versions, or anything that git takes for a commit), newest first; merges left out.
///
/// # Errors
/// One of them is not there; git fails.
pub fn notes(dir: &Path, from: &str, to: &str) -> Result<Notes, Error> {
    let repository = open(dir)?;
    let (old, new) = (resolve(&repository, from)?, resolve(&repository, to)?);
    let walk = || -> Result<Vec<Change>, git2::Error> {
        let mut walk = repository.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(new)?;
        walk.hide(old)?;
        let mut changes = Vec::new();
        for id in walk {
            let commit = repository.find_commit(id?)?;
            if commit.parent_count() < 2 {
                changes.push(change(&commit));
            }
        }
        Ok(changes)
    };
    let changes = walk().map_err(failed("reading the history", dir))?;
    Ok(Notes { format: 1, from: from.to_owned(), to: to.to_owned(), changes })
}

fn change(commit: &Commit<'_>) -> Change {
    let author = commit.author();
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    Change::parse(&commit.id().to_string(), &String::from_utf8_lossy(author.name_bytes()), &message)
}

fn resolve(repository: &Repository, name: &str) -> Result<Oid, Error> {
    let parsed = || repository.revparse_single(name).ok()?.peel_to_commit().ok().map(|commit| commit.id());
    tagged(repository, name).or_else(parsed).ok_or_else(|| {
        Error::Project(format!(
            "neither tag `v{name}` nor `{name}` nor a commit `{name}` is in this repository; fetch the tags (`git fetch --tags`)"
        ))
    })
}
