//! Lists of pipelines: of a project, of its branches, and for the home page.

use super::page;
use super::place::{self, Place, SEEN};
use crate::server::access::Actor;
use crate::server::{Answer, App, releases};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use pipelines::status::{Status, Weight, WeightSet};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sqlx::{AssertSqlSafe, FromRow};
use std::collections::BTreeMap;

/// Pipelines on one page.
const MANY: i64 = 30;

/// A pipeline in a list.
#[derive(Clone, Debug, FromRow, Serialize)]
pub(super) struct Listed {
    pub id: i64,
    iid: i64,
    project_id: i64,
    path: String,
    reference: String,
    tag: i64,
    sha: String,
    source: String,
    pub status: String,
    name: String,
    message: String,
    author: String,
    actor: String,
    #[serde(skip)]
    merge_request: String,
    why: String,
    errors: String,
    trusted: i64,
    created_at: i64,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    #[sqlx(skip)]
    url: String,
    #[sqlx(skip)]
    project_url: String,
    #[sqlx(skip)]
    source_said: String,
    #[sqlx(skip)]
    title: String,
    /// Of its merge request.
    #[sqlx(skip)]
    request: Option<Request>,
    /// Each stage and how it stands.
    #[sqlx(skip)]
    stages: Vec<Stage>,
    /// Why nothing ran, when nothing did.
    #[sqlx(skip)]
    nothing: String,
}

/// What a list shows of a merge request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Request {
    iid: i64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    fork: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Stage {
    name: String,
    status: &'static str,
    said: String,
}

/// Which pipelines.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub project: Option<i64>,
    pub status: &'a str,
    pub reference: &'a str,
    pub source: &'a str,
    /// In the message, the author, or the begin of the commit.
    pub text: &'a str,
    /// Asked for or written by.
    pub by: &'a str,
    pub live: bool,
    /// Older than this one.
    pub before: Option<i64>,
    pub ids: Option<&'a [i64]>,
    pub limit: i64,
}

enum Bind {
    Number(i64),
    Text(String),
}

impl Wanted<'_> {
    /// Conditions after [`SEEN`], whose values are `$1` to `$3`.
    fn conditions(&self) -> (String, Vec<Bind>) {
        let mut text = String::new();
        let mut binds = Vec::new();
        let mut add = |condition: &str, bind: Bind| {
            binds.push(bind);
            text.push_str(" AND ");
            text.push_str(&condition.replace('#', &format!("${}", binds.len() + 3)));
        };
        if let Some(project) = self.project {
            add("pl.project_id = #", Bind::Number(project));
        }
        if let Some(before) = self.before {
            add("pl.id < #", Bind::Number(before));
        }
        for (condition, value) in
            [("pl.status = #", self.status), ("pl.ref = #", self.reference), ("pl.source = #", self.source)]
        {
            if !value.is_empty() {
                add(condition, Bind::Text(value.to_owned()));
            }
        }
        if !self.by.is_empty() {
            add("pl.actor = #", Bind::Text(self.by.to_owned()));
        }
        if !self.text.is_empty() {
            let like = format!("%{}%", escape_like(&self.text.to_lowercase()));
            add(
                "(LOWER(pl.message) LIKE # ESCAPE '!' OR LOWER(pl.author) LIKE # ESCAPE '!' OR pl.sha LIKE # ESCAPE '!' \
                 OR LOWER(pl.ref) LIKE # ESCAPE '!')",
                Bind::Text(like),
            );
        }
        if self.live {
            text.push_str(" AND pl.finished_at IS NULL");
        }
        if let Some(ids) = self.ids {
            text.push_str(&format!(" AND pl.id IN ({})", numbers(ids)));
        }
        (text, binds)
    }
}

/// A text for `LIKE … ESCAPE '!'`.
pub(super) fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// Numbers for `IN (…)`, which holds at least one.
pub(super) fn numbers(ids: &[i64]) -> String {
    match ids {
        [] => "0".to_owned(),
        ids => ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The pipelines that are wanted and that the actor may see, newest first.
pub(super) async fn listed(app: &App, actor: &Actor, wanted: &Wanted<'_>) -> Answer<Vec<Listed>> {
    let (conditions, binds) = wanted.conditions();
    let text = format!(
        "SELECT pl.id, pl.iid, pl.project_id, p.path, pl.ref AS reference, pl.tag, pl.sha, pl.source, pl.status, \
         pl.name, pl.message, pl.author, pl.actor, pl.merge_request, pl.why, pl.errors, pl.trusted, pl.created_at, \
         pl.started_at, pl.finished_at FROM pipelines pl JOIN projects p ON p.id = pl.project_id \
         WHERE {SEEN}{conditions} ORDER BY pl.id DESC LIMIT {}",
        wanted.limit
    );
    let (admin, user, only) = place::seen_by(actor);
    let mut query = sqlx::query_as::<_, Listed>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    for bind in binds {
        query = match bind {
            Bind::Number(number) => query.bind(number),
            Bind::Text(text) => query.bind(text),
        };
    }
    let mut rows = query.fetch_all(&app.db.pool).await?;
    let mut stages = stages(app, &rows).await?;
    for row in &mut rows {
        row.project_url = place::url(&row.path);
        row.url = format!("{}/pipelines/{}", row.project_url, row.id);
        row.source_said = row.source.trim_end_matches("_event").replace('_', " ");
        row.title = row.message.lines().next().unwrap_or_default().to_owned();
        row.request = serde_json::from_str(&row.merge_request).ok();
        row.stages = stages.remove(&row.id).unwrap_or_default();
        row.nothing = nothing(row);
    }
    Ok(rows)
}

/// Why nothing ran: for those that were skipped or could not be made.
fn nothing(row: &Listed) -> String {
    let errors: Vec<String> = serde_json::from_str(&row.errors).unwrap_or_default();
    match (errors.first(), row.status.as_str(), row.stages.is_empty()) {
        (Some(error), _, _) => error.clone(),
        (None, "skipped", _) | (None, _, true) => row.why.clone(),
        _ => String::new(),
    }
}

#[derive(FromRow)]
struct StageJob {
    pipeline_id: i64,
    stage: String,
    status: String,
    allowed_to_fail: i64,
}

/// How the stages of pipelines stand, in order.
async fn stages(app: &App, of: &[Listed]) -> Answer<BTreeMap<i64, Vec<Stage>>> {
    let ids: Vec<i64> = of.iter().map(|row| row.id).collect();
    let text = format!(
        "SELECT pipeline_id, stage, status, allowed_to_fail FROM jobs WHERE newest = 1 AND pipeline_id IN ({}) \
         ORDER BY pipeline_id, position",
        numbers(&ids)
    );
    let jobs: Vec<StageJob> = sqlx::query_as(AssertSqlSafe(text)).fetch_all(&app.db.pool).await?;
    let mut by_stage: BTreeMap<i64, Vec<(String, WeightSet, usize)>> = BTreeMap::new();
    for job in jobs {
        let stages = by_stage.entry(job.pipeline_id).or_default();
        let weight = Weight::of(parse(&job.status), job.allowed_to_fail != 0);
        match stages.iter_mut().find(|(name, ..)| *name == job.stage) {
            Some((_, set, count)) => {
                set.insert(weight);
                *count += 1;
            }
            None => stages.push((job.stage, [weight].into_iter().collect(), 1)),
        }
    }
    let told = |(name, set, count): (String, WeightSet, usize)| {
        let status = set.composite().name();
        let said =
            format!("{name}: {}, {count} job{}", status.replace('_', " "), if count == 1 { "" } else { "s" });
        Stage { name, status, said }
    };
    Ok(by_stage.into_iter().map(|(id, stages)| (id, stages.into_iter().map(told).collect())).collect())
}

/// A stored status.
pub(super) fn parse(status: &str) -> Status {
    serde_json::from_value(Json::String(status.to_owned())).unwrap_or(Status::Created)
}

/// What the filter above the list says.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Filter {
    status: String,
    #[serde(rename = "ref")]
    reference: String,
    source: String,
    q: String,
    #[serde(skip_serializing)]
    before: Option<i64>,
}

impl Filter {
    fn next_page(&self, last: i64) -> String {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        for (key, value) in
            [("status", &self.status), ("ref", &self.reference), ("source", &self.source), ("q", &self.q)]
        {
            if !value.is_empty() {
                pairs.append_pair(key, value);
            }
        }
        format!("?{}", pairs.append_pair("before", &last.to_string()).finish())
    }
}

const STATUSES: &[&str] = &[
    "created",
    "waiting_for_resource",
    "pending",
    "running",
    "success",
    "failed",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];
const SOURCES: &[&str] =
    &["push", "merge_request_event", "schedule", "web", "api", "trigger", "pipeline", "parent_pipeline"];

/// `GET /projects/{project}`
pub(super) async fn project(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
    Query(filter): Query<Filter>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "pipelines").await?;
    let wanted = Wanted {
        project: Some(project.id),
        status: &filter.status,
        reference: &filter.reference,
        source: &filter.source,
        text: filter.q.trim(),
        before: filter.before,
        limit: MANY + 1,
        ..Wanted::default()
    };
    let mut rows = listed(&app, &actor, &wanted).await?;
    let more = rows.len() as i64 > MANY;
    rows.truncate(MANY as usize);
    let next = rows.last().filter(|_| more).map(|last| filter.next_page(last.id));
    let filtered = wanted.status.len() + wanted.reference.len() + wanted.source.len() + wanted.text.len() > 0;
    let data = json!({
        "place": place,
        "pipelines": rows,
        "next": next,
        "first": filter.before.is_none(),
        "filtered": filtered,
        "filter": filter,
        "statuses": choices(STATUSES, &filter.status),
        "sources": choices(SOURCES, &filter.source),
    });
    Ok(page(&app, &actor, "pipelines", &project.path, &data))
}

fn choices(all: &[&str], chosen: &str) -> Vec<Json> {
    all.iter()
        .map(|one| json!({ "value": one, "said": one.replace('_', " "), "chosen": *one == chosen }))
        .collect()
}

/// `GET /projects/{project}/branches`: the latest pipeline of each branch, tag and merge request; the releases.
pub(super) async fn branches(
    State(app): State<App>,
    actor: Actor,
    Path(name): Path<String>,
) -> Answer<Response> {
    let (project, place) = Place::of(&app, &actor, &name, "branches").await?;
    let latest = |tag: i64| {
        sqlx::query_as::<_, (i64,)>(
            "SELECT MAX(id) FROM pipelines WHERE project_id = $1 AND tag = $2 AND source <> 'merge_request_event' \
             AND parent_job IS NULL GROUP BY ref ORDER BY 1 DESC LIMIT 100",
        )
        .bind(project.id)
        .bind(tag)
        .fetch_all(&app.db.pool)
    };
    let requests = sqlx::query_as::<_, (i64,)>(
        "SELECT MAX(id) FROM pipelines WHERE project_id = $1 AND source = 'merge_request_event' \
         AND parent_job IS NULL GROUP BY ref ORDER BY 1 DESC LIMIT 100",
    )
    .bind(project.id)
    .fetch_all(&app.db.pool);
    let mut lists = Vec::new();
    for ids in [latest(0).await?, requests.await?, latest(1).await?] {
        let ids: Vec<i64> = ids.into_iter().map(|(id,)| id).collect();
        let wanted = Wanted { project: Some(project.id), ids: Some(&ids), limit: 100, ..Wanted::default() };
        lists.push(listed(&app, &actor, &wanted).await?);
    }
    let tags = lists.pop();
    let requests = lists.pop();
    let releases = releases::newest(&app, project.id).await?;
    let data = json!({
        "place": place, "branches": lists.pop(), "requests": requests, "tags": tags, "releases": releases,
    });
    Ok(page(&app, &actor, "branches", &format!("Branches · {}", project.path), &data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_of_people_are_letters() {
        assert_eq!(escape_like("100%_!"), "100!%!_!!");
    }

    #[test]
    fn the_next_page_keeps_the_filter() {
        let filter = Filter { status: "failed".into(), q: "a b".into(), ..Filter::default() };
        assert_eq!(filter.next_page(7), "?status=failed&q=a+b&before=7");
    }

    #[test]
    fn conditions_number_their_values_after_those_of_who_may_see() {
        let wanted = Wanted { project: Some(3), text: "x", limit: 1, ..Wanted::default() };
        let (text, binds) = wanted.conditions();
        assert_eq!(binds.len(), 2);
        assert!(text.contains("pl.project_id = $4") && text.contains("LIKE $5"), "{text}");
    }
}
