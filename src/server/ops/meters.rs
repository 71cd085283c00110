//! `/metrics`, as Prometheus reads it. What is stored is counted when it is asked for; durations are collected while
//! the server runs.

use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::{Answer, App, Problem};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

const EVERY: u64 = 10;

type Labels = Vec<(String, String)>;

/// Durations, in seconds.
#[derive(Debug)]
pub struct Meters {
    wait: Family<Labels, Histogram>,
    run: Family<Labels, Histogram>,
    /// A question to the database.
    read: Histogram,
    /// Leases that ended: by what became of the job.
    expired: Family<Labels, Counter>,
    /// Pages and logs that are being followed.
    streams: Family<Labels, Gauge>,
    /// Jobs that ended before are in it already.
    until: AtomicI64,
}

/// For durations of the database: from 0.1 ms.
pub fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 3.0, 12))
}

impl Default for Meters {
    fn default() -> Meters {
        let seconds = || Histogram::new(exponential_buckets(0.1, 2.0, 16));
        let meters = Meters {
            wait: Family::new_with_constructor(seconds),
            run: Family::new_with_constructor(seconds),
            read: latency(),
            expired: Family::default(),
            streams: Family::default(),
            until: AtomicI64::new(now()),
        };
        // there from the beginning: a rate from nothing to something is seen as well
        drop(meters.wait.get_or_create(&Vec::new()));
        for status in ["success", "failed", "canceled"] {
            drop(meters.run.get_or_create(&label("status", status)));
        }
        for fate in ["requeued", "lost"] {
            drop(meters.expired.get_or_create(&label("job", fate)));
        }
        for kind in ["page", "log"] {
            drop(meters.streams.get_or_create(&label("of", kind)));
        }
        meters
    }
}

fn label(name: &str, value: &str) -> Labels {
    vec![(name.to_owned(), value.to_owned())]
}

impl Meters {
    /// A lease ended, and the job was `requeued` or is `lost`.
    pub fn lease_ended(&self, fate: &str) {
        self.expired.get_or_create(&label("job", fate)).inc();
    }

    /// Somebody follows a `page` or a `log`, until the answer is dropped.
    pub fn stream(&self, of: &str) -> Stream {
        let gauge = self.streams.get_or_create(&label("of", of)).clone();
        gauge.inc();
        Stream(gauge)
    }
}

/// See [`Meters::stream`].
#[derive(Debug)]
pub struct Stream(Gauge);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Collects the durations of jobs that ended. Ends with [`App::ending`].
pub(super) async fn pass(app: App) {
    loop {
        if let Err(problem) = collect(&app).await {
            tracing::debug!("collecting durations: {problem}");
        }
        app.beats.ran("meters", EVERY);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(EVERY)) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

async fn collect(app: &App) -> Answer<()> {
    let from = app.meters.until.load(Ordering::Relaxed);
    let to = now();
    let text = "SELECT status, queued_at, started_at, finished_at FROM jobs WHERE finished_at > $1 AND finished_at <= $2";
    let began = Instant::now();
    let ended: Vec<(String, Option<i64>, Option<i64>, i64)> =
        sqlx::query_as(text).bind(from).bind(to).fetch_all(&app.db.pool).await?;
    app.meters.read.observe(began.elapsed().as_secs_f64());
    for (status, queued, started, finished) in ended {
        let Some(started) = started else { continue };
        app.meters.run.get_or_create(&label("status", &status)).observe(seconds(finished - started));
        if let Some(queued) = queued {
            app.meters.wait.get_or_create(&Vec::new()).observe(seconds(started - queued));
        }
    }
    app.meters.until.store(to, Ordering::Relaxed);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds is far below 2^52")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}

/// What is counted: name, help, label, statement that gives label and count.
const COUNTED: &[(&str, &str, &str, &str)] = &[
    (
        "slipway_deliveries",
        "Stored deliveries of webhooks",
        "state",
        "SELECT state, COUNT(*) FROM deliveries GROUP BY state",
    ),
    (
        "slipway_pipelines",
        "Stored pipelines",
        "status",
        "SELECT status, COUNT(*) FROM pipelines GROUP BY status",
    ),
    (
        "slipway_jobs",
        "Stored attempts of jobs",
        "status",
        "SELECT status, COUNT(*) FROM jobs GROUP BY status",
    ),
    (
        "slipway_jobs_waiting",
        "Jobs that wait, by the reason's first word",
        "held",
        "SELECT CASE WHEN waits_for = '' THEN 'no' ELSE 'yes' END, COUNT(*) FROM jobs WHERE status IN ('pending', 'waiting_for_resource') GROUP BY 1",
    ),
    (
        "slipway_runners",
        "Runners",
        "paused",
        "SELECT CASE WHEN paused = 1 THEN 'yes' ELSE 'no' END, COUNT(*) FROM runners GROUP BY 1",
    ),
    (
        "slipway_deployments",
        "Deployments",
        "status",
        "SELECT status, COUNT(*) FROM deployments GROUP BY status",
    ),
];

/// What is one number: name, help, statement.
const SINGLE: &[(&str, &str, &str)] = &[
    ("slipway_queue_depth", "Jobs that may be handed out", "SELECT COUNT(*) FROM pending"),
    (
        "slipway_inbox_oldest_ms",
        "When the oldest delivery came that waits, in milliseconds since the epoch; 0: none waits",
        "SELECT COALESCE(MIN(received_at), 0) FROM deliveries WHERE state = 'waiting'",
    ),
    (
        "slipway_statuses_unsent",
        "Commit statuses that a forge has not taken yet",
        "SELECT COUNT(*) FROM statuses WHERE sent < version",
    ),
    (
        "slipway_gate_oldest_ms",
        "Since when the oldest deployment waits for people, in milliseconds since the epoch; 0: none does",
        "SELECT COALESCE(MIN(created_at), 0) FROM deployments WHERE status = 'waiting'",
    ),
    (
        "slipway_log_bytes",
        "Bytes of stored logs",
        "SELECT CAST(COALESCE(SUM(log_size), 0) AS BIGINT) FROM jobs",
    ),
    (
        "slipway_backup_ms",
        "When the last backup was made, in milliseconds since the epoch; 0: never",
        "SELECT COALESCE(MAX(CAST(value AS BIGINT)), 0) FROM meta WHERE key = 'backup'",
    ),
];

/// `GET /metrics`, for administrators and for whoever knows `metrics_token`.
pub(super) async fn show(State(app): State<App>, actor: Actor, headers: HeaderMap) -> Answer<Response> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "));
    let known = app.config.metrics_token.as_deref();
    let scraper = given.zip(known).is_some_and(|(a, b)| a.as_bytes().ct_eq(b.as_bytes()).into());
    if !(scraper || actor.admin && actor.has_scope("admin")) {
        return Err(Problem::unauthorized());
    }
    let began = Instant::now();
    let mut registry = Registry::default();
    registry.register("slipway_job_wait_seconds", "From the queue to a runner", app.meters.wait.clone());
    registry.register("slipway_job_run_seconds", "From a runner to the end", app.meters.run.clone());
    registry.register("slipway_database_write_wait_seconds", "Until a write may begin", app.db.waits.clone());
    let asked = "What the database takes to say which jobs have ended";
    registry.register("slipway_database_read_seconds", asked, app.meters.read.clone());
    registry.register("slipway_leases_expired", "Jobs whose runners fell silent", app.meters.expired.clone());
    registry.register("slipway_streams", "Pages and logs that are followed", app.meters.streams.clone());
    for (name, help, of, text) in COUNTED {
        let family: Family<Labels, Gauge> = Family::default();
        let rows: Vec<(String, i64)> = sqlx::query_as(*text).fetch_all(&app.db.pool).await?;
        for (value, count) in rows {
            family.get_or_create(&label(of, &value)).set(count);
        }
        registry.register(*name, *help, family);
    }
    for (name, help, text) in SINGLE {
        let gauge: Gauge = Gauge::default();
        gauge.set(sqlx::query_scalar(*text).fetch_one(&app.db.pool).await?);
        registry.register(*name, *help, gauge);
    }
    let refused: Counter = Counter::default();
    refused.inc_by(app.hooks.refused_total());
    registry.register(
        "slipway_deliveries_refused",
        "Deliveries turned away since the server started",
        refused,
    );
    let stuck: Gauge = Gauge::default();
    stuck.set(app.engine.stuck.load(Ordering::Relaxed));
    registry.register("slipway_stuck", "Jobs that nobody looks after; never above 0", stuck);
    let free: Gauge = Gauge::default();
    free.set(i64::try_from(super::retention::free_bytes(&app)).unwrap_or(i64::MAX));
    registry.register("slipway_disk_free_bytes", "Free where the data is", free);
    let took: Gauge = Gauge::default();
    took.set(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
    registry.register("slipway_scrape_microseconds", "How long the database took for these numbers", took);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|e| Problem::internal("writing metrics", &e))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
