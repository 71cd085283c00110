//! Rows of `users`. Accounts are disabled and never deleted, so that what they did keeps meaning something.

use crate::server::access::Actor;
use crate::server::db::{Tx, now};
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use serde_json::json;
use sqlx::FromRow;

/// A row of `users`.
#[derive(Clone, FromRow)]
pub(super) struct Account {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) display: String,
    pub(super) email: String,
    pub(super) password: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) admin: i64,
    pub(super) disabled: i64,
    pub(super) created_at: i64,
    pub(super) seen_at: Option<i64>,
}

/// A new one.
#[derive(Clone, Debug, Default)]
pub(super) struct NewAccount {
    pub(super) name: String,
    pub(super) display: String,
    pub(super) email: String,
    /// As [`password::hash`] gives it.
    pub(super) password: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) admin: bool,
}

impl Account {
    pub(super) async fn by_name(app: &App, name: &str) -> Answer<Option<Account>> {
        let query = sqlx::query_as("SELECT * FROM users WHERE name = $1").bind(name);
        Ok(query.fetch_optional(&app.db.pool).await?)
    }

    pub(super) async fn by_id(app: &App, id: i64) -> Answer<Account> {
        let query = sqlx::query_as("SELECT * FROM users WHERE id = $1").bind(id);
        query.fetch_optional(&app.db.pool).await?.ok_or_else(|| Problem::not_found("account"))
    }
}

/// Letters, digits, `.`, `_`, `-`, not at the ends; lower case, so that no two look alike.
pub(super) fn acceptable(name: &str) -> Answer<()> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let outside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let right = (1..=60).contains(&name.len())
        && name.chars().all(inside)
        && name.starts_with(outside)
        && name.ends_with(outside);
    let taken = ["anonymous", "system"].contains(&name);
    if right && !taken {
        return Ok(());
    }
    Err(Problem::bad(format!(
        "`{name}` is no name for an account: take lower-case letters, digits, and `.`, `_`, `-` inside, at most 60"
    )))
}

/// Makes an account.
///
/// # Errors
/// 400 for its name, 409 when there is one already.
pub(super) async fn create(tx: &mut Tx, actor: &Actor, new: &NewAccount) -> Answer<i64> {
    acceptable(&new.name)?;
    let query = sqlx::query_as::<_, (i64,)>("SELECT id FROM users WHERE name = $1").bind(&new.name);
    if query.fetch_optional(&mut **tx).await?.is_some() {
        return Err(Problem::conflict(format!("there is an account `{}` already", new.name)));
    }
    let (id,): (i64,) = sqlx::query_as(
        "INSERT INTO users (name, display, email, password, subject, admin, disabled, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7) RETURNING id",
    )
    .bind(&new.name)
    .bind(&new.display)
    .bind(&new.email)
    .bind(&new.password)
    .bind(&new.subject)
    .bind(i64::from(new.admin))
    .bind(now())
    .fetch_one(&mut **tx)
    .await?;
    let detail = json!({ "admin": new.admin, "email": new.email });
    audit(tx, Audit { actor, action: "user.create", project: None, subject: &new.name, detail }).await?;
    Ok(id)
}
