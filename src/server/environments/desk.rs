//! A project's work tree on the server, at the newest commit of its default branch.

use crate::deploy::DeployFile;
use crate::ledger::{Entry, Ledger};
use crate::project::state_name;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem, mirror};
use git2::build::CheckoutBuilder;
use git2::{Repository, ResetType};
use std::path::{Path, PathBuf};

/// Where a project's releases are handled.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The work tree.
    pub root: PathBuf,
    /// What happened.
    pub ledger: Ledger,
    /// `SLIPWAY_HOME` of what runs here.
    pub home: PathBuf,
}

impl Desk {
    /// The desk of a project, brought to the newest commit of its default branch that the mirror has.
    ///
    /// # Errors
    /// There is no such branch yet, or no room.
    pub async fn of(app: &App, project: &Project) -> Answer<Desk> {
        let (home, root) = (app.dir("home"), app.dir("desks").join(project.id.to_string()));
        let mirror = mirror::path(app, project.id);
        if !mirror.exists() {
            mirror::fetch(app, project).await?;
        }
        let branch = project.default_branch.clone();
        let work = move || -> Result<Desk, Problem> {
            let told = |e: git2::Error| {
                Problem::conflict(format!("bringing the work tree to branch `{branch}`: {}", e.message()))
            };
            bring(&mirror, &root, &branch).map_err(told)?;
            let state = home.join("projects").join(state_name(&root));
            Ok(Desk { root, ledger: Ledger { state }, home })
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Problem::internal("bringing a work tree", &e))?
    }

    /// `.ci/deploy.yml` of the default branch; none: the project has no environments.
    ///
    /// # Errors
    /// It has mistakes; says which.
    pub fn file(&self) -> Answer<Option<DeployFile>> {
        DeployFile::load(&self.root).map_err(|e| Problem::conflict(e.to_string()))
    }

    /// The ledger's entries, oldest first.
    ///
    /// # Errors
    /// Somebody changed the ledger.
    pub fn entries(&self) -> Answer<Vec<Entry>> {
        self.ledger.entries().map_err(|e| Problem::conflict(e.message))
    }
}

/// Makes the work tree if it is not there. What the build left in it stays: git ignores it.
fn bring(mirror: &Path, root: &Path, branch: &str) -> Result<(), git2::Error> {
    let repository = match Repository::open(root) {
        Ok(repository) => repository,
        Err(_) => {
            let repository = Repository::init(root)?;
            repository.remote("origin", &mirror.to_string_lossy())?;
            repository
        }
    };
    let wanted = Repository::open_bare(mirror)?.refname_to_id(&format!("refs/heads/{branch}"))?;
    if repository.head().ok().and_then(|head| head.target()) == Some(wanted) {
        return Ok(());
    }
    let specs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    repository.find_remote("origin")?.fetch(&specs, None, None)?;
    let commit = repository.find_commit(wanted)?;
    repository.set_head_detached(wanted)?;
    repository.reset(commit.as_object(), ResetType::Hard, Some(CheckoutBuilder::new().force()))
}

/// Commits that `newer` has and `older` has not; none when one of them is not known.
pub(super) fn commits_between(root: &Path, older: &str, newer: &str) -> Option<usize> {
    let repository = Repository::open(root).ok()?;
    let id = |text: &str| git2::Oid::from_str(text).ok();
    let (ahead, _) = repository.graph_ahead_behind(id(newer)?, id(older)?).ok()?;
    Some(ahead)
}
