//! Four weeks: what was deployed, what is frozen, what is scheduled.

use super::page;
use super::place::{self, SEEN};
use crate::deploy::DeployFile;
use crate::ledger::{Entry, Fact};
use crate::promotion::freeze;
use crate::server::access::Actor;
use crate::server::db::now;
use crate::server::environments::Desk;
use crate::server::rows::Project;
use crate::server::schedules::next;
use crate::server::{Answer, App};
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// Days before the week of today, and all of them.
const BACK: i64 = 7;
const DAYS: i64 = 28;
/// Times of one schedule that are looked up.
const TIMES: usize = 700;

/// A day, by the clock of UTC.
#[derive(Default, Serialize)]
struct Day {
    /// When it begins, in milliseconds since the epoch.
    #[serde(skip)]
    at: i64,
    date: String,
    weekday: String,
    today: bool,
    frozen: Vec<Frozen>,
    deployed: Vec<Deployed>,
    due: Vec<Due>,
}

#[derive(Serialize)]
struct Frozen {
    path: String,
    url: String,
    environment: String,
    reason: String,
    /// Hours of the day; all 24 are not said.
    from: i64,
    until: i64,
    whole: bool,
}

#[derive(Serialize)]
struct Deployed {
    path: String,
    url: String,
    environment: String,
    version: String,
    status: String,
}

#[derive(Clone, Serialize)]
struct Due {
    path: String,
    url: String,
    description: String,
    /// The first of that day.
    time: String,
    times: usize,
}

#[derive(FromRow)]
struct Schedule {
    path: String,
    description: String,
    cron: String,
    timezone: String,
}

/// `GET /calendar`
pub(super) async fn show(State(app): State<App>, actor: Actor) -> Answer<Response> {
    let now = now();
    let mut days = days(now);
    let (admin, user, only) = place::seen_by(&actor);
    let text = format!("SELECT p.* FROM projects p WHERE {SEEN} ORDER BY p.path");
    let projects = sqlx::query_as::<_, Project>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    for project in projects.fetch_all(&app.db.pool).await? {
        // a project that was not fetched yet, or whose file has mistakes, has told us nothing
        let Ok(desk) = Desk::of(&app, &project).await else { continue };
        if let Ok(Some(file)) = desk.file() {
            days.iter_mut().for_each(|day| day.freeze(&project.path, file));
        }
        for entry in desk.entries().unwrap_or_default() {
            arrived(&mut days, &project.path, entry);
        }
    }
    let text = format!(
        "SELECT p.path, s.description, s.cron, s.timezone FROM schedules s JOIN projects p ON p.id = s.project_id \
         WHERE {SEEN} AND s.active = 1 AND p.paused = 0 ORDER BY p.path, s.id LIMIT 200"
    );
    let schedules = sqlx::query_as::<_, Schedule>(AssertSqlSafe(text)).bind(admin).bind(user).bind(only);
    for schedule in schedules.fetch_all(&app.db.pool).await? {
        come(&mut days, &schedule, now);
    }
    Ok(page(&app, &actor, "calendar", "Calendar", &json!({ "days": days })))
}

/// From a Monday on.
fn days(now: i64) -> Vec<Day> {
    let zoned = |at: i64| Timestamp::from_millisecond(at).unwrap_or_default().to_zoned(TimeZone::UTC);
    let today = now.div_euclid(DAY) * DAY;
    let first = today - (i64::from(zoned(today).weekday().to_monday_zero_offset()) + BACK) * DAY;
    let day = |nth: i64| {
        let at = first + nth * DAY;
        let (date, weekday) =
            (zoned(at).strftime("%-d %b").to_string(), zoned(at).strftime("%a").to_string());
        Day { at, date, weekday, today: at == today, ..Day::default() }
    };
    (0..DAYS).map(day).collect()
}

/// The day that a time is in.
fn of(days: &mut [Day], at: i64) -> Option<&mut Day> {
    let first = days.first()?.at;
    usize::try_from((at - first).div_euclid(DAY)).ok().and_then(|nth| days.get_mut(nth))
}

impl Day {
    fn freeze(&mut self, path: &str, file: &DeployFile) {
        for (name, environment) in &file.environments {
            let at = |hour: i64| Timestamp::from_millisecond(self.at + hour * HOUR).unwrap_or_default();
            let frozen = |hour: &i64| freeze::frozen(&environment.freeze, at(*hour)).ok().flatten();
            let Some(from) = (0..24).find(|hour| frozen(hour).is_some()) else { continue };
            let until = (from..24).find(|hour| frozen(hour).is_none()).unwrap_or(24);
            self.frozen.push(Frozen {
                path: path.to_owned(),
                url: address(path, name),
                environment: name.clone(),
                reason: frozen(&from).map(|window| window.reason.clone()).unwrap_or_default(),
                from,
                until,
                whole: (from, until) == (0, 24),
            });
        }
    }
}

fn address(path: &str, environment: &str) -> String {
    format!("{}/environments/{}", place::url(path), place::encode(environment))
}

fn arrived(days: &mut [Day], path: &str, entry: &Entry) {
    let (Fact::Deployment(arrival) | Fact::Receipt(arrival)) = &entry.fact else { return };
    let Ok(at) = entry.at.parse::<Timestamp>() else { return };
    if let Some(day) = of(days, at.as_millisecond()) {
        day.deployed.push(Deployed {
            path: path.to_owned(),
            url: address(path, &arrival.environment),
            environment: arrival.environment.clone(),
            version: arrival.version.clone(),
            status: arrival.outcome.as_str().replace(' ', "_"),
        });
    }
}

fn come(days: &mut [Day], schedule: &Schedule, now: i64) {
    let mut at = now;
    for _ in 0..TIMES {
        let Ok(next) = next(&schedule.cron, &schedule.timezone, at) else { return };
        at = next;
        let Some(day) = of(days, at) else { return };
        match day.due.last_mut() {
            Some(due) if due.path == schedule.path && due.description == schedule.description => {
                due.times += 1;
            }
            _ => day.due.push(Due {
                path: schedule.path.clone(),
                url: format!("{}/schedules", place::url(&schedule.path)),
                description: schedule.description.clone(),
                time: Timestamp::from_millisecond(at).unwrap_or_default().strftime("%H:%M").to_string(),
                times: 1,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sunday, 22 November 2026, 09:00 UTC.
    const NOW: i64 = 1_795_338_000_000;

    #[test]
    fn four_weeks_begin_on_a_monday_and_hold_today() {
        let days = days(NOW);
        let said: Vec<(&str, &str)> = days.iter().map(|d| (d.weekday.as_str(), d.date.as_str())).collect();
        assert_eq!((said[0], said[27]), (("Mon", "9 Nov"), ("Sun", "6 Dec")));
        let today: Vec<&str> = days.iter().filter(|d| d.today).map(|d| d.date.as_str()).collect();
        assert_eq!(today, ["22 Nov"]);
    }

    #[test]
    fn a_schedule_stands_on_each_day_on_which_it_comes() {
        let mut days = days(NOW);
        let schedule = Schedule {
            path: "a/b".to_owned(),
            description: "x".to_owned(),
            cron: "0 */6 * * *".to_owned(),
            timezone: String::new(),
        };
        come(&mut days, &schedule, NOW);
        let due: Vec<(usize, &str)> =
            days.iter().flat_map(|d| d.due.first()).map(|d| (d.times, d.time.as_str())).collect();
        assert_eq!((due.len(), due[0], due[1]), (15, (2, "12:00"), (4, "00:00")));
    }

    #[test]
    fn a_freeze_is_told_by_its_hours() {
        let text = "environments:\n  prod: {targets: [a@b], freeze: [{from: 'Fri 16:00', until: 'Mon 08:00', reason: weekend}]}\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".ci")).unwrap();
        std::fs::write(dir.path().join(".ci/deploy.yml"), text).unwrap();
        let file = DeployFile::load(dir.path()).unwrap().unwrap();
        let mut days = days(NOW);
        days.iter_mut().for_each(|day| day.freeze("a/b", &file));
        let said: Vec<Vec<(i64, i64)>> =
            days[..7].iter().map(|d| d.frozen.iter().map(|f| (f.from, f.until)).collect()).collect();
        assert_eq!(
            said,
            [vec![(0, 8)], vec![], vec![], vec![], vec![(16, 24)], vec![(0, 24)], vec![(0, 24)]]
        );
    }
}
