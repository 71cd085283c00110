//! `GET jobs/ID/artifacts`: a running job gets the archive of one that it depends on.

use super::dependencies::sources;
use super::identity::answer;
use crate::server::artifacts::blobs;
use crate::server::engine;
use crate::server::{Answer, App, Problem};
use crate::wire::update::JOB_TOKEN_HEADER;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

pub(super) async fn download(
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Answer<Response> {
    let token = headers.get(JOB_TOKEN_HEADER).and_then(|token| token.to_str().ok());
    let token = token.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "the job's token is missing"))?;
    let asking = engine::by_token(&app, token).await?;
    if asking.id != id {
        let context = engine::context(&app, asking.id).await?;
        let found = sources(&app, &context).await?;
        if !found.iter().any(|source| source.id == id) {
            return Err(Problem::forbidden(
                "the job does not depend on this one: name it in `needs` or `dependencies`",
            ));
        }
    }
    let file = blobs::find(&app, id, "archive").await?;
    let response = blobs::attachment(&app, &file).await?;
    answer(&app, &asking, response).await
}
