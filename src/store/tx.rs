//! How do a change and its audit rows become one? A transaction ends only by a commit that names
//! its events, or by nothing having happened.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

use super::counts::EventCounts;
use super::error::StoreError;
use super::notices::Teller;
use super::postgres;
use super::query::{Db, bounded};
use crate::base::ids::UserId;
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEvent;

/// A transaction. On SQLite it holds the one write lock from its first moment, so reads in it are
/// stable; on PostgreSQL each conditional write is its own proof. Keep it short: no hashing, no
/// network, and no writing method of [`Store`](super::Store) while one is open (on SQLite that
/// would wait for itself and end in [`StoreError::Busy`]). Dropped without a commit, all is undone.
#[derive(Debug)]
pub struct Tx {
    pub(super) on: Connection,
    chain: ChainKey,
    counts: Arc<EventCounts>,
    teller: Option<Arc<dyn Teller>>,
    /// Addresses that this transaction replaced: the old one is told (S-OOB-3).
    emails_before: Vec<(UserId, String)>,
}

/// Why a commit needs no row in the trail. What is an attempt, a refusal or a change of an account
/// has no reason here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaudited {
    /// A step inside a ceremony whose attempts have rows of their own.
    FlowProgress,
    /// Another host's identifier for a session whose sign-in has its row.
    HostToken,
    /// A form that waits, goes on or is given up: what becomes of it is the app's to log.
    KeptForm,
    /// Last-seen times, expired rows.
    Housekeeping,
}

impl Tx {
    pub(super) fn new(
        on: Connection,
        chain: ChainKey,
        counts: Arc<EventCounts>,
        teller: Option<Arc<dyn Teller>>,
    ) -> Self {
        Self { on, chain, counts, teller, emails_before: Vec::new() }
    }

    pub(super) fn replaces_email(&mut self, user: UserId, before: String) {
        self.emails_before.push((user, before));
    }

    /// The address that this transaction took from an account, if it did.
    pub(super) fn email_before(&self, user: UserId) -> Option<String> {
        self.emails_before.iter().find(|(id, _)| *id == user).map(|(_, email)| email.clone())
    }

    pub(super) fn db(&mut self) -> Db<&mut SqliteConnection, &mut PgConnection> {
        self.on.db()
    }

    /// Commits the change, its rows in the trail and the mails that tell of it, or nothing (S-LOG-4,
    /// S-LOGIN-13). When this returns `Ok`, the change survives a power cut. Without an event nothing is committed.
    pub async fn commit(mut self, events: &[AuditEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            self.on.rollback().await;
            return Err(StoreError::Unaudited);
        }
        if let Some(teller) = self.teller.clone() {
            super::notices::tell(&mut self, &*teller, events).await?;
        }
        // The trail's head is locked last, so that a change never waits for another's long work
        // while it holds what every other commit needs.
        super::audit_log::append(&mut self.on, &self.chain, events).await?;
        self.on.commit().await?;
        self.counts.committed(events);
        Ok(())
    }

    pub async fn commit_unaudited(self, _why: Unaudited) -> Result<(), StoreError> {
        self.on.commit().await
    }

    pub async fn rollback(self) {
        self.on.rollback().await;
    }
}

/// A connection inside a transaction of ours. sqlx's own `Transaction` is not used: when SQLite
/// rolls back by itself (disk full, I/O error) it goes on counting a transaction that no longer
/// exists, and the connection never begins another one, so the gate would need a restart
/// (S-STORE-2). Here a connection that did not end cleanly is closed.
#[derive(Debug)]
pub(super) struct Connection {
    held: Db<PoolConnection<Sqlite>, PoolConnection<Postgres>>,
    open: bool,
}

impl Connection {
    pub(super) async fn begin_sqlite(pool: &SqlitePool) -> Result<Self, StoreError> {
        let mut on = Self { held: Db::Sqlite(pool.acquire().await?), open: true };
        // BEGIN alone takes a read lock first; of 100 writers that then wanted more, 63 failed.
        on.raw("BEGIN IMMEDIATE").await?;
        Ok(on)
    }

    pub(super) async fn begin_postgres(pool: &PgPool) -> Result<Self, StoreError> {
        let mut on = Self { held: Db::Postgres(pool.acquire().await?), open: true };
        on.raw(postgres::BEGIN).await?;
        Ok(on)
    }

    pub(super) fn db(&mut self) -> Db<&mut SqliteConnection, &mut PgConnection> {
        match &mut self.held {
            Db::Sqlite(on) => Db::Sqlite(on),
            Db::Postgres(on) => Db::Postgres(on),
        }
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        if matches!(self.held, Db::Postgres(_)) {
            // COMMIT of a transaction in which a statement failed rolls back and reports success;
            // any other statement in it reports the failure.
            self.raw("SELECT 1").await?;
        }
        self.raw("COMMIT").await?;
        self.open = false;
        Ok(())
    }

    pub(super) async fn rollback(mut self) {
        if self.raw("ROLLBACK").await.is_ok() {
            self.open = false;
        }
    }

    /// Runs statements without binds.
    pub(super) async fn raw(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self.db() {
            Db::Sqlite(on) => sqlx::raw_sql(sql).execute(on).await.map(|_| ()).map_err(StoreError::from),
            Db::Postgres(on) => bounded(sqlx::raw_sql(sql).execute(on)).await.map(|_| ()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.open {
            match &mut self.held {
                Db::Sqlite(on) => on.close_on_drop(),
                Db::Postgres(on) => on.close_on_drop(),
            }
        }
    }
}
