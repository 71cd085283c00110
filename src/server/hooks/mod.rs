//! What forges send, what they forgot to send, and commit statuses back.
//!
//! ```text
//! POST /hooks/HOOK -> receive (is it signed?) -> inbox (stored, fsync) -> 202
//!     process: stored -> forge::told -> Event -> gate -> engine::create -> why, or which pipeline
//! reconcile: git ls-remote -> a head that nothing told of -> the same inbox
//! statuses: outbox -> forge's API
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`event`] | one type for what all forges tell |
//! | [`forge`] | from a body to events, pure |
//! | [`signature`] | is it from whom it claims to be |
//! | `receive`, `refusals` | the route; who was turned away |
//! | `inbox` | stores many deliveries by one fsync |
//! | `process`, `gate` | what a stored delivery leads to |
//! | `reconcile` | pushes that no hook told of |
//! | `statuses`, `status_calls` | the outbox of commit statuses, and what each forge wants to hear |
//! | `deliveries` | the API |

mod deliveries;
pub mod event;
pub mod forge;
mod gate;
mod inbox;
mod process;
mod receive;
mod reconcile;
mod refusals;
pub mod signature;
mod status_calls;
mod statuses;

pub(in crate::server) use deliveries::Delivery;
pub use inbox::Hooks;
pub use reconcile::{Looked, look};
pub use refusals::Refused;
pub(in crate::server) use status_calls::api_of;

use super::App;
use super::access::Access;
use super::routes::Routes;
use axum::http::Method;
use axum::routing::post;

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    let routes = routes.page(Method::POST, "/hooks/{hook}", Access::Public, post(receive::receive));
    deliveries::routes(routes)
}

/// The passes of this module. End with [`App::ending`].
pub async fn passes(app: App) {
    tokio::join!(
        inbox::pass(app.clone()),
        process::pass(app.clone()),
        reconcile::pass(app.clone()),
        statuses::pass(app)
    );
}
