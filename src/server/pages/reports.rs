//! Tests of a pipeline: what fails now and did not before, first.

use super::page;
use super::place::Place;
use crate::server::access::Actor;
use crate::server::{Answer, App};
use axum::extract::{Path, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use std::collections::BTreeSet;

/// Cases that one page shows of each kind.
const MANY: usize = 200;

/// Sums over reports.
#[derive(FromRow, Serialize)]
pub(super) struct Totals {
    total: i64,
    failed: i64,
    skipped: i64,
    duration_ms: i64,
}

#[derive(FromRow)]
struct Report {
    job_id: i64,
    name: String,
    cases: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Case {
    suite: String,
    name: String,
    status: String,
    seconds: f64,
    message: Option<String>,
    #[serde(skip_deserializing)]
    job: String,
    #[serde(skip_deserializing)]
    url: String,
    #[serde(skip_deserializing)]
    new: bool,
    #[serde(skip_deserializing)]
    took: String,
}

const SUMS: &str = "SELECT CAST(COALESCE(SUM(r.total), 0) AS BIGINT) AS total, \
    CAST(COALESCE(SUM(r.failed), 0) AS BIGINT) AS failed, CAST(COALESCE(SUM(r.skipped), 0) AS BIGINT) AS skipped, \
    CAST(COALESCE(SUM(r.duration_ms), 0) AS BIGINT) AS duration_ms FROM test_reports r JOIN jobs j ON j.id = r.job_id";

/// Of the newest attempts of a pipeline; none when no job reported.
pub(super) async fn totals(app: &App, pipeline: i64) -> Answer<Option<Totals>> {
    let text = format!("{SUMS} WHERE r.pipeline_id = $1 AND j.newest = 1");
    let totals: Totals =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(pipeline).fetch_one(&app.db.pool).await?;
    Ok(Some(totals).filter(|totals| totals.total > 0))
}

/// Of one attempt.
pub(super) async fn totals_of_job(app: &App, job: i64) -> Answer<Option<Totals>> {
    let text = format!("{SUMS} WHERE r.job_id = $1");
    let totals: Totals = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(job).fetch_one(&app.db.pool).await?;
    Ok(Some(totals).filter(|totals| totals.total > 0))
}

/// `GET /projects/{project}/pipelines/{pipeline}/tests`
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    Path((name, id)): Path<(String, i64)>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let pipeline = app.pipeline(project.id, id).await?;
    let earlier: Option<(i64,)> = sqlx::query_as(
        "SELECT MAX(p.id) FROM pipelines p JOIN test_reports r ON r.pipeline_id = p.id \
         WHERE p.project_id = $1 AND p.ref = $2 AND p.id < $3",
    )
    .bind(project.id)
    .bind(&pipeline.reference)
    .bind(id)
    .fetch_optional(&app.db.pool)
    .await
    .ok()
    .flatten();
    let known: BTreeSet<(String, String)> = match earlier {
        Some((earlier,)) => {
            let cases = cases(&app, earlier, &place.url).await?.into_iter();
            cases.filter(Case::is_bad).map(|case| (case.suite, case.name)).collect()
        }
        None => BTreeSet::new(),
    };
    let mut cases = cases(&app, id, &place.url).await?;
    for case in &mut cases {
        case.new = case.is_bad() && !known.contains(&(case.suite.clone(), case.name.clone()));
    }
    let (mut failed, mut passed): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(Case::is_bad);
    failed.sort_by_key(|case| !case.new);
    passed.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let (bad, good) = (failed.len(), passed.len());
    failed.truncate(MANY);
    passed.truncate(MANY);
    let data = json!({
        "place": place, "id": id, "iid": pipeline.iid, "totals": totals(&app, id).await?, "failed": failed,
        "passed": passed, "earlier": earlier.map(|(id,)| id), "failed_more": bad.saturating_sub(MANY),
        "passed_more": good.saturating_sub(MANY),
    });
    Ok(page(&app, &actor, "tests", &format!("Tests · pipeline {id}"), &data))
}

impl Case {
    fn is_bad(&self) -> bool {
        matches!(self.status.as_str(), "failed" | "error")
    }
}

async fn cases(app: &App, pipeline: i64, base: &str) -> Answer<Vec<Case>> {
    let reports: Vec<Report> = sqlx::query_as(
        "SELECT r.job_id, j.name, r.cases FROM test_reports r JOIN jobs j ON j.id = r.job_id \
         WHERE r.pipeline_id = $1 AND j.newest = 1 ORDER BY j.position",
    )
    .bind(pipeline)
    .fetch_all(&app.db.pool)
    .await?;
    let mut all = Vec::new();
    for report in reports {
        let cases: Vec<Case> = serde_json::from_str(&report.cases).unwrap_or_default();
        all.extend(cases.into_iter().map(|case| Case {
            job: report.name.clone(),
            url: format!("{base}/jobs/{}", report.job_id),
            took: seconds(case.seconds),
            ..case
        }));
    }
    Ok(all)
}

fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{:.0} ms", value * 1000.0) } else { format!("{value:.1} s") }
}
