//! How a branch is, as a small picture for other pages.

use super::words::look;
use crate::server::access::{self, Access, Actor};
use crate::server::projects::Settings;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

/// Which branch; none: the default branch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    branch: String,
}

/// `GET /projects/{project}/badge.svg`: for anybody if the project says so, else for who may see it.
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Answer<Response> {
    let project = app.project(&name).await?;
    let open = Settings::of(&project).public_badge;
    if !open && !access::allows(&app, &actor, project.id, Access::Viewer, None).await? {
        return Err(Problem::not_found("project"));
    }
    let branch = if which.branch.is_empty() { &project.default_branch } else { &which.branch };
    let text = "SELECT status FROM pipelines WHERE project_id = $1 AND ref = $2 AND tag = 0 AND status <> 'skipped' \
                AND merge_request = '' ORDER BY id DESC LIMIT 1";
    let status: Option<String> =
        sqlx::query_scalar(text).bind(project.id).bind(branch).fetch_optional(&app.db.pool).await?;
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, drawn(status.as_deref().unwrap_or("unknown"))).into_response())
}

/// Letters are about 6.6 wide at this size; a little more room is no harm.
fn drawn(status: &str) -> String {
    let (said, colour) = match look(status) {
        "success" => ("passed", "#1a7a40"),
        "failed" => ("failed", "#c22b34"),
        "running" | "pending" | "waiting_for_resource" | "canceling" => ("running", "#1d5bc4"),
        "manual" => ("waits", "#7440b8"),
        "canceled" => ("canceled", "#5a6475"),
        _ => ("unknown", "#5a6475"),
    };
    let wide = 14 + 7 * said.len();
    let all = 62 + wide;
    let middle = 62 + wide / 2;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" aria-label=\"pipeline: {said}\">\
         <title>pipeline: {said}</title><clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"4\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"62\" height=\"20\" fill=\"#3b4452\"/>\
         <rect x=\"62\" width=\"{wide}\" height=\"20\" fill=\"{colour}\"/></g>\
         <g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\" text-anchor=\"middle\">\
         <text x=\"31\" y=\"14\">pipeline</text><text x=\"{middle}\" y=\"14\">{said}</text></g></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_word() {
        let table = [
            ("success", "passed"),
            ("failed", "failed"),
            ("pending", "running"),
            ("manual", "waits"),
            ("canceled", "canceled"),
            ("unknown", "unknown"),
        ];
        for (status, said) in table {
            assert!(drawn(status).contains(&format!("pipeline: {said}")), "{status}");
        }
    }
}
