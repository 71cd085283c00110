//! The running server: listens, answers, ends in order.

use super::App;
use super::{
    artifacts, engine, environments, hooks, logs, pages, people, projects, routes::Routes, runner_api,
    runners,
};
use axum::Router;
use axum::middleware::from_fn_with_state;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

/// All routes of the server. Modules add theirs here: `.with(hooks::routes)`.
pub fn routes(app: &App) -> Routes {
    let info = InfoBuilder::new().title("Slipway").version(env!("CARGO_PKG_VERSION")).build();
    Routes::new(app, OpenApiBuilder::new().info(info).build())
        .with(pages::routes)
        .with(people::routes)
        .with(projects::routes)
        .with(hooks::routes)
        .with(environments::routes)
        .with(logs::routes::routes)
        .with(artifacts::routes::routes)
        .with(runner_api::routes)
        .with(runners::routes)
}

/// The router and the document of its API.
pub fn router(app: &App) -> (Router, OpenApi) {
    let (router, document) = routes(app).finish();
    (router.layer(from_fn_with_state(app.clone(), people::headers)), document)
}

/// Serves until [`App::ending`], then lets open requests end. All passes run beside it.
///
/// # Errors
/// Listening has failed.
pub async fn serve(app: App, listener: TcpListener) -> io::Result<()> {
    let passes = [
        tokio::spawn(engine::passes(app.clone())),
        tokio::spawn(hooks::passes(app.clone())),
        tokio::spawn(artifacts::sweep::pass(app.clone())),
        tokio::spawn(environments::passes(app.clone())),
    ];
    let (router, _) = router(&app);
    let ending = app.ending.clone();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(ending.cancelled_owned()).await;
    app.ending.cancel();
    for pass in passes {
        // a pass that panicked has said so
        let _ = pass.await;
    }
    served
}
