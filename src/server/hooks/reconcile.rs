//! Pushes that no hook told of: forges drop deliveries silently (Bitbucket above 256 KB), do not repeat them (GitHub), or
//! the server was down. So each repository is looked at now and then, and a branch or tag that is elsewhere than what
//! was dealt with becomes a delivery of our own.

use super::event::{NOTHING, Push, is_ref};
use super::inbox::{Kept, NewDelivery, keep};
use super::process::see;
use crate::server::app::Changed;
use crate::server::db::Tx;
use crate::server::rows::Project;
use crate::server::{Answer, App, mirror};
use crate::sources::Listed;
use futures_util::StreamExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Projects that are looked at at once.
const AT_ONCE: usize = 4;
/// Refs of one look for which pipelines are made: whoever mirrors a thousand branches into a repository wants no
/// thousand pipelines.
const MOST: usize = 20;

/// What a look at a repository found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Branches and tags.
    pub refs: usize,
    /// The branch that HEAD is.
    pub default_branch: Option<String>,
    /// Pushes that nothing had told of.
    pub found: usize,
}

/// Key of the delivery that stands for a push.
pub(super) fn key(push: &Push) -> String {
    format!("reconcile:{}:{}", push.reference, push.after)
}

pub(super) async fn pass(app: App) {
    let every = Duration::from_secs(app.config.reconcile_seconds.max(1));
    loop {
        match projects(&app).await {
            Ok(projects) => {
                let looks = futures_util::stream::iter(projects).for_each_concurrent(AT_ONCE, |project| {
                    let app = app.clone();
                    async move {
                        if let Err(problem) = look(&app, &project).await {
                            tracing::warn!(project = project.id, "looking at its repository: {problem}");
                        }
                    }
                });
                tokio::select! {
                    () = looks => {}
                    () = app.ending.cancelled() => return,
                }
            }
            Err(problem) => tracing::error!("reading the projects: {problem}"),
        }
        app.beats.ran("reconcile", every.as_secs());
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

async fn projects(app: &App) -> Answer<Vec<Project>> {
    let all = sqlx::query_as("SELECT * FROM projects WHERE paused = 0 ORDER BY id");
    Ok(all.fetch_all(&app.db.pool).await?)
}

/// Looks at a project's repository. The first look only records what is there.
///
/// # Errors
/// The repository can't be reached; says why without credentials. `meta` keeps that for the project's page.
pub async fn look(app: &App, project: &Project) -> Answer<Looked> {
    let listed = match mirror::list(app, project).await {
        Ok(listed) => listed,
        Err(problem) => {
            note(app, project.id, &problem.message).await?;
            return Err(problem);
        }
    };
    let mut tx = app.db.write().await?;
    let seen_before = meta(&mut tx, &format!("seen:{}", project.id)).await?.is_some();
    let found = match seen_before {
        true => compare(&mut tx, project, &listed).await?,
        false => record(&mut tx, project, &listed).await?,
    };
    tx.commit().await?;
    note(app, project.id, "").await?;
    if found > 0 {
        app.wake.inbox.notify_one();
        app.changed(Changed::Delivery { project: project.id });
    }
    Ok(Looked { refs: listed.refs.len(), default_branch: listed.default_branch, found })
}

async fn meta(tx: &mut Tx, key: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(key).fetch_optional(&mut **tx).await
}

/// Remembers how the last look went, if that is new.
async fn note(app: &App, project: i64, error: &str) -> Answer<()> {
    let text = "INSERT INTO meta (key, value) VALUES ($1, $2) \
                ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE meta.value <> excluded.value";
    let text = sqlx::query(text).bind(format!("look:{project}")).bind(error);
    text.execute(&app.db.pool).await?;
    Ok(())
}

/// Why the last look at the project's repository failed; empty: it did not.
pub(in crate::server) async fn last_error(app: &App, project: i64) -> Answer<String> {
    let text = sqlx::query_scalar("SELECT value FROM meta WHERE key = $1").bind(format!("look:{project}"));
    let text: Option<String> = text.fetch_optional(&app.db.pool).await?;
    Ok(text.unwrap_or_default())
}

async fn record(tx: &mut Tx, project: &Project, listed: &Listed) -> Result<usize, sqlx::Error> {
    for (reference, sha) in &listed.refs {
        see(tx, project.id, reference, sha).await?;
    }
    let text = "INSERT INTO meta (key, value) VALUES ($1, '1') ON CONFLICT (key) DO NOTHING";
    sqlx::query(text).bind(format!("seen:{}", project.id)).execute(&mut **tx).await?;
    Ok(0)
}

async fn compare(tx: &mut Tx, project: &Project, listed: &Listed) -> Result<usize, sqlx::Error> {
    let known = sqlx::query_as("SELECT ref, sha FROM refs WHERE project_id = $1").bind(project.id);
    let known: Vec<(String, String)> = known.fetch_all(&mut **tx).await?;
    let known: BTreeMap<String, String> = known.into_iter().collect();
    for gone in known.keys().filter(|reference| !listed.refs.contains_key(*reference)) {
        see(tx, project.id, gone, "").await?;
    }
    // what a hook has just told of is about to be dealt with
    let fresh = sqlx::query_scalar(
        "SELECT COUNT(*) FROM deliveries WHERE project_id = $1 AND state = 'waiting' AND tries = 0",
    );
    let fresh: i64 = fresh.bind(project.id).fetch_one(&mut **tx).await?;
    if fresh > 0 {
        return Ok(0);
    }
    let mut found = 0;
    for push in missed(&known, listed, &project.default_branch) {
        let (state, reason) = match found < MOST {
            true => ("waiting", String::new()),
            false => {
                ("ignored", format!("more than {MOST} branches and tags had moved at once; run it by hand"))
            }
        };
        if let Kept::New(_) = keep(tx, &delivery(project.id, &push), state, &reason).await? {
            found += 1;
        }
        if state == "ignored" {
            see(tx, project.id, &push.reference, &push.after).await?;
        }
    }
    Ok(found)
}

/// Moves that nothing told of, the default branch first, branches before tags.
fn missed(known: &BTreeMap<String, String>, listed: &Listed, default_branch: &str) -> Vec<Push> {
    let moved = listed.refs.iter().filter(|(name, sha)| is_ref(name) && known.get(*name) != Some(*sha));
    let mut moved: Vec<Push> = moved
        .map(|(name, sha)| Push {
            reference: name.clone(),
            before: known.get(name).cloned().unwrap_or_else(|| NOTHING.to_owned()),
            after: sha.clone(),
            ..Push::default()
        })
        .collect();
    moved.sort_by_key(|push| {
        let (name, tag) = push.name();
        (tag, name != default_branch, push.reference.clone())
    });
    moved
}

fn delivery(project: i64, push: &Push) -> NewDelivery {
    let body = json!({ "type": "push", "ref": push.reference, "before": push.before, "after": push.after });
    NewDelivery {
        project,
        key: key(push),
        forge: "reconcile".to_owned(),
        event: "push".to_owned(),
        headers: "{}".to_owned(),
        body: body.to_string().into_bytes(),
        body_digest: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_found_the_default_branch_first() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(name, sha)| ((*name).to_owned(), (*sha).to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        let known = pairs(&[("refs/heads/main", "1"), ("refs/heads/same", "2"), ("refs/heads/gone", "3")]);
        let refs = pairs(&[
            ("refs/heads/a", "5"),
            ("refs/heads/main", "4"),
            ("refs/heads/same", "2"),
            ("refs/heads/-x", "6"),
            ("refs/tags/v1", "7"),
        ]);
        let found = missed(&known, &Listed { default_branch: None, refs }, "main");
        let found: Vec<_> =
            found.iter().map(|p| (p.reference.as_str(), p.before.as_str(), p.after.as_str())).collect();
        assert_eq!(
            found,
            [("refs/heads/main", "1", "4"), ("refs/heads/a", NOTHING, "5"), ("refs/tags/v1", NOTHING, "7")]
        );
    }
}
