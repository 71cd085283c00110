//! The outbox of messages to people: `notify` of the default branch's `.ci/deploy.yml` and `.ci/settings.yml` says who
//! wants to know; the project's variables hold the addresses.

use crate::notify::{Channels, Event, Subject};
use crate::server::db::now;
use crate::server::engine::{Trust, variables};
use crate::server::environments::Desk;
use crate::server::{Answer, App, Problem};
use crate::settings::{Settings, closest};
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
    let notifiers = match event.subject {
        Subject::Deployment => desk.file()?.map(|file| file.notify.clone()).unwrap_or_default(),
        _ => Settings::load(&desk.root).map_err(|e| Problem::conflict(e.to_string()))?.notify,
    };
    if notifiers.is_empty() {
        return Ok(());
    }
    let variables = variables(app, project.id, Trust::FULL).await?;
    let channels = Channels::new(&notifiers, |name| {
        closest(&variables, name, event.environment.as_deref()).map(|variable| variable.value.clone())
    });
    let failures = tokio::task::spawn_blocking(move || channels.tell(&event)).await;
    let failures = failures.map_err(|e| Problem::internal("telling people", &e))?;
    match failures.first() {
        None => Ok(()),
        Some(failure) => Err(Problem::conflict(failure.to_string())),
    }
}
