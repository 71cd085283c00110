//! Running the server.
//!
//! | module | what |
//! |---|---|
//! | [`backup`] | a copy of everything, proved; and back |
//! | `handover` | another binary takes over the listening socket |
//! | `health` | is it alive, can it take work, when did each pass run last |
//! | `leftovers` | files of what is gone from the database |
//! | `maintenance` | no job is handed out |
//! | `meters` | `/metrics` |
//! | `notices` | the outbox of messages to people |
//! | `requests` | request numbers, the log of requests |
//! | `retention` | what is old goes, what is deployed stays |

pub mod backup;
pub mod handover;
mod health;
mod leftovers;
pub mod maintenance;
mod meters;
mod notices;
mod requests;
mod retention;

pub use health::Beats;
pub use meters::{Meters, Stream, latency};
pub use requests::{begin_log, numbered};

use super::access::Access;
use super::routes::Routes;
use super::{Answer, App, Problem};
use axum::extract::State;
use axum::http::Method;
use axum::routing::{get, post};

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .page(Method::GET, "/healthz", Access::Public, get(health::alive))
        .page(Method::GET, "/readyz", Access::Public, get(health::ready))
        .page(Method::GET, "/metrics", Access::Public, get(meters::show))
        .page(Method::GET, "/api/v1/openapi.json", Access::Public, get(super::serve::document))
        .page(Method::POST, "/api/v1/admin/backup", Access::Admin, post(make_backup))
        .api(Access::Admin, utoipa_axum::routes!(health::components))
        .api(Access::Admin, utoipa_axum::routes!(maintenance::set))
}

/// The passes of this module. End with [`App::ending`].
pub async fn passes(app: App) {
    tokio::join!(retention::pass(app.clone()), notices::pass(app.clone()), meters::pass(app));
}

/// `POST /api/v1/admin/backup`: a copy in the data directory's `backups`.
async fn make_backup(State(app): State<App>) -> Answer<axum::Json<serde_json::Value>> {
    let dir = app.dir("backups");
    let doing = |e: std::io::Error| Problem::internal("making a backup", &e);
    std::fs::create_dir_all(&dir).map_err(doing)?;
    let name = format!("slipway-{}.tar.zst", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let config = app.config.clone();
    let path = dir.join(&name);
    // packing blocks: it has a thread of its own
    let handle = tokio::runtime::Handle::current();
    let made =
        tokio::task::spawn_blocking(move || handle.block_on(backup::backup(&config, &path, false))).await;
    let manifest = made.map_err(|e| Problem::internal("making a backup", &e))?.map_err(doing)?;
    backup::remember(&app).await?;
    Ok(axum::Json(serde_json::json!({ "file": format!("backups/{name}"), "manifest": manifest })))
}
