//! Artifacts and test reports in the API.

use super::blobs::{self, Artifact};
use super::browse::{self, Entry};
use super::junit::{Case, Report};
use crate::server::access::Access;
use crate::server::routes::Routes;
use crate::server::rows::Job;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::io::Seek;
use tokio_util::io::ReaderStream;
use utoipa_axum::routes;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(list))
        .api(Access::Viewer, routes!(whole))
        .api(Access::Viewer, routes!(tree))
        .api(Access::Viewer, routes!(single))
        .api(Access::Viewer, routes!(tests))
}

async fn job(app: &App, project: &str, job: i64) -> Answer<Job> {
    let project = app.project(project).await?;
    app.job(project.id, job).await
}

/// Artifacts of a job
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/artifacts",
    tag = "artifacts",
    params(("project" = String, Path), ("job" = i64, Path)),
    responses((status = 200, body = Vec<Artifact>), (status = 404))
)]
async fn list(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
) -> Answer<Json<Vec<Artifact>>> {
    let job = job(&app, &project, id).await?;
    Ok(Json(blobs::all(&app, job.id).await?))
}

/// One of them, as it was uploaded
///
/// `archive` is a ZIP file. Reports are as their format says.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/artifacts/{type}",
    tag = "artifacts",
    params(("project" = String, Path), ("job" = i64, Path), ("type" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404))
)]
async fn whole(
    State(app): State<App>,
    Path((project, id, kind)): Path<(String, i64, String)>,
) -> Answer<Response> {
    let job = job(&app, &project, id).await?;
    let artifact = blobs::find(&app, job.id, &kind).await?;
    blobs::attachment(&app, &artifact).await
}

#[derive(Deserialize, utoipa::IntoParams)]
struct At {
    /// Path in the archive.
    #[serde(default)]
    path: String,
}

/// What is in a directory of the archive
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/artifacts/archive/tree",
    tag = "artifacts",
    params(("project" = String, Path), ("job" = i64, Path), At),
    responses((status = 200, body = Vec<Entry>), (status = 404))
)]
async fn tree(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
    Query(at): Query<At>,
) -> Answer<Json<Vec<Entry>>> {
    let job = job(&app, &project, id).await?;
    let artifact = blobs::find(&app, job.id, "archive").await?;
    let archive = blobs::path(&app, &artifact.sha256);
    let listed = tokio::task::spawn_blocking(move || browse::list(&archive, &at.path)).await;
    let listed = listed.map_err(|e| Problem::internal("reading the archive", &e))?;
    Ok(Json(listed.map_err(|e| Problem::internal("reading the archive", &e))?))
}

/// A file of the archive
///
/// Always as a file to be saved: it comes from a job, and is not shown by this server's pages.
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/artifacts/archive/file",
    tag = "artifacts",
    params(("project" = String, Path), ("job" = i64, Path), At),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404))
)]
async fn single(
    State(app): State<App>,
    Path((project, id)): Path<(String, i64)>,
    Query(at): Query<At>,
) -> Answer<Response> {
    let job = job(&app, &project, id).await?;
    let artifact = blobs::find(&app, job.id, "archive").await?;
    let archive = blobs::path(&app, &artifact.sha256);
    let name = at.path.rsplit('/').next().unwrap_or_default().to_owned();
    let extracted = tokio::task::spawn_blocking(move || {
        let mut file = browse::extract(&archive, &at.path)?;
        file.as_mut().map(Seek::rewind).transpose()?;
        Ok::<_, std::io::Error>(file)
    });
    let extracted = extracted.await.map_err(|e| Problem::internal("reading the archive", &e))?;
    let file = extracted.map_err(|e| Problem::internal("reading the archive", &e))?;
    let file = tokio::fs::File::from_std(file.ok_or_else(|| Problem::not_found("file in the archive"))?);
    let body = Body::from_stream(ReaderStream::with_capacity(file, 64 << 10));
    Ok(blobs::guarded(body.into_response(), &name))
}

/// What a job's tests told
#[utoipa::path(
    get,
    path = "/api/v1/projects/{project}/jobs/{job}/tests",
    tag = "artifacts",
    params(("project" = String, Path), ("job" = i64, Path)),
    responses((status = 200, body = Report), (status = 404))
)]
async fn tests(State(app): State<App>, Path((project, id)): Path<(String, i64)>) -> Answer<Json<Report>> {
    let job = job(&app, &project, id).await?;
    let query = "SELECT total, failed, skipped, duration_ms, cases FROM test_reports WHERE job_id = $1";
    let row: Option<(i64, i64, i64, i64, String)> =
        sqlx::query_as(query).bind(job.id).fetch_optional(&app.db.pool).await?;
    let (total, failed, skipped, duration_ms, cases) =
        row.ok_or_else(|| Problem::not_found("test report"))?;
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap_or_default();
    Ok(Json(Report { total, failed, skipped, duration_ms, cases }))
}
