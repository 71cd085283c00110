//! Passwords at rest: argon2id with a salt of its own each, in PHC form.

use crate::server::{Answer, App, Problem};
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};
use std::sync::OnceLock;

/// Shortest that is taken. Longer ones need no rules about digits and capitals.
const SHORTEST: usize = 10;
/// Longest: more is somebody who keeps our processor busy.
const LONGEST: usize = 1024;

/// Is it one that we take?
///
/// # Errors
/// 400 that says what is wrong with it.
pub(super) fn acceptable(password: &str) -> Answer<()> {
    match password.chars().count() {
        0..SHORTEST => Err(Problem::bad(format!("a password has at least {SHORTEST} characters"))),
        SHORTEST..=LONGEST => Ok(()),
        _ => Err(Problem::bad(format!("a password has at most {LONGEST} characters"))),
    }
}

/// What is kept of a password.
pub(super) async fn hash(app: &App, password: &str) -> Answer<String> {
    acceptable(password)?;
    let password = password.to_owned();
    work(app, move || of(&password)).await?
}

/// Is it the one that was kept? Takes as long when none was kept, so that names can't be found out.
pub(super) async fn verify(app: &App, kept: Option<&str>, password: &str) -> Answer<bool> {
    static NOBODY: OnceLock<String> = OnceLock::new();
    if password.chars().count() > LONGEST {
        return Ok(false);
    }
    let (kept, password) = (kept.map(str::to_owned), password.to_owned());
    work(app, move || {
        let nobody = || NOBODY.get_or_init(|| of("nobody's password").unwrap_or_default()).clone();
        let somebody = kept.is_some();
        let right =
            Argon2::default().verify_password(password.as_bytes(), kept.unwrap_or_else(nobody).as_str());
        somebody && right.is_ok()
    })
    .await
}

fn of(password: &str) -> Answer<String> {
    // without optimisation the real cost is a second; what it was is in what is kept
    let cost = if cfg!(debug_assertions) { Params::new(1024, 1, 1, None) } else { Ok(Params::DEFAULT) };
    let cost = cost.map_err(|e| Problem::internal("hashing a password", &e))?;
    let hashed = Argon2::from(cost).hash_password(password.as_bytes());
    hashed.map(|hash| hash.to_string()).map_err(|e| Problem::internal("hashing a password", &e))
}

async fn work<T: Send + 'static>(app: &App, work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let _turn = app.people.checks.acquire().await.map_err(|e| Problem::internal("waiting for a turn", &e))?;
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Problem::internal("checking a password", &e))
}
