//! Deliveries over the API: what came, what it led to, and once more.

use super::inbox::{Kept, NewDelivery, keep};
use super::process::Stored;
use super::refusals::Refused;
use crate::server::access::{Access, Actor};
use crate::server::app::Changed;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::vault::new_token;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// Deliveries of one answer.
const MOST: i64 = 200;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Viewer, routes!(list_deliveries))
        .api(Access::Developer, routes!(read_delivery))
        .api(Access::Developer, routes!(replay_delivery))
        .api(Access::Maintainer, routes!(approve_delivery))
}

/// What a forge sent.
#[derive(Debug, Serialize, ToSchema, sqlx::FromRow)]
pub(in crate::server) struct Delivery {
    pub(in crate::server) id: i64,
    /// The forge's id of it; our own begin with `reconcile:`, `replay:`, `approved:`.
    key: String,
    forge: String,
    /// As the forge names it.
    event: String,
    /// Milliseconds since the epoch.
    received_at: i64,
    /// `waiting`, `held` (for a maintainer's approval), `pipeline`, `skipped`, `ignored`, `failed`.
    state: String,
    /// Why nothing ran.
    reason: String,
    pipeline_id: Option<i64>,
    processed_at: Option<i64>,
    tries: i64,
}

impl Delivery {
    /// Columns for `SELECT`.
    pub(in crate::server) const COLUMNS: &str =
        "id, key, forge, event, received_at, state, reason, pipeline_id, processed_at, tries";
}

/// Deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Deliveries {
    deliveries: Vec<Delivery>,
    /// Those that were turned away since the server started; they are not stored.
    refused: Option<Refused>,
    /// Why the last look at the repository failed; empty: it did not.
    repository_error: String,
}

#[derive(Debug, Deserialize, IntoParams)]
struct Filter {
    /// Only of this state.
    state: Option<String>,
    /// Only older than this one.
    before: Option<i64>,
    /// At most so many [default: 50, at most 200].
    count: Option<i64>,
}

/// Deliveries of a project, newest first, and why nothing ran
#[utoipa::path(get, path = "/api/v1/projects/{project}/deliveries", tag = "deliveries",
    params(("project" = String, Path, description = "number, or path with %2F"), Filter),
    responses((status = 200, body = Deliveries)))]
async fn list_deliveries(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(filter): Query<Filter>,
) -> Answer<Json<Deliveries>> {
    let project = app.project(&project).await?;
    let text = format!(
        "SELECT {} FROM deliveries WHERE project_id = $1 AND ($2 = '' OR state = $2) AND id < $3 \
         ORDER BY id DESC LIMIT $4",
        Delivery::COLUMNS
    );
    let rows =
        sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(project.id).bind(filter.state.unwrap_or_default());
    let rows = rows.bind(filter.before.unwrap_or(i64::MAX)).bind(filter.count.unwrap_or(50).clamp(1, MOST));
    let deliveries = rows.fetch_all(&app.db.pool).await?;
    let repository_error = super::reconcile::last_error(&app, project.id).await?;
    Ok(Json(Deliveries { deliveries, refused: app.hooks.refused(project.id), repository_error }))
}

/// A delivery with what was sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryWithBody)]
struct Whole {
    #[serde(flatten)]
    delivery: Delivery,
    /// Those that are kept.
    headers: Value,
    body: String,
}

/// One delivery with its headers and body
#[utoipa::path(get, path = "/api/v1/projects/{project}/deliveries/{delivery}", tag = "deliveries",
    params(("project" = String, Path, description = "number, or path with %2F"), ("delivery" = i64, Path)),
    responses((status = 200, body = Whole), (status = 404)))]
async fn read_delivery(
    State(app): State<App>,
    Path((project, delivery)): Path<(String, i64)>,
) -> Answer<Json<Whole>> {
    let project = app.project(&project).await?;
    let stored = stored(&app, project.id, delivery).await?;
    let text = format!("SELECT {} FROM deliveries WHERE id = $1", Delivery::COLUMNS);
    let row = sqlx::query_as(sqlx::AssertSqlSafe(text)).bind(delivery).fetch_one(&app.db.pool).await?;
    Ok(Json(Whole {
        delivery: row,
        headers: serde_json::from_str(&stored.headers).unwrap_or_default(),
        body: String::from_utf8_lossy(&stored.body).into_owned(),
    }))
}

async fn stored(app: &App, project: i64, delivery: i64) -> Answer<Stored> {
    let text = "SELECT id, project_id, key, forge, event, headers, body, tries FROM deliveries \
                WHERE id = $1 AND project_id = $2";
    let row = sqlx::query_as(text).bind(delivery).bind(project).fetch_optional(&app.db.pool).await?;
    row.ok_or_else(|| Problem::not_found("delivery"))
}

/// A delivery that is dealt with once more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryAgain)]
struct Again {
    /// The new delivery.
    id: i64,
}

/// Deals with a delivery once more, as a new one
#[utoipa::path(post, path = "/api/v1/projects/{project}/deliveries/{delivery}/replay", tag = "deliveries",
    params(("project" = String, Path, description = "number, or path with %2F"), ("delivery" = i64, Path)),
    responses((status = 202, body = Again), (status = 404)))]
async fn replay_delivery(
    State(app): State<App>,
    actor: Actor,
    Path((project, delivery)): Path<(String, i64)>,
) -> Answer<(StatusCode, Json<Again>)> {
    let project = app.project(&project).await?;
    let old = stored(&app, project.id, delivery).await?;
    let key = format!("replay:{delivery}:{}", new_token(""));
    let id = once_more(&app, &actor, old, key, "delivery.replay").await?;
    Ok((StatusCode::ACCEPTED, Json(Again { id })))
}

/// Lets the commit of a fork's merge request run, without secrets
///
/// The approval holds for the commit that the delivery names, and for no later one.
#[utoipa::path(post, path = "/api/v1/projects/{project}/deliveries/{delivery}/approve", tag = "deliveries",
    params(("project" = String, Path, description = "number, or path with %2F"), ("delivery" = i64, Path)),
    responses((status = 202, body = Again), (status = 404), (status = 409)))]
async fn approve_delivery(
    State(app): State<App>,
    actor: Actor,
    Path((project, delivery)): Path<(String, i64)>,
) -> Answer<(StatusCode, Json<Again>)> {
    let project = app.project(&project).await?;
    let held = stored(&app, project.id, delivery).await?;
    let id = once_more(&app, &actor, held, format!("approved:{delivery}"), "delivery.approve").await?;
    Ok((StatusCode::ACCEPTED, Json(Again { id })))
}

/// A copy under a key of our own. An approval takes the held one's place, and only a held one's.
async fn once_more(app: &App, actor: &Actor, old: Stored, key: String, action: &str) -> Answer<i64> {
    let project = old.project_id;
    let mut tx = app.db.write().await?;
    if action == "delivery.approve" {
        let text = "UPDATE deliveries SET state = 'ignored', reason = $1 WHERE id = $2 AND state = 'held'";
        let reason = format!("approved by {}", actor.name);
        let done = sqlx::query(text).bind(reason).bind(old.id).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(Problem::conflict("this delivery does not wait for an approval (any more)"));
        }
    }
    let subject = old.id.to_string();
    let new = NewDelivery {
        project,
        key,
        forge: old.forge,
        event: old.event,
        headers: old.headers,
        body: old.body,
        body_digest: String::new(),
    };
    let (Kept::New(id) | Kept::Known(id)) = keep(&mut tx, &new, "waiting", "").await?;
    let detail = json!({ "delivery": id });
    audit(&mut tx, Audit { actor, action, project: Some(project), subject: &subject, detail }).await?;
    tx.commit().await?;
    app.wake.inbox.notify_one();
    app.changed(Changed::Delivery { project });
    Ok(id)
}
