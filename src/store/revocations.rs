//! What must every cache on every replica forget within a second?

use std::collections::BTreeMap;

use super::error::StoreError;
use super::query::{execute, fetch_all};
use super::row;
use super::{Store, Tx};
use crate::base::ids::{SessionId, UserId};

/// What is no longer as a cache may believe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// It ended, or one of its tokens was replaced: read it again.
    Session(SessionId),
    /// The account changed: read it again. That its sessions ended is said by their own rows.
    User(UserId),
    All,
}

/// Where a poller stands. Each revocation is answered once to each cursor.
#[derive(Clone, Debug, Default)]
pub struct RevocationCursor {
    /// Every row up to here is known and can no longer appear late.
    settled: i64,
    /// Rows above it that were answered already, with their times.
    seen: BTreeMap<i64, i64>,
}

/// How late a row may appear below one that is already visible: numbers are given out when a
/// transaction writes, but seen when it commits. Longer than any transaction of ours lives.
const LATE_MS: i64 = 60_000;

impl Store {
    /// The revocations that this cursor has not seen, oldest first, and the cursor to go on with.
    /// The first poll answers all of the last ten minutes, which is harmless to an empty cache.
    pub async fn revocations_after(
        &self,
        mut cursor: RevocationCursor,
    ) -> Result<(Vec<Revocation>, RevocationCursor), StoreError> {
        let sql = "SELECT seq, kind, target, at FROM revocations WHERE seq > $1 ORDER BY seq";
        let rows = fetch_all!(self.read(), (i64, String, Option<String>, i64), sql, cursor.settled)?;
        let mut fresh = Vec::new();
        for (seq, kind, target, at) in rows {
            if cursor.seen.insert(seq, at).is_none() {
                fresh.push(revocation(&kind, target.as_deref()));
            }
        }
        let newest = cursor.seen.values().copied().max().unwrap_or(0);
        while let Some(first) = cursor.seen.first_entry() {
            if *first.get() > newest - LATE_MS {
                break;
            }
            cursor.settled = *first.key();
            first.remove();
        }
        Ok((fresh, cursor))
    }
}

impl Tx {
    pub(super) async fn revoke(&mut self, what: Revocation) -> Result<(), StoreError> {
        let (kind, target) = match what {
            Revocation::Session(id) => ("session", Some(id.to_string())),
            Revocation::User(id) => ("user", Some(id.to_string())),
            Revocation::All => ("all", None),
        };
        // By the database's clock: the order of rows must not hang on the clocks of replicas.
        let sql = self.on.db().pick(
            "INSERT INTO revocations (kind, target, at) VALUES ($1, $2, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            "INSERT INTO revocations (kind, target, at) \
             VALUES ($1, $2, CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT))",
        );
        execute!(self.db(), sql, kind, target).map(|_| ())
    }
}

/// What cannot be read takes everything out of the caches: it costs reads. To pass over it would
/// leave in what somebody ended, and to fail would stop all revocations behind it.
fn revocation(kind: &str, target: Option<&str>) -> Revocation {
    let known = match (kind, target) {
        ("session", Some(id)) => row::id(id).ok().map(Revocation::Session),
        ("user", Some(id)) => row::id(id).ok().map(Revocation::User),
        _ => None,
    };
    known.unwrap_or(Revocation::All)
}
