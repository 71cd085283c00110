//! The inbox: a delivery is on the disk before it is answered. All that wait are stored together, so that a burst
//! costs one fsync and not hundreds.

use super::refusals::{Refusals, Refused};
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use axum::http::StatusCode;
use sqlx::{AnyConnection, Connection, Executor};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Deliveries of one transaction.
const BATCH: usize = 256;
/// Of all bodies together that are being received.
const ROOM_KIB: usize = 256 * 1024;
/// How long open deliveries are waited for when the server ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// A delivery to be stored.
#[derive(Clone, Debug)]
pub(super) struct NewDelivery {
    pub(super) project: i64,
    pub(super) key: String,
    pub(super) forge: String,
    pub(super) event: String,
    pub(super) headers: String,
    pub(super) body: Vec<u8>,
    /// Empty: the key alone decides whether it was here before.
    pub(super) body_digest: String,
}

/// Where a delivery is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    New(i64),
    /// It had come before.
    Known(i64),
}

type Waiting = (NewDelivery, oneshot::Sender<Answer<Kept>>);

/// Deliveries on their way to the inbox.
#[derive(Debug)]
pub struct Hooks {
    to_writer: mpsc::Sender<Waiting>,
    from_routes: Mutex<Option<mpsc::Receiver<Waiting>>>,
    room: Arc<Semaphore>,
    open: Arc<AtomicUsize>,
    pub(super) refusals: Refusals,
}

impl Default for Hooks {
    fn default() -> Hooks {
        let (to_writer, from_routes) = mpsc::channel(BATCH);
        Hooks {
            to_writer,
            from_routes: Mutex::new(Some(from_routes)),
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            open: Arc::default(),
            refusals: Refusals::default(),
        }
    }
}

/// A delivery is being received as long as this lives.
pub(super) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Hooks {
    /// Deliveries of the project that were turned away since the server started.
    pub fn refused(&self, project: i64) -> Option<Refused> {
        self.refusals.project(project)
    }

    /// Deliveries that were turned away since the server started, of all hooks.
    pub fn refused_total(&self) -> u64 {
        self.refusals.total()
    }

    pub(super) fn open(&self) -> Open {
        self.open.fetch_add(1, Ordering::AcqRel);
        Open(Arc::clone(&self.open))
    }

    /// Room for more of a body.
    pub(super) fn room(&self, bytes: usize) -> Answer<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let full = |_| Problem::unavailable("too many deliveries at once; try again");
        Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(full)
    }

    /// Stores a delivery; it is on the disk when this returns.
    pub(super) async fn store(&self, delivery: NewDelivery) -> Answer<Kept> {
        let ending = |()| Problem::unavailable("the server is ending; try again");
        let (answer, kept) = oneshot::channel();
        self.to_writer.send((delivery, answer)).await.map_err(|_| ending(()))?;
        kept.await.map_err(|_| ending(()))?
    }
}

/// Stores what comes. After [`App::ending`] it goes on until the last open delivery is answered.
pub(super) async fn pass(app: App) {
    let taken = app.hooks.from_routes.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut from_routes) = taken else { return };
    let mut connection = None;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            _ = from_routes.recv_many(&mut batch, BATCH) => {}
            () = app.ending.cancelled() => break,
        }
        store(&app, &mut connection, &mut batch).await;
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    while app.hooks.open.load(Ordering::Acquire) > 0 && tokio::time::Instant::now() < until {
        let soon = tokio::time::timeout(Duration::from_millis(20), from_routes.recv_many(&mut batch, BATCH));
        if soon.await.is_ok() {
            store(&app, &mut connection, &mut batch).await;
        }
    }
}

async fn store(app: &App, connection: &mut Option<AnyConnection>, batch: &mut Vec<Waiting>) {
    let deliveries: Vec<&NewDelivery> = batch.iter().map(|(delivery, _)| delivery).collect();
    let mut kept = match stored(app, connection, &deliveries).await {
        Ok(kept) => kept.into_iter().map(Ok).collect(),
        // one that can't be stored (its project is gone) must not take the others with it
        Err(_) if batch.len() > 1 => {
            let mut each = Vec::new();
            for delivery in deliveries {
                each.push(stored(app, connection, &[delivery]).await.map(|kept| kept[0]));
            }
            each
        }
        Err(error) => vec![Err(error)],
    };
    for ((_, answer), kept) in batch.drain(..).zip(kept.drain(..)) {
        let kept = kept.map_err(|error: sqlx::Error| {
            tracing::error!("storing a delivery: {error}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the delivery could not be stored; send it again")
        });
        // who asked may have gone; the delivery stays
        let _ = answer.send(kept);
    }
}

async fn stored(
    app: &App,
    connection: &mut Option<AnyConnection>,
    deliveries: &[&NewDelivery],
) -> Result<Vec<Kept>, sqlx::Error> {
    let open = match connection.take() {
        Some(open) => open,
        None => connect(app).await?,
    };
    // a connection that failed is not used again
    let open = connection.insert(open);
    let result = insert(app, open, deliveries).await;
    if result.is_err() {
        *connection = None;
    }
    result
}

/// A connection of our own: its commits reach the disk before they return.
async fn connect(app: &App) -> Result<AnyConnection, sqlx::Error> {
    let options = sqlx::any::AnyConnectOptions::from_str(&app.config.database_url())?;
    let mut connection = AnyConnection::connect_with(&options).await?;
    if app.db.is_sqlite() {
        let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                        PRAGMA busy_timeout = 20000";
        connection.execute(settings).await?;
    }
    Ok(connection)
}

async fn insert(
    app: &App,
    connection: &mut AnyConnection,
    deliveries: &[&NewDelivery],
) -> Result<Vec<Kept>, sqlx::Error> {
    let begin = if app.db.is_sqlite() { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let mut tx = connection.begin_with(begin).await?;
    let mut kept = Vec::new();
    for delivery in deliveries {
        kept.push(keep(&mut tx, delivery, "waiting", "").await?);
    }
    tx.commit().await?;
    Ok(kept)
}

/// Into the table, unless it is there.
pub(super) async fn keep(
    tx: &mut AnyConnection,
    new: &NewDelivery,
    state: &str,
    reason: &str,
) -> Result<Kept, sqlx::Error> {
    let known = "SELECT id FROM deliveries WHERE project_id = $1 \
                 AND (key = $2 OR (body_digest <> '' AND body_digest = $3)) ORDER BY id LIMIT 1";
    let known = || sqlx::query_scalar(known).bind(new.project).bind(&new.key).bind(&new.body_digest);
    if let Some(id) = known().fetch_optional(&mut *tx).await? {
        return Ok(Kept::Known(id));
    }
    let insert = sqlx::query_scalar(
        "INSERT INTO deliveries (project_id, key, forge, event, headers, body, body_digest, received_at, state, \
         reason, tries) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0) \
         ON CONFLICT (project_id, key) DO NOTHING RETURNING id",
    );
    let insert = insert.bind(new.project).bind(&new.key).bind(&new.forge).bind(&new.event).bind(&new.headers);
    let insert = insert.bind(new.body.as_slice()).bind(&new.body_digest).bind(now()).bind(state).bind(reason);
    match insert.fetch_optional(&mut *tx).await? {
        Some(id) => Ok(Kept::New(id)),
        // PostgreSQL: another of our writers was first
        None => known().fetch_one(&mut *tx).await.map(Kept::Known),
    }
}
