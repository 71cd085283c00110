//! The running server: listens, answers, ends in order.

use super::App;
use super::{
    artifacts, engine, environments, hooks, logs, ops, pages, people, pool, projects, releases,
    routes::Routes, runner_api, runners,
};
use axum::extract::State;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::{Listener, ListenerExt};
use axum::{Json, Router};
use std::future::{IntoFuture, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

/// Connections taken last have so long to send their request: one without a request is closed when the server ends.
const LAST_REQUESTS: Duration = Duration::from_millis(250);
/// Open requests have so long to end.
const LAST_ANSWERS: Duration = Duration::from_secs(20);

/// All routes of the server. Modules add theirs here: `.with(hooks::routes)`.
pub fn routes(app: &App) -> Routes {
    let info = InfoBuilder::new().title("Slipway").version(env!("CARGO_PKG_VERSION")).build();
    Routes::new(app, OpenApiBuilder::new().info(info).build())
        .with(pages::routes)
        .with(people::routes)
        .with(projects::routes)
        .with(releases::routes)
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

/// `GET /api/v1/openapi.json`. The routes of one binary are always the same.
pub async fn document(State(app): State<App>) -> Json<&'static OpenApi> {
    static DOCUMENT: OnceLock<OpenApi> = OnceLock::new();
    Json(DOCUMENT.get_or_init(|| routes(&app).finish().1))
}

/// Serves until [`App::closing`], then lets open requests end. All passes run beside it.
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
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // log lines are small, and wanted at once
    let door =
        Door { listener, closing: app.closing.clone() }.tap_io(|stream| drop(stream.set_nodelay(true)));
    let served = axum::serve(door, service).with_graceful_shutdown(app.ending.clone().cancelled_owned());
    let served = tokio::select! {
        served = served.into_future() => served,
        () = end(&app) => Ok(()),
    };
    app.ending.cancel();
    for pass in passes {
        // a pass that panicked has said so
        let _ = pass.await;
    }
    served
}

/// Says when the server ends; is over when those who are still served have had their time.
async fn end(app: &App) {
    tokio::select! {
        () = app.closing.cancelled() => tokio::time::sleep(LAST_REQUESTS).await,
        () = app.ending.cancelled() => {}
    }
    app.ending.cancel();
    tokio::time::sleep(LAST_ANSWERS).await;
    tracing::warn!("requests that did not end were cut off");
}

/// The listening socket until the server is to end: who comes then waits in it for the next server.
struct Door {
    listener: TcpListener,
    closing: CancellationToken,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
