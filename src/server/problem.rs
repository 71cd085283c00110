//! What a request can end with besides success.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::fmt;

/// An answer that is an error: GitLab's form, `{"message": …}`. Pages show it as a page (`pages` looks for it among
/// the response's extensions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// For people: lower case, what was asked for and why not. Never holds a secret.
    pub message: String,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Body {
    message: String,
}

/// Result of a handler.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// Any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into() }
    }

    /// 400.
    pub fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401: nobody has signed in.
    pub fn unauthorized() -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "sign in first, or give an access token")
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, message)
    }

    /// 404: also for what the asking person may not see.
    pub fn not_found(what: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, message)
    }

    /// 503: a later try may work.
    pub fn unavailable(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// 500; `error` goes to our own log and not to the one who asked.
    pub fn internal(doing: &str, error: &dyn fmt::Display) -> Problem {
        tracing::error!("{doing}: {error}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{doing} failed; the server's log says why"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The database is never the asking side's fault, and runners must see 503 and not 403 or 500.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Problem {
        match error {
            sqlx::Error::RowNotFound => Problem::not_found("thing"),
            error => {
                tracing::error!("database: {error}");
                Problem::unavailable("the database does not answer; try again")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Body { message: self.message.clone() })).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
