//! A project's work tree on the server, at the newest commit of its default branch, and what is read there.

use crate::deploy::DeployFile;
use crate::ledger::{Entry, Ledger};
use crate::project::state_name;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem, mirror};
use git2::build::CheckoutBuilder;
use git2::{Oid, Repository};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Where a project's releases are handled. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The work tree.
    pub root: PathBuf,
    /// What happened.
    pub ledger: Ledger,
    /// `SLIPWAY_HOME` of what runs here.
    pub home: PathBuf,
    contents: Arc<Contents>,
}

#[derive(Debug)]
struct Contents {
    stamp: Stamp,
    file: Answer<Option<DeployFile>>,
    entries: Answer<Vec<Entry>>,
}

/// What is read again is the same while this is: the work tree's commit, size and time of the ledger.
type Stamp = (Oid, Option<(u64, SystemTime)>);

/// The desks that were opened. Each has a lock: nobody reads a work tree while it is brought to another commit.
#[derive(Debug, Default)]
pub struct Desks(Mutex<HashMap<i64, Place>>);

type Place = Arc<tokio::sync::Mutex<Option<Desk>>>;

impl Desks {
    fn place(&self, project: i64) -> Place {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(project).or_default().clone()
    }
}

impl Desk {
    /// The desk of a project, brought to the newest commit of its default branch that the mirror has; while a process
    /// works there it stays where it is.
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
        let path = project.path.clone();
        let mut held = app.desks.place(project.id).lock_owned().await;
        let work = move || -> Result<Desk, Problem> {
            if !mirror.exists() {
                let told =
                    format!("the repository of `{path}` was not fetched yet: push to it, or run a pipeline");
                return Err(Problem::conflict(told));
            }
            let told = |e: git2::Error| {
                Problem::conflict(format!("bringing the work tree to branch `{branch}`: {}", e.message()))
            };
            let commit = bring(&mirror, &root, &branch).map_err(told)?;
            let ledger = Ledger { state: home.join("projects").join(state_name(&root)) };
            let stamp = (commit, stamp(&ledger.path()));
            let known = held.take().filter(|desk| desk.contents.stamp == stamp);
            let desk = known.unwrap_or_else(|| Desk::read(root, ledger, home, stamp));
            if desk.contents.file.is_ok() && desk.contents.entries.is_ok() {
                *held = Some(desk.clone());
            }
            Ok(desk)
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Problem::internal("bringing a work tree", &e))?
    }

    fn read(root: PathBuf, ledger: Ledger, home: PathBuf, stamp: Stamp) -> Desk {
        let file = DeployFile::load(&root).map_err(|e| Problem::conflict(e.to_string()));
        let entries = ledger.entries().map_err(|e| Problem::conflict(e.message));
        Desk { root, ledger, home, contents: Arc::new(Contents { stamp, file, entries }) }
    }

    /// `.ci/deploy.yml` of the default branch; none: the project has no environments.
    ///
    /// # Errors
    /// It has mistakes; says which.
    pub fn file(&self) -> Answer<Option<&DeployFile>> {
        self.contents.file.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// The ledger's entries when the desk was asked for, oldest first.
    ///
    /// # Errors
    /// Somebody changed the ledger.
    pub fn entries(&self) -> Answer<&[Entry]> {
        self.contents.entries.as_deref().map_err(Clone::clone)
    }

    /// For the standard input of a process that works here: while it lives, the work tree stays as it is. Waits while
    /// the tree is being brought to another commit.
    ///
    /// # Errors
    /// The data directory can't be written.
    pub fn hold(&self) -> io::Result<File> {
        let lock = lock_of(&self.root)?;
        lock.lock_shared()?;
        Ok(lock)
    }
}

fn lock_of(root: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(root.with_extension("lock"))
}

fn stamp(ledger: &Path) -> Option<(u64, SystemTime)> {
    let found = std::fs::metadata(ledger).ok()?;
    Some((found.len(), found.modified().ok()?))
}

/// Makes the work tree if it is not there; says where it is. What the build left in it stays: git ignores it.
fn bring(mirror: &Path, root: &Path, branch: &str) -> Result<Oid, git2::Error> {
    let repository = match Repository::open(root) {
        Ok(repository) => repository,
        Err(_) => {
            let repository = Repository::init(root)?;
            repository.remote("origin", &mirror.to_string_lossy())?;
            repository
        }
    };
    let wanted = Repository::open_bare(mirror)?.refname_to_id(&format!("refs/heads/{branch}"))?;
    let here = repository.head().ok().and_then(|head| head.target());
    if here == Some(wanted) {
        return Ok(wanted);
    }
    let lock = lock_of(root).map_err(|e| git2::Error::from_str(&e.to_string()))?;
    if let (Some(here), Err(_)) = (here, lock.try_lock()) {
        return Ok(here);
    }
    let specs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    repository.find_remote("origin")?.fetch(&specs, None, None)?;
    let commit = repository.find_commit(wanted)?;
    // a tree that a kill has left half way is not taken for the new one: the head moves last
    repository.checkout_tree(commit.as_object(), Some(CheckoutBuilder::new().force()))?;
    repository.set_head_detached(wanted)?;
    Ok(wanted)
}

/// Commits that `newer` has and `older` has not; none when one of them is not known.
pub(super) fn commits_between(root: &Path, older: &str, newer: &str) -> Option<usize> {
    let repository = Repository::open(root).ok()?;
    let id = |text: &str| git2::Oid::from_str(text).ok();
    let (ahead, _) = repository.graph_ahead_behind(id(newer)?, id(older)?).ok()?;
    Some(ahead)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ledger::Fact;
    use crate::server::config::Config;

    /// Commits `.ci/deploy.yml` to `main` in the mirror of project 1.
    pub(in crate::server) fn commit(app: &App, deploy: &str) -> Oid {
        let repository = Repository::init_bare(app.dir("mirrors").join("1.git")).unwrap();
        let blob = repository.blob(deploy.as_bytes()).unwrap();
        let mut below = repository.treebuilder(None).unwrap();
        below.insert("deploy.yml", blob, 0o100_644).unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        tree.insert(".ci", below.write().unwrap(), 0o040_000).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let ann = git2::Signature::now("Ann", "ann@localhost").unwrap();
        let before = repository.revparse_single("main").and_then(|found| found.peel_to_commit()).ok();
        let parents: Vec<&git2::Commit<'_>> = before.iter().collect();
        repository.commit(Some("refs/heads/main"), &ann, &ann, "says where", &tree, &parents).unwrap()
    }

    async fn site(data: &Path) -> (App, Project) {
        let app = App::open(Config { data: data.to_owned(), ..Config::default() }).await.unwrap();
        let text = "INSERT INTO projects (id, path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
                    paused, created_at) VALUES (1, 'g/app', 'file:///nowhere', 'generic', '', 'main', 'h', '[]', '{}', 0, 1)";
        sqlx::query(text).execute(&app.db.pool).await.unwrap();
        let project = app.project("1").await.unwrap();
        (app, project)
    }

    #[tokio::test]
    async fn what_was_read_is_read_again_when_the_branch_or_the_ledger_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (app, project) = site(dir.path()).await;
        commit(&app, "environments: {dev: {targets: [app@dev]}}\n");
        let first = Desk::of(&app, &project).await.unwrap();
        let again = Desk::of(&app, &project).await.unwrap();
        assert!(Arc::ptr_eq(&first.contents, &again.contents));
        first.ledger.append_by(Fact::Cleared(crate::ledger::Mark::default()), "ann".into()).unwrap();
        let later = Desk::of(&app, &project).await.unwrap();
        assert_eq!((first.entries().unwrap().len(), later.entries().unwrap().len()), (0, 1));
        commit(&app, "environments: {prod: {targets: [app@prod]}}\n");
        let moved = Desk::of(&app, &project).await.unwrap();
        let names: Vec<&String> = moved.file().unwrap().unwrap().environments.keys().collect();
        assert_eq!(names, ["prod"]);
    }

    #[tokio::test]
    async fn a_work_tree_stays_where_it_is_while_a_process_works_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (app, project) = site(dir.path()).await;
        commit(&app, "environments: {dev: {targets: [app@dev]}}\n");
        let held = Desk::of(&app, &project).await.unwrap().hold().unwrap();
        commit(&app, "environments: {prod: {targets: [app@prod]}}\n");
        let text = || std::fs::read_to_string(app.dir("desks").join("1/.ci/deploy.yml")).unwrap();
        for (held, expected) in [(Some(held), "dev"), (None, "prod")] {
            let desk = Desk::of(&app, &project).await.unwrap();
            assert!(desk.file().unwrap().unwrap().environments.contains_key(expected));
            assert!(text().contains(expected));
            drop(held);
        }
    }
}
