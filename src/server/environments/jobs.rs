//! What jobs tell of their deployments: see `crate::ledger`'s half of it.

use super::desk::Desk;
use crate::ledger::{Fact, Released, standing};
use crate::release::package::is_plain_name;
use crate::release::tree::{Contents, IGNORED};
use crate::release::{Error, Package, Plain, Store, Stored};
use crate::server::app::Changed;
use crate::server::rows::{Job, Pipeline, Project};
use crate::server::{Answer, App, Problem, engine};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use std::io::Write;
use std::path::Path;

/// Bytes of a package.
const LARGEST: u64 = 4 << 30;

/// A running job that may speak for environments.
async fn speaker(app: &App, headers: &HeaderMap) -> Answer<(Project, Pipeline, Job)> {
    let token = headers.get("job-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let job = engine::by_token(app, token).await?;
    let pipeline = app.pipeline(job.project_id, job.pipeline_id).await?;
    // what runs in an environment decides what may go on: nobody's branch gets to say it
    if pipeline.protected != 1 || pipeline.trusted != 1 {
        let text = "only jobs of protected branches and tags tell what is deployed";
        return Err(Problem::forbidden(text));
    }
    let project = app.project(&job.project_id.to_string()).await?;
    Ok((project, pipeline, job))
}

/// `POST /api/v4/jobs/ledger`
pub(super) async fn tell(
    State(app): State<App>,
    headers: HeaderMap,
    Json(fact): Json<Fact>,
) -> Answer<StatusCode> {
    let (project, pipeline, _) = speaker(&app, &headers).await?;
    if !matches!(fact, Fact::Deployment(_) | Fact::Bad(_) | Fact::Cleared(_) | Fact::Override(_)) {
        return Err(Problem::bad("a job tells of deployments and marks, and of nothing else"));
    }
    append(&app, &project, fact, pipeline.actor).await?;
    Ok(StatusCode::CREATED)
}

/// What a package is that is no Erlang release and so does not say it.
#[derive(serde::Deserialize)]
pub(super) struct Named {
    name: Option<String>,
    version: Option<String>,
}

/// `PUT /api/v4/jobs/packages`
pub(super) async fn keep(
    State(app): State<App>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let (project, pipeline, _) = speaker(&app, &headers).await?;
    let desk = Desk::of(&app, &project).await?;
    let internal = |e: &dyn std::fmt::Display| Problem::internal("keeping a package", e);
    let releases = desk.ledger.releases();
    std::fs::create_dir_all(&releases).map_err(|e| internal(&e))?;
    let mut file = tempfile::NamedTempFile::new_in(&releases).map_err(|e| internal(&e))?;
    let (mut stream, mut size) = (body.into_data_stream(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| Problem::bad(format!("the package broke off: {e}")))?;
        size += chunk.len() as u64;
        if size > LARGEST {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the package is too large"));
        }
        file.write_all(&chunk).map_err(|e| internal(&e))?;
    }
    let commit = pipeline.sha.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let store = Store::at(releases);
        let stored = stored(&store, file.path(), named, &commit).map_err(|e| Problem::bad(e.to_string()))?;
        Ok::<_, Problem>(Released {
            content: stored.content.clone(),
            package: store.path(&stored).display().to_string(),
            release: stored.name,
            version: stored.version,
            commit,
            author: pipeline.author,
            archive: stored.sha256,
            upgrades_from: stored.upgrades_from,
        })
    });
    let released = kept.await.map_err(|e| internal(&e))??;
    // the package took its time: others may have written meanwhile
    let desk = Desk::of(&app, &project).await?;
    let known = standing::releases(desk.entries()?, &released.version).any(|r| r.archive == released.archive);
    if !known {
        append(&app, &project, Fact::Release(released), pipeline.actor).await?;
    }
    Ok(StatusCode::CREATED)
}

fn stored(store: &Store, path: &Path, named: Named, commit: &str) -> Result<Stored, Error> {
    let Named { name: Some(name), version: Some(version) } = named else {
        return store.keep(&Package::read(path)?, &[], Some(commit));
    };
    if ![&name, &version].into_iter().all(|text| is_plain_name(text)) {
        return Err(Error::Project(format!("`{name}` `{version}` is no name and version of a release")));
    }
    let Contents { sha256, size, tree, .. } = Contents::read(path, IGNORED)?;
    let plain = Plain { path: path.to_owned(), name, version, sha256, content: tree, size };
    store.keep_plain(&plain, Some(commit))
}

async fn append(app: &App, project: &Project, fact: Fact, by: String) -> Answer<()> {
    let ledger = Desk::of(app, project).await?.ledger;
    let done = tokio::task::spawn_blocking(move || ledger.append_by(fact, by)).await;
    let done = done.map_err(|e| Problem::internal("writing the ledger", &e))?;
    done.map_err(|e| Problem::internal("writing the ledger", &e))?;
    app.changed(Changed::Environment { project: project.id });
    Ok(())
}
