//! Running the server.
//!
//! | module | what |
//! |---|---|
//! | [`backup`] | a copy of everything, proved; and back |
//! | `copies` | backups that were made here: listed, fetched, removed |
//! | `handover` | another binary takes over the listening socket |
//! | `health` | is it alive, can it take work, when did each pass run last |
//! | `leftovers` | files of what is gone from the database |
//! | `maintenance` | no job is handed out |
//! | `meters` | `/metrics` |
//! | `notices` | the outbox of messages to people |
//! | `requests` | request numbers, the log of requests |
//! | `retention` | what is old goes, what is deployed stays |

pub mod backup;
pub mod copies;
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

use super::App;
use super::access::Access;
use super::routes::Routes;
use axum::http::Method;
use axum::routing::{delete, get, post};

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .page(Method::GET, "/healthz", Access::Public, get(health::alive))
        .page(Method::GET, "/readyz", Access::Public, get(health::ready))
        .page(Method::GET, "/metrics", Access::Public, get(meters::show))
        .page(Method::GET, "/api/v1/openapi.json", Access::Public, get(super::serve::document))
        .page(Method::POST, "/api/v1/admin/backup", Access::Admin, post(copies::make))
        .page(Method::GET, "/api/v1/admin/backups/{file}", Access::Admin, get(copies::fetch))
        .page(Method::DELETE, "/api/v1/admin/backups/{file}", Access::Admin, delete(copies::remove))
        .api(Access::Admin, utoipa_axum::routes!(health::components))
        .api(Access::Admin, utoipa_axum::routes!(maintenance::set))
}

/// The passes of this module. End with [`App::ending`].
pub async fn passes(app: App) {
    tokio::join!(retention::pass(app.clone()), notices::pass(app.clone()), meters::pass(app));
}
