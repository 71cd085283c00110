//! The outbox of messages to people: `notify` of the default branch's `.ci/deploy.yml` and `.ci/settings.yml` says who
//! wants to know; the project's variables hold the addresses.

use crate::deploy::DeployFile;
use crate::notify::{Channels, Event, Subject};
use crate::server::db::now;
use crate::server::environments::Desk;
use crate::server::{Answer, App, Problem};
use crate::settings::Settings;
use std::collections::HashMap;
use std::time::Duration;

const EVERY: u64 = 30;
const TRIES: i64 = 5;
const BETWEEN_MS: i64 = 60_000;

/// Sends what is to be sent. Ends with [`App::ending`].
pub(super) async fn pass(app: App) {
    loop {
        if let Err(problem) = send(&app).await {
            tracing::warn!("sending messages: {problem}");
        }
        app.beats.ran("notices", EVERY);
        tokio::select! {
            () = app.wake.notices.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(EVERY)) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

async fn send(app: &App) -> Answer<()> {
    let text = "SELECT id, project_id, body, tries FROM notices WHERE next_at IS NOT NULL AND next_at <= $1 ORDER BY id";
    let due: Vec<(i64, Option<i64>, String, i64)> =
        sqlx::query_as(text).bind(now()).fetch_all(&app.db.pool).await?;
    for (id, project, body, tries) in due {
        let error = match one(app, project, &body).await {
            Ok(()) => String::new(),
            Err(problem) => problem.message,
        };
        let again = (!error.is_empty() && tries + 1 < TRIES).then(|| now() + BETWEEN_MS * (1 << tries));
        let text = "UPDATE notices SET tries = tries + 1, next_at = $1, error = $2 WHERE id = $3";
        sqlx::query(text).bind(again).bind(error).bind(id).execute(&app.db.pool).await?;
    }
    Ok(())
}

async fn one(app: &App, project: Option<i64>, body: &str) -> Answer<()> {
    let event: Event = serde_json::from_str(body).map_err(|e| Problem::internal("reading a message", &e))?;
    let Some(project) = project else { return Ok(()) };
    let project = app.project(&project.to_string()).await?;
    let desk = Desk::of(app, &project).await?;
    let told = |e: &dyn std::fmt::Display| Problem::conflict(e.to_string());
    let notifiers = match event.subject {
        Subject::Deployment => DeployFile::load(&desk.root).map_err(|e| told(&e))?.unwrap_or_default().notify,
        _ => Settings::load(&desk.root).map_err(|e| told(&e))?.notify,
    };
    if notifiers.is_empty() {
        return Ok(());
    }
    let values: HashMap<String, String> = variables(app, project.id).await?;
    let channels = Channels::new(&notifiers, |name| values.get(name).cloned());
    let failures = tokio::task::spawn_blocking(move || channels.tell(&event)).await;
    let failures = failures.map_err(|e| Problem::internal("telling people", &e))?;
    match failures.first() {
        None => Ok(()),
        Some(failure) => Err(Problem::conflict(failure.to_string())),
    }
}

/// Variables of a project that hold in every environment.
async fn variables(app: &App, project: i64) -> Answer<HashMap<String, String>> {
    let text = "SELECT id, key, sealed FROM variables WHERE (project_id = $1 OR project_id IS NULL) \
                AND environment_scope = '*' ORDER BY project_id IS NULL DESC, id";
    let rows: Vec<(i64, String, Vec<u8>)> =
        sqlx::query_as(text).bind(project).fetch_all(&app.db.pool).await?;
    let open = |(id, key, sealed): (i64, String, Vec<u8>)| {
        Some((key, app.vault.open_text(&format!("variable:{id}"), &sealed)?))
    };
    Ok(rows.into_iter().filter_map(open).collect())
}
