//! Pipelines by the clock: cron lines in people's own time zones. A time that was missed while the server was away is
//! made up for once, however often it came.

use super::engine::{self, Created, NewPipeline};
use super::{Answer, App, Problem};
use axum::http::StatusCode;
use croner::parser::{CronParser, Seconds};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;

#[derive(Debug, sqlx::FromRow)]
struct Schedule {
    id: i64,
    project_id: i64,
    description: String,
    #[sqlx(rename = "ref")]
    reference: String,
    cron: String,
    timezone: String,
    variables: String,
    owner: String,
    next_at: Option<i64>,
}

/// When a cron line (five fields, or `@daily` and such) comes next after a time, in milliseconds since the epoch.
///
/// # Errors
/// The line or the time zone means nothing, or no such time comes; says which.
pub fn next(cron: &str, timezone: &str, after: i64) -> Result<i64, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    let line = parser.parse(cron.trim()).map_err(|e| format!("`{cron}` is no cron line: {e}"))?;
    let name = if timezone.is_empty() { "UTC" } else { timezone };
    let zone = TimeZone::get(name)
        .map_err(|_| format!("`{timezone}` is no time zone: write one like `Europe/Berlin` or `UTC`"))?;
    let start = Timestamp::from_millisecond(after).map_err(|e| e.to_string())?.to_zoned(zone);
    let found = line.find_next_occurrence(&start, false);
    let found = found.map_err(|_| format!("`{cron}` never comes"))?;
    Ok(found.timestamp().as_millisecond())
}

/// Starts what is due at `now`.
///
/// # Errors
/// The database does not answer.
pub async fn run(app: &App, now: i64) -> Answer<()> {
    let due: Vec<Schedule> = sqlx::query_as(
        "SELECT s.id, s.project_id, s.description, s.ref, s.cron, s.timezone, s.variables, s.owner, s.next_at \
         FROM schedules s JOIN projects p ON p.id = s.project_id WHERE s.active = 1 AND p.paused = 0 \
         AND (s.next_at IS NULL OR s.next_at <= $1) ORDER BY s.id",
    )
    .bind(now)
    .fetch_all(&app.db.pool)
    .await?;
    for schedule in due {
        if let Err(problem) = one(app, &schedule, now).await {
            tracing::error!("schedule {} `{}`: {problem}", schedule.id, schedule.description);
        }
    }
    Ok(())
}

/// Starts one now, in the name of a person; its pipeline. It need not be active, and is due as before.
///
/// # Errors
/// It has started nothing; says why.
pub async fn run_now(app: &App, schedule: i64, person: &str) -> Answer<i64> {
    let found: Option<Schedule> = sqlx::query_as(
        "SELECT id, project_id, description, ref, cron, timezone, variables, owner, next_at FROM schedules WHERE id = $1",
    )
    .bind(schedule)
    .fetch_optional(&app.db.pool)
    .await?;
    let mut schedule = found.ok_or_else(|| Problem::not_found("schedule"))?;
    person.clone_into(&mut schedule.owner);
    let why = format!("{person} ran schedule {} `{}`", schedule.id, schedule.description);
    let pipeline = start(app, &schedule, why).await?;
    let pipeline = pipeline.map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    sqlx::query("UPDATE schedules SET last_pipeline = $1 WHERE id = $2")
        .bind(pipeline)
        .bind(schedule.id)
        .execute(&app.db.pool)
        .await?;
    Ok(pipeline)
}

async fn one(app: &App, schedule: &Schedule, now: i64) -> Answer<()> {
    let mut last = None;
    if let Some(due) = schedule.next_at {
        // the same text for the same time: a server that was killed in between does not start it twice
        let due = Timestamp::from_millisecond(due).unwrap_or_default().strftime("%Y-%m-%d %H:%M UTC");
        let why = format!("schedule {} `{}` of {due}", schedule.id, schedule.description);
        last = match there(app, schedule.project_id, &why).await? {
            Some(pipeline) => Some(pipeline),
            None => started(schedule, start(app, schedule, why).await?),
        };
    }
    let (active, next) = match next(&schedule.cron, &schedule.timezone, now) {
        Ok(next) => (1, Some(next)),
        Err(why) => {
            tracing::error!("schedule {} is turned off: {why}", schedule.id);
            (0, None)
        }
    };
    sqlx::query("UPDATE schedules SET next_at = $1, active = $2, last_pipeline = COALESCE($3, last_pipeline) WHERE id = $4")
        .bind(next)
        .bind(active)
        .bind(last)
        .bind(schedule.id)
        .execute(&app.db.pool)
        .await?;
    Ok(())
}

async fn there(app: &App, project: i64, why: &str) -> Answer<Option<i64>> {
    let same = "SELECT id FROM pipelines WHERE project_id = $1 AND source = 'schedule' AND why = $2 ORDER BY id LIMIT 1";
    Ok(sqlx::query_scalar(same).bind(project).bind(why).fetch_optional(&app.db.pool).await?)
}

fn started(schedule: &Schedule, outcome: Result<i64, String>) -> Option<i64> {
    if let Err(why) = &outcome {
        tracing::warn!("schedule {} has started nothing: {why}", schedule.id);
    }
    outcome.ok()
}

/// The pipeline, or why there is none.
async fn start(app: &App, schedule: &Schedule, why: String) -> Answer<Result<i64, String>> {
    let tag = schedule.reference.strip_prefix("refs/tags/");
    let name = tag.or(schedule.reference.strip_prefix("refs/heads/")).unwrap_or(&schedule.reference);
    let new = NewPipeline {
        project: schedule.project_id,
        reference: name.to_owned(),
        tag: tag.is_some(),
        source: "schedule".to_owned(),
        trusted: true,
        actor: schedule.owner.clone(),
        variables: variables(&schedule.variables),
        why,
        ..NewPipeline::default()
    };
    Ok(match engine::create_scheduled(app, new, &schedule.description).await? {
        Created::Pipeline(id) | Created::Skipped(id, _) => Ok(id),
        Created::Nothing(why) => Err(why),
    })
}

/// `[["NAME", "value"]]` or `{"NAME": "value"}`.
fn variables(text: &str) -> Vec<(String, String)> {
    let text_of = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match serde_json::from_str(text) {
        Ok(Json::Object(map)) => map.iter().map(|(key, value)| (key.clone(), text_of(value))).collect(),
        Ok(Json::Array(list)) => {
            let pair = |entry: &Json| match entry.as_array().map(Vec::as_slice) {
                Some([key, value]) => Some((key.as_str()?.to_owned(), text_of(value))),
                _ => None,
            };
            list.iter().filter_map(pair).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_that_of_peoples_clocks() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let table = [
            ("0 3 * * *", "UTC", "2026-01-01T02:59:00Z", "2026-01-01T03:00:00Z"),
            ("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("0 3 * * *", "Europe/Berlin", "2026-07-01T02:00:00Z", "2026-07-02T01:00:00Z"),
            // 02:30 is not there on that day
            ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
            ("0 9 * * MON-FRI", "America/New_York", "2026-01-02T15:00:00Z", "2026-01-05T14:00:00Z"),
            ("@daily", "", "2026-01-01T00:00:01Z", "2026-01-02T00:00:00Z"),
        ];
        for (cron, zone, after, expected) in table {
            let found = next(cron, zone, at(after)).unwrap();
            assert_eq!(Timestamp::from_millisecond(found).unwrap().to_string(), expected, "{cron} {zone}");
        }
        for (cron, zone, says) in [
            ("61 * * * *", "UTC", "cron line"),
            ("", "UTC", "cron line"),
            ("* * * * * *", "UTC", "cron line"),
            ("0 0 30 2 *", "UTC", "never"),
            ("* * * * *", "Moon/Base", "time zone"),
        ] {
            assert!(next(cron, zone, 0).unwrap_err().contains(says), "{cron}");
        }
    }

    #[test]
    fn variables_come_in_two_forms() {
        let expected = vec![("A".to_owned(), "1".to_owned())];
        assert_eq!(variables(r#"{"A": 1}"#), expected);
        assert_eq!(variables(r#"[["A", "1"]]"#), expected);
        assert!(variables("").is_empty());
    }
}
