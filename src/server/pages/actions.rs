//! Buttons: forms that change something and lead back.

use super::page;
use super::place::{self, Place};
use crate::server::access::Actor;
use crate::server::engine::{self, Created, NewPipeline};
use crate::server::{Answer, App, Problem};
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

/// `POST /projects/{project}/pipelines/{pipeline}/{retry,cancel}`
pub(super) async fn pipeline(
    State(app): State<App>,
    actor: Actor,
    Path((name, id, action)): Path<(String, i64, String)>,
) -> Answer<Response> {
    let project = app.project(&name).await?;
    app.pipeline(project.id, id).await?;
    match action.as_str() {
        "retry" => engine::retry_pipeline(&app, id, &actor).await?,
        "cancel" => engine::cancel_pipeline(&app, id, &actor).await?,
        _ => return Err(Problem::not_found("action")),
    }
    Ok(Redirect::to(&format!("{}/pipelines/{id}", place::url(&project.path))).into_response())
}

/// `POST /projects/{project}/jobs/{job}/{retry,cancel,play}`
pub(super) async fn job(
    State(app): State<App>,
    actor: Actor,
    Path((name, id, action)): Path<(String, i64, String)>,
) -> Answer<Response> {
    let project = app.project(&name).await?;
    let job = app.job(project.id, id).await?;
    let base = place::url(&project.path);
    match action.as_str() {
        "retry" => engine::retry(&app, id, &actor).await?,
        "cancel" => engine::cancel(&app, id, &actor).await?,
        "play" => engine::play(&app, id, &actor).await?,
        _ => return Err(Problem::not_found("action")),
    }
    let newest: (i64,) =
        sqlx::query_as("SELECT MAX(id) FROM jobs WHERE pipeline_id = $1 AND position = $2 AND newest = 1")
            .bind(job.pipeline_id)
            .bind(job.position)
            .fetch_one(&app.db.pool)
            .await?;
    Ok(Redirect::to(&format!("{base}/jobs/{}", newest.0)).into_response())
}

/// `GET /projects/{project}/run`
pub(super) async fn form(State(app): State<App>, actor: Actor, Path(name): Path<String>) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let refs: Vec<(String,)> =
        sqlx::query_as("SELECT ref FROM refs WHERE project_id = $1 ORDER BY seen_at DESC LIMIT 200")
            .bind(project.id)
            .fetch_all(&app.db.pool)
            .await?;
    let short = |full: &str| {
        let full = full.strip_prefix("refs/heads/").or(full.strip_prefix("refs/tags/"));
        full.map(str::to_owned)
    };
    let refs: Vec<String> = refs.iter().filter_map(|(full,)| short(full)).collect();
    let data = json!({ "place": place, "refs": refs, "branch": project.default_branch });
    Ok(page(&app, &actor, "run", &format!("Run a pipeline · {}", project.path), &data))
}

/// What the form says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Run {
    #[serde(rename = "ref")]
    reference: String,
    variables: String,
}

/// `POST /projects/{project}/run`
pub(super) async fn run(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Form(form): Form<Run>,
) -> Answer<Response> {
    let project = app.project(&name).await?;
    let reference = form.reference.trim().to_owned();
    let tag: Option<(i64,)> = sqlx::query_as(
        "SELECT COUNT(*) FROM refs WHERE project_id = $1 AND ref = $2 \
         AND NOT EXISTS (SELECT 1 FROM refs b WHERE b.project_id = $1 AND b.ref = $3)",
    )
    .bind(project.id)
    .bind(format!("refs/tags/{reference}"))
    .bind(format!("refs/heads/{reference}"))
    .fetch_optional(&app.db.pool)
    .await?;
    let new = NewPipeline {
        project: project.id,
        reference,
        tag: tag.is_some_and(|(count,)| count > 0),
        source: "web".to_owned(),
        trusted: true,
        actor: actor.name.clone(),
        variables: variables(&form.variables)?,
        why: format!("{} asked for it on the page", actor.name),
        ..NewPipeline::default()
    };
    let base = place::url(&project.path);
    match engine::create(&app, new).await? {
        Created::Pipeline(id) | Created::Skipped(id, _) => {
            Ok(Redirect::to(&format!("{base}/pipelines/{id}")).into_response())
        }
        Created::Nothing(why) => Err(Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, why)),
    }
}

/// `NAME=value`, one a line.
fn variables(text: &str) -> Answer<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
    let pair = |line: &str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = name.trim();
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let right = line.contains('=') && !name.is_empty() && name.chars().all(letter);
        let right = right && !name.starts_with(|c: char| c.is_ascii_digit());
        match right {
            true => Ok((name.to_owned(), value.to_owned())),
            false => Err(Problem::bad(format!("`{line}` is no variable: write NAME=value, one a line"))),
        }
    };
    lines.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_written_one_a_line() {
        let said = variables("A=1\n\n B_2=x=y \n").unwrap();
        assert_eq!(said, [("A".to_owned(), "1".to_owned()), ("B_2".to_owned(), "x=y".to_owned())]);
        for wrong in ["A", "=1", "a b=1", "1A=2", "A$(x)=1"] {
            assert!(variables(wrong).is_err(), "{wrong}");
        }
    }
}
