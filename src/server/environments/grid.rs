//! The grid: which version is where.

use super::desk::{Desk, commits_between};
use super::rows::{Deployment, Lock, locks};
use crate::deploy::{Delivery, DeployFile};
use crate::ledger::{Entry, Fact, standing};
use crate::promotion::freeze;
use crate::server::rows::Project;
use crate::server::{Answer, App};
use serde::Serialize;

/// After so many days an environment that lacks what the one before has is called behind.
const STALE_MS: i64 = 13 * 24 * 3600 * 1000;

/// A project's environments, in the order of promotion.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Row {
    /// Its number.
    pub project_id: i64,
    /// Its path.
    pub project: String,
    /// By environment.
    pub cells: Vec<Cell>,
    /// What is wrong with `.ci/deploy.yml` or the ledger; empty: nothing.
    pub problem: String,
}

/// One project in one environment.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Cell {
    /// Environment.
    pub environment: String,
    /// `development`, `testing`, `staging`, `production`, `other`.
    pub tier: String,
    /// `ssh` or `bundle`.
    pub delivery: String,
    /// Versions that run there, by what was last said of each target; more than one: they differ.
    pub versions: Vec<String>,
    /// When the last one came, in milliseconds since the epoch.
    pub since: Option<i64>,
    /// Who brought it.
    pub by: String,
    /// How the last deployment ended: `done`, `failed`, `rolled_back`, …; empty: there was none.
    pub last: String,
    /// What the last look at the targets said; empty: nobody looked. See [`super::api`].
    pub health: String,
    /// Targets that run other code than they should.
    pub drift: u32,
    /// When that was, in milliseconds since the epoch.
    pub looked_at: Option<i64>,
    /// The version that could come next: what succeeded in the environment before.
    pub next: Option<String>,
    /// Commits that the environment before has and this one has not.
    pub commits_behind: Option<usize>,
    /// For how long the environment before has had something newer, in milliseconds.
    pub behind_ms: Option<i64>,
    /// Is that so long that somebody should know?
    pub stale: bool,
    /// Who holds it.
    pub lock: Option<Lock>,
    /// Until when it is frozen, and why.
    pub frozen: Option<String>,
    /// The deployment that waits or runs.
    pub deployment: Option<Deployment>,
    /// How many people have to agree.
    pub approvals: u32,
}

/// The row of a project; none: it has no `.ci/deploy.yml`.
///
/// # Errors
/// The database does not answer.
pub async fn grid(app: &App, project: &Project) -> Answer<Option<Row>> {
    // a project whose branch was not fetched yet has no environments yet
    match Desk::of(app, project).await {
        Ok(desk) => row(app, project, &desk).await,
        Err(_) => Ok(None),
    }
}

/// As [`grid`], of a desk that is there.
pub(super) async fn row(app: &App, project: &Project, desk: &Desk) -> Answer<Option<Row>> {
    let row = Row {
        project_id: project.id,
        project: project.path.clone(),
        cells: Vec::new(),
        problem: String::new(),
    };
    let file = match desk.file() {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(problem) => return Ok(Some(Row { problem: problem.message, ..row })),
    };
    let entries = match desk.entries() {
        Ok(entries) => entries,
        Err(problem) => return Ok(Some(Row { problem: problem.message, ..row })),
    };
    let locks = locks(app, project.id).await?;
    let deployments = Deployment::newest(app, project.id, 200).await?;
    let mut cells = Vec::new();
    for name in file.environments.keys() {
        let mut cell = cell(file, entries, name);
        cell.lock = locks.iter().find(|lock| lock.environment == *name).cloned();
        let open = |d: &&Deployment| {
            d.environment == *name
                && matches!(d.status.as_str(), "planning" | "waiting" | "queued" | "running")
        };
        cell.deployment = deployments.iter().find(open).cloned();
        let before = cells.last();
        compare(&mut cell, before, entries, desk);
        look(app, project, &mut cell).await?;
        cells.push(cell);
    }
    Ok(Some(Row { cells, ..row }))
}

/// What the file and the ledger say.
fn cell(file: &DeployFile, entries: &[Entry], name: &str) -> Cell {
    let settings = &file.environments[name];
    let arrivals: Vec<_> = standing::arrivals(entries, name).collect();
    let last = arrivals.last();
    let came = arrivals.iter().rfind(|(_, arrival)| arrival.outcome.succeeded());
    let frozen = freeze::frozen(&settings.freeze, jiff::Timestamp::now()).ok().flatten();
    Cell {
        environment: name.to_owned(),
        tier: settings.tier.name().to_owned(),
        delivery: if settings.delivery == Delivery::Bundle { "bundle" } else { "ssh" }.to_owned(),
        versions: standing::running(entries, name),
        since: came.and_then(|(entry, _)| millis(&entry.at)),
        by: came.map(|(entry, _)| entry.by.clone()).unwrap_or_default(),
        last: last.map(|(_, arrival)| arrival.outcome.as_str().to_owned()).unwrap_or_default(),
        frozen: frozen.map(|window| format!("until {} {}", window.until, window.reason).trim().to_owned()),
        approvals: settings.approvals.count,
        ..Cell::default()
    }
}

fn millis(at: &str) -> Option<i64> {
    at.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// What the environment before has and this one lacks.
fn compare(cell: &mut Cell, before: Option<&Cell>, entries: &[Entry], desk: &Desk) {
    let Some(before) = before else {
        let newest = entries.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Release(released) => Some(released.version.clone()),
            _ => None,
        });
        cell.next = newest.filter(|version| !cell.versions.contains(version));
        return;
    };
    let Some(theirs) = before.versions.last() else { return };
    if cell.versions.contains(theirs) || standing::bad(entries, &cell.environment, theirs).is_some() {
        return;
    }
    cell.next = Some(theirs.clone());
    cell.behind_ms = before.since.map(|since| crate::server::db::now() - since);
    cell.stale = cell.behind_ms.is_some_and(|ms| ms >= STALE_MS);
    let commit =
        |version: &str| standing::releases(entries, version).next().map(|released| released.commit.clone());
    cell.commits_behind =
        cell.versions.last().and_then(|ours| commits_between(&desk.root, &commit(ours)?, &commit(theirs)?));
}

/// Key of `meta` for the last look at the targets.
pub(super) fn look_key(project: i64, environment: &str) -> String {
    format!("look:{project}:{environment}")
}

async fn look(app: &App, project: &Project, cell: &mut Cell) -> Answer<()> {
    let row: Option<(String,)> = sqlx::query_as("SELECT value FROM meta WHERE key = $1")
        .bind(look_key(project.id, &cell.environment))
        .fetch_optional(&app.db.pool)
        .await?;
    let Some((text,)) = row else { return Ok(()) };
    let Ok(seen) = serde_json::from_str::<super::api::Look>(&text) else { return Ok(()) };
    cell.health = seen.health;
    cell.drift = seen.drift;
    cell.looked_at = Some(seen.at);
    Ok(())
}
