//! Where is everything kept that must outlive the process? SQLite in the state directory, or
//! PostgreSQL for many replicas; every statement runs on both.
//!
//! Rules of this room:
//! - Read-check-write is one conditional write whose answer is the verdict, so it holds across
//!   tasks, processes and replicas.
//! - A change of an account, and every attempt, commits together with its row in the audit trail.
//! - Passwords, seeds, codes and tokens come here only hashed or sealed.
//! - What `Ok` was answered for survives `kill -9` and a power cut.

mod attempts;
mod audit_log;
mod counts;
mod credentials;
mod error;
mod flows;
mod handovers;
mod kept_forms;
mod keys;
mod links;
mod made;
mod migrate;
mod notices;
mod outbox;
mod postgres;
mod posture;
mod query;
mod remembered;
mod revocations;
mod row;
mod sent_codes;
mod sessions;
mod sqlite;
mod sweep;
mod tx;
mod users;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sqlx::{PgPool, SqlitePool};

pub use attempts::{Attempt, AttemptRule};
pub use audit_log::{AuditFilter, AuditHead, AuditRow, actor_name};
pub use counts::EventCounts;
pub use credentials::{BackupSet, Credential, Removed};
pub use error::{Refusal, StoreError};
pub use flows::FlowRow;
pub use handovers::HandoverRow;
pub use kept_forms::{KeptFormRow, KeptFormShare};
pub use links::{LinkKind, LinkRow};
pub use notices::{IncidentRow, Letter, Notice, NoticeRow, Teller};
pub use outbox::{Channel, GivenUp, MailRow, NewMail, OutboxShare, Waiting};
pub use posture::PostureRow;
pub use remembered::{BEFORE_GRACE, RememberedRow, RememberedSecret, RememberedUse};
pub use revocations::{Revocation, RevocationCursor};
pub use sent_codes::{CodeTry, SentCode, TRIES};
pub use sessions::{SessionRow, TokenRow};
pub use sqlite::ServeLock;
pub use sweep::Swept;
pub use tx::{Tx, Unaudited};
pub use users::{Held, NewUser};

use query::{Db, execute, fetch_optional};
use tx::Connection;

use crate::base::clock::Timestamp;
use crate::config::snapshot::StoreSettings;
use crate::crypto::chain::ChainKey;
use crate::domain::audit::AuditEvent;

/// A handle, cheap to clone. All its methods may be called at once from anywhere, but only on a
/// runtime that may wait.
#[derive(Clone, Debug)]
pub struct Store {
    pools: Db<sqlite::SqlitePools, PgPool>,
    chain: ChainKey,
    counts: Arc<EventCounts>,
    teller: Arc<OnceLock<Arc<dyn Teller>>>,
}

impl Store {
    /// Opens the store, making or migrating its tables. Refuses what could lose acknowledged
    /// changes ([`Refusal`]).
    pub async fn open(settings: &StoreSettings, state: &Path, chain: ChainKey) -> Result<Self, StoreError> {
        let pools = match settings {
            StoreSettings::Sqlite => Db::Sqlite(sqlite::open(state).await?),
            StoreSettings::Postgres { url } => Db::Postgres(postgres::open(url.expose()).await?),
        };
        let store = Self { pools, chain, counts: Arc::default(), teller: Arc::default() };
        migrate::run(store.write(), &store.chain).await?;
        Ok(store)
    }

    /// Whether the database answers, and how many milliseconds its clock is ahead of `now`; always 0
    /// on SQLite, which has no clock of its own.
    pub async fn clock_skew(&self, now: Timestamp) -> Result<i64, StoreError> {
        match self.read() {
            on @ Db::Sqlite(_) => fetch_optional!(on, (i64,), "SELECT 1").map(|_| 0),
            on @ Db::Postgres(_) => {
                let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
                let there = fetch_optional!(on, (i64,), sql)?.ok_or(StoreError::Corrupt("the clock"))?.0;
                Ok(there.saturating_sub(now.as_millis()))
            }
        }
    }

    /// Whether a write comes through: a full disk, and another program that holds the lock, let everybody read. On
    /// PostgreSQL the answer is that of [`Store::clock_skew`]: a server whose disk is full stops.
    pub async fn takes_writes(&self) -> Result<(), StoreError> {
        if matches!(self.pools, Db::Postgres(_)) {
            return Ok(());
        }
        self.in_its_place()?;
        let mut tx = self.begin().await?;
        execute!(tx.db(), "UPDATE schema_version SET version = version")?;
        tx.commit_unaudited(Unaudited::Housekeeping).await
    }

    /// Whether the file of SQLite still stands where it was opened.
    pub fn in_its_place(&self) -> Result<(), StoreError> {
        match &self.pools {
            Db::Sqlite(pools) => pools.file.in_its_place(),
            Db::Postgres(_) => Ok(()),
        }
    }

    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let on = match self.write() {
            Db::Sqlite(pool) => Connection::begin_sqlite(pool).await?,
            Db::Postgres(pool) => Connection::begin_postgres(pool).await?,
        };
        Ok(Tx::new(on, self.chain.clone(), Arc::clone(&self.counts), self.teller.get().cloned()))
    }

    /// From now on every commit writes the mails that its events call for. The first caller counts.
    pub fn tell_by(&self, teller: Arc<dyn Teller>) {
        let _ = self.teller.set(teller);
    }

    /// Records events that change nothing else: an attempt, a refusal, a start.
    pub async fn audit_only(&self, events: &[AuditEvent]) -> Result<(), StoreError> {
        self.begin().await?.commit(events).await
    }

    /// What this process committed to the trail, by kind.
    #[must_use]
    pub fn counts(&self) -> &Arc<EventCounts> {
        &self.counts
    }

    /// The key of the audit chain, for verifying it.
    #[must_use]
    pub fn chain(&self) -> &ChainKey {
        &self.chain
    }

    /// Closes all connections; on SQLite this also folds the log into the file.
    pub async fn close(&self) {
        match &self.pools {
            Db::Sqlite(pools) => {
                pools.read.close().await;
                pools.write.close().await;
            }
            Db::Postgres(pool) => pool.close().await,
        }
    }

    fn read(&self) -> Db<&SqlitePool, &PgPool> {
        match &self.pools {
            Db::Sqlite(pools) => Db::Sqlite(&pools.read),
            Db::Postgres(pool) => Db::Postgres(pool),
        }
    }

    fn write(&self) -> Db<&SqlitePool, &PgPool> {
        match &self.pools {
            Db::Sqlite(pools) => Db::Sqlite(&pools.write),
            Db::Postgres(pool) => Db::Postgres(pool),
        }
    }
}
