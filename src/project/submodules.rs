//! Submodules: taken from the user's own clones of them (`git submodule update --init` makes those), at the commits
//! that the snapshot records. Nothing is fetched.

use super::git_dir;
use super::snapshot::{check_out, making};
use super::view::{SubmoduleView, boundary};
use crate::error::{CliError, CliResult};
use git2::{Oid, Repository};
use std::fs;
use std::path::Path;

/// Submodules of submodules of …: deeper than anybody nests them.
const DEEPEST: usize = 16;

/// Writes the submodules of `snapshot` below `dir`, each with a `.git` of its own. `user` is the user's repository.
pub(super) fn write(
    user: &Repository,
    snapshot: &Repository,
    wanted: &SubmoduleView,
    dir: &Path,
) -> CliResult {
    let top = Level { user, at: snapshot, dir, depth: 0 };
    let names = write_level(&top, wanted)?;
    configure(snapshot, &names, dir)
}

struct Level<'a> {
    user: &'a Repository,
    /// The checked out repository whose index records the commits.
    at: &'a Repository,
    dir: &'a Path,
    depth: usize,
}

/// Name and URL of each submodule that was written.
fn write_level(level: &Level<'_>, wanted: &SubmoduleView) -> CliResult<Vec<(String, String)>> {
    let failed = |e: git2::Error| making("reading its submodules", &e.message());
    let index = level.at.index().map_err(failed)?;
    let mut written = Vec::new();
    for submodule in level.at.submodules().map_err(failed)? {
        let path = submodule.path().to_owned();
        let Some(recorded) = index.get_path(&path, 0).filter(|entry| entry.mode == 0o160000) else {
            continue;
        };
        let shown = path.display().to_string();
        if level.depth == 0 && !is_wanted(&wanted.paths, &path) {
            continue;
        }
        let name = submodule.name().unwrap_or(&shown).to_owned();
        let from = clone_of(level.user, &name, &path, recorded.id)?;
        let place = level.dir.join(&path);
        fs::create_dir_all(&place).map_err(|e| making(&format!("making submodule `{shown}`"), &e))?;
        let made = git_dir::make_from(&from, &recorded.id.to_string(), &place)?;
        check_out(&made, recorded.id, None)?;
        if let Some(depth) = wanted.depth {
            let edge = boundary(&made, recorded.id, depth).map_err(failed)?;
            let text: String = edge.iter().map(|id| format!("{id}\n")).collect();
            if !text.is_empty() {
                fs::write(place.join(".git/shallow"), text)
                    .map_err(|e| making("cutting a submodule's history", &e))?;
            }
        }
        if wanted.recursive && level.depth < DEEPEST {
            let below = Level { user: &from, at: &made, dir: &place, depth: level.depth + 1 };
            write_level(&below, wanted)?;
        }
        written.push((name, submodule.url().ok().flatten().unwrap_or_default().to_owned()));
    }
    Ok(written)
}

/// Does `GIT_SUBMODULE_PATHS` take this one?
fn is_wanted(paths: &[String], path: &Path) -> bool {
    let excluded = |pattern: &String| {
        let text = [":(exclude)", ":!", ":^"].iter().find_map(|prefix| pattern.strip_prefix(prefix));
        text.map(str::to_owned)
    };
    let without: Vec<String> = paths.iter().filter_map(excluded).collect();
    let with: Vec<&String> = paths.iter().filter(|pattern| excluded(pattern).is_none()).collect();
    !without.iter().any(|text| path.starts_with(text))
        && (with.is_empty() || with.iter().any(|text| path.starts_with(text)))
}

/// The user's clone of a submodule that has the commit.
fn clone_of(user: &Repository, name: &str, path: &Path, commit: Oid) -> CliResult<Repository> {
    let kept = user.commondir().join("modules").join(name);
    let places = [Some(kept), user.workdir().map(|root| root.join(path))];
    for place in places.into_iter().flatten().filter(|place| place.exists()) {
        if let Ok(found) = Repository::open(&place)
            && found.find_commit(commit).is_ok()
        {
            return Ok(found);
        }
    }
    let shown = path.display();
    Err(CliError::usage(format!(
        "submodule `{shown}` is not here at commit {}: run `git submodule update --init --recursive` first",
        &commit.to_string()[..8]
    )))
}

/// The snapshot's `.git/config` with the submodules in it, as after `git submodule init`.
fn configure(snapshot: &Repository, names: &[(String, String)], dir: &Path) -> CliResult {
    let mut text =
        fs::read_to_string(snapshot.path().join("config")).map_err(|e| making("reading its config", &e))?;
    for (name, url) in names {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        text.push_str(&format!(
            "[submodule \"{}\"]\n\tactive = true\n\turl = \"{}\"\n",
            quoted(name),
            quoted(url)
        ));
    }
    fs::create_dir_all(dir.join(".git")).map_err(|e| making("making its config", &e))?;
    fs::write(dir.join(".git/config"), text).map_err(|e| making("writing its config", &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_and_left_out() {
        let table: &[(&[&str], &str, bool)] = &[
            (&[], "lib/a", true),
            (&["lib/a"], "lib/a", true),
            (&["lib"], "lib/a", true),
            (&["lib/b"], "lib/a", false),
            (&[":(exclude)lib/a"], "lib/a", false),
            (&[":!lib/b"], "lib/a", true),
            (&["lib", ":^lib/a"], "lib/a", false),
        ];
        for (paths, path, taken) in table {
            let paths: Vec<String> = paths.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(is_wanted(&paths, Path::new(path)), *taken, "{paths:?} {path}");
        }
    }
}
