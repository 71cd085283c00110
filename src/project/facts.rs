//! What git says about a project: refs, the commit, where it comes from.

use crate::error::{CliError, CliResult};
use git2::{BranchType, ErrorCode, Repository};
use pipelines::request::Commit;
use std::path::{Path, PathBuf};

/// A git work tree.
pub struct Project {
    repository: Repository,
    root: PathBuf,
}

/// What is checked out, in the words of a pipeline.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `group/project`, from the remote `origin`, or `local/<directory>`.
    pub path: String,
    /// Branch or tag.
    pub reference: String,
    /// Is it a tag?
    pub tag: bool,
    /// Default branch.
    pub default_branch: String,
    /// All branches and tags, short names.
    pub refs: Vec<String>,
    /// The commit.
    pub commit: Commit,
}

impl Project {
    /// The work tree that `dir` lies in.
    ///
    /// # Errors
    /// `dir` is in no git repository, or the repository is bare.
    pub fn discover(dir: &Path) -> CliResult<Project> {
        let no_repository = |e: git2::Error| {
            let shown = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
            let shown = shown.display();
            let error =
                CliError::usage(format!("looking for a git repository at `{shown}`: {}", e.message()));
            match e.code() {
                ErrorCode::NotFound if dir.exists() => {
                    CliError::usage(format!("`{shown}` lies in no git repository"))
                        .hint("run `git init` and commit once, or point to a project with `-C DIR`")
                }
                ErrorCode::NotFound => CliError::usage(format!("there is no directory `{shown}`")),
                ErrorCode::Owner => {
                    error.hint("the directory belongs to another user: git's `safe.directory` can allow it")
                }
                _ => error,
            }
        };
        let repository = Repository::discover(dir).map_err(no_repository)?;
        let Some(root) = repository.workdir().map(Path::to_path_buf) else {
            return Err(CliError::usage(format!(
                "`{}` is a bare repository: `ci` needs a work tree",
                dir.display()
            )));
        };
        Ok(Project { repository, root })
    }

    /// A repository as a project, also one without a work tree.
    pub fn of(repository: Repository) -> Project {
        let root = repository.workdir().unwrap_or_else(|| repository.path()).to_path_buf();
        Project { repository, root }
    }

    /// Top directory of the work tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Name and mail address that git knows the user by; empty where it does not.
    pub fn user(&self) -> (String, String) {
        let config = self.repository.config().and_then(|mut config| config.snapshot());
        let text = |key: &str| {
            config.as_ref().ok().and_then(|c| c.get_str(key).ok().map(str::to_owned)).unwrap_or_default()
        };
        (text("user.name"), text("user.email"))
    }

    /// A name for this project's own directory in our state, see [`state_name`].
    pub fn state_name(&self) -> String {
        state_name(&self.root)
    }

    /// The facts; `reference` and `tag` override what is checked out.
    ///
    /// # Errors
    /// There is no commit yet, or git's files can't be read.
    pub fn facts(&self, reference: Option<&str>, tag: bool) -> CliResult<Facts> {
        let head = self.repository.head().map_err(|e| match e.code() {
            ErrorCode::UnbornBranch | ErrorCode::NotFound => {
                CliError::usage("the repository has no commit yet")
                    .hint("commit once: a pipeline is for a commit")
            }
            _ => reading(&e),
        })?;
        let at_head = head.peel_to_commit().map_err(|e| reading(&e))?;
        let (name, is_tag) = match reference {
            Some(name) => (name.to_owned(), tag),
            None => self.checked_out(&head, at_head.id()),
        };
        let full = if is_tag { format!("refs/tags/{name}") } else { format!("refs/heads/{name}") };
        let found = self.repository.find_reference(&full).ok();
        let commit = found.as_ref().and_then(|r| r.peel_to_commit().ok()).unwrap_or(at_head);
        self.facts_of(name, is_tag, &commit)
    }

    /// The facts of a branch or tag that is at `commit`; the branch may be known from `origin` only.
    ///
    /// # Errors
    /// There is no branch or tag of that name, or git's files can't be read.
    pub fn facts_at(&self, name: &str, commit: git2::Oid) -> CliResult<Facts> {
        let there = |prefix: &str| self.repository.find_reference(&format!("{prefix}{name}")).is_ok();
        let is_branch = there("refs/heads/") || there("refs/remotes/origin/");
        if !is_branch && !there("refs/tags/") {
            return Err(CliError::usage(format!("`{name}` is neither a branch nor a tag")));
        }
        let commit = self.repository.find_commit(commit).map_err(|e| reading(&e))?;
        self.facts_of(name.to_owned(), !is_branch, &commit)
    }

    /// The facts of a ref of that name at a commit, whether or not it is there.
    ///
    /// # Errors
    /// Git's files can't be read.
    pub fn facts_of(&self, name: String, is_tag: bool, commit: &git2::Commit<'_>) -> CliResult<Facts> {
        let tag = is_tag.then(|| self.repository.find_reference(&format!("refs/tags/{name}")).ok()).flatten();
        let tag_message = tag
            .and_then(|r| r.peel_to_tag().ok())
            .and_then(|t| t.message().ok().flatten().map(str::to_owned));
        let default_branch = self.default_branch(&name);
        let when = commit.time();
        let author = commit.author();
        Ok(Facts {
            path: self.path(),
            commit: Commit {
                sha: commit.id().to_string(),
                before_sha: self.before(&name, commit, &default_branch).filter(|_| !is_tag),
                message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
                author: format!(
                    "{} <{}>",
                    String::from_utf8_lossy(author.name_bytes()),
                    String::from_utf8_lossy(author.email_bytes())
                ),
                timestamp: iso_8601(when.seconds(), when.offset_minutes()),
                tag_message,
                protected: !is_tag && name == default_branch,
                merge_base: None,
            },
            refs: self.refs().map_err(|e| reading(&e))?,
            reference: name,
            tag: is_tag,
            default_branch,
        })
    }

    /// Branch checked out; else a tag on HEAD; else the short commit id, as a branch.
    fn checked_out(&self, head: &git2::Reference<'_>, commit: git2::Oid) -> (String, bool) {
        if head.is_branch()
            && let Ok(name) = head.shorthand()
        {
            return (name.to_owned(), false);
        }
        let tag = self.repository.references_glob("refs/tags/*").ok().and_then(|refs| {
            refs.flatten()
                .filter(|r| r.peel_to_commit().is_ok_and(|c| c.id() == commit))
                .find_map(|r| r.shorthand().ok().map(str::to_owned))
        });
        match tag {
            Some(tag) => (tag, true),
            None => (commit.to_string()[..8].to_owned(), false),
        }
    }

    /// Where a push of the branch would find it: at its upstream, or at the commit before. None: it would be new.
    fn before(&self, branch: &str, commit: &git2::Commit<'_>, default_branch: &str) -> Option<String> {
        let local = self.repository.find_branch(branch, BranchType::Local).ok();
        let upstream = local.and_then(|b| b.upstream().ok()).and_then(|u| u.get().target());
        if upstream.is_none() && branch != default_branch {
            return None;
        }
        let other = upstream.filter(|id| *id != commit.id()).or_else(|| commit.parent_id(0).ok());
        other.map(|id| id.to_string())
    }

    /// `origin/HEAD`, else `main` or `master` if there, else git's `init.defaultBranch`, else what is checked out.
    fn default_branch(&self, current: &str) -> String {
        let origin = self.repository.find_reference("refs/remotes/origin/HEAD").ok();
        let origin = origin.and_then(|r| r.symbolic_target().ok().flatten().map(str::to_owned));
        if let Some(name) = origin.as_deref().and_then(|n| n.strip_prefix("refs/remotes/origin/")) {
            return name.to_owned();
        }
        if self.repository.is_bare()
            && let Some(Ok(name)) = self.repository.head().ok().as_ref().map(git2::Reference::shorthand)
        {
            return name.to_owned();
        }
        let exists = |name: &str| self.repository.find_branch(name, BranchType::Local).is_ok();
        let configured = self.repository.config().and_then(|c| c.get_string("init.defaultBranch")).ok();
        ["main".to_owned(), "master".to_owned()]
            .into_iter()
            .chain(configured)
            .find(|name| exists(name))
            .unwrap_or_else(|| current.to_owned())
    }

    /// `group/project` of the remote `origin`, else `local/<directory>`.
    pub fn path(&self) -> String {
        let url = self.repository.find_remote("origin").ok().and_then(|r| r.url().ok().map(str::to_owned));
        url.as_deref().and_then(project_path).unwrap_or_else(|| {
            let name =
                self.root.file_name().map_or_else(|| "project".into(), |n| n.to_string_lossy().into_owned());
            format!("local/{}", name.to_lowercase())
        })
    }

    /// Paths that git tracks.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn tracked(&self) -> CliResult<Vec<String>> {
        let index = self.repository.index();
        let index = index.map_err(|e| CliError::usage(format!("reading git's index: {}", e.message())))?;
        Ok(index.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect())
    }

    fn refs(&self) -> Result<Vec<String>, git2::Error> {
        let mut names: Vec<String> = Vec::new();
        for reference in self.repository.references()? {
            let reference = reference?;
            let Ok(name) = reference.name() else { continue };
            for prefix in ["refs/heads/", "refs/tags/", "refs/remotes/origin/"] {
                names.extend(name.strip_prefix(prefix).map(str::to_owned));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// A name for a directory's own place in our state: the directory's name and a digest of its whole path.
pub fn state_name(root: &Path) -> String {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let digest = crate::digest::sha256_hex(path.as_os_str().as_encoded_bytes());
    let name = path.file_name().map_or_else(|| "root".into(), |n| n.to_string_lossy().into_owned());
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' })
        .collect();
    format!("{name}-{}", &digest[..12])
}

fn reading(error: &git2::Error) -> CliError {
    CliError::usage(format!("reading the git repository: {}", error.message()))
}

/// Project path in a git URL: `https://host/group/project.git`, `git@host:group/project.git`. Local paths have none.
fn project_path(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?.1,
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.1,
    };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    (path.contains('/') && !path.is_empty()).then(|| path.to_owned())
}

/// Seconds since the epoch and an offset in minutes as `2026-01-31T12:00:00+02:00`.
fn iso_8601(seconds: i64, offset_minutes: i32) -> String {
    let offset =
        jiff::tz::Offset::from_seconds(offset_minutes.saturating_mul(60)).unwrap_or(jiff::tz::Offset::UTC);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.to_zoned(offset.to_time_zone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_path_comes_from_the_remote() {
        let cases = [
            ("https://gitlab.example.org/group/sub/project.git", Some("group/sub/project")),
            ("git@gitlab.example.org:group/project.git", Some("group/project")),
            ("ssh://git@gitlab.example.org:2222/group/project", Some("group/project")),
            ("/srv/git/project.git", None),
            ("../project", None),
            ("file:///srv/git/project.git", None),
        ];
        for (url, path) in cases {
            assert_eq!(project_path(url).as_deref(), path, "{url}");
        }
    }

    #[test]
    fn timestamps_are_iso_8601() {
        assert_eq!(iso_8601(1_767_225_600, 0), "2026-01-01T00:00:00+00:00");
        assert_eq!(iso_8601(951_782_400, 120), "2000-02-29T02:00:00+02:00");
        assert_eq!(iso_8601(0, -330), "1969-12-31T18:30:00-05:30");
    }
}
