//! Pipelines in memory, each behind a lock of its own. What is here can be dropped at any time: the database has it.

use super::sealed::Sealed;
use crate::server::rows::Pipeline;
use crate::server::{Answer, App, Problem};
use pipelines::request::Request;
use pipelines::schedule::{Input, JobId, Scheduler};
use pipelines::status::Status;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Pipelines in memory, and whose turn it is.
pub struct Engine {
    live: Mutex<HashMap<i64, Slot>>,
    fetching: Turns,
    creating: Turns,
    /// When this process began to look after jobs: leases that ran out while there was none are not held against runners.
    pub(super) since: i64,
    /// Jobs that nobody looks after, as the last check of the invariants has counted them.
    pub(in crate::server) stuck: std::sync::atomic::AtomicI64,
}

type Slot = Arc<tokio::sync::Mutex<Option<Live>>>;
/// One lock for each project.
type Turns = Mutex<HashMap<i64, Arc<tokio::sync::Mutex<()>>>>;
/// A pipeline that nobody else changes.
pub(super) type Held = OwnedMutexGuard<Option<Live>>;

/// A pipeline under way.
pub(super) struct Live {
    pub(super) scheduler: Scheduler,
    pub(super) request: Arc<Request>,
    pub(super) row: Pipeline,
    /// The newest attempt of each job, by position.
    pub(super) attempts: Vec<Attempt>,
    /// Number of the next input.
    pub(super) next: i64,
}

/// The newest attempt of a job, as far as the engine must know it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: i64,
    pub(super) number: i64,
    /// What the scheduler says; the row of one that waits for another pipeline's resource says more.
    pub(super) status: Status,
    /// Was it ever put into the queue?
    pub(super) ran: bool,
    /// Resource group; empty: none.
    pub(super) group: String,
    /// A trigger job?
    pub(super) bridge: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine {
            live: Mutex::default(),
            fetching: Turns::default(),
            creating: Turns::default(),
            since: crate::server::db::now(),
            stuck: std::sync::atomic::AtomicI64::new(0),
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// Jobs that nobody looks after: 0, or something is wrong with the server itself.
    pub fn stuck(&self) -> i64 {
        self.stuck.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Held while a project's repository is fetched.
    pub(in crate::server) fn fetching(&self, project: i64) -> Arc<tokio::sync::Mutex<()>> {
        turn(&self.fetching, project)
    }

    /// Held while a pipeline of the project is made: their numbers have no holes, and rules see theirs.
    pub(super) fn creating(&self, project: i64) -> Arc<tokio::sync::Mutex<()>> {
        turn(&self.creating, project)
    }

    /// Waits for the pipeline; it may have to be loaded.
    pub(super) async fn hold(&self, pipeline: i64) -> Held {
        let slot =
            self.live.lock().unwrap_or_else(PoisonError::into_inner).entry(pipeline).or_default().clone();
        slot.lock_owned().await
    }

    /// Gives a pipeline back that needs not stay in memory.
    pub(super) fn forget(&self, pipeline: i64, mut held: Held) {
        *held = None;
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        // ours and the table's: nobody waits for it, and nobody can begin to while we hold the table
        if Arc::strong_count(OwnedMutexGuard::mutex(&held)) == 2 {
            live.remove(&pipeline);
        }
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn turn(turns: &Turns, project: i64) -> Arc<tokio::sync::Mutex<()>> {
    turns.lock().unwrap_or_else(PoisonError::into_inner).entry(project).or_default().clone()
}

impl Live {
    /// From the database: the scheduler hears again all that it was told.
    pub(super) async fn load(app: &App, pipeline: i64) -> Answer<Live> {
        let row = pipeline_row(app, pipeline).await?;
        let Sealed { request, plan } = sealed(app, pipeline).await?;
        let mut scheduler = Scheduler::new(Arc::new(plan))
            .map_err(|e| Problem::internal(&format!("reading the plan of pipeline {pipeline}"), &e))?;
        let told: Vec<(i64, String)> =
            sqlx::query_as("SELECT seq, input FROM inputs WHERE pipeline_id = $1 ORDER BY seq")
                .bind(pipeline)
                .fetch_all(&app.db.pool)
                .await?;
        let mut next = 1;
        for (seq, text) in told {
            let input: Input = serde_json::from_str(&text)
                .map_err(|e| Problem::internal(&format!("reading input {seq} of pipeline {pipeline}"), &e))?;
            scheduler.handle(input);
            next = seq + 1;
        }
        let attempts = attempts(app, pipeline, &scheduler).await?;
        Ok(Live { scheduler, request: Arc::new(request), row, attempts, next })
    }
}

type AttemptRow = (i64, i64, i64, Option<i64>, String, i64);

async fn attempts(app: &App, pipeline: i64, scheduler: &Scheduler) -> Answer<Vec<Attempt>> {
    let newest = "SELECT id, position, attempt, queued_at, resource_group, bridge FROM jobs \
                  WHERE pipeline_id = $1 AND newest = 1 ORDER BY position";
    let rows: Vec<AttemptRow> = sqlx::query_as(newest).bind(pipeline).fetch_all(&app.db.pool).await?;
    let jobs = scheduler.plan().jobs.len();
    let whole = rows.len() == jobs && rows.iter().zip(0..).all(|(row, index)| row.1 == index);
    if !whole {
        let why = format!("its plan has {jobs} jobs, the database has {}", rows.len());
        return Err(Problem::internal(&format!("reading the jobs of pipeline {pipeline}"), &why));
    }
    let attempt = |(index, row): (usize, AttemptRow)| {
        let (id, _, number, queued_at, group, bridge) = row;
        let status = scheduler.status(JobId(index));
        Attempt { id, number, status, ran: queued_at.is_some(), group, bridge: bridge == 1 }
    };
    Ok(rows.into_iter().enumerate().map(attempt).collect())
}

/// What a pipeline runs with.
pub(super) async fn sealed(app: &App, pipeline: i64) -> Answer<Sealed> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM pipelines WHERE id = $1")
        .bind(pipeline)
        .fetch_one(&app.db.pool)
        .await?;
    let bytes = bytes.ok_or_else(|| Problem::conflict("the pipeline has no jobs"))?;
    let doing = || format!("opening pipeline {pipeline}");
    Sealed::open(&app.vault, pipeline, &bytes).map_err(|e| Problem::internal(&doing(), &e))
}

/// The row of a pipeline of any project.
pub(super) async fn pipeline_row(app: &App, pipeline: i64) -> Answer<Pipeline> {
    let text = format!("SELECT {} FROM pipelines WHERE id = $1", Pipeline::COLUMNS);
    let query = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(pipeline);
    query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("pipeline"))
}
