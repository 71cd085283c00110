//! The running server: listens, answers, ends in order.

use super::App;
use super::{
    artifacts, engine, environments, hooks, logs, ops, pages, people, pool, projects, routes::Routes,
    runner_api, runners,
};
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Json, Router};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

/// All routes of the server. Modules add theirs here: `.with(hooks::routes)`.
pub fn routes(app: &App) -> Routes {
    let info = InfoBuilder::new().title("Slipway").version(env!("CARGO_PKG_VERSION")).build();
    Routes::new(app, OpenApiBuilder::new().info(info).build())
        .with(pages::routes)
        .with(people::routes)
        .with(projects::routes)
        .with(hooks::routes)
        .with(engine::routes)
        .with(environments::routes)
        .with(logs::routes::routes)
        .with(artifacts::routes::routes)
        .with(runner_api::routes)
        .with(runners::routes)
        .with(ops::routes)
}

/// The router and the document of its API.
pub fn router(app: &App) -> (Router, OpenApi) {
    let (router, document) = routes(app).finish();
    let router = router.layer(from_fn_with_state(app.clone(), people::headers));
    // pages and documents shrink; streams of events are not held back by it
    let gzip = CompressionLayer::new().compress_when(SizeAbove::new(1024).and(NotForContentType::SSE));
    (router.layer(CatchPanicLayer::new()).layer(from_fn(ops::numbered)).layer(gzip), document)
}

/// `GET /api/v1/openapi.json`
pub async fn document(State(app): State<App>) -> Json<OpenApi> {
    Json(routes(&app).finish().1)
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
        tokio::spawn(logs::tidy::pass(app.clone())),
        tokio::spawn(environments::passes(app.clone())),
        tokio::spawn(pool::pass(app.clone())),
        tokio::spawn(ops::passes(app.clone())),
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
