//! A person asks for a deployment.

use super::desk::Desk;
use super::rows::{Deployment, Lock, locks};
use crate::deploy::{Delivery, DeployFile};
use crate::ledger::{Entry, standing};
use crate::promotion::Gate;
use crate::server::access::Actor;
use crate::server::app::Changed;
use crate::server::db::now;
use crate::server::rows::{Audit, Project, audit};
use crate::server::{Answer, App, Problem};
use axum::http::StatusCode;
use serde_json::json;

/// How long people may take to agree.
const PATIENCE_MS: i64 = 7 * 24 * 3600 * 1000;

/// What is asked for.
#[derive(Clone, Debug, serde::Deserialize, utoipa::ToSchema)]
pub(super) struct Wanted {
    /// `promote` (default), `rollback` or `bundle`.
    #[serde(default)]
    pub(super) kind: String,
    /// Release version; a rollback without one goes to the version before.
    #[serde(default)]
    pub(super) version: String,
    /// Why a rule may be set aside; recorded. Needs a maintainer.
    #[serde(default)]
    pub(super) set_aside: String,
}

/// Stores the request when nothing forbids it; what waited for the same environment is superseded.
///
/// # Errors
/// A rule forbids it; says which, and what to do.
pub(super) async fn request(
    app: &App,
    project: &Project,
    environment: &str,
    wanted: Wanted,
    actor: &Actor,
) -> Answer<Deployment> {
    let kind = match wanted.kind.as_str() {
        "" | "promote" => "promote",
        "rollback" => "rollback",
        "bundle" => "bundle",
        other => return Err(Problem::bad(format!("`kind` is promote, rollback or bundle, not `{other}`"))),
    };
    if !(wanted.version.is_empty() || is_version(&wanted.version)) {
        return Err(Problem::bad("`version` is no version: letters, digits and `.+-_~` make one"));
    }
    let desk = Desk::of(app, project).await?;
    let file = desk.file()?.ok_or_else(|| Problem::conflict("the default branch has no `.ci/deploy.yml`"))?;
    let Some(settings) = file.environments.get(environment) else {
        return Err(Problem::not_found("environment"));
    };
    if kind != "rollback" && wanted.version.is_empty() {
        return Err(Problem::bad("say which version: `version`"));
    }
    if kind == "promote" && settings.delivery == Delivery::Bundle {
        return Err(Problem::conflict(format!(
            "releases come to `{environment}` as bundles: ask for a bundle"
        )));
    }
    if let Some(lock) = locks(app, project.id).await?.into_iter().find(|lock| lock.environment == environment)
    {
        let Lock { by_whom, reason, .. } = lock;
        return Err(Problem::conflict(format!("`{environment}` is locked by {by_whom}: {reason}")));
    }
    let entries = desk.entries()?;
    let released = allowed(&desk, file, entries, environment, kind, &wanted)?;
    let approvals = if kind == "rollback" { 0 } else { settings.approvals.count };
    let (version, content, sha) = released;
    let mut tx = app.db.write().await?;
    let superseded = "UPDATE deployments SET status = 'superseded', finished_at = $1, reason = 'a newer request took its place' \
                      WHERE project_id = $2 AND environment = $3 AND status IN ('planning', 'waiting', 'queued')";
    sqlx::query(superseded).bind(now()).bind(project.id).bind(environment).execute(&mut *tx).await?;
    let insert = "INSERT INTO deployments (project_id, kind, environment, version, content, sha, status, plan, plan_digest, \
         reason, set_aside, requested_by, expires_at, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 'planning', '', '', '', $7, $8, $9, $10) RETURNING id";
    let (id,): (i64,) = sqlx::query_as(insert)
        .bind(project.id)
        .bind(kind)
        .bind(environment)
        .bind(&version)
        .bind(&content)
        .bind(&sha)
        .bind(&wanted.set_aside)
        .bind(&actor.name)
        .bind((approvals > 0).then(|| now() + PATIENCE_MS))
        .bind(now())
        .fetch_one(&mut *tx)
        .await?;
    let detail = json!({ "deployment": id, "version": version, "kind": kind, "set_aside": wanted.set_aside });
    let entry = Audit {
        actor,
        action: "deployment.request",
        project: Some(project.id),
        subject: environment,
        detail,
    };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    app.changed(Changed::Environment { project: project.id });
    app.wake.deployments.notify_one();
    Deployment::find(app, project.id, id).await
}

/// It becomes an argument and a part of file names.
fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-_~".contains(c))
}

/// Version, content and commit of what may go there.
fn allowed(
    desk: &Desk,
    file: &DeployFile,
    entries: &[Entry],
    environment: &str,
    kind: &str,
    wanted: &Wanted,
) -> Answer<(String, String, String)> {
    if kind == "rollback" {
        return Ok((wanted.version.clone(), String::new(), String::new()));
    }
    let gate = Gate { file, root: &desk.root, entries, now: jiff::Timestamp::now() };
    let verdict =
        gate.judge_agreed(environment, &wanted.version).map_err(|e| Problem::conflict(e.message))?;
    if !verdict.refusals.is_empty() && wanted.set_aside.trim().is_empty() {
        let told = verdict.refusals.iter().map(|(what, help)| format!("{what}; {help}"));
        let told = told.collect::<Vec<_>>().join(". ");
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("{told}. A maintainer can set it aside with a reason"),
        ));
    }
    let Some(content) = verdict.content else {
        return Err(Problem::conflict(format!("no package of `{}` is kept here", wanted.version)));
    };
    let released = standing::releases(entries, &wanted.version).find(|released| released.content == content);
    let sha = released.map(|released| released.commit.clone()).unwrap_or_default();
    Ok((wanted.version.clone(), content, sha))
}
