//! People: accounts, how they prove who they are, and what they may do.
//!
//! | module | what |
//! |---|---|
//! | [`account`] | one's own account: password, tokens, sessions |
//! | [`accounts`], [`users`] | rows of `users`; what administrators do with them |
//! | [`attempts`] | slows down who guesses passwords |
//! | [`audit`] | the hash-chained record of what was done |
//! | [`device`] | `ci login` |
//! | [`headers`] | what every answer forbids the browser |
//! | [`identify`] | who sends a request: a session's cookie, an access token; from where |
//! | [`links`] | one-time addresses that set a password |
//! | [`members`] | who has which role |
//! | [`oidc`] | sign-in by OpenID Connect |
//! | [`password`] | argon2id |
//! | [`record`] | the audit record shown, exported, verified |
//! | [`roles`] | what a person may do in a project |
//! | [`sessions`] | signed-in browsers |
//! | [`sign_in`] | the sign-in page, and signing in by API |
//! | [`site`] | requests that other sites make a browser send |
//! | [`tokens`] | access tokens |
//! | [`variables`] | variables and secrets |

mod account;
mod accounts;
mod attempts;
mod audit;
mod device;
mod headers;
mod identify;
mod links;
#[cfg(test)]
mod matrix;
mod members;
mod oidc;
mod password;
mod record;
mod roles;
mod sessions;
mod sign_in;
mod site;
mod tokens;
mod users;
mod variables;

pub use audit::audit;
pub(super) use headers::headers;
pub(super) use identify::{address, identify};
pub use links::{first_account, sign_in_address};
pub use record::{Verdict, export, verify, verify_text};
pub use roles::{Rights, rights, visible_projects};
pub(super) use sign_in::login_address;
pub(super) use site::same_site;
pub(super) use variables::rows as variables;

use super::access::{Access, Actor};
use super::routes::Routes;
use super::{Answer, App, Problem};
use tokio::sync::Semaphore;

/// What is kept in memory of people.
#[derive(Debug)]
pub struct People {
    attempts: attempts::Attempts,
    /// Password checks at one time: each takes 19 MiB and a core.
    checks: Semaphore,
}

impl Default for People {
    fn default() -> People {
        People { attempts: attempts::Attempts::default(), checks: Semaphore::new(2) }
    }
}

/// Adds this module's routes.
pub fn routes(routes: Routes) -> Routes {
    routes
        .with(sign_in::routes)
        .with(links::routes)
        .with(oidc::routes)
        .with(device::routes)
        .with(account::routes)
        .with(tokens::routes)
        .with(sessions::routes)
        .with(users::routes)
        .with(members::routes)
        .with(variables::routes)
        .with(record::routes)
}

/// Number of a project that the actor sees.
async fn visible(app: &App, actor: &Actor, name: &str) -> Answer<i64> {
    let project = app.project(name).await?;
    if rights(app, actor, project.id).await?.allows(Access::Viewer) {
        return Ok(project.id);
    }
    Err(Problem::not_found("project"))
}
