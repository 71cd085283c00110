//! The table of routes. There is no way to add one without saying who may use it.

use super::App;
use super::access::{self, Access};
use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, with `{names}`.
    pub path: String,
    /// Who may use it.
    pub access: Access,
    /// Is it part of the API? Then it answers JSON, and cookies alone are not enough for what changes something.
    pub api: bool,
}

/// What stands before a route.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The server.
    pub app: App,
    /// Who may use the route.
    pub access: Access,
    /// Is it part of the API?
    pub api: bool,
}

/// Collects routes.
pub struct Routes {
    app: App,
    router: OpenApiRouter<App>,
    /// All that were added.
    pub table: Vec<Route>,
}

impl Routes {
    /// None yet.
    pub fn new(app: &App, document: OpenApi) -> Routes {
        Routes { app: app.clone(), router: OpenApiRouter::with_openapi(document), table: Vec::new() }
    }

    /// A route that is no part of the documented API: pages, hooks, runners. `handler` is `get(…)`, `post(…)`.
    #[must_use]
    pub fn page(mut self, method: Method, path: &str, access: Access, handler: MethodRouter<App>) -> Routes {
        self.table.push(Route { method, path: path.to_owned(), access, api: false });
        let guard = Guard { app: self.app.clone(), access, api: false };
        self.router = self.router.route(path, handler.layer(from_fn_with_state(guard, access::guard)));
        self
    }

    /// A route of the documented API: `routes!(handler)` with `#[utoipa::path]`; one handler a call.
    #[must_use]
    pub fn api(mut self, access: Access, routes: UtoipaMethodRouter<App>) -> Routes {
        for (path, item) in &routes.1.paths {
            let methods = [
                (&item.get, Method::GET),
                (&item.put, Method::PUT),
                (&item.post, Method::POST),
                (&item.patch, Method::PATCH),
                (&item.delete, Method::DELETE),
            ];
            for (_, method) in methods.into_iter().filter(|(operation, _)| operation.is_some()) {
                self.table.push(Route { method, path: path.clone(), access, api: true });
            }
        }
        let guard = Guard { app: self.app.clone(), access, api: true };
        self.router = self.router.routes(routes.layer(from_fn_with_state(guard, access::guard)));
        self
    }

    /// Lets a module add its own.
    #[must_use]
    pub fn with(self, add: impl FnOnce(Routes) -> Routes) -> Routes {
        add(self)
    }

    /// The router, and the document of the API.
    pub fn finish(self) -> (Router, OpenApi) {
        let (router, document) = self.router.split_for_parts();
        (router.with_state(self.app), document)
    }
}
