//! What runs where: the grid of all projects, a project's environments, and one of them with its history.

use super::page;
use super::place::{self, Place, SEEN};
use crate::server::access::Actor;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, FromRow};
use std::collections::BTreeMap;

/// What was last put into an environment.
#[derive(Clone, FromRow, Serialize)]
struct Standing {
    id: i64,
    project_id: i64,
    path: String,
    environment: String,
    version: String,
    sha: String,
    requested_by: String,
    finished_at: Option<i64>,
    created_at: i64,
}

/// Something that is under way, or was tried after what stands.
#[derive(FromRow)]
struct Under {
    project_id: i64,
    environment: String,
    version: String,
    status: String,
}

#[derive(FromRow)]
struct Lock {
    project_id: i64,
    environment: String,
    by_whom: String,
    reason: String,
    at: i64,
}

/// One field of the grid.
#[derive(Clone, Serialize)]
struct Cell {
    url: String,
    environment: String,
    standing: Option<Standing>,
    /// Same version as the environment before.
    level: bool,
    under: Option<Json>,
    lock: Option<Json>,
}

#[derive(Serialize)]
struct Row {
    path: String,
    url: String,
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

async fn grid(app: &App, actor: &Actor, project: i64) -> Answer<Grid> {
    let (admin, user, only) = place::seen_by(actor);
    let text = format!(
        "SELECT d.id, d.project_id, p.path, d.environment, d.version, d.sha, d.requested_by, d.finished_at, \
         d.created_at FROM deployments d JOIN projects p ON p.id = d.project_id WHERE {SEEN} \
         AND ($4 = 0 OR d.project_id = $4) AND d.id IN (SELECT MAX(x.id) FROM deployments x \
         WHERE x.status = 'done' AND x.kind <> 'bundle' GROUP BY x.project_id, x.environment)"
    );
    let query = sqlx::query_as::<_, Standing>(AssertSqlSafe(text));
    let standing = query.bind(admin).bind(user).bind(only).bind(project).fetch_all(&app.db.pool).await?;
    let text = format!(
        "SELECT d.project_id, d.environment, d.version, d.status FROM deployments d JOIN projects p \
         ON p.id = d.project_id WHERE {SEEN} AND ($4 = 0 OR d.project_id = $4) AND d.status <> 'done' \
         AND d.id IN (SELECT MAX(x.id) FROM deployments x GROUP BY x.project_id, x.environment)"
    );
    let query = sqlx::query_as::<_, Under>(AssertSqlSafe(text));
    let under = query.bind(admin).bind(user).bind(only).bind(project).fetch_all(&app.db.pool).await?;
    let locks: Vec<Lock> =
        sqlx::query_as("SELECT project_id, environment, by_whom, reason, at FROM environment_locks")
            .fetch_all(&app.db.pool)
            .await?;
    let paths: Vec<(i64, String)> = {
        let text = format!("SELECT p.id, p.path FROM projects p WHERE {SEEN} AND ($4 = 0 OR p.id = $4)");
        let query = sqlx::query_as(AssertSqlSafe(text));
        query.bind(admin).bind(user).bind(only).bind(project).fetch_all(&app.db.pool).await?
    };
    Ok(arrange(&paths.into_iter().collect(), standing, &under, &locks))
}

fn arrange(paths: &BTreeMap<i64, String>, standing: Vec<Standing>, under: &[Under], locks: &[Lock]) -> Grid {
    let mut columns: Vec<String> = standing.iter().map(|one| one.environment.clone()).collect();
    columns.extend(under.iter().map(|one| one.environment.clone()));
    columns.sort_by_key(|name| tier(name));
    columns.dedup();
    let mut cells: BTreeMap<(i64, String), Cell> = BTreeMap::new();
    let empty = |project: i64, environment: &str| Cell {
        url: format!("{}/environments/{}", place::url(&paths[&project]), place::encode(environment)),
        environment: environment.to_owned(),
        standing: None,
        level: false,
        under: None,
        lock: None,
    };
    for one in standing.into_iter().filter(|one| paths.contains_key(&one.project_id)) {
        let key = (one.project_id, one.environment.clone());
        cells.entry(key).or_insert_with(|| empty(one.project_id, &one.environment)).standing =
            Some(one.clone());
    }
    for one in under.iter().filter(|one| paths.contains_key(&one.project_id)) {
        let key = (one.project_id, one.environment.clone());
        let cell = cells.entry(key).or_insert_with(|| empty(one.project_id, &one.environment));
        cell.under = Some(json!({ "version": one.version, "status": one.status }));
    }
    for lock in locks {
        if let Some(cell) = cells.get_mut(&(lock.project_id, lock.environment.clone())) {
            cell.lock = Some(json!({ "by": lock.by_whom, "reason": lock.reason, "at": lock.at }));
        }
    }
    let mut rows = Vec::new();
    for (project, path) in paths {
        let mut before: Option<String> = None;
        let mut row = Vec::new();
        for column in &columns {
            let mut cell = cells.remove(&(*project, column.clone()));
            if let Some(cell) = &mut cell {
                let version = cell.standing.as_ref().map(|one| one.version.clone());
                cell.level = version.is_some() && version == before;
                before = version.or(before);
            }
            row.push(cell);
        }
        if row.iter().any(Option::is_some) {
            rows.push(Row { path: path.clone(), url: place::url(path), cells: row });
        }
    }
    rows.sort_by(|a, b| a.path.cmp(&b.path));
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

/// `GET /projects/{project}/environments/{environment}`
pub(super) async fn one(
    State(app): State<App>,
    actor: Actor,
    Path((name, environment)): Path<(String, String)>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "environments").await?;
    let mut past: Vec<Past> = sqlx::query_as(
        "SELECT id, kind, version, sha, status, reason, requested_by, created_at, started_at, finished_at \
         FROM deployments WHERE project_id = $1 AND environment = $2 ORDER BY id DESC LIMIT 50",
    )
    .bind(project.id)
    .bind(&environment)
    .fetch_all(&app.db.pool)
    .await?;
    let jobs = by_jobs(&app, project.id, &place.url).await?;
    let job = jobs.into_iter().find(|job| job.environment == environment);
    if past.is_empty() && job.is_none() {
        return Err(Problem::not_found("environment"));
    }
    for one in &mut past {
        let text = "SELECT name, approved, comment, at FROM approvals WHERE deployment_id = $1 ORDER BY id";
        one.approvals = sqlx::query_as(text).bind(one.id).fetch_all(&app.db.pool).await?;
    }
    if let Some(current) = past.iter_mut().find(|one| one.status == "done" && one.kind != "bundle") {
        current.current = true;
    }
    let lock: Option<Lock> = sqlx::query_as(
        "SELECT project_id, environment, by_whom, reason, at FROM environment_locks \
         WHERE project_id = $1 AND environment = $2",
    )
    .bind(project.id)
    .bind(&environment)
    .fetch_optional(&app.db.pool)
    .await?;
    let lock = lock.map(|lock| json!({ "by": lock.by_whom, "reason": lock.reason, "at": lock.at }));
    let current = past.iter().find(|one| one.current);
    let data = json!({
        "place": place, "environment": environment, "current": current, "past": past, "lock": lock, "job": job,
    });
    Ok(page(&app, &actor, "environment", &format!("{environment} · {}", project.path), &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(environment: &str, version: &str) -> Standing {
        Standing {
            id: 1,
            project_id: 1,
            path: "a/b".into(),
            environment: environment.into(),
            version: version.into(),
            sha: String::new(),
            requested_by: String::new(),
            finished_at: None,
            created_at: 0,
        }
    }

    #[test]
    fn environments_stand_in_the_order_of_promotion() {
        let all = ["prod", "Eu-West", "dev", "uat", "sit"].map(|name| standing(name, "1"));
        let grid = arrange(&[(1, "a/b".to_owned())].into(), all.to_vec(), &[], &[]);
        assert_eq!(grid.columns, ["dev", "sit", "uat", "prod", "Eu-West"]);
    }

    #[test]
    fn an_environment_is_level_with_the_one_before_it() {
        let all = [("dev", "2"), ("sit", "2"), ("prod", "1")].map(|(name, version)| standing(name, version));
        let grid = arrange(&[(1, "a/b".to_owned())].into(), all.to_vec(), &[], &[]);
        let level: Vec<bool> = grid.rows[0].cells.iter().flatten().map(|cell| cell.level).collect();
        assert_eq!(level, [false, true, false]);
    }
}
