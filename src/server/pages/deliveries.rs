//! What forges sent, and why nothing ran.

use super::page;
use super::place::Place;
use crate::server::access::Actor;
use crate::server::hooks::Delivery;
use crate::server::{Answer, App, Problem};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// Deliveries on one page.
const MANY: i64 = 50;
/// Bytes of a body that a page shows.
const BODY: usize = 200 << 10;
/// Headers that may prove who sent something; they are not shown, whatever was stored.
const PROOFS: &[&str] = &["authorization", "cookie", "x-gitlab-token"];

/// What the list is asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    state: String,
    before: Option<i64>,
}

/// `GET /projects/{project}/deliveries`
pub(super) async fn list(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "deliveries").await?;
    let text = format!(
        "SELECT {} FROM deliveries WHERE project_id = $1 AND id < $2 AND ($3 = '' OR state = $3) ORDER BY id DESC LIMIT {}",
        Delivery::COLUMNS,
        MANY + 1
    );
    let mut rows: Vec<Delivery> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(project.id)
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(&filter.state)
        .fetch_all(&app.db.pool)
        .await?;
    let more = rows.len() as i64 > MANY;
    rows.truncate(MANY as usize);
    let state = super::place::encode(&filter.state);
    let next = rows.last().filter(|_| more).map(|last| format!("?state={state}&before={}", last.id));
    let states = ["waiting", "held", "pipeline", "skipped", "ignored", "failed"];
    let states = states.map(|one| json!({ "value": one, "chosen": one == filter.state }));
    let data = json!({
        "place": place, "deliveries": rows, "states": states, "next": next, "first": filter.before.is_none(),
        "filtered": !filter.state.is_empty(),
    });
    Ok(page(&app, &actor, "deliveries", &format!("Deliveries · {}", project.path), &data))
}

/// `GET /projects/{project}/deliveries/{delivery}`
pub(super) async fn show(
    State(app): State<App>,
    actor: Actor,
    Path((name, id)): Path<(String, i64)>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "deliveries").await?;
    let text = format!("SELECT {} FROM deliveries WHERE project_id = $1 AND id = $2", Delivery::COLUMNS);
    let found: Option<Delivery> = sqlx::query_as(sqlx::AssertSqlSafe(text))
        .bind(project.id)
        .bind(id)
        .fetch_optional(&app.db.pool)
        .await?;
    let row = found.ok_or_else(|| Problem::not_found("delivery"))?;
    let (headers, body): (String, Vec<u8>) =
        sqlx::query_as("SELECT headers, body FROM deliveries WHERE id = $1")
            .bind(id)
            .fetch_one(&app.db.pool)
            .await?;
    let data = json!({
        "place": place, "delivery": row, "headers": shown_headers(&headers), "body": shown_body(&body),
        "size": body.len(), "cut": body.len() > BODY,
    });
    Ok(page(&app, &actor, "delivery", &format!("Delivery {id} · {}", project.path), &data))
}

/// Stored as an object, or as a list of pairs.
fn shown_headers(stored: &str) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<(String, String)> = match serde_json::from_str(stored) {
        Ok(Json::Object(map)) => map.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        Ok(Json::Array(list)) => {
            let pair = |one: &Json| Some((text(one.get(0)?), text(one.get(1)?)));
            list.iter().filter_map(pair).collect()
        }
        _ => Vec::new(),
    };
    pairs.into_iter().filter(|(name, _)| !PROOFS.contains(&name.to_lowercase().as_str())).collect()
}

/// JSON is laid out; anything else stands as it came.
fn shown_body(body: &[u8]) -> String {
    let cut = &body[..body.len().min(BODY)];
    match serde_json::from_slice::<Json>(body) {
        Ok(json) if body.len() <= BODY => {
            serde_json::to_string_pretty(&json).unwrap_or_else(|_| String::from_utf8_lossy(cut).into_owned())
        }
        _ => String::from_utf8_lossy(cut).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_the_sender_is_not_shown() {
        let stored = r#"{"X-GitHub-Event":"push","Authorization":"Bearer abc","X-Gitlab-Token":"s"}"#;
        assert_eq!(shown_headers(stored), [("X-GitHub-Event".to_owned(), "push".to_owned())]);
        assert_eq!(shown_headers(r#"[["a","b"],["cookie","c"]]"#), [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn a_body_that_is_no_json_stands_as_it_came() {
        assert_eq!(shown_body(b"payload=%7B"), "payload=%7B");
        assert_eq!(shown_body(b"{\"a\":1}"), "{\n  \"a\": 1\n}");
        assert!(shown_body(&[0xff, b'x']).ends_with('x'));
    }
}
