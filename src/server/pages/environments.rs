//! What runs where: the grid of all projects, a project's environments, and one of them with its history.

use super::page;
use super::place::{self, Place, SEEN};
use super::words::span;
use crate::server::access::Actor;
use crate::server::rows::Project;
use crate::server::{Answer, App, Problem, environments, people};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, FromRow};
use std::collections::BTreeMap;

/// What was last put into an environment.
#[derive(FromRow)]
struct Standing {
    environment: String,
    version: String,
    requested_by: String,
    finished_at: Option<i64>,
}

/// Something that is under way, or was tried after what stands.
#[derive(FromRow)]
struct Under {
    environment: String,
    version: String,
    status: String,
}

#[derive(FromRow)]
struct Lock {
    environment: String,
    by_whom: String,
    reason: String,
    at: i64,
}

/// One field of the grid.
#[derive(Clone, Default, Serialize)]
struct Cell {
    url: String,
    environment: String,
    version: String,
    /// When it came, and who brought it.
    since: Option<i64>,
    by: String,
    /// Same version as the environment before.
    level: bool,
    /// What waits, runs, or went wrong after what stands: version and status.
    under: Option<Json>,
    lock: Option<Json>,
    /// The version that could come next.
    next: Option<String>,
    /// How far it is behind the environment before, in words; and is that too far?
    behind: String,
    stale: bool,
    frozen: Option<String>,
    health: String,
    drift: u32,
    /// `ssh` or `bundle`.
    delivery: String,
}

#[derive(Serialize)]
struct Row {
    path: String,
    url: String,
    /// What is wrong with the project's `.ci/deploy.yml`.
    problem: String,
    cells: Vec<Option<Cell>>,
}

/// Where the usual names stand in the order of promotion; others follow by name.
fn tier(environment: &str) -> (usize, String) {
    const ORDER: &[&[&str]] = &[
        &["dev", "development", "review"],
        &["sit", "test", "testing", "integration"],
        &["uat", "staging", "acceptance", "preprod"],
        &["prod", "production", "live"],
    ];
    let name = environment.to_lowercase();
    let at = ORDER.iter().position(|names| names.contains(&name.as_str())).unwrap_or(ORDER.len());
    (at, name)
}

struct Grid {
    columns: Vec<String>,
    rows: Vec<Row>,
}

async fn grid(app: &App, actor: &Actor, only: i64) -> Answer<Grid> {
    let (admin, user, token) = place::seen_by(actor);
    let text = format!("SELECT p.* FROM projects p WHERE {SEEN} AND ($4 = 0 OR p.id = $4) ORDER BY p.path");
    let query = sqlx::query_as::<_, Project>(AssertSqlSafe(text));
    let projects = query.bind(admin).bind(user).bind(token).bind(only).fetch_all(&app.db.pool).await?;
    let mut all = Vec::new();
    for project in projects {
        let (cells, problem) = match environments::grid(app, &project).await? {
            Some(row) => (row.cells.into_iter().map(told).collect(), row.problem),
            // without `.ci/deploy.yml`: what was recorded of it
            None => (recorded(app, &project).await?, String::new()),
        };
        if !cells.is_empty() || !problem.is_empty() {
            all.push((project.path, cells, problem));
        }
    }
    Ok(arrange(all))
}

/// As the ledger tells it.
fn told(cell: environments::Cell) -> Cell {
    let commits = cell.commits_behind.filter(|count| *count > 0).map(|count| format!("{count} commits"));
    let time = cell.behind_ms.map(span);
    let behind: Vec<String> = commits.into_iter().chain(time).collect();
    Cell {
        version: cell.versions.join(", "),
        since: cell.since,
        by: cell.by,
        under: cell.deployment.map(|one| json!({ "version": one.version, "status": one.status })),
        lock: cell.lock.map(|lock| json!({ "by": lock.by_whom, "reason": lock.reason, "at": lock.at })),
        next: cell.next,
        behind: behind.join(", "),
        stale: cell.stale,
        frozen: cell.frozen,
        health: cell.health,
        drift: cell.drift,
        delivery: cell.delivery,
        environment: cell.environment,
        ..Cell::default()
    }
}

/// As the deployments tell it.
async fn recorded(app: &App, project: &Project) -> Answer<Vec<Cell>> {
    let standing: Vec<Standing> = sqlx::query_as(
        "SELECT environment, version, requested_by, finished_at FROM deployments WHERE id IN (SELECT MAX(x.id) \
         FROM deployments x WHERE x.project_id = $1 AND x.status = 'done' AND x.kind <> 'bundle' \
         GROUP BY x.environment)",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let under: Vec<Under> = sqlx::query_as(
        "SELECT environment, version, status FROM deployments WHERE status <> 'done' AND id IN (SELECT MAX(x.id) \
         FROM deployments x WHERE x.project_id = $1 GROUP BY x.environment)",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool)
    .await?;
    let text = "SELECT environment, by_whom, reason, at FROM environment_locks WHERE project_id = $1";
    let locks: Vec<Lock> = sqlx::query_as(text).bind(project.id).fetch_all(&app.db.pool).await?;
    let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
    for one in standing {
        let cell = cells.entry(one.environment).or_default();
        (cell.version, cell.since, cell.by) = (one.version, one.finished_at, one.requested_by);
    }
    for one in under {
        let said = json!({ "version": one.version, "status": one.status });
        cells.entry(one.environment).or_default().under = Some(said);
    }
    for lock in locks {
        if let Some(cell) = cells.get_mut(&lock.environment) {
            cell.lock = Some(lock.said());
        }
    }
    Ok(cells.into_iter().map(|(environment, cell)| Cell { environment, ..cell }).collect())
}

impl Lock {
    fn said(&self) -> Json {
        json!({ "by": self.by_whom, "reason": self.reason, "at": self.at })
    }
}

/// Projects in rows, environments in columns in the order of promotion.
fn arrange(projects: Vec<(String, Vec<Cell>, String)>) -> Grid {
    let environments = projects.iter().flat_map(|(_, cells, _)| cells);
    let mut columns: Vec<String> = environments.map(|cell| cell.environment.clone()).collect();
    columns.sort_by_key(|name| tier(name));
    columns.dedup();
    let rows = projects.into_iter().map(|(path, cells, problem)| {
        let url = place::url(&path);
        let mut cells: BTreeMap<String, Cell> =
            cells.into_iter().map(|cell| (cell.environment.clone(), cell)).collect();
        let mut before = String::new();
        let mut fill = |column: &String| {
            let mut cell = cells.remove(column)?;
            cell.url = format!("{url}/environments/{}", place::encode(column));
            cell.level = !cell.version.is_empty() && cell.version == before;
            before.clone_from(&cell.version);
            Some(cell)
        };
        let cells = columns.iter().map(&mut fill).collect();
        Row { path, url, problem, cells }
    });
    let rows = rows.collect();
    Grid { columns, rows }
}

/// `GET /environments`
pub(super) async fn all(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let grid = grid(&app, &actor, 0).await?;
    let data = json!({ "columns": grid.columns, "rows": grid.rows });
    Ok(page(&app, &actor, "grid", "Environments", &data))
}

/// `GET /projects/{project}/environments`
pub(super) async fn of_project(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "environments").await?;
    let grid = grid(&app, &actor, project.id).await?;
    let cells: Vec<Cell> = grid.rows.into_iter().flat_map(|row| row.cells).flatten().collect();
    let data =
        json!({ "place": place, "cells": cells, "jobs": by_jobs(&app, project.id, &place.url).await? });
    Ok(page(&app, &actor, "environments", &format!("Environments · {}", project.path), &data))
}

#[derive(FromRow, Serialize)]
struct ByJob {
    id: i64,
    name: String,
    environment: String,
    status: String,
    finished_at: Option<i64>,
    sha: String,
    reference: String,
    actor: String,
    #[sqlx(skip)]
    url: String,
}

/// The last job that deployed to each environment by its own script.
async fn by_jobs(app: &App, project: i64, base: &str) -> Answer<Vec<ByJob>> {
    let mut rows: Vec<ByJob> = sqlx::query_as(
        "SELECT j.id, j.name, j.environment, j.status, j.finished_at, pl.sha, pl.ref AS reference, pl.actor \
         FROM jobs j JOIN pipelines pl ON pl.id = j.pipeline_id WHERE j.id IN (SELECT MAX(x.id) FROM jobs x \
         WHERE x.project_id = $1 AND x.environment <> '' AND x.status = 'success' GROUP BY x.environment) \
         ORDER BY j.environment",
    )
    .bind(project)
    .fetch_all(&app.db.pool)
    .await?;
    rows.sort_by_key(|row| tier(&row.environment));
    rows.iter_mut().for_each(|row| row.url = format!("{base}/jobs/{}", row.id));
    Ok(rows)
}

#[derive(FromRow, Serialize)]
struct Past {
    id: i64,
    kind: String,
    version: String,
    sha: String,
    status: String,
    reason: String,
    plan_digest: String,
    requested_by: String,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    #[sqlx(skip)]
    approvals: Vec<Vote>,
    #[sqlx(skip)]
    current: bool,
}

#[derive(FromRow, Serialize)]
struct Vote {
    name: String,
    approved: i64,
    comment: String,
    at: i64,
}

/// What the ledger knows of an environment.
#[derive(Serialize)]
struct Known<'a> {
    releases: Vec<Release<'a>>,
    bundles: &'a [environments::Bundle],
}

#[derive(Serialize)]
struct Release<'a> {
    version: &'a str,
    /// Why it is marked bad here; empty: it is not.
    bad: &'a str,
}

impl Known<'_> {
    fn of(about: &environments::One) -> Known<'_> {
        let bad = |version: &str| about.bad.iter().find(|(bad, _)| bad == version);
        let release = |version| Release { version, bad: bad(version).map_or("", |(_, why)| why) };
        let releases = about.releases.iter().take(30).map(|version| release(version.as_str()));
        Known { releases: releases.collect(), bundles: &about.bundles }
    }
}

/// `GET /projects/{project}/environments/{environment}`
pub(super) async fn one(
    State(app): State<App>,
    actor: Actor,
    Path((name, environment)): Path<(String, String)>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "environments").await?;
    let mut past: Vec<Past> = sqlx::query_as(
        "SELECT id, kind, version, sha, status, reason, plan_digest, requested_by, created_at, started_at, \
         finished_at FROM deployments WHERE project_id = $1 AND environment = $2 ORDER BY id DESC LIMIT 50",
    )
    .bind(project.id)
    .bind(&environment)
    .fetch_all(&app.db.pool)
    .await?;
    let jobs = by_jobs(&app, project.id, &place.url).await?;
    let job = jobs.into_iter().find(|job| job.environment == environment);
    let (about, problem) = match environments::about(&app, &project, &environment).await {
        Ok(about) => (about, String::new()),
        Err(problem) => (None, problem.message),
    };
    let cell = match &about {
        Some(about) => Some(told(about.cell.clone())),
        None => recorded(&app, &project).await?.into_iter().find(|cell| cell.environment == environment),
    };
    if past.is_empty() && job.is_none() && cell.is_none() {
        return Err(Problem::not_found("environment"));
    }
    for one in &mut past {
        let text = "SELECT name, approved, comment, at FROM approvals WHERE deployment_id = $1 ORDER BY id";
        one.approvals = sqlx::query_as(text).bind(one.id).fetch_all(&app.db.pool).await?;
    }
    if let Some(current) = past.iter_mut().find(|one| one.status == "done" && one.kind != "bundle") {
        current.current = true;
    }
    let current = past.iter().find(|one| one.current);
    let rights = people::rights(&app, &actor, project.id).await?;
    let data = json!({
        "environment": environment, "current": current, "past": past, "cell": cell, "job": job,
        "deploys": rights.deploys(&environment), "problem": problem, "known": about.as_ref().map(Known::of),
        "api": format!("/api/v1/projects/{}/environments/{}", project.id, place::encode(&environment)), "place": place,
    });
    Ok(page(&app, &actor, "environment", &format!("{environment} · {}", project.path), &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(environment: &str, version: &str) -> Cell {
        Cell { environment: environment.into(), version: version.into(), ..Cell::default() }
    }

    #[test]
    fn environments_stand_in_the_order_of_promotion() {
        let all = ["prod", "Eu-West", "dev", "uat", "sit"].map(|name| cell(name, "1"));
        let grid = arrange(vec![("a/b".to_owned(), all.to_vec(), String::new())]);
        assert_eq!(grid.columns, ["dev", "sit", "uat", "prod", "Eu-West"]);
    }

    #[test]
    fn an_environment_is_level_with_the_one_before_it() {
        let all = [("dev", "2"), ("sit", "2"), ("prod", "1")].map(|(name, version)| cell(name, version));
        let grid = arrange(vec![("a/b".to_owned(), all.to_vec(), String::new())]);
        let level: Vec<bool> = grid.rows[0].cells.iter().flatten().map(|cell| cell.level).collect();
        assert_eq!(level, [false, true, false]);
    }
}
