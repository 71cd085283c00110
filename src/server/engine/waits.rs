//! Why a job in the queue waits, in a sentence.

use super::claim::{tags, takes};
use super::features::lacking;
use crate::server::rows::Runner;
use crate::server::{Answer, App};

/// A runner that was not heard of for so long is away, in milliseconds beside its long poll.
const AWAY: i64 = 120_000;

/// Jobs that the same runners take.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
struct Kind {
    project_id: i64,
    tags: String,
    features: String,
    protected: i64,
    trusted: i64,
    paused: i64,
}

/// Brings the sentences of all jobs in the queue up to date.
///
/// # Errors
/// The database does not answer.
pub(super) async fn explain(app: &App, now: i64) -> Answer<()> {
    let kinds: Vec<Kind> = sqlx::query_as(
        "SELECT DISTINCT p.project_id, p.tags, p.features, p.protected, p.trusted, x.paused FROM pending p \
         JOIN projects x ON x.id = p.project_id",
    )
    .fetch_all(&app.db.pool)
    .await?;
    if kinds.is_empty() {
        return Ok(());
    }
    let text = format!("SELECT {} FROM runners ORDER BY id", Runner::COLUMNS);
    let runners: Vec<Runner> = sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_all(&app.db.pool).await?;
    let poll = i64::try_from(app.config.long_poll_seconds).unwrap_or(0).saturating_mul(1000);
    for kind in kinds {
        let why = why(&kind, &runners, now - poll - AWAY);
        sqlx::query(
            "UPDATE jobs SET waits_for = $1 WHERE waits_for <> $2 AND id IN (SELECT job_id FROM pending \
             WHERE project_id = $3 AND tags = $4 AND protected = $5 AND trusted = $6 AND features = $7)",
        )
        .bind(&why)
        .bind(&why)
        .bind(kind.project_id)
        .bind(&kind.tags)
        .bind(kind.protected)
        .bind(kind.trusted)
        .bind(&kind.features)
        .execute(&app.db.pool)
        .await?;
    }
    Ok(())
}

/// Runners that were not heard of since `away` do not count.
fn why(kind: &Kind, runners: &[Runner], away: i64) -> String {
    if kind.paused == 1 {
        return "the project is paused".to_owned();
    }
    let wanted = tags(&kind.tags);
    let mut what = match wanted.is_empty() {
        true => "waits for a runner that takes jobs without tags".to_owned(),
        false => format!("waits for a runner with tags {}", wanted.join(", ")),
    };
    let fits = |r: &&Runner| {
        takes(&tags(&r.tags), r.run_untagged == 1, &wanted)
            && r.project_id.is_none_or(|project| project == kind.project_id)
    };
    let fitting: Vec<&Runner> = runners.iter().filter(fits).collect();
    if fitting.is_empty() {
        return format!("{what}: none is there");
    }
    let may = |r: &&&Runner| {
        (kind.protected == 1 || r.protected_only == 0) && (kind.trusted == 1 || r.trusted_only == 0)
    };
    let may: Vec<&&Runner> = fitting.iter().filter(may).collect();
    if may.is_empty() {
        what.push_str(if kind.trusted == 0 {
            " and takes jobs of forks"
        } else {
            " and takes unprotected refs"
        });
        return format!("{what}: none is there");
    }
    let able: Vec<&&&Runner> = may.iter().filter(|r| lacking(r, &kind.features).is_empty()).collect();
    if able.is_empty() {
        let lacks = may.first().map(|runner| lacking(runner, &kind.features)).unwrap_or_default();
        return format!("{what} that can do {}: none is there", lacks.join(", "));
    }
    let awake: Vec<&&&&Runner> = able.iter().filter(|r| r.paused == 0).collect();
    if awake.is_empty() {
        return format!("{what}: it is paused");
    }
    match awake.iter().any(|r| r.local == 1 || r.contacted_at.is_some_and(|at| at >= away)) {
        true => "waits for a free runner".to_owned(),
        false => format!("{what}: none has been heard of lately"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(tags: &str) -> Runner {
        Runner {
            id: 1,
            description: "r".into(),
            short_token: String::new(),
            tags: tags.into(),
            run_untagged: 0,
            protected_only: 0,
            trusted_only: 1,
            paused: 0,
            project_id: None,
            maximum_timeout: None,
            local: 0,
            info: "{}".into(),
            created_by: String::new(),
            created_at: 0,
            contacted_at: Some(100),
        }
    }

    #[test]
    fn the_first_thing_that_is_missing_is_said() {
        let kind = Kind {
            project_id: 1,
            tags: r#"["a","b"]"#.into(),
            features: "[]".into(),
            protected: 0,
            trusted: 1,
            paused: 0,
        };
        let fits = runner(r#"["b","a","c"]"#);
        let with = "waits for a runner with tags a, b";
        let table = [
            (Kind { paused: 1, ..kind.clone() }, fits.clone(), "the project is paused".to_owned()),
            (kind.clone(), runner(r#"["a"]"#), format!("{with}: none is there")),
            (kind.clone(), Runner { project_id: Some(2), ..fits.clone() }, format!("{with}: none is there")),
            (
                kind.clone(),
                Runner { protected_only: 1, ..fits.clone() },
                format!("{with} and takes unprotected refs: none is there"),
            ),
            (
                Kind { trusted: 0, ..kind.clone() },
                fits.clone(),
                format!("{with} and takes jobs of forks: none is there"),
            ),
            (
                Kind { features: r#"["return_exit_code"]"#.into(), ..kind.clone() },
                fits.clone(),
                format!("{with} that can do return_exit_code: none is there"),
            ),
            (
                Kind { features: r#"["return_exit_code"]"#.into(), ..kind.clone() },
                Runner { info: r#"{"features":{"return_exit_code":true}}"#.into(), ..fits.clone() },
                "waits for a free runner".into(),
            ),
            (kind.clone(), Runner { paused: 1, ..fits.clone() }, format!("{with}: it is paused")),
            (
                kind.clone(),
                Runner { contacted_at: Some(9), ..fits.clone() },
                format!("{with}: none has been heard of lately"),
            ),
            (
                kind.clone(),
                Runner { contacted_at: None, local: 1, ..fits.clone() },
                "waits for a free runner".into(),
            ),
            (
                Kind { tags: "[]".into(), ..kind.clone() },
                fits.clone(),
                "waits for a runner that takes jobs without tags: none is there".into(),
            ),
            (kind, fits, "waits for a free runner".into()),
        ];
        for (kind, runner, expected) in table {
            assert_eq!(why(&kind, &[runner], 10), expected);
        }
    }
}
