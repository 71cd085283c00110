//! One step of a pipeline: what its scheduler is told, and all that follows from it, in one transaction. A step that is
//! not committed never happened: the copy in memory is dropped and made again from the database.

use super::live::{Attempt, Held, Live};
use super::{groups, told};
use crate::server::app::Changed;
use crate::server::db::{Tx, now};
use crate::server::{Answer, App, Problem};
use pipelines::schedule::{Action, Change, Input, JobId, Outcome};
use pipelines::status::Status;
use std::time::Duration;

/// See the [module](self).
pub(super) struct Step<'a> {
    app: &'a App,
    pipeline: i64,
    held: Option<Held>,
    /// None only while it is committed.
    tx: Option<Tx>,
    /// Is the copy in memory ahead of the database?
    ahead: bool,
    /// One clock for all rows of the step.
    pub(super) now: i64,
    wakes: Wakes,
}

/// Whom to tell after the commit.
#[derive(Default)]
struct Wakes {
    queue: bool,
    engine: bool,
    told: bool,
    jobs: Vec<i64>,
}

impl<'a> Step<'a> {
    /// Waits for the pipeline, loads it where it is not in memory, and begins.
    pub(super) async fn begin(app: &'a App, pipeline: i64) -> Answer<Step<'a>> {
        let mut held = app.engine.hold(pipeline).await;
        if held.is_none() {
            match Live::load(app, pipeline).await {
                Ok(live) => *held = Some(live),
                Err(problem) => {
                    app.engine.forget(pipeline, held);
                    return Err(problem);
                }
            }
        }
        let tx = app.db.write().await?;
        let wakes = Wakes::default();
        Ok(Step { app, pipeline, held: Some(held), tx: Some(tx), ahead: false, now: now(), wakes })
    }

    /// Goes on with a pipeline whose rows this transaction has just made.
    pub(super) async fn first(app: &'a App, tx: Tx, live: Live, now: i64) -> Step<'a> {
        let pipeline = live.row.id;
        let mut held = app.engine.hold(pipeline).await;
        *held = Some(live);
        Step { app, pipeline, held: Some(held), tx: Some(tx), ahead: true, now, wakes: Wakes::default() }
    }

    pub(super) fn live(&mut self) -> &mut Live {
        let live = self.held.as_mut().and_then(|held| held.as_mut());
        live.expect("a step holds its pipeline until it ends")
    }

    /// The transaction.
    pub(super) fn tx(&mut self) -> &mut Tx {
        self.tx.as_mut().expect("a step has its transaction until it ends")
    }

    /// The job that the attempt is the newest of; none: a newer attempt has taken its place.
    pub(super) fn position(&mut self, attempt: i64) -> Option<JobId> {
        self.live().attempts.iter().position(|a| a.id == attempt).map(JobId)
    }

    /// Tells the scheduler; false: it changes nothing.
    pub(super) async fn tell(&mut self, input: Input) -> Answer<bool> {
        let mut inputs = vec![input];
        let mut changed = false;
        while let Some(input) = inputs.pop() {
            let text = serde_json::to_string(&input)
                .map_err(|e| Problem::internal("storing what a pipeline was told", &e))?;
            self.ahead = true;
            let actions = self.live().scheduler.handle(input);
            if actions.is_empty() {
                continue;
            }
            changed = true;
            self.record(text).await?;
            for action in actions {
                inputs.extend(self.act(action).await?);
            }
        }
        Ok(changed)
    }

    async fn record(&mut self, input: String) -> Answer<()> {
        let (pipeline, at) = (self.pipeline, self.now);
        let seq = self.live().next;
        self.live().next += 1;
        sqlx::query("INSERT INTO inputs (pipeline_id, seq, at, input) VALUES ($1, $2, $3, $4)")
            .bind(pipeline)
            .bind(seq)
            .bind(at)
            .bind(input)
            .execute(&mut **self.tx())
            .await?;
        Ok(())
    }

    /// Ends the step, and tells whoever waits for what it brought.
    pub(super) async fn commit(mut self) -> Answer<()> {
        let (project, finished) = {
            let live = self.live();
            (live.row.project_id, live.scheduler.is_finished())
        };
        if let Some(tx) = self.tx.take() {
            tx.commit().await?;
        }
        self.ahead = false;
        if let Some(held) = self.held.take()
            && finished
        {
            self.app.engine.forget(self.pipeline, held);
        }
        self.tell_others(project);
        Ok(())
    }

    fn tell_others(&mut self, project: i64) {
        let wakes = std::mem::take(&mut self.wakes);
        let (app, pipeline) = (self.app, self.pipeline);
        app.changed(Changed::Pipeline { project, pipeline, job: None });
        for job in wakes.jobs {
            app.changed(Changed::Pipeline { project, pipeline, job: Some(job) });
        }
        if wakes.queue {
            app.wake.queue.notify_waiters();
        }
        if wakes.engine {
            app.wake.engine.notify_one();
        }
        if wakes.told {
            app.wake.statuses.notify_one();
            app.wake.notices.notify_one();
        }
    }

    /// The attempt has ended; nothing when it is not the newest any more, or does not run.
    pub(super) async fn end(&mut self, attempt: i64, outcome: Outcome) -> Answer<()> {
        let Some(position) = self.position(attempt) else { return Ok(()) };
        let status = self.live().scheduler.status(position);
        if matches!(status, Status::Running | Status::Canceling) {
            self.tell(Input::JobFinished(position, outcome)).await?;
        }
        Ok(())
    }

    /// A row was changed beside what the scheduler says.
    pub(super) fn changed(&mut self, attempt: i64) {
        self.wakes.jobs.push(attempt);
    }

    /// Somebody else's job may have got a resource.
    pub(super) fn wake_queue(&mut self) {
        self.wakes.queue = true;
    }

    /// Does what the scheduler says; gives what it must be told at once.
    async fn act(&mut self, action: Action) -> Answer<Option<Input>> {
        match action {
            Action::StartJob { job, .. } => self.enqueue(job).await?,
            Action::SetTimer { job, after } => self.set_timer(job, after).await?,
            Action::StatusChanged(change) => return self.job_changed(change).await,
            Action::PipelineChanged(status) => self.pipeline_changed(status).await?,
            Action::PipelineFinished(status) => self.pipeline_finished(status).await?,
            // its status says it: `canceling`, or `canceled`
            Action::CancelJob(_) => {}
        }
        Ok(None)
    }

    async fn enqueue(&mut self, job: JobId) -> Answer<()> {
        let now = self.now;
        let project = self.live().row.project_id;
        let attempt = &mut self.live().attempts[job.0];
        attempt.ran = true;
        let Attempt { id, group, bridge, .. } = attempt.clone();
        sqlx::query("UPDATE jobs SET queued_at = $1 WHERE id = $2")
            .bind(now)
            .bind(id)
            .execute(&mut **self.tx())
            .await?;
        self.wakes.engine |= bridge;
        self.wakes.queue = true;
        if group.is_empty() {
            return groups::ready(self.tx(), id, now).await;
        }
        groups::wait(self.tx(), id).await?;
        groups::grant(self.tx(), project, &group, now).await
    }

    async fn set_timer(&mut self, job: JobId, after: Duration) -> Answer<()> {
        let fires_at = self.now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let id = self.live().attempts[job.0].id;
        sqlx::query("INSERT INTO timers (job_id, fires_at) VALUES ($1, $2)")
            .bind(id)
            .bind(fires_at)
            .execute(&mut **self.tx())
            .await?;
        let text = jiff::Timestamp::from_millisecond(fires_at).unwrap_or_default();
        sqlx::query("UPDATE jobs SET waits_for = $1 WHERE id = $2")
            .bind(format!("waits until {}", text.strftime("%Y-%m-%d %H:%M:%S UTC")))
            .bind(id)
            .execute(&mut **self.tx())
            .await?;
        self.wakes.engine = true;
        Ok(())
    }

    async fn job_changed(&mut self, change: Change) -> Answer<Option<Input>> {
        let index = change.job.0;
        let before = self.live().attempts[index].clone();
        self.leave(&before).await?;
        let anew = match change.status {
            // what has run keeps its row
            Status::Created => before.ran && before.status.is_complete(),
            _ => i64::from(change.attempt) > before.number,
        };
        if anew {
            self.new_attempt(&before, &change).await?;
        }
        self.live().attempts[index].status = change.status;
        let id = self.live().attempts[index].id;
        self.wakes.jobs.push(id);
        self.write_status(id, &change, anew).await?;
        if change.status == Status::Canceling {
            self.wakes.engine = true;
            return self.cancel_undelivered(id, change.job).await;
        }
        Ok(None)
    }

    /// What held the job in its old status holds it no more.
    async fn leave(&mut self, before: &Attempt) -> Answer<()> {
        match before.status {
            Status::Scheduled => {
                sqlx::query("DELETE FROM timers WHERE job_id = $1")
                    .bind(before.id)
                    .execute(&mut **self.tx())
                    .await?;
            }
            Status::Pending | Status::Running | Status::Canceling => {}
            _ => return Ok(()),
        }
        Ok(())
    }

    async fn new_attempt(&mut self, before: &Attempt, change: &Change) -> Answer<()> {
        if !before.status.is_complete() {
            // the scheduler goes from one attempt to the next without a word: it failed
            self.end_row(before.id, Status::Failed, change).await?;
            self.let_go(before).await?;
        }
        let copy = "INSERT INTO jobs (pipeline_id, project_id, position, attempt, newest, name, stage, status, \
             allowed_to_fail, tags, resource_group, environment, interruptible, timeout_s, waits_for, system_id, cancel, \
             bridge, acknowledged, log_size, created_at, features) \
             SELECT pipeline_id, project_id, position, attempt + 1, 1, name, stage, 'created', 0, tags, resource_group, \
             environment, interruptible, timeout_s, '', '', 0, bridge, 0, 0, $1, features FROM jobs WHERE id = $2 \
             RETURNING id";
        sqlx::query("UPDATE jobs SET newest = 0 WHERE id = $1")
            .bind(before.id)
            .execute(&mut **self.tx())
            .await?;
        let id: i64 =
            sqlx::query_scalar(copy).bind(self.now).bind(before.id).fetch_one(&mut **self.tx()).await?;
        let attempt = &mut self.live().attempts[change.job.0];
        *attempt = Attempt { id, number: before.number + 1, ran: false, ..before.clone() };
        Ok(())
    }

    async fn write_status(&mut self, id: i64, change: &Change, anew: bool) -> Answer<()> {
        if change.status.is_complete() {
            let attempt = self.live().attempts[change.job.0].clone();
            self.end_row(id, change.status, change).await?;
            return self.let_go(&attempt).await;
        }
        let waits_for = match change.status {
            Status::Manual => "waits for a person",
            Status::WaitingForResource => "another job of this pipeline has its resource",
            Status::Pending => "waits for a runner",
            Status::Created => "waits for earlier jobs",
            _ => "",
        };
        // of an automatic retry the old row says why
        let message = change.message.as_deref().filter(|_| !anew);
        sqlx::query(
            "UPDATE jobs SET status = $1, waits_for = $2, message = $3, reason = NULL, exit_code = NULL, \
             allowed_to_fail = 0, finished_at = NULL WHERE id = $4",
        )
        .bind(change.status.name())
        .bind(waits_for)
        .bind(message)
        .bind(id)
        .execute(&mut **self.tx())
        .await?;
        if change.status == Status::Canceling {
            sqlx::query("UPDATE jobs SET cancel = 1, cancel_at = $1 WHERE id = $2")
                .bind(self.now)
                .bind(id)
                .execute(&mut **self.tx())
                .await?;
        }
        if change.status == Status::Manual {
            let attempt = self.live().attempts[change.job.0].clone();
            self.let_go(&attempt).await?;
        }
        Ok(())
    }

    /// The attempt is over: its token means nothing any more.
    async fn end_row(&mut self, id: i64, status: Status, change: &Change) -> Answer<()> {
        let failed = status == Status::Failed;
        sqlx::query(
            "UPDATE jobs SET status = $1, reason = $2, exit_code = $3, message = $4, allowed_to_fail = $5, \
             waits_for = '', token = NULL, sealed_token = NULL, lease_until = NULL, finished_at = $6, \
             cancel = CASE WHEN cancel = 1 THEN 2 ELSE cancel END WHERE id = $7",
        )
        .bind(status.name())
        .bind(change.reason.filter(|_| failed).map(|reason| reason.name()))
        .bind(change.exit_code.map(i64::from))
        .bind(change.message.as_deref())
        .bind(i64::from(change.allowed_to_fail))
        .bind(self.now)
        .bind(id)
        .execute(&mut **self.tx())
        .await?;
        Ok(())
    }

    /// Takes the attempt out of the queue, and gives its resource to whoever is next.
    async fn let_go(&mut self, attempt: &Attempt) -> Answer<()> {
        sqlx::query("DELETE FROM pending WHERE job_id = $1")
            .bind(attempt.id)
            .execute(&mut **self.tx())
            .await?;
        if attempt.group.is_empty() {
            return Ok(());
        }
        sqlx::query("DELETE FROM held WHERE job_id = $1").bind(attempt.id).execute(&mut **self.tx()).await?;
        let (project, now) = (self.live().row.project_id, self.now);
        groups::grant(self.tx(), project, &attempt.group, now).await?;
        self.wakes.queue = true;
        self.wakes.engine = true;
        Ok(())
    }

    /// One that was never with a runner, or is no longer, ends here: nobody else would end it.
    async fn cancel_undelivered(&mut self, id: i64, job: JobId) -> Answer<Option<Input>> {
        if self.live().attempts[job.0].bridge {
            return Ok(None);
        }
        let lease: Option<i64> = sqlx::query_scalar("SELECT lease_until FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_one(&mut **self.tx())
            .await?;
        let end = Input::JobFinished(job, Outcome::Canceled);
        Ok(lease.is_none().then_some(end))
    }

    async fn pipeline_changed(&mut self, status: Status) -> Answer<()> {
        let (id, now) = (self.pipeline, self.now);
        let running = status == Status::Running;
        sqlx::query(
            "UPDATE pipelines SET status = $1, finished_at = NULL, \
             started_at = CASE WHEN started_at IS NULL AND $2 = 1 THEN $3 ELSE started_at END WHERE id = $4",
        )
        .bind(status.name())
        .bind(i64::from(running))
        .bind(now)
        .bind(id)
        .execute(&mut **self.tx())
        .await?;
        let before = std::mem::replace(&mut self.live().row.status, status.name().to_owned());
        let row = self.live().row.clone();
        self.wakes.told = true;
        if status.is_complete() || row.parent_job.is_some() {
            self.wakes.engine = true;
        }
        let app = self.app;
        told::status(app, self.tx(), &row, status, &before, now).await
    }

    async fn pipeline_finished(&mut self, status: Status) -> Answer<()> {
        if !status.is_complete() {
            return Ok(());
        }
        let (id, now) = (self.pipeline, self.now);
        sqlx::query("UPDATE pipelines SET finished_at = $1 WHERE id = $2")
            .bind(now)
            .bind(id)
            .execute(&mut **self.tx())
            .await?;
        let row = self.live().row.clone();
        self.wakes.engine = true;
        let app = self.app;
        told::ended(app, self.tx(), &row, status, now).await
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        // looked at and left alone: it stays in memory only if something will happen to it
        if self.ahead || held.as_ref().is_none_or(|live| live.scheduler.is_finished()) {
            self.app.engine.forget(self.pipeline, held);
        }
    }
}
