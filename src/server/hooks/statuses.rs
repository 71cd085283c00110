//! The outbox of commit statuses. The engine writes what is to be said; the last word of a context wins; a forge that is
//! away is told later, and nothing ever waits for it.

use super::forge::Forge;
use super::status_calls::{Call, Status, call};
use crate::server::db::now;
use crate::server::rows::Project;
use crate::server::{Answer, App};
use reqwest::{Client, StatusCode};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::task::JoinSet;

/// Projects that are told at once.
const AT_ONCE: usize = 8;
/// Seconds between looks, when nothing wakes us.
const EVERY: u64 = 1;
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many tries of one word it is given up.
const TRIES: i64 = 15;
const LONGEST_WAIT_MS: i64 = 60 * 60 * 1000;

/// How one try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// Not, and trying again is of no use.
    Never(String),
    /// Not now; milliseconds to wait, if the forge said.
    Later(String, Option<i64>),
}

fn client() -> Option<Client> {
    let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    let client = client.user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION"))).build();
    client.inspect_err(|error| tracing::error!("no commit statuses will be sent: {error}")).ok()
}

pub(super) async fn pass(app: App) {
    let (mut busy, mut tasks) = (HashSet::new(), JoinSet::new());
    // made when there is something to send: it holds all certificates of the machine
    let client = LazyLock::new(client);
    loop {
        match due(&app).await {
            Ok(projects) => {
                for (project, statuses) in projects {
                    let Some(client) = client.as_ref() else { return };
                    if tasks.len() < AT_ONCE && busy.insert(project) {
                        tasks.spawn(all_of(app.clone(), client.clone(), project, statuses));
                    }
                }
            }
            Err(problem) => tracing::error!("reading the statuses to be sent: {problem}"),
        }
        app.beats.ran("statuses", EVERY);
        tokio::select! {
            Some(done) = tasks.join_next() => match done {
                Ok(project) => { busy.remove(&project); }
                Err(error) => tracing::error!("sending commit statuses: {error}"),
            },
            () = app.wake.statuses.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(EVERY)) => {}
            () = app.ending.cancelled() => return,
        }
    }
}

async fn due(app: &App) -> Answer<HashMap<i64, Vec<Status>>> {
    let rows = "SELECT project_id, sha, context, ref, state, description, target_url, version, tries FROM statuses \
                WHERE sent < version AND next_at <= $1 ORDER BY next_at LIMIT 500";
    let rows: Vec<Status> = sqlx::query_as(rows).bind(now()).fetch_all(&app.db.pool).await?;
    let mut projects: HashMap<i64, Vec<Status>> = HashMap::new();
    for row in rows {
        projects.entry(row.project_id).or_default().push(row);
    }
    Ok(projects)
}

async fn all_of(app: App, client: Client, project: i64, statuses: Vec<Status>) -> i64 {
    for status in statuses {
        match one(&app, &client, &status).await {
            Ok(true) => {}
            // who said "not now" means all of this project's
            Ok(false) => break,
            Err(problem) => tracing::error!(project, "sending a commit status: {problem}"),
        }
    }
    project
}

/// Sends one; `false`: the forge does not listen now.
async fn one(app: &App, client: &Client, status: &Status) -> Answer<bool> {
    let project = app.project(&status.project_id.to_string()).await?;
    let sent = match prepared(app, &project, status).await? {
        Ok((call, token)) => send(client, &call, &token).await,
        Err(why) => Sent::Never(why),
    };
    let key = |text: &'static str| {
        sqlx::query(text).bind(status.project_id).bind(status.sha.clone()).bind(status.context.clone())
    };
    match sent {
        Sent::Yes | Sent::Never(_) => {
            let error = if let Sent::Never(why) = &sent { why.as_str() } else { "" };
            // a newer word may have come meanwhile
            let text = "UPDATE statuses SET sent = $4, error = $5, tries = 0 \
                        WHERE project_id = $1 AND sha = $2 AND context = $3 AND sent < $4";
            key(text).bind(status.version).bind(error).execute(&app.db.pool).await?;
            Ok(true)
        }
        Sent::Later(why, _) if status.tries + 1 >= TRIES => {
            let text = "UPDATE statuses SET sent = $4, error = $5, tries = 0 \
                        WHERE project_id = $1 AND sha = $2 AND context = $3 AND sent < $4";
            let why = format!("given up after {TRIES} tries: {why}");
            key(text).bind(status.version).bind(why).execute(&app.db.pool).await?;
            Ok(true)
        }
        Sent::Later(why, wait) => {
            let wait = wait.unwrap_or_else(|| backoff(status.tries)).clamp(1000, LONGEST_WAIT_MS);
            let text = "UPDATE statuses SET tries = tries + 1, next_at = $4, error = $5 \
                        WHERE project_id = $1 AND sha = $2 AND context = $3";
            key(text).bind(now() + wait).bind(why).execute(&app.db.pool).await?;
            Ok(false)
        }
    }
}

fn backoff(tries: i64) -> i64 {
    let doubled = 2_i64.saturating_pow(u32::try_from(tries.clamp(0, 20)).unwrap_or(20));
    doubled.saturating_mul(2000).min(LONGEST_WAIT_MS)
}

/// The call and the token, or why there is none.
async fn prepared(app: &App, project: &Project, status: &Status) -> Answer<Result<(Call, String), String>> {
    let forge = Forge::named(&project.forge).unwrap_or(Forge::Generic);
    if project.forge_url.is_empty() {
        return Ok(Err("the project has no address of the forge's API".to_owned()));
    }
    let Some(call) = call(forge, &project.forge_url, &project.git_url, status) else {
        return Ok(Err(format!("`{}` takes no statuses, or its address names no repository", project.forge)));
    };
    let newest =
        "SELECT id, sealed FROM secrets WHERE project_id = $1 AND kind = 'forge' ORDER BY id DESC LIMIT 1";
    let row: Option<(i64, Vec<u8>)> =
        sqlx::query_as(newest).bind(project.id).fetch_optional(&app.db.pool).await?;
    let token = row.and_then(|(id, sealed)| app.vault.open_text(&format!("secret:{id}"), &sealed));
    Ok(token.map(|token| (call, token)).ok_or_else(|| {
        "the project has no token for the forge's API: add a secret of kind `forge`".to_owned()
    }))
}

async fn send(client: &Client, call: &Call, token: &str) -> Sent {
    let (header, before) = call.token;
    let request = client.post(&call.url).header(header, format!("{before}{token}")).json(&call.body);
    let response = match request.send().await {
        Ok(response) => response,
        // without the address, which says nothing new
        Err(error) => {
            return Sent::Later(format!("the forge does not answer: {}", error.without_url()), None);
        }
    };
    let status = response.status();
    let wait =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    let wait = wait.map(|seconds| seconds.saturating_mul(1000));
    let said = response.text().await.unwrap_or_default();
    judged(status, wait, &said)
}

fn judged(status: StatusCode, wait: Option<i64>, said: &str) -> Sent {
    let text = format!("the forge answered {}", status.as_u16());
    match status {
        status if status.is_success() => Sent::Yes,
        // GitLab: it has this state already, or a later one
        StatusCode::BAD_REQUEST if said.contains("Cannot transition status") => Sent::Yes,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Sent::Later(text, wait),
        status if status.is_server_error() => Sent::Later(text, wait),
        // a limit of GitHub's looks like a refusal
        StatusCode::FORBIDDEN if wait.is_some() => Sent::Later(text, wait),
        // rights are set right by people, while the word still counts
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            Sent::Later(format!("{text}: may the project's `forge` token set commit statuses there?"), wait)
        }
        _ => Sent::Never(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_forge_answers_decides_whether_it_is_told_again() {
        let later = |code, wait, said| matches!(judged(StatusCode::from_u16(code).unwrap(), wait, said), Sent::Later(_, w) if w == wait);
        assert_eq!(judged(StatusCode::CREATED, None, ""), Sent::Yes);
        let transition = "{\"message\":\"Cannot transition status via :run from :running\"}";
        assert_eq!(judged(StatusCode::BAD_REQUEST, None, transition), Sent::Yes);
        assert!(matches!(judged(StatusCode::UNPROCESSABLE_ENTITY, None, ""), Sent::Never(_)));
        assert!(matches!(judged(StatusCode::FOUND, None, ""), Sent::Never(_)), "a token follows no redirect");
        for (code, wait) in
            [(429, Some(7000)), (503, Some(1000)), (500, None), (403, Some(60_000)), (401, None)]
        {
            assert!(later(code, wait, ""), "{code}");
        }
    }
}
