//! From stored deliveries to pipelines. One delivery of a project at a time, in the order they came; projects do not
//! wait for each other.

use super::event::{Event, Proposal, Push, Told};
use super::forge::Forge;
use super::gate::{Gate, gate};
use crate::server::app::Changed;
use crate::server::db::{Tx, now};
use crate::server::engine::{self, Created, NewPipeline};
use crate::server::projects::Settings;
use crate::server::rows::Project;
use crate::server::{Answer, App};
use sqlx::FromRow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// Projects that are dealt with at once.
const AT_ONCE: usize = 8;
/// Seconds between looks, when nothing wakes us.
const EVERY: u64 = 1;
/// After so many tries a person has to look at it.
const TRIES: i64 = 20;

/// A stored delivery.
#[derive(Clone, Debug, FromRow)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) project_id: i64,
    pub(super) key: String,
    pub(super) forge: String,
    pub(super) event: String,
    pub(super) headers: String,
    pub(super) body: Vec<u8>,
    pub(super) tries: i64,
}

/// What a delivery, or one of its events, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    state: &'static str,
    reason: String,
    pipeline: Option<i64>,
}

/// Milliseconds until the next try.
fn backoff(tries: i64) -> i64 {
    let doubled = 2_i64.saturating_pow(u32::try_from(tries.clamp(0, 20)).unwrap_or(20));
    doubled.saturating_mul(1000).min(30 * 60 * 1000)
}

pub(super) async fn pass(app: App) {
    let mut busy: HashSet<i64> = HashSet::new();
    let mut tasks: JoinSet<i64> = JoinSet::new();
    loop {
        match waiting(&app).await {
            Ok(projects) => {
                for (project, deliveries) in projects {
                    if tasks.len() < AT_ONCE && busy.insert(project) {
                        tasks.spawn(all_of(app.clone(), project, deliveries));
                    }
                }
            }
            Err(error) => tracing::error!("reading the inbox: {error}"),
        }
        app.beats.ran("deliveries", EVERY);
        tokio::select! {
            Some(done) = tasks.join_next() => match done {
                Ok(project) => { busy.remove(&project); }
                Err(error) => tracing::error!("dealing with a project's deliveries: {error}"),
            },
            () = app.wake.inbox.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(EVERY)) => {}
            () = app.ending.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Ids of what is due, by project; what was never tried comes first, so that a forge that is away holds up no other.
async fn waiting(app: &App) -> Result<HashMap<i64, Vec<i64>>, sqlx::Error> {
    let rows = "SELECT id, project_id, tries, processed_at FROM deliveries WHERE state = 'waiting' ORDER BY tries, id LIMIT 2000";
    let rows: Vec<(i64, i64, i64, Option<i64>)> = sqlx::query_as(rows).fetch_all(&app.db.pool).await?;
    let mut projects: HashMap<i64, Vec<i64>> = HashMap::new();
    for (id, project, tries, tried_at) in rows {
        if tried_at.is_none_or(|at| at + backoff(tries) <= now()) {
            projects.entry(project).or_default().push(id);
        }
    }
    Ok(projects)
}

async fn all_of(app: App, project: i64, deliveries: Vec<i64>) -> i64 {
    for id in deliveries {
        if app.ending.is_cancelled() {
            break;
        }
        let of_its_own = app.clone();
        match tokio::spawn(async move { one(&of_its_own, id).await }).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::error!(delivery = id, "dealing with a delivery: {problem}"),
            Err(panic) => {
                tracing::error!(delivery = id, "dealing with a delivery: {panic}");
                give_up(&app, id).await;
            }
        }
    }
    project
}

/// A delivery that makes us fail must not come again and again.
async fn give_up(app: &App, id: i64) {
    let text = "UPDATE deliveries SET state = 'failed', reason = $1, processed_at = $2 WHERE id = $3 AND state = 'waiting'";
    let why = "a defect of the server: its log says more; replay it with a newer version";
    let done = sqlx::query(text).bind(why).bind(now()).bind(id).execute(&app.db.pool).await;
    if let Err(error) = done {
        tracing::error!(delivery = id, "giving a delivery up: {error}");
    }
}

/// Deals with one delivery, or leaves it for another try.
async fn one(app: &App, id: i64) -> Answer<()> {
    let columns = "SELECT id, project_id, key, forge, event, headers, body, tries FROM deliveries \
                   WHERE id = $1 AND state = 'waiting'";
    let Some(stored): Option<Stored> = sqlx::query_as(columns).bind(id).fetch_optional(&app.db.pool).await?
    else {
        return Ok(());
    };
    let project = app.project(&stored.project_id.to_string()).await?;
    let mut seen = Vec::new();
    let verdict = match decide(app, &project, &stored, &mut seen).await {
        Ok(verdict) => verdict,
        Err(problem) if stored.tries + 1 < TRIES => {
            return again(app, &stored, &problem.message).await;
        }
        Err(problem) => {
            let reason = format!("given up after {TRIES} tries: {}", problem.message);
            Verdict { state: "failed", reason, pipeline: None }
        }
    };
    let mut tx = app.db.write().await?;
    for (reference, sha) in seen {
        see(&mut tx, project.id, &reference, &sha).await?;
    }
    let done = "UPDATE deliveries SET state = $1, reason = $2, pipeline_id = $3, processed_at = $4, tries = tries + 1 \
                WHERE id = $5";
    let done = sqlx::query(done).bind(verdict.state).bind(&verdict.reason).bind(verdict.pipeline).bind(now());
    done.bind(id).execute(&mut *tx).await?;
    tx.commit().await?;
    app.changed(Changed::Delivery { project: project.id });
    Ok(())
}

async fn again(app: &App, stored: &Stored, why: &str) -> Answer<()> {
    let text = "UPDATE deliveries SET tries = tries + 1, processed_at = $1, reason = $2 WHERE id = $3";
    let reason = format!("will be tried again: {why}");
    sqlx::query(text).bind(now()).bind(reason).bind(stored.id).execute(&app.db.pool).await?;
    app.changed(Changed::Delivery { project: stored.project_id });
    Ok(())
}

/// The ref was dealt with at this commit, so reconciliation need not look at it. Empty: it is gone.
pub(super) async fn see(tx: &mut Tx, project: i64, reference: &str, sha: &str) -> Result<(), sqlx::Error> {
    if sha.is_empty() {
        let gone =
            sqlx::query("DELETE FROM refs WHERE project_id = $1 AND ref = $2").bind(project).bind(reference);
        return gone.execute(&mut **tx).await.map(|_| ());
    }
    let seen = "INSERT INTO refs (project_id, ref, sha, seen_at) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (project_id, ref) DO UPDATE SET sha = excluded.sha, seen_at = excluded.seen_at";
    let seen = sqlx::query(seen).bind(project).bind(reference).bind(sha).bind(now());
    seen.execute(&mut **tx).await.map(|_| ())
}

/// What is in a stored delivery.
pub(super) fn told(stored: &Stored) -> Result<Told, String> {
    let forge = Forge::named(&stored.forge).unwrap_or(Forge::Generic);
    let headers: serde_json::Value = serde_json::from_str(&stored.headers).unwrap_or_default();
    let kind = headers.get("content-type").and_then(serde_json::Value::as_str).unwrap_or_default();
    forge.told(&stored.event, &forge.payload(kind, &stored.body)?)
}

/// `seen`: refs that are dealt with, and their commits.
async fn decide(
    app: &App,
    project: &Project,
    stored: &Stored,
    seen: &mut Vec<(String, String)>,
) -> Answer<Verdict> {
    let events = match told(stored) {
        Ok(Told::Events(events)) => events,
        Ok(Told::Nothing(reason)) => return Ok(Verdict { state: "ignored", reason, pipeline: None }),
        Err(reason) => return Ok(Verdict { state: "failed", reason, pipeline: None }),
    };
    if project.paused == 1 {
        // not seen: when the project goes on, reconciliation finds where its branches are then
        let reason = "the project is paused".to_owned();
        return Ok(Verdict { state: "ignored", reason, pipeline: None });
    }
    let mut verdicts = Vec::new();
    for event in &events {
        verdicts.push(happened(app, project, stored, event).await?);
        if let Event::Push(push) = event {
            let sha = if push.deleted() { String::new() } else { push.after.clone() };
            seen.push((push.reference.clone(), sha));
        }
    }
    Ok(together(verdicts))
}

/// The most that came of any event decides; all reasons are told.
fn together(verdicts: Vec<Verdict>) -> Verdict {
    let mut all = Verdict { state: "ignored", ..Verdict::default() };
    let order = ["ignored", "skipped", "held", "pipeline"];
    let rank = |state: &str| order.iter().position(|known| *known == state);
    let mut reasons = Vec::new();
    for verdict in verdicts {
        if rank(verdict.state) >= rank(all.state) {
            all.state = verdict.state;
        }
        all.pipeline = all.pipeline.or(verdict.pipeline);
        if !verdict.reason.is_empty() {
            reasons.push(verdict.reason);
        }
    }
    all.reason = reasons.join("; ");
    all
}

async fn happened(app: &App, project: &Project, stored: &Stored, event: &Event) -> Answer<Verdict> {
    let verdict = |state, reason, pipeline| Verdict { state, reason, pipeline };
    let approved = stored.key.starts_with("approved:");
    let trusted = match gate(&Settings::of(project), event, approved) {
        Gate::Run { trusted } => trusted,
        Gate::Ignore(why) => return Ok(verdict("ignored", why, None)),
        Gate::Hold(why) => {
            if let Event::Proposal(proposal) = event {
                supersede(app, stored, proposal).await?;
            }
            return Ok(verdict("held", why, None));
        }
    };
    let new = match event {
        Event::Push(push) => {
            if let Some(pipeline) = found_by_looking(app, stored, push).await? {
                let why =
                    format!("pipeline {pipeline} ran for it: the push was seen in the repository before");
                return Ok(verdict("ignored", why, Some(pipeline)));
            }
            of_push(push)
        }
        Event::Proposal(proposal) => of_proposal(proposal),
    };
    let own = stored.key.starts_with("replay:");
    let new = NewPipeline {
        project: project.id,
        trusted,
        why: why(stored),
        delivery: Some(stored.id),
        unless_there: !own && (new.unless_there || stored.key.starts_with("reconcile:")),
        ..new
    };
    // we may have been killed between the pipeline and this delivery's verdict
    if let Some(id) = made_before(app, &new).await? {
        return Ok(verdict("pipeline", String::new(), Some(id)));
    }
    Ok(match engine::create(app, new).await? {
        Created::Pipeline(id) => verdict("pipeline", String::new(), Some(id)),
        Created::Skipped(id, why) => verdict("skipped", why, Some(id)),
        Created::Nothing(why) => verdict("ignored", why, None),
    })
}

fn why(stored: &Stored) -> String {
    match stored.key.split(':').next() {
        Some("reconcile") => "a push that no hook told of was found in the repository".to_owned(),
        Some("replay") => format!("delivery {} was replayed", stored.id),
        Some("approved") => "a maintainer approved the merge request's commit".to_owned(),
        _ => format!("{} sent delivery {}", stored.forge, stored.id),
    }
}

fn of_push(push: &Push) -> NewPipeline {
    let (name, tag) = push.name();
    let created = super::event::is_nothing(&push.before);
    NewPipeline {
        reference: name.to_owned(),
        tag,
        sha: push.after.clone(),
        before_sha: if created { String::new() } else { push.before.clone() },
        source: "push".to_owned(),
        actor: push.sender.clone(),
        variables: push.variables.clone(),
        skip: push.skip,
        // forges tell of annotated tags by the tag or by its commit, so ids alone would let one run twice
        unless_there: tag,
        ..NewPipeline::default()
    }
}

fn of_proposal(proposal: &Proposal) -> NewPipeline {
    NewPipeline {
        reference: proposal.request.source_branch.clone(),
        sha: proposal.sha.clone(),
        source: "merge_request_event".to_owned(),
        merge_request: Some(proposal.request.clone()),
        actor: proposal.sender.clone(),
        // "updated" may mean its title
        unless_there: true,
        ..NewPipeline::default()
    }
}

async fn made_before(app: &App, new: &NewPipeline) -> Answer<Option<i64>> {
    let made = "SELECT id FROM pipelines WHERE project_id = $1 AND delivery_id = $2 AND ref = $3 AND tag = $4 \
                AND source = $5 ORDER BY id LIMIT 1";
    let made = sqlx::query_scalar(made).bind(new.project).bind(new.delivery).bind(&new.reference);
    Ok(made.bind(i64::from(new.tag)).bind(&new.source).fetch_optional(&app.db.pool).await?)
}

/// Reconciliation saw this push before its hook came.
async fn found_by_looking(app: &App, stored: &Stored, push: &Push) -> Answer<Option<i64>> {
    if ["reconcile:", "replay:", "approved:"].iter().any(|own| stored.key.starts_with(own)) {
        return Ok(None);
    }
    // also after the hook came, if the hook's own delivery has to be tried again
    let found =
        "SELECT pipeline_id FROM deliveries WHERE project_id = $1 AND key = $2 AND pipeline_id IS NOT NULL";
    let found = sqlx::query_scalar(found).bind(stored.project_id).bind(super::reconcile::key(push));
    Ok(found.fetch_optional(&app.db.pool).await?)
}

/// Older commits of the same merge request no longer wait for approval.
async fn supersede(app: &App, newer: &Stored, proposal: &Proposal) -> Answer<()> {
    let held = "SELECT id, project_id, key, forge, event, headers, body, tries FROM deliveries \
                WHERE project_id = $1 AND state = 'held' AND id < $2";
    let held: Vec<Stored> =
        sqlx::query_as(held).bind(newer.project_id).bind(newer.id).fetch_all(&app.db.pool).await?;
    for older in held {
        let Ok(Told::Events(events)) = told(&older) else { continue };
        let same =
            |event: &Event| matches!(event, Event::Proposal(p) if p.request.iid == proposal.request.iid);
        if events.iter().any(same) {
            let text =
                "UPDATE deliveries SET state = 'ignored', reason = $1 WHERE id = $2 AND state = 'held'";
            let reason = format!("delivery {} brought a newer commit", newer.id);
            sqlx::query(text).bind(reason).bind(older.id).execute(&app.db.pool).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_ever_later_but_not_too_late() {
        let waits: Vec<i64> = (0..=20).map(backoff).collect();
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(backoff(i64::MAX), 30 * 60 * 1000);
        assert!(waits.iter().sum::<i64>() > 4 * 3600 * 1000, "a forge may be down for hours");
    }

    #[test]
    fn one_pipeline_is_enough_for_a_delivery_to_have_led_to_one() {
        let verdict = |state, reason: &str, pipeline| Verdict { state, reason: reason.to_owned(), pipeline };
        let all = together(vec![
            verdict("ignored", "`old` was deleted", None),
            verdict("pipeline", "", Some(7)),
            verdict("skipped", "by its message", Some(8)),
        ]);
        assert_eq!(all, verdict("pipeline", "`old` was deleted; by its message", Some(7)));
        assert_eq!(together(Vec::new()).state, "ignored");
    }
}
