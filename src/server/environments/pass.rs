//! What moves deployments on. Every step is safe to repeat; only what is `queued` begins, and only once.

use super::approval::{agreed, proceed};
use super::carry::{self, Ended};
use super::desk::Desk;
use super::rows::{Deployment, locks};
use crate::notify::{Event, Occasion};
use crate::promotion::freeze;
use crate::release::file_digest;
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::rows::{Audit, Project, audit};
use crate::server::{Answer, App, Problem};
use serde_json::{Value as Json, json};
use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(15);
/// Bytes of a plan that are kept.
const LONGEST_PLAN: usize = 1 << 20;

/// Deployments that a task here waits for.
type Watched = Arc<Mutex<HashSet<(i64, &'static str)>>>;

/// Moves deployments on until the server ends.
pub async fn passes(app: App) {
    let watched = Watched::default();
    loop {
        if let Err(problem) = pass(&app, &watched).await {
            tracing::error!("moving deployments on: {problem}");
        }
        app.beats.ran("deployments", LOOK.as_secs());
        tokio::select! {
            () = app.wake.deployments.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

async fn pass(app: &App, watched: &Watched) -> Answer<()> {
    for deployment in Deployment::in_state(app, "planning").await? {
        watch(app, watched, deployment, "plan");
    }
    for deployment in Deployment::in_state(app, "waiting").await? {
        if deployment.expires_at.is_some_and(|at| at < now()) {
            deployment.advance(app, "waiting", "expired", "nobody agreed in time").await?;
        }
    }
    // in maintenance nothing begins
    let queued = match app.maintenance.load(Ordering::Relaxed) {
        true => Vec::new(),
        false => Deployment::in_state(app, "queued").await?,
    };
    for deployment in queued {
        if let Err(problem) = begin(app, &deployment).await {
            deployment.advance(app, "queued", "failed", &problem.message).await?;
        }
    }
    for deployment in Deployment::in_state(app, "running").await? {
        watch(app, watched, deployment, "run");
    }
    Ok(())
}

/// One task for each; a new server takes over those of the one before.
fn watch(app: &App, watched: &Watched, deployment: Deployment, step: &'static str) {
    let key = (deployment.id, step);
    if !watched.lock().expect("no holder panics").insert(key) {
        return;
    }
    let (app, watched) = (app.clone(), watched.clone());
    tokio::spawn(async move {
        let done = match step {
            "plan" => plan(&app, &deployment).await,
            _ => ended(&app, &deployment, carry::end(&app, deployment.id, "run").await).await,
        };
        if let Err(problem) = done {
            let from = if step == "plan" { "planning" } else { "running" };
            let to = if step == "plan" { "refused" } else { "unknown" };
            if let Err(second) = deployment.advance(&app, from, to, &problem.message).await {
                tracing::error!("deployment {}: {problem}; {second}", deployment.id);
            }
        }
        watched.lock().expect("no holder panics").remove(&key);
        app.wake.deployments.notify_one();
    });
}

async fn project(app: &App, deployment: &Deployment) -> Answer<Project> {
    app.project(&deployment.project_id.to_string()).await
}

/// Asks the targets what would be done. A rollback and a bundle need no plan but their own words.
async fn plan(app: &App, deployment: &Deployment) -> Answer<()> {
    let project = project(app, deployment).await?;
    let desk = Desk::of(app, &project).await?;
    let settings = desk.file()?.and_then(|file| file.environments.get(&deployment.environment));
    let approvals = settings.map_or(0, |settings| settings.approvals.count);
    let (document, digest) = match deployment.kind.as_str() {
        "promote" => {
            let mut arguments = promote(deployment);
            arguments.extend(["--plan", "--format", "json"].map(OsString::from));
            carry::start(app, &desk, deployment, "plan", arguments).await?;
            let end = carry::end(app, deployment.id, "plan").await;
            let text = carry::output(app, deployment.id, "plan");
            let document: Json = serde_json::from_str(&text).unwrap_or(Json::Null);
            let digest = document.get("digest").and_then(Json::as_str).unwrap_or_default().to_owned();
            if end != Ended::Code(0) || digest.is_empty() {
                let why = last_words(&carry::log(app, deployment.id, "plan"));
                deployment.advance(app, "planning", "refused", &why).await?;
                return Ok(());
            }
            (text.chars().take(LONGEST_PLAN).collect(), digest)
        }
        kind => {
            let document = json!({
                "kind": kind, "environment": deployment.environment, "version": deployment.version,
                "content": deployment.content,
            });
            let digest = crate::digest::sha256_hex(document.to_string().as_bytes());
            (document.to_string(), digest)
        }
    };
    let text = "UPDATE deployments SET plan = $1, plan_digest = $2 WHERE id = $3 AND status = 'planning'";
    sqlx::query(text).bind(document).bind(&digest).bind(deployment.id).execute(&app.db.pool).await?;
    let approvals = if deployment.kind == "rollback" { 0 } else { approvals };
    let reason = if approvals > 0 { format!("{approvals} people have to agree") } else { String::new() };
    deployment.advance(app, "planning", "waiting", &reason).await?;
    let deployment = Deployment::find(app, project.id, deployment.id).await?;
    proceed(app, &deployment, approvals).await
}

/// Starts what may start now: one at a time in an environment, not while it is locked or frozen.
async fn begin(app: &App, deployment: &Deployment) -> Answer<()> {
    let project = project(app, deployment).await?;
    let running = Deployment::in_state(app, "running").await?;
    let same = |other: &&Deployment| {
        other.project_id == deployment.project_id && other.environment == deployment.environment
    };
    let desk = Desk::of(app, &project).await?;
    let settings = desk.file()?.and_then(|file| file.environments.get(&deployment.environment));
    let lock = locks(app, project.id).await?.into_iter().find(|l| l.environment == deployment.environment);
    let frozen = match settings {
        Some(settings) if deployment.set_aside.is_empty() && deployment.kind != "rollback" => {
            freeze::frozen(&settings.freeze, jiff::Timestamp::now())
                .map_err(|e| Problem::conflict(e.message))?
        }
        _ => None,
    };
    let waits = match (running.iter().find(same), &lock, frozen) {
        (Some(other), ..) => Some(format!("deployment {} is under way", other.id)),
        (_, Some(lock), _) => Some(format!("locked by {}: {}", lock.by_whom, lock.reason)),
        (.., Some(window)) => Some(format!("frozen until {}", window.until)),
        _ => None,
    };
    if let Some(why) = waits {
        let text = "UPDATE deployments SET reason = $1 WHERE id = $2 AND status = 'queued'";
        sqlx::query(text).bind(why).bind(deployment.id).execute(&app.db.pool).await?;
        return Ok(());
    }
    let mut arguments = match deployment.kind.as_str() {
        "promote" => promote(deployment),
        "rollback" => rollback(deployment),
        _ => bundle(app, deployment),
    };
    if deployment.kind == "promote" {
        arguments.extend(["--expect".into(), OsString::from(&deployment.plan_digest)]);
        for person in agreed(&deployment.votes(app).await?, &deployment.plan_digest) {
            arguments.extend(["--approved".into(), OsString::from(person)]);
        }
    }
    // the state says so first: what was begun once is never begun again
    if !deployment.advance(app, "queued", "running", "").await? {
        return Ok(());
    }
    if let Err(problem) = carry::start(app, &desk, deployment, "run", arguments).await {
        deployment.advance(app, "running", "failed", &problem.message).await?;
    }
    Ok(())
}

fn promote(deployment: &Deployment) -> Vec<OsString> {
    let Deployment { version, environment, set_aside, .. } = deployment;
    let mut arguments: Vec<OsString> = vec!["promote".into(), format!("--to={environment}").into()];
    if !set_aside.is_empty() {
        arguments.push(format!("--override={set_aside}").into());
    }
    arguments.push(OsString::from(version));
    arguments
}

fn rollback(deployment: &Deployment) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["rollback".into(), OsString::from(&deployment.environment)];
    if !deployment.version.is_empty() {
        arguments.push(format!("--to={}", deployment.version).into());
    }
    arguments
}

fn bundle(app: &App, deployment: &Deployment) -> Vec<OsString> {
    let Deployment { version, environment, set_aside, .. } = deployment;
    let file = carry::dir(app, deployment.id).join(format!("{environment}-{version}.tar.gz"));
    let mut arguments: Vec<OsString> =
        vec!["bundle".into(), OsString::from(environment), format!("--version={version}").into()];
    arguments.extend(["--output".into(), file.into_os_string()]);
    if !set_aside.is_empty() {
        arguments.push(format!("--override={set_aside}").into());
    }
    arguments
}

async fn ended(app: &App, deployment: &Deployment, end: Ended) -> Answer<()> {
    let log = last_words(&carry::log(app, deployment.id, "run"));
    let (status, reason) = match end {
        Ended::Code(0) => ("done", String::new()),
        Ended::Code(3) => ("refused", log),
        Ended::Code(4) => ("rolled_back", log),
        Ended::Code(_) => ("failed", log),
        Ended::Unknown => (
            "unknown",
            "its process is gone and left no result: look at the targets, then ask again".to_owned(),
        ),
    };
    if status == "done" && deployment.kind == "bundle" {
        keep_bundle(app, deployment).await?;
    }
    if !deployment.advance(app, "running", status, &reason).await? {
        return Ok(());
    }
    let mut tx = app.db.write().await?;
    let detail = json!({ "deployment": deployment.id, "version": deployment.version, "status": status });
    let (action, subject) = ("deployment.end", deployment.environment.as_str());
    let actor = Actor::system();
    let entry = Audit { actor: &actor, action, project: Some(deployment.project_id), subject, detail };
    audit(&mut tx, entry).await?;
    let body = serde_json::to_string(&told(app, deployment, status, &reason).await?).unwrap_or_default();
    let text = "INSERT INTO notices (project_id, event, body, created_at, tries, next_at, error) \
                VALUES ($1, 'deployment', $2, $3, 0, $3, '')";
    sqlx::query(text)
        .bind(deployment.project_id)
        .bind(body.to_string())
        .bind(now())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    app.wake.notices.notify_one();
    Ok(())
}

async fn told(app: &App, deployment: &Deployment, status: &str, reason: &str) -> Answer<Event> {
    let project = project(app, deployment).await?;
    let occasion = match status {
        "done" => Occasion::Succeeded,
        "rolled_back" => Occasion::RolledBack,
        _ => Occasion::Failed,
    };
    let Deployment { version, environment, .. } = deployment;
    Ok(Event {
        project: Some(project.path),
        text: Some(reason.to_owned()).filter(|text| !text.is_empty()),
        by: Some(deployment.requested_by.clone()),
        link: Some(format!("{}/projects/{}/environments/{environment}", app.config.public_url(), project.id)),
        ..Event::deployment(occasion, "", version, environment)
    })
}

async fn keep_bundle(app: &App, deployment: &Deployment) -> Answer<()> {
    let filename = format!("{}-{}.tar.gz", deployment.environment, deployment.version);
    let path = carry::dir(app, deployment.id).join(&filename);
    let done = tokio::task::spawn_blocking(move || file_digest(&path)).await;
    let done = done.map_err(|e| Problem::internal("reading a bundle", &e))?;
    let (sha256, size) = done.map_err(|e| Problem::internal("reading a bundle", &e))?;
    let text = "INSERT INTO bundles (project_id, deployment_id, environment, version, filename, sha256, size, created_at) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(text)
        .bind(deployment.project_id)
        .bind(deployment.id)
        .bind(&deployment.environment)
        .bind(&deployment.version)
        .bind(filename)
        .bind(sha256)
        .bind(i64::try_from(size).unwrap_or(i64::MAX))
        .bind(now())
        .execute(&app.db.pool)
        .await?;
    Ok(())
}

/// The end of what was told: `error: …` and its hints, else the last line.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from =
        lines.iter().rposition(|line| line.starts_with("error")).unwrap_or(lines.len().saturating_sub(1));
    lines[from.min(lines.len())..].iter().take(5).copied().collect::<Vec<_>>().join("; ")
}
