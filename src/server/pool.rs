//! The server's own runner: takes jobs as any other does, but in this process, and runs each in a process of its own
//! (`ci __job`) that outlives the server. It finds the server again by the address in `runtime/address`.

use super::config::reached;
use super::db::now;
use super::engine;
use super::mirror;
use super::rows::Runner;
use super::runner_api::job_json;
use super::vault::{new_token, token_hash};
use super::{Answer, App};
use crate::runner::processes::Ended;
use crate::runner::{Address, Order, Processes, identity};
use crate::wire::job::Job;
use pipelines::schedule::Outcome;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A job may have become free without our being told.
const LOOK: Duration = Duration::from_secs(5);
/// So often the page of runners hears that the pool is alive, in milliseconds.
const SIGN_OF_LIFE: i64 = 60_000;
const NAME: &str = "this server";

/// The pool of one server.
#[derive(Clone)]
struct Pool {
    app: App,
    processes: Processes,
    slots: Arc<Semaphore>,
    /// The data directory, absolute: jobs start elsewhere.
    data: PathBuf,
}

/// Takes jobs until [`App::ending`]; those that run go on.
pub async fn pass(app: App) {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let slots = app.config.local_jobs.unwrap_or_else(cores);
    let pool = match Pool::open(&app, slots) {
        Ok(pool) => pool,
        Err(error) => return tracing::error!("jobs can't run on this machine: {error}"),
    };
    if let Err(error) = pool.find_again().await {
        tracing::error!("looking for jobs that still run: {error}");
    }
    if slots == 0 {
        return;
    }
    let mut seen = 0;
    while !app.ending.is_cancelled() {
        let free = pool.slots.clone().acquire_owned();
        let permit = tokio::select! {
            // nobody closes it
            permit = free => match permit { Ok(permit) => permit, Err(_) => return },
            () = app.ending.cancelled() => return,
        };
        // before looking: a job that comes in between wakes us
        let mut woken = std::pin::pin!(app.wake.queue.notified());
        woken.as_mut().enable();
        match pool.next(&mut seen).await {
            Ok(Some(job)) => {
                pool.start(job, permit).await;
                continue;
            }
            Ok(None) => {}
            Err(problem) => tracing::error!("taking a job: {problem}"),
        }
        drop(permit);
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(LOOK) => {}
            () = app.ending.cancelled() => {}
        }
    }
}

impl Pool {
    fn open(app: &App, slots: usize) -> io::Result<Pool> {
        let data = app.config.data.canonicalize()?;
        // what a user of this machine keeps elsewhere, a server keeps with its data
        let home = std::env::var_os("SLIPWAY_HOME").is_none().then(|| data.join("runner"));
        let processes = Processes::new(data.join("jobs"), home)?;
        write_address(&data.join("runtime"), app.config.listen)?;
        let slots = Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS)));
        Ok(Pool { app: app.clone(), processes, slots, data })
    }

    /// Jobs of the server before this one: those that still run take their places, the others are lost.
    async fn find_again(&self) -> io::Result<()> {
        let (alive, dead) = self.processes.sweep()?;
        for name in dead {
            self.lost(&name, "its process was killed").await;
        }
        if let Err(problem) = engine::never_started(&self.app, &alive).await {
            // their leases end them
            tracing::error!("giving back jobs that were not started: {problem}");
        }
        for name in alive {
            let permit = self.slots.clone().try_acquire_owned().ok();
            let pool = self.clone();
            tokio::spawn(async move {
                let ended = pool.processes.outlived(&name).await;
                drop(permit);
                if ended == Ended::Silent {
                    pool.lost(&name, "its process was killed").await;
                }
            });
        }
        Ok(())
    }

    /// The next job, if there is one.
    async fn next(&self, seen: &mut i64) -> Answer<Option<Job>> {
        let app = &self.app;
        let runner = own(app).await?;
        let at = now();
        if at - *seen > SIGN_OF_LIFE {
            *seen = at;
            let query = sqlx::query("UPDATE runners SET contacted_at = $1 WHERE id = $2");
            query.bind(at).bind(runner.id).execute(&app.db.pool).await?;
        }
        job_json::next(app, &runner, "local", &app.config.public_url()).await
    }

    async fn start(&self, job: Job, permit: OwnedSemaphorePermit) {
        let name = job.id.to_string();
        let order = Order {
            address: Address::File(self.data.join("runtime/address")),
            origin: self.data.display().to_string(),
            runner: NAME.to_owned(),
            dir: self.processes.place(&name),
            executor: None,
            mirror: mirror::path(&self.app, job.job_info.project_id).canonicalize().ok(),
            hidden: vec![self.data.clone()],
            local: true,
            job,
        };
        match self.processes.start(&name, order).await {
            Ok(ended) => {
                let pool = self.clone();
                tokio::spawn(async move {
                    let ended = ended.await;
                    drop(permit);
                    if ended == Ended::Silent {
                        pool.lost(&name, "its process was killed").await;
                    }
                });
            }
            Err(error) => self.lost(&name, &format!("its process can't be started: {error}")).await,
        }
    }

    /// Nothing more comes of a job. For one that has ended this changes nothing.
    async fn lost(&self, name: &str, why: &str) {
        let Ok(job) = name.parse::<i64>() else { return };
        tracing::warn!("job {job} is lost: {why}");
        let outcome = Outcome::Lost { message: format!("lost: {why}") };
        match engine::finished(&self.app, job, outcome).await {
            Ok(_) => self.processes.remove(name),
            // its lease ends it
            Err(problem) => tracing::error!("ending the lost job {job}: {problem}"),
        }
    }
}

/// The pool's row among the runners, made when there is none. No token leads to it.
async fn own(app: &App) -> Answer<Runner> {
    let text = format!("SELECT {} FROM runners WHERE local = 1 ORDER BY id LIMIT 1", Runner::COLUMNS);
    let find = || sqlx::query_as(sqlx::AssertSqlSafe(text.clone())).fetch_optional(&app.db.pool);
    if let Some(runner) = find().await? {
        return Ok(runner);
    }
    let info = serde_json::to_string(&identity::info(None)).unwrap_or_default();
    sqlx::query(
        "INSERT INTO runners (description, token, short_token, tags, run_untagged, protected_only, trusted_only, \
         paused, local, info, created_by, created_at) VALUES ($1, $2, 'local', '[]', 1, 0, 0, 0, 1, $3, 'system', $4)",
    )
    .bind(NAME)
    .bind(token_hash(&new_token("")))
    .bind(info)
    .bind(now())
    .execute(&app.db.pool)
    .await?;
    Ok(find().await?.ok_or(sqlx::Error::RowNotFound)?)
}

/// Where processes of this machine find the server, whole or not at all.
fn write_address(directory: &Path, listen: SocketAddr) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "http://{}", reached(listen))?;
    file.persist(directory.join("address")).map(|_| ()).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_this_machine_reaches() {
        let dir = tempfile::tempdir().expect("a directory");
        let table = [
            ("0.0.0.0:8640", "http://127.0.0.1:8640\n"),
            ("[::]:8640", "http://[::1]:8640\n"),
            ("10.0.0.1:80", "http://10.0.0.1:80\n"),
        ];
        for (listen, expected) in table {
            write_address(&dir.path().join("runtime"), listen.parse().expect("an address")).expect("written");
            let text = std::fs::read_to_string(dir.path().join("runtime/address")).expect("a file");
            assert_eq!(text, expected);
        }
    }
}
