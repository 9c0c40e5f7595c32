//! The audit trail: rows that are only ever added, each chained to the one before.

use std::collections::HashMap;

use super::Store;
use super::error::StoreError;
use super::query::{execute, fetch_all, fetch_optional};
use super::row;
use super::tx::Connection;
use crate::base::clock::Timestamp;
use crate::crypto::chain::ChainKey;
use crate::domain::audit::{Action, Actor, AuditEvent, Reference};

/// A row as it stands in the database, not yet believed: `audit::verify` judges it. The other
/// columns repeat parts of the payload, for searching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub seq: i64,
    pub at: i64,
    pub action: String,
    pub actor: Option<String>,
    pub subject: Option<String>,
    /// The event as JSON, byte for byte as it was hashed.
    pub payload: String,
    pub prev: Vec<u8>,
    pub hash: Vec<u8>,
}

/// The end of the trail: how many rows there are, the hash of the last, and a MAC over both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    pub seq: i64,
    pub hash: Vec<u8>,
    pub mac: Vec<u8>,
}

/// Which rows are wanted; everything that is `None` does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who acted, or to whom it was done.
    pub user: Option<String>,
    pub action: Option<Action>,
    /// The reference that an answer of the gate showed.
    pub request: Option<Reference>,
    pub since: Option<Timestamp>,
    /// Exclusive.
    pub until: Option<Timestamp>,
}

type Columns = (i64, i64, String, Option<String>, Option<String>, String, Vec<u8>, Vec<u8>);

/// The rows that a filter leaves, where `$whose`, in this order.
macro_rules! filtered {
    ($whose:literal, $order:literal) => {
        concat!(
            "SELECT seq, at, action, actor, subject, payload, prev, hash FROM audit_log WHERE ",
            $whose,
            " AND seq > $1 AND ($3 = '' OR action = $3) AND ($6 = '' OR payload LIKE $6) AND at >= $4 AND at < $5 \
             ORDER BY ",
            $order,
            " LIMIT $7"
        )
    };
}

macro_rules! of_all {
    ($order:literal) => {
        filtered!("$2 = ''", $order)
    };
}

/// By two indexes, each to the limit: every look at an account page asks for its person's newest rows, and is not
/// to read the trail of everybody for them.
macro_rules! of_user {
    ($order:literal) => {
        concat!(
            "SELECT * FROM (SELECT * FROM (",
            filtered!("actor = $2", $order),
            ") AS did UNION SELECT * FROM (",
            filtered!("subject = $2", $order),
            ") AS was_done) AS either ORDER BY ",
            $order,
            " LIMIT $7"
        )
    };
}

impl Store {
    /// Rows after `after_seq`, oldest first, at most `limit`.
    pub async fn audit_rows(
        &self,
        filter: &AuditFilter,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let sql = if filter.user.is_some() { of_user!("seq") } else { of_all!("seq") };
        self.rows(sql, filter, after_seq, limit).await
    }

    /// The newest rows, oldest of them first, at most `limit`.
    pub async fn audit_tail(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let sql = if filter.user.is_some() { of_user!("seq DESC") } else { of_all!("seq DESC") };
        let mut rows = self.rows(sql, filter, i64::MIN, limit).await?;
        rows.reverse();
        Ok(rows)
    }

    async fn rows(
        &self,
        sql: &'static str,
        filter: &AuditFilter,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let action = filter.action.map(Action::name).unwrap_or_default();
        // No text of a client can look like it: a quote inside a JSON text is written \\".
        let request = filter.request.as_ref();
        let request = request.map(|id| format!("%\"request\":\"{}%", id.as_str())).unwrap_or_default();
        let rows = fetch_all!(
            self.read(),
            Columns,
            sql,
            after_seq,
            filter.user.as_deref().unwrap_or_default(),
            action.as_str(),
            filter.since.map_or(i64::MIN, Timestamp::as_millis),
            filter.until.map_or(i64::MAX, Timestamp::as_millis),
            request.as_str(),
            i64::from(limit),
        )?;
        Ok(rows.into_iter().map(audit_row).collect())
    }

    /// When something last happened to each account, by its name.
    pub async fn last_about(&self, action: Action) -> Result<HashMap<String, Timestamp>, StoreError> {
        let sql = "SELECT subject, MAX(at) FROM audit_log WHERE action = $1 AND subject IS NOT NULL GROUP BY subject";
        let found = fetch_all!(self.read(), (String, i64), sql, action.name())?;
        Ok(found.into_iter().map(|(subject, at)| (subject, row::time(at))).collect())
    }

    /// `None` when someone took it away.
    pub async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        let sql = "SELECT seq, hash, mac FROM audit_head WHERE id = 1";
        let found = fetch_optional!(self.read(), (i64, Vec<u8>, Vec<u8>), sql)?;
        Ok(found.map(|(seq, hash, mac)| AuditHead { seq, hash, mac }))
    }
}

/// Adds rows at the end of the chain, inside the caller's transaction. On PostgreSQL the head's
/// row lock makes all replicas' commits one line.
pub(super) async fn append(on: &mut Connection, chain: &ChainKey, events: &[AuditEvent]) -> Result<(), StoreError> {
    let sql = on.db().pick(
        "SELECT seq, hash, mac FROM audit_head WHERE id = 1",
        "SELECT seq, hash, mac FROM audit_head WHERE id = 1 FOR UPDATE",
    );
    let (mut seq, hash, mac) = fetch_optional!(on.db(), (i64, Vec<u8>, Vec<u8>), sql)?
        .ok_or(StoreError::Corrupt("the head of the audit trail is missing"))?;
    let mut hash = row::hash(&hash)?;
    // To go on from a head that was put there by hand would sign what the hand did.
    if !chain.is_head(seq, &hash, &mac) {
        return Err(StoreError::Corrupt(
            "the audit trail's end was changed by other hands, or the key ring is not the one it was written with",
        ));
    }
    for event in events {
        seq = seq.saturating_add(1);
        let payload = row::to_json(event)?;
        let next = chain.link(&hash, seq, &payload);
        let sql = "INSERT INTO audit_log (seq, at, action, actor, subject, payload, prev, hash) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        execute!(
            on.db(),
            sql,
            seq,
            event.at.as_millis(),
            event.action.name(),
            actor_name(&event.actor),
            event.subject_name.as_deref(),
            payload.as_str(),
            hash.as_slice(),
            next.as_slice(),
        )?;
        hash = next;
    }
    let mac = chain.head(seq, &hash);
    let sql = "UPDATE audit_head SET seq = $1, hash = $2, mac = $3 WHERE id = 1";
    execute!(on.db(), sql, seq, hash.as_slice(), mac.as_slice())?;
    Ok(())
}

/// What stands in the column `actor`: a name that `--user` can find.
#[must_use]
pub fn actor_name(actor: &Actor) -> Option<&str> {
    match actor {
        Actor::User { name, .. } => Some(name),
        Actor::Operator { account } => Some(account),
        Actor::UnknownUser { .. } | Actor::System => None,
    }
}

fn audit_row((seq, at, action, actor, subject, payload, prev, hash): Columns) -> AuditRow {
    AuditRow { seq, at, action, actor, subject, payload, prev, hash }
}
