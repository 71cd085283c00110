//! What one job sees of the sources: the variables `GIT_*` of GitLab's runner. Each of them that changes something
//! is a small directory beside the snapshot, made once, that lies over it or takes its place.

use super::snapshot::{Snapshot, making};
use super::{git_dir, lfs, submodules};
use crate::error::{CliError, CliResult};
use git2::{Oid, Repository};
use pipelines::plan::JobVariable;
use runners::job::JobSources;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A job's wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// `GIT_DEPTH`: commits of history; none: all.
    depth: Option<usize>,
    /// `GIT_CHECKOUT: "false"`: the repository without its files.
    no_files: bool,
    /// `GIT_SUBMODULE_STRATEGY`.
    submodules: Option<SubmoduleView>,
    /// `GIT_LFS_SKIP_SMUDGE`.
    pointers: bool,
    /// Sentences about what can't be had here.
    notes: Vec<String>,
}

/// `GIT_SUBMODULE_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SubmoduleView {
    /// Those of submodules, too.
    pub(super) recursive: bool,
    /// `GIT_SUBMODULE_PATHS`, split: only these; with `:(exclude)` or `:!` in front: not these.
    pub(super) paths: Vec<String>,
    /// `GIT_SUBMODULE_DEPTH`, else `GIT_DEPTH`.
    pub(super) depth: Option<usize>,
}

impl View {
    /// The wishes in a job's variables.
    ///
    /// # Errors
    /// A value means nothing; names the variable.
    pub fn of(variables: &[JobVariable]) -> Result<View, String> {
        let get = |name: &str| variables.iter().rfind(|v| v.key == name).map(|v| v.value.trim());
        let depth = |name: &str| match get(name) {
            None | Some("" | "0") => Ok(None),
            Some(text) => {
                text.parse().map(Some).map_err(|_| format!("`{name}` is `{text}`: a number is expected"))
            }
        };
        let is = |name: &str, value: bool| {
            let texts: &[&str] = if value { &["1", "t", "true"] } else { &["0", "f", "false"] };
            get(name).is_some_and(|text| texts.contains(&text.to_ascii_lowercase().as_str()))
        };
        let mut view = View {
            depth: depth("GIT_DEPTH")?,
            no_files: is("GIT_CHECKOUT", false),
            pointers: is("GIT_LFS_SKIP_SMUDGE", true),
            ..View::default()
        };
        let recursive = match get("GIT_SUBMODULE_STRATEGY") {
            None | Some("" | "none") => return Ok(view),
            Some("normal") => false,
            Some("recursive") => true,
            Some(other) => {
                return Err(format!(
                    "unknown `GIT_SUBMODULE_STRATEGY` `{other}`: use `none`, `normal` or `recursive`"
                ));
            }
        };
        if get("GIT_SUBMODULE_UPDATE_FLAGS").is_some_and(|flags| flags.contains("--remote")) {
            view.notes.push(
                "`--remote` in `GIT_SUBMODULE_UPDATE_FLAGS` is ignored: submodules are at the commits that are recorded"
                    .to_owned(),
            );
        }
        let paths =
            get("GIT_SUBMODULE_PATHS").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let own =
            if get("GIT_SUBMODULE_DEPTH").is_some() { depth("GIT_SUBMODULE_DEPTH")? } else { view.depth };
        view.submodules = Some(SubmoduleView { recursive, paths, depth: own });
        Ok(view)
    }
}

impl View {
    /// Are there submodules to be seen?
    pub(crate) fn wants_submodules(&self) -> bool {
        self.submodules.is_some()
    }
}

impl Snapshot {
    /// The directories that make up the view. Blocks.
    ///
    /// # Errors
    /// Something of it can't be had, or the disk refuses.
    pub fn view(&self, view: &View) -> CliResult<JobSources> {
        let mut sources = JobSources { notes: view.notes.clone(), ..JobSources::default() };
        if view.no_files {
            sources.checkout = Some(self.beside("no-files", |dir| {
                let from = self.dir_repository()?;
                git_dir::make_from(&from, &self.sha, dir).map(drop)
            })?);
        } else {
            self.contents(view, &mut sources)?;
        }
        if let Some(depth) = view.depth {
            sources
                .overlays
                .push(self.beside(&format!("depth-{depth}"), |dir| self.write_shallow(depth, dir))?);
        }
        Ok(sources)
    }

    fn contents(&self, view: &View, sources: &mut JobSources) -> CliResult {
        let repository = self.dir_repository()?;
        if view.pointers {
            let pointers = self.beside("pointers", |dir| lfs::write_pointers(&repository, &self.dir, dir))?;
            sources.overlays.push(pointers);
        } else if let [first, rest @ ..] = lfs::missing(&repository, &self.dir)?.as_slice() {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            sources.notes.push(format!(
                "`{first}`{more} in Git LFS: the contents are not in this clone, jobs see pointers; \
                 `git lfs pull` fetches them"
            ));
        }
        if let Some(wanted) = &view.submodules {
            let digest = crate::digest::sha256_hex(format!("{wanted:?}").as_bytes());
            let user = Repository::open(&self.repository)
                .map_err(|e| making("opening the repository", &e.message()))?;
            sources.overlays.push(self.beside(&format!("submodules-{}", &digest[..8]), |dir| {
                submodules::write(&user, &repository, wanted, dir)
            })?);
        }
        Ok(())
    }

    fn dir_repository(&self) -> CliResult<Repository> {
        Repository::open(&self.dir).map_err(|e| making("opening it", &e.message()))
    }

    /// The directory `SNAPSHOT.NAME`, filled when it is not there.
    fn beside(&self, name: &str, fill: impl FnOnce(&Path) -> CliResult) -> CliResult<PathBuf> {
        let mut place = self.dir.clone().into_os_string();
        place.push(format!(".{name}"));
        let place = PathBuf::from(place);
        let store = self.dir.parent().unwrap_or(Path::new("/"));
        if !place.is_dir() {
            super::snapshot::make(store, &place, fill)?;
        }
        Ok(place)
    }

    /// `.git/shallow`: git takes the commits in it for those without parents.
    fn write_shallow(&self, depth: usize, dir: &Path) -> CliResult {
        let repository = self.dir_repository()?;
        let failed = |e: git2::Error| making("cutting the history off", &e.message());
        let head = Oid::from_str(&self.sha).map_err(failed)?;
        let mut edge: BTreeSet<String> = fs::read_to_string(self.dir.join(".git/shallow"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect();
        edge.extend(boundary(&repository, head, depth).map_err(failed)?);
        let text: String = edge.iter().map(|id| format!("{id}\n")).collect();
        let write = || {
            fs::create_dir(dir.join(".git"))?;
            fs::write(dir.join(".git/shallow"), text)
        };
        write().map_err(|e| CliError::usage(format!("writing `{}`: {e}", dir.display())))
    }
}

/// Commits at `depth` (the first is at 1) that have parents.
pub(super) fn boundary(repository: &Repository, head: Oid, depth: usize) -> Result<Vec<String>, git2::Error> {
    let mut seen = HashSet::from([head]);
    let mut level = vec![head];
    for _ in 1..depth {
        let mut next = Vec::new();
        for id in level {
            // behind the edge of a shallow clone there is nothing
            let Ok(commit) = repository.find_commit(id) else { continue };
            next.extend(commit.parent_ids().filter(|parent| seen.insert(*parent)));
        }
        level = next;
    }
    let has_parents = |id: &Oid| repository.find_commit(*id).is_ok_and(|commit| commit.parent_count() > 0);
    Ok(level.into_iter().filter(has_parents).map(|id| id.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(variables: &[(&str, &str)]) -> Result<View, String> {
        let variable = |(key, value): &(&str, &str)| JobVariable {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
            file: false,
            masked: false,
            raw: false,
        };
        View::of(&variables.iter().map(variable).collect::<Vec<_>>())
    }

    #[test]
    fn variables_say_what_a_job_sees() {
        assert_eq!(view(&[]), Ok(View::default()));
        assert_eq!(view(&[("GIT_DEPTH", "0"), ("GIT_CHECKOUT", "true")]), Ok(View::default()));
        let deep = view(&[("GIT_DEPTH", "3"), ("GIT_DEPTH", "5"), ("GIT_SUBMODULE_STRATEGY", "recursive")]);
        let expected = SubmoduleView { recursive: true, paths: Vec::new(), depth: Some(5) };
        assert_eq!(deep, Ok(View { depth: Some(5), submodules: Some(expected), ..View::default() }));
        for (name, value) in [("GIT_DEPTH", "many"), ("GIT_SUBMODULE_STRATEGY", "all")] {
            let error = view(&[(name, value)]).expect_err(name);
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
