//! How is the embedded database opened, and why is nothing lost in it?

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::error::{Refusal, StoreError};
use crate::base::owner;
use crate::config::snapshot::StoreSettings;

/// How long a writer waits for another process's lock, and a task for a connection (S-STORE-2).
const WAIT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;

/// SQLite has one writer at a time. One connection for writing makes our own writers queue in
/// order, where several would poll the file's lock against each other.
#[derive(Clone, Debug)]
pub(super) struct SqlitePools {
    pub(super) file: DatabaseFile,
    pub(super) write: SqlitePool,
    pub(super) read: SqlitePool,
}

/// Opens `stepgate.db` in the state directory, made on first use; both only for their owner.
pub(super) async fn open(state: &Path) -> Result<SqlitePools, StoreError> {
    if !state.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    }
    let file = state.join("stepgate.db");
    close_to_others(&file)?;
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode NORMAL loses the last commits on a power cut (S-STORE-3).
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(WAIT)
        .pragma("trusted_schema", "OFF");
    let options = quiet(options);
    // SQLite tidies the log when the last connection closes; ours stay open, so that readers of
    // other processes never meet a half-closed file and no statement pays for opening.
    let pool = || {
        SqlitePoolOptions::new().acquire_timeout(WAIT).idle_timeout(None).max_lifetime(None).test_before_acquire(false)
    };
    let write = pool().max_connections(1).min_connections(1).connect_with(options.clone()).await?;
    let read = pool().max_connections(READERS).connect_with(options.pragma("query_only", "ON")).await?;
    Ok(SqlitePools { file: DatabaseFile::at(file)?, write, read })
}

/// Which file is open, so that one that is gone from its place is noticed: SQLite goes on writing to it, and all of
/// that is lost with the process.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Device and inode.
    is: (u64, u64),
}

impl DatabaseFile {
    fn at(path: PathBuf) -> Result<Self, StoreError> {
        let meta = path.metadata()?;
        Ok(Self { is: (meta.dev(), meta.ino()), path })
    }

    pub(super) fn in_its_place(&self) -> Result<(), StoreError> {
        let became = match self.path.metadata() {
            Ok(meta) if (meta.dev(), meta.ino()) == self.is => return Ok(()),
            Ok(_) => "was replaced by another file",
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was moved away or deleted",
            Err(_) => "cannot be looked at any more",
        };
        let path = self.path.display();
        Err(StoreError::Unavailable(format!(
            "{path} {became} while the gate has it open: what is written now is lost when the gate ends. Put it back, \
             with its -wal and -shm beside it, or restart the gate"
        )))
    }
}

/// The file is made with mode 0600 before SQLite sees it: the log beside it inherits the mode.
fn close_to_others(file: &Path) -> Result<(), StoreError> {
    let open = open_or_make(file)?;
    let mode = open.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        open.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(|_| StoreError::Refused(Refusal::File("is open to others and not ours to close".to_owned())))?;
    }
    Ok(())
}

/// A file made by root is its directory's owner's; SQLite keeps the log beside it to the same owner.
fn open_or_make(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(made) => owner::as_its_directory(&made, path).map(|()| made),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn quiet(options: SqliteConnectOptions) -> SqliteConnectOptions {
    use sqlx::ConnectOptions;
    options.disable_statement_logging()
}

/// Held by `serve` for as long as it runs; the lock ends with the process, however it ends.
#[derive(Debug)]
pub struct ServeLock {
    state: PathBuf,
    file: Option<File>,
}

impl ServeLock {
    /// Two gates on one SQLite state would each trust their own cache (S-STORE-4). Commands beside a
    /// `serve` do not take this lock, and replicas on PostgreSQL are meant to be several. The
    /// directory has to be there.
    pub fn take(settings: &StoreSettings, state: &Path) -> Result<Self, StoreError> {
        let file = match settings {
            StoreSettings::Sqlite => Some(locked(&state.join("serve.lock"))?),
            StoreSettings::Postgres { .. } => None,
        };
        Ok(Self { state: state.canonicalize()?, file })
    }

    /// Whether it is the lock of this state directory.
    #[must_use]
    pub fn is_of(&self, state: &Path) -> bool {
        state.canonicalize().is_ok_and(|state| state == self.state)
    }
}

impl Drop for ServeLock {
    /// By closing alone it would stay for as long as a program that is just being started by another thread has the
    /// descriptor: from its fork to its exec.
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.unlock();
        }
    }
}

fn locked(path: &Path) -> Result<File, StoreError> {
    let file = open_or_make(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Refused(Refusal::AlreadyServed)),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::crypto::chain::ChainKey;
    use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
    use crate::store::Store;
    use crate::store::query::Db;

    async fn store(state: &Path) -> (Store, SqlitePools) {
        let store = Store::open(&StoreSettings::Sqlite, state, ChainKey::new([1; 32])).await.unwrap();
        let Db::Sqlite(pools) = store.pools.clone() else { unreachable!("SQLite was asked for") };
        (store, pools)
    }

    fn event(text: &str) -> AuditEvent {
        AuditEvent::new(Timestamp::from_secs(1), Actor::System, Action::Start, Outcome::Success, text)
    }

    async fn pragma(pool: &SqlitePool, text: &'static str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await.unwrap()
    }

    #[tokio::test]
    async fn s_store_3_every_connection_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, pools) = store(dir.path()).await;
        for pool in [&pools.write, &pools.read] {
            assert_eq!(pragma(pool, "PRAGMA synchronous").await, 2, "FULL");
            assert_eq!(pragma(pool, "PRAGMA foreign_keys").await, 1);
            assert_eq!(pragma(pool, "PRAGMA busy_timeout").await, 5000);
            let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            assert_eq!(journal, "wal");
        }
        let refused = sqlx::query("DELETE FROM users").execute(&pools.read).await;
        assert!(refused.is_err(), "nothing is written past the queue of writers");
        let loose: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND strict = 0 AND name NOT LIKE 'sqlite_%' AND name <> 'schema_version'",
        )
        .fetch_one(&pools.read)
        .await
        .unwrap();
        assert_eq!(loose, 0, "every table is STRICT");
    }

    #[tokio::test]
    async fn s_store_2_a_full_disk_is_an_outage_and_heals_without_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (store, pools) = store(dir.path()).await;
        store.audit_only(&[event("before")]).await.unwrap();
        let big = event(&"x".repeat(100_000));
        for round in 0..3 {
            // SQLite's own quota gives what a full disk gives: SQLITE_FULL. It is the connection's,
            // and a connection that failed is replaced, so each round sets it anew.
            let pages = pragma(&pools.write, "PRAGMA page_count").await;
            sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&pools.write).await.unwrap();
            let full = store.audit_only(std::slice::from_ref(&big)).await.unwrap_err();
            assert_eq!(full, StoreError::Unavailable("the disk is full".to_owned()), "round {round}");
            assert!(full.is_outage());
            store.clock_skew(Timestamp::from_secs(0)).await.unwrap();
            assert_eq!(store.audit_head().await.unwrap().unwrap().seq, 1, "nothing of it stayed");
        }
        sqlx::query("PRAGMA max_page_count = 1000000").execute(&pools.write).await.unwrap();
        store.audit_only(&[big]).await.unwrap();
        assert_eq!(store.audit_head().await.unwrap().unwrap().seq, 2);
    }
}
