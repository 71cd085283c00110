//! People: accounts, how they prove who they are, and what they may do.
//!
//! | module | what |
//! |---|---|
//! | [`accounts`] | rows of `users`; the first one |
//! | [`attempts`] | slows down who guesses passwords |
//! | [`audit`] | the hash-chained record of what was done |
//! | [`identify`] | who sends a request: a session's cookie, an access token; from where |
//! | [`password`] | argon2id |
//! | [`roles`] | what a person may do in a project |
//! | [`sessions`] | signed-in browsers |
//! | [`sign_in`] | the sign-in page, and signing in by API |
//! | [`site`] | requests that other sites make a browser send |
//! | [`tokens`] | access tokens |

mod accounts;
mod attempts;
mod audit;
mod identify;
mod password;
mod roles;
mod sessions;
mod sign_in;
mod site;
mod tokens;

pub use accounts::first_account;
pub use audit::audit;
pub(super) use identify::{address, identify};
pub use roles::{Rights, rights, visible_projects};
pub(super) use sign_in::login_address;
pub(super) use site::same_site;

use super::routes::Routes;
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
    routes.with(sign_in::routes).with(tokens::routes)
}
