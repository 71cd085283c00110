//! What every handler and every pass has at hand.

use super::config::Config;
use super::db::Db;
use super::engine::Engine;
use super::environments::Desks;
use super::hooks::Hooks;
use super::logs::Logs;
use super::ops::{Beats, Meters};
use super::people::People;
use super::vault::Vault;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

/// The server's parts. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// See [`App`].
#[derive(Debug)]
pub struct Parts {
    /// `server.yml`, and what the command line says.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// Secrets.
    pub vault: Vault,
    /// Pipelines in memory.
    pub engine: Engine,
    /// Deliveries on their way to the inbox.
    pub hooks: Hooks,
    /// Who has tried to sign in.
    pub people: People,
    /// Work trees of default branches.
    pub desks: Desks,
    /// Logs of jobs.
    pub logs: Arc<Logs>,
    /// When each pass ran last.
    pub beats: Beats,
    /// What is counted and timed for `/metrics`.
    pub meters: Meters,
    /// In maintenance no job is handed out.
    pub maintenance: AtomicBool,
    /// Wakes passes before their timer does.
    pub wake: Wake,
    /// Says what changed, to whoever shows it. A slow reader misses some and reads all again.
    pub changes: broadcast::Sender<Changed>,
    /// Cancelled when the server is to end: no more connections are taken; [`Parts::ending`] follows in a moment.
    pub closing: CancellationToken,
    /// Cancelled when the server ends: passes end, streams close.
    pub ending: CancellationToken,
}

/// A pass waits for its own.
#[derive(Debug, Default)]
pub struct Wake {
    /// A delivery was stored.
    pub inbox: Notify,
    /// The engine has something to do: a trigger job, a timer, a pipeline that ended.
    pub engine: Notify,
    /// A job may be handed out; long polls wait for it as well.
    pub queue: Notify,
    /// A commit status is to be sent.
    pub statuses: Notify,
    /// A message to people is to be sent.
    pub notices: Notify,
    /// A deployment may go on.
    pub deployments: Notify,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A pipeline, or one of its jobs.
    Pipeline {
        /// Project.
        project: i64,
        /// Pipeline.
        pipeline: i64,
        /// The job, if it was one.
        job: Option<i64>,
    },
    /// A job's log has grown.
    Log {
        /// The job.
        job: i64,
    },
    /// A delivery came or was dealt with.
    Delivery {
        /// Project.
        project: i64,
    },
    /// A deployment, an approval, a lock.
    Environment {
        /// Project.
        project: i64,
    },
}

impl std::ops::Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Opens what is in the data directory.
    ///
    /// # Errors
    /// The directory or the database can't be used; says which.
    pub async fn open(config: Config) -> io::Result<App> {
        let data = &config.data;
        std::fs::create_dir_all(data).map_err(|e| told("making the data directory", data, &e))?;
        let key = data.join("key");
        let vault = Vault::open(&key).map_err(|e| told("opening the key", &key, &e))?;
        let db = Db::open(&config.database_url())
            .await
            .map_err(|e| io::Error::other(format!("opening the database: {e}")))?;
        let (changes, _) = broadcast::channel(1024);
        let logs = Arc::new(Logs::new(config.data.join("logs")));
        Ok(App(Arc::new(Parts {
            config,
            logs,
            db,
            vault,
            engine: Engine::default(),
            hooks: Hooks::default(),
            people: People::default(),
            desks: Desks::default(),
            beats: Beats::default(),
            meters: Meters::default(),
            maintenance: AtomicBool::new(false),
            wake: Wake::default(),
            changes,
            closing: CancellationToken::new(),
            ending: CancellationToken::new(),
        })))
    }

    /// Tells whoever listens.
    pub fn changed(&self, what: Changed) {
        // nobody listening is no error
        let _ = self.changes.send(what);
    }

    /// A place below the data directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        self.config.data.join(name)
    }
}

fn told(doing: &str, path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{doing} `{}`: {error}", path.display()))
}
