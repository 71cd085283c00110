//! The record of what was done: each entry holds the digest of the one before it, so that none can be changed, taken
//! out or put in without all later ones being made anew. Whoever keeps a digest elsewhere can tell.

use crate::server::Answer;
use crate::server::db::{Tx, now};
use crate::server::rows::Audit;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::FromRow;

/// An entry of the audit record.
#[derive(Clone, Debug, Deserialize, FromRow, Serialize, utoipa::ToSchema)]
pub(super) struct Entry {
    pub(super) seq: i64,
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    pub(super) actor: String,
    pub(super) address: String,
    pub(super) action: String,
    pub(super) project_id: Option<i64>,
    pub(super) subject: String,
    /// JSON.
    pub(super) detail: String,
    /// Digest of the entry before it.
    pub(super) previous: String,
    pub(super) hash: String,
}

impl Entry {
    /// Its digest: of all columns but the digest, each with its length before it, so that no two entries are alike.
    pub(super) fn digest(&self) -> String {
        let project = self.project_id.map_or_else(String::new, |id| id.to_string());
        let (seq, at) = (self.seq.to_string(), self.at.to_string());
        let columns: [&str; 9] = [
            &seq,
            &at,
            &self.actor,
            &self.address,
            &self.action,
            &project,
            &self.subject,
            &self.detail,
            &self.previous,
        ];
        let mut digest = Sha256::new();
        for column in columns {
            digest.update((column.len() as u64).to_be_bytes());
            digest.update(column.as_bytes());
        }
        crate::digest::hex(&digest.finalize())
    }
}

/// One thing that was done, in the transaction that does it, best as its last statement: entries are written one after
/// another, and the next has to wait until this transaction ends.
///
/// # Errors
/// The database does not answer.
pub async fn audit(tx: &mut Tx, entry: Audit<'_>) -> Answer<()> {
    // the row is the lock, in both databases
    let head: Option<(String,)> =
        sqlx::query_as("UPDATE meta SET value = value WHERE key = 'audit' RETURNING value")
            .fetch_optional(&mut **tx)
            .await?;
    let head = head.map(|(head,)| head).unwrap_or_default();
    let (seq, previous) = head.split_once(' ').unwrap_or(("0", ""));
    let mut new = Entry {
        seq: seq.parse::<i64>().unwrap_or(0) + 1,
        at: now(),
        actor: entry.actor.name.clone(),
        address: entry.actor.address.clone(),
        action: entry.action.to_owned(),
        project_id: entry.project,
        subject: entry.subject.to_owned(),
        detail: entry.detail.to_string(),
        previous: previous.to_owned(),
        hash: String::new(),
    };
    new.hash = new.digest();
    sqlx::query(
        "INSERT INTO audit (seq, at, actor, address, action, project_id, subject, detail, previous, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(new.seq)
    .bind(new.at)
    .bind(&new.actor)
    .bind(&new.address)
    .bind(&new.action)
    .bind(new.project_id)
    .bind(&new.subject)
    .bind(&new.detail)
    .bind(&new.previous)
    .bind(&new.hash)
    .execute(&mut **tx)
    .await?;
    let head = format!("{} {}", new.seq, new.hash);
    sqlx::query("UPDATE meta SET value = $1 WHERE key = 'audit'").bind(head).execute(&mut **tx).await?;
    Ok(())
}
