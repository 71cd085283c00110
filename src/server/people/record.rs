//! The record of what was done: shown, handed out, and proved whole.

use super::audit::Entry;
use crate::server::access::{Access, Actor};
use crate::server::pages::page;
use crate::server::routes::Routes;
use crate::server::{Answer, App, Problem};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa_axum::routes;

/// Entries that are read at once.
const BATCH: i64 = 1000;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .api(Access::Admin, routes!(list_audit))
        .api(Access::Maintainer, routes!(list_audit_of_project))
        .api(Access::Admin, routes!(verify_audit))
        .api(Access::Admin, routes!(export_audit))
        .page(Method::GET, "/admin/audit", Access::Admin, get(show))
}

/// Which entries.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Of this person.
    #[serde(default)]
    actor: String,
    /// Of this kind: `deployment.approve`.
    #[serde(default)]
    action: String,
    /// Older than the entry of this number.
    #[serde(default)]
    before: Option<i64>,
    /// So many at most.
    #[serde(default)]
    limit: Option<i64>,
}

async fn select(app: &App, project: Option<i64>, which: &Which) -> Answer<Vec<Entry>> {
    let query = sqlx::query_as(
        "SELECT * FROM audit WHERE ($1 = 0 OR project_id = $1) AND ($2 = '' OR actor = $2) \
         AND ($3 = '' OR action = $3) AND seq < $4 ORDER BY seq DESC LIMIT $5",
    );
    let query = query.bind(project.unwrap_or(0)).bind(&which.actor).bind(&which.action);
    let query = query.bind(which.before.unwrap_or(i64::MAX)).bind(which.limit.unwrap_or(100).clamp(1, BATCH));
    Ok(query.fetch_all(&app.db.pool).await?)
}

/// The audit record, newest first
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Which), responses((status = 200, body = Vec<Entry>)))]
async fn list_audit(State(app): State<App>, Query(which): Query<Which>) -> Answer<Json<Vec<Entry>>> {
    Ok(Json(select(&app, None, &which).await?))
}

/// The audit record of a project, newest first
#[utoipa::path(get, path = "/api/v1/projects/{project}/audit", tag = "audit",
    params(("project" = String, Path, description = "number, or path with %2F"), Which),
    responses((status = 200, body = Vec<Entry>)))]
async fn list_audit_of_project(
    State(app): State<App>,
    Path(project): Path<String>,
    Query(which): Query<Which>,
) -> Answer<Json<Vec<Entry>>> {
    let project = app.project(&project).await?;
    Ok(Json(select(&app, Some(project.id), &which).await?))
}

/// Is the record whole?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Verdict {
    /// Entries that were looked at.
    pub entries: i64,
    /// Number and digest of the last good one, `NUMBER:DIGEST`. Keep it elsewhere, and give it as `head` another time.
    pub head: String,
    /// What is wrong; none: nothing.
    pub wrong: Option<String>,
}

/// Follows the chain from one entry to the next.
#[derive(Debug, Default)]
struct Chain {
    seq: i64,
    hash: String,
    wrong: Option<String>,
    /// `NUMBER:DIGEST` that must be met on the way.
    expected: Option<(i64, String)>,
}

impl Chain {
    fn new(head: Option<&str>) -> Answer<Chain> {
        let expected = match head {
            None => None,
            Some(head) => {
                let parsed =
                    head.split_once(':').and_then(|(n, digest)| Some((n.parse().ok()?, digest.to_owned())));
                Some(
                    parsed.ok_or_else(|| {
                        Problem::bad("a head is `NUMBER:DIGEST`, as an earlier check gave it")
                    })?,
                )
            }
        };
        Ok(Chain { expected, ..Chain::default() })
    }

    fn take(&mut self, entry: &Entry) {
        if self.wrong.is_some() {
            return;
        }
        let next = self.seq + 1;
        let wrong = if entry.seq != next {
            Some(format!("entry {next} is missing"))
        } else if entry.previous != self.hash {
            Some(format!("entry {next} does not follow from the one before it"))
        } else if entry.hash != entry.digest() {
            Some(format!("entry {next} was changed"))
        } else if self.expected.as_ref().is_some_and(|(n, digest)| *n == next && *digest != entry.hash) {
            Some(format!(
                "entry {next} is not the one that it was: all from there on, or before, were made anew"
            ))
        } else {
            None
        };
        match wrong {
            None => (self.seq, self.hash) = (entry.seq, entry.hash.clone()),
            wrong => self.wrong = wrong,
        }
    }

    /// `last` is the head that was written down beside the entries.
    fn verdict(mut self, last: &str) -> Verdict {
        if self.wrong.is_none() && !last.is_empty() && last != format!("{} {}", self.seq, self.hash) {
            self.wrong = Some(format!("entries after {} are missing", self.seq));
        }
        if self.wrong.is_none() && self.expected.as_ref().is_some_and(|(n, _)| *n > self.seq) {
            self.wrong =
                Some(format!("entries after {} are missing: there were more at the earlier check", self.seq));
        }
        Verdict { entries: self.seq, head: format!("{}:{}", self.seq, self.hash), wrong: self.wrong }
    }
}

/// Looks at each entry; `head` is `NUMBER:DIGEST` of an earlier check.
///
/// # Errors
/// `head` is none, or the database does not answer.
pub async fn verify(app: &App, head: Option<&str>) -> Answer<Verdict> {
    let mut chain = Chain::new(head)?;
    // first: what is written meanwhile is not looked at
    let (last,): (String,) =
        sqlx::query_as("SELECT value FROM meta WHERE key = 'audit'").fetch_one(&app.db.pool).await?;
    let end = last.split_once(' ').and_then(|(seq, _)| seq.parse().ok()).unwrap_or(0);
    let mut after = 0;
    while after < end {
        let entries = batch(app, after, end).await?;
        let Some(newest) = entries.last() else { break };
        after = newest.seq;
        entries.iter().for_each(|entry| chain.take(entry));
    }
    Ok(chain.verdict(&last))
}

/// The same of an exported record: a line each.
///
/// # Errors
/// A line is no entry.
pub fn verify_text(text: &str, head: Option<&str>) -> Answer<Verdict> {
    let mut chain = Chain::new(head)?;
    for (number, line) in text.lines().enumerate() {
        let entry: Entry = serde_json::from_str(line)
            .map_err(|e| Problem::bad(format!("line {} is no entry of the record: {e}", number + 1)))?;
        chain.take(&entry);
    }
    Ok(chain.verdict(""))
}

async fn batch(app: &App, after: i64, end: i64) -> Answer<Vec<Entry>> {
    let query = sqlx::query_as("SELECT * FROM audit WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3");
    Ok(query.bind(after).bind(end).bind(BATCH).fetch_all(&app.db.pool).await?)
}

/// What to check against.
#[derive(Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Head {
    /// `NUMBER:DIGEST` of an earlier check.
    #[serde(default)]
    head: Option<String>,
}

/// Check that no entry was changed, taken out or put in
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", params(Head), responses((status = 200, body = Verdict)))]
async fn verify_audit(State(app): State<App>, Query(Head { head }): Query<Head>) -> Answer<Json<Verdict>> {
    Ok(Json(verify(&app, head.as_deref()).await?))
}

/// The whole record, oldest first, an entry a line
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit",
    responses((status = 200, description = "JSON lines", content_type = "application/x-ndjson")))]
async fn export_audit(State(app): State<App>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""),
    ];
    (headers, Body::from_stream(lines(app))).into_response()
}

/// The record, piece by piece.
fn lines(app: App) -> impl futures_util::Stream<Item = Answer<String>> {
    let batches = stream::try_unfold((app, 0), |(app, after)| async move {
        let entries = batch(&app, after, i64::MAX).await?;
        let Some(last) = entries.last() else { return Ok(None) };
        let next = last.seq;
        let text: String = entries.iter().map(|entry| json!(entry).to_string() + "\n").collect();
        Ok(Some((text, (app, next))))
    });
    batches.boxed()
}

/// The whole record, an entry a line.
///
/// # Errors
/// The database does not answer.
pub async fn export(app: &App, mut write: impl FnMut(&str)) -> Answer<()> {
    let mut lines = std::pin::pin!(lines(app.clone()));
    while let Some(text) = lines.next().await {
        write(&text?);
    }
    Ok(())
}

async fn show(State(app): State<App>, actor: Actor, Query(which): Query<Which>) -> Answer<Response> {
    let entries = select(&app, None, &which).await?;
    let older = entries.last().map(|entry| entry.seq).filter(|seq| *seq > 1);
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| {
            let mut shown = json!(entry);
            shown["time"] = json!(time(entry.at));
            shown
        })
        .collect();
    let data = json!({ "entries": shown, "which": which, "older": older });
    Ok(page(&app, &actor, "audit", "Audit record", &data))
}

/// As people read it.
pub(super) fn time(at: i64) -> String {
    jiff::Timestamp::from_millisecond(at)
        .map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: i64) -> Vec<Entry> {
        let mut previous = String::new();
        let entries = (1..=count).map(|seq| {
            let mut entry = Entry {
                seq,
                at: 1000 + seq,
                actor: "ann".to_owned(),
                address: "::1".to_owned(),
                action: "project.create".to_owned(),
                project_id: Some(1),
                subject: "a".to_owned(),
                detail: "{}".to_owned(),
                previous: previous.clone(),
                hash: String::new(),
            };
            entry.hash = entry.digest();
            previous = entry.hash.clone();
            entry
        });
        entries.collect()
    }

    fn verdict(entries: &[Entry], head: Option<&str>) -> Option<String> {
        let text: String = entries.iter().map(|e| json!(e).to_string() + "\n").collect();
        verify_text(&text, head).unwrap().wrong
    }

    #[test]
    fn a_whole_record_is_whole_and_names_its_head() {
        let entries = chain(5);
        let text: String = entries.iter().map(|e| json!(e).to_string() + "\n").collect();
        let found = verify_text(&text, None).unwrap();
        assert_eq!((found.entries, found.wrong.clone()), (5, None));
        assert_eq!(verdict(&entries, Some(&found.head)), None);
        assert!(verify_text(&text, Some("rubbish")).is_err());
        assert!(verify_text("rubbish", None).is_err());
    }

    #[test]
    fn every_change_of_the_record_is_noticed() {
        let whole = chain(5);
        let columns: [fn(&mut Entry); 7] = [
            |e| e.at += 1,
            |e| e.actor.push('x'),
            |e| e.address.clear(),
            |e| e.action = "project.remove".to_owned(),
            |e| e.project_id = None,
            |e| e.subject.push('b'),
            |e| e.detail = "{\"a\":1}".to_owned(),
        ];
        for change in columns {
            let mut entries = whole.clone();
            change(&mut entries[2]);
            assert_eq!(verdict(&entries, None).as_deref(), Some("entry 3 was changed"));
            entries[2].hash = entries[2].digest();
            assert!(verdict(&entries, None).unwrap().contains("entry 4 does not follow"));
        }
        let mut entries = whole.clone();
        entries.remove(1);
        assert_eq!(verdict(&entries, None).as_deref(), Some("entry 2 is missing"));
        let mut entries = whole.clone();
        entries.swap(1, 2);
        assert!(verdict(&entries, None).is_some());
        // moving a letter from one column to the next is a change
        let mut entries = whole.clone();
        entries[2].actor = "annp".to_owned();
        entries[2].address = ":1".to_owned();
        assert!(verdict(&entries, None).is_some());
    }

    #[test]
    fn a_record_that_was_made_anew_or_cut_short_does_not_meet_an_earlier_head() {
        let whole = chain(5);
        let head = format!("5:{}", whole[4].hash);
        let mut anew = whole.clone();
        anew[2].actor = "bob".to_owned();
        for n in 2..5 {
            if n > 2 {
                anew[n].previous = anew[n - 1].hash.clone();
            }
            anew[n].hash = anew[n].digest();
        }
        assert_eq!(verdict(&anew, None), None);
        assert!(verdict(&anew, Some(&head)).unwrap().contains("entry 5 is not the one"));
        assert!(verdict(&whole[..4], Some(&head)).unwrap().contains("entries after 4 are missing"));
    }
}
