//! A server's engine with one project, whose repository is a directory.

use crate::server::App;
use crate::server::access::Actor;
use crate::server::config::Config;
use crate::server::engine::{self, Claimed, Created, NewPipeline};
use crate::server::rows::{Job, Runner};
use crate::wire::runner::Info;
use git2::{Repository, Signature};
use pipelines::schedule::Outcome;
use pipelines::status::FailureReason;
use std::path::PathBuf;
use tempfile::TempDir;

/// See the [module](self).
pub(in crate::server::engine) struct Bench {
    pub(in crate::server::engine) app: App,
    pub(in crate::server::engine) project: i64,
    pub(in crate::server::engine) actor: Actor,
    dir: TempDir,
    config: Config,
}

impl Bench {
    /// With this configuration in its first commit.
    pub(in crate::server::engine) async fn new(configuration: &str) -> Bench {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config { data: dir.path().join("data"), ..Config::default() };
        config.database = database().await;
        let app = App::open(config.clone()).await.expect("a server");
        let actor = Actor { name: "ann".to_owned(), admin: true, ..Actor::anonymous() };
        let mut bench = Bench { app, project: 0, actor, dir, config };
        bench.project = bench.add_project("group/app").await;
        bench.commit("group/app", "main", &[(".gitlab-ci.yml", configuration)], "first");
        bench
    }

    /// As after kill -9: memory is gone, the database stays.
    pub(in crate::server::engine) async fn restart(&mut self) {
        self.app = App::open(self.config.clone()).await.expect("a server");
    }

    pub(in crate::server::engine) async fn add_project(&self, path: &str) -> i64 {
        let origin = self.origin(path);
        Repository::init_bare(&origin).expect("a repository");
        let new = "INSERT INTO projects (path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
                   paused, created_at) VALUES ($1, $2, 'generic', 'http://forge.test', 'main', $3, '', '{}', 0, 0) \
                   RETURNING id";
        let query = sqlx::query_scalar(new).bind(path).bind(origin.to_string_lossy().into_owned()).bind(path);
        query.fetch_one(&self.app.db.pool).await.expect("a project")
    }

    fn origin(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.replace('/', "-"))
    }

    /// Commits these files over those of the branch; its id.
    pub(in crate::server::engine) fn commit(
        &self,
        project: &str,
        branch: &str,
        files: &[(&str, &str)],
        message: &str,
    ) -> String {
        let repository = Repository::open_bare(self.origin(project)).expect("a repository");
        let full = format!("refs/heads/{branch}");
        let parent = repository.find_reference(&full).ok().and_then(|r| r.peel_to_commit().ok());
        let parent = parent.or_else(|| repository.head().ok()?.peel_to_commit().ok());
        let mut index = git2::Index::new().expect("an index");
        if let Some(parent) = &parent {
            index.read_tree(&parent.tree().expect("a tree")).expect("an index");
        }
        for (path, text) in files {
            let id = repository.blob(text.as_bytes()).expect("a blob");
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: 0o100_644,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).expect("an entry");
        }
        let tree = index.write_tree_to(&repository).expect("a tree");
        let tree = repository.find_tree(tree).expect("a tree");
        let who = Signature::now("Ann", "ann@example.org").expect("a signature");
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        // the first commit of a branch may follow another branch's
        let id = repository.commit(None, &who, &who, message, &tree, &parents).expect("a commit");
        repository.reference(&full, id, true, "push").expect("a branch");
        if branch == "main" {
            repository.set_head(&full).expect("a head");
        }
        id.to_string()
    }

    pub(in crate::server::engine) fn tag(&self, name: &str, message: &str) -> String {
        let repository = Repository::open_bare(self.origin("group/app")).expect("a repository");
        let head = repository.head().and_then(|head| head.peel_to_commit()).expect("a commit");
        let who = Signature::now("Ann", "ann@example.org").expect("a signature");
        repository.tag(name, head.as_object(), &who, message, true).expect("a tag").to_string()
    }

    pub(in crate::server::engine) fn push(&self, reference: &str) -> NewPipeline {
        NewPipeline {
            project: self.project,
            reference: reference.to_owned(),
            source: "push".to_owned(),
            trusted: true,
            actor: "ann".to_owned(),
            why: "push to it".to_owned(),
            ..NewPipeline::default()
        }
    }

    pub(in crate::server::engine) async fn create(&self) -> i64 {
        self.create_of(self.push("main")).await
    }

    pub(in crate::server::engine) async fn create_of(&self, new: NewPipeline) -> i64 {
        match engine::create(&self.app, new).await.expect("created") {
            Created::Pipeline(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(in crate::server::engine) async fn runner(&self, tags: &str) -> Runner {
        let new = "INSERT INTO runners (description, token, short_token, tags, run_untagged, protected_only, trusted_only, \
                   paused, local, info, created_by, created_at, contacted_at) VALUES ('r', $1, 'r', $2, 1, 0, 1, 0, 0, \
                   $4, 'ann', 0, $3) RETURNING id";
        let token = crate::server::vault::new_token("t");
        let query = sqlx::query_scalar(new).bind(token).bind(tags).bind(crate::server::db::now());
        let features = ["upload_multiple_artifacts", "return_exit_code", "artifacts_exclude"];
        let info = Info { features: Info::features_of(&features), ..Info::default() };
        let query = query.bind(serde_json::to_string(&info).expect("JSON"));
        let id: i64 = query.fetch_one(&self.app.db.pool).await.expect("a runner");
        let text = format!("SELECT {} FROM runners WHERE id = $1", Runner::COLUMNS);
        let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(id);
        query.fetch_one(&self.app.db.pool).await.expect("a runner")
    }

    pub(in crate::server::engine) async fn claim(&self, runner: &Runner) -> Option<Claimed> {
        engine::claim(&self.app, runner, "s_1").await.expect("an answer")
    }

    /// Claims a job, which must be that one.
    pub(in crate::server::engine) async fn claims(&self, runner: &Runner, name: &str) -> Claimed {
        let claimed = self.claim(runner).await.unwrap_or_else(|| panic!("no job where `{name}` is expected"));
        assert_eq!(self.job(claimed.job).await.name, name);
        claimed
    }

    pub(in crate::server::engine) async fn ends(&self, job: i64, well: bool) {
        let failed =
            Outcome::Failed { reason: FailureReason::ScriptFailure, exit_code: Some(1), message: None };
        let outcome = if well { Outcome::Success } else { failed };
        engine::finished(&self.app, job, outcome).await.expect("ended");
    }

    pub(in crate::server::engine) async fn job(&self, id: i64) -> Job {
        self.app.job(self.project, id).await.expect("a job")
    }

    /// `name=status` of the newest attempts, in order; `name#2=…` for a second attempt.
    pub(in crate::server::engine) async fn jobs(&self, pipeline: i64) -> String {
        let all =
            "SELECT name, attempt, status FROM jobs WHERE pipeline_id = $1 AND newest = 1 ORDER BY position";
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as(all).bind(pipeline).fetch_all(&self.app.db.pool).await.expect("jobs");
        let text = |(name, attempt, status): (String, i64, String)| match attempt {
            1 => format!("{name}={status}"),
            n => format!("{name}#{n}={status}"),
        };
        rows.into_iter().map(text).collect::<Vec<_>>().join(" ")
    }

    pub(in crate::server::engine) async fn id(&self, pipeline: i64, name: &str) -> i64 {
        let one = "SELECT id FROM jobs WHERE pipeline_id = $1 AND name = $2 AND newest = 1";
        let query = sqlx::query_scalar(one).bind(pipeline).bind(name);
        query.fetch_one(&self.app.db.pool).await.expect("a job")
    }

    pub(in crate::server::engine) async fn status(&self, pipeline: i64) -> String {
        let one = "SELECT status FROM pipelines WHERE id = $1";
        sqlx::query_scalar(one).bind(pipeline).fetch_one(&self.app.db.pool).await.expect("a pipeline")
    }

    pub(in crate::server::engine) async fn count(&self, table: &str) -> i64 {
        let text = format!("SELECT COUNT(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&self.app.db.pool).await.expect("a count")
    }

    pub(in crate::server::engine) async fn run(&self, text: &str) {
        sqlx::query(sqlx::AssertSqlSafe(text.to_owned())).execute(&self.app.db.pool).await.expect(text);
    }
}

/// A database of its own on the server that the environment names.
async fn database() -> Option<String> {
    let base = std::env::var("SLIPWAY_TEST_DATABASE").ok().filter(|url| !url.is_empty())?;
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&base).await.expect("the test database");
    let name = crate::server::vault::new_token("slipway_test_");
    let text = format!("CREATE DATABASE {name}");
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(&pool).await.expect("a database");
    pool.close().await;
    let (server, _) = base.rsplit_once('/').expect("postgres://HOST/DATABASE");
    Some(format!("{server}/{name}"))
}

/// Handlers and tasks ask for this.
pub(in crate::server::engine) fn is_send<T: Send>(value: T) -> T {
    value
}
