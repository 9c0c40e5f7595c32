//! What went wrong in the store, and whose fault is it? Never holds a URL, a value or a secret.

use std::io::ErrorKind;

use sqlx::error::DatabaseError;

/// Why the store did not do what was asked. The text is for logs and operators, not for pages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database is away, its disk is full, or it refuses everything: 503 until it heals.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// A wait for a connection or a lock ran out: 503 with Retry-After, never a hang (S-STORE-2).
    #[error("the store is too busy")]
    Busy,
    /// What this write stood on is no longer so: the account was disabled, the session ended, the
    /// row exists. The person starts over.
    #[error("what this change stood on has changed meanwhile")]
    Conflict,
    /// Something stored cannot be read back, or the audit trail does not fit its head.
    #[error("the store holds something unreadable: {0}")]
    Corrupt(&'static str),
    /// The store must not be used as it is set up; only at start.
    #[error("{0}")]
    Refused(Refusal),
    /// A commit without an event; the change was rolled back.
    #[error("a change without an audit event is not committed")]
    Unaudited,
    /// Our statement was wrong; the code is the database's.
    #[error("a statement failed with code {0}")]
    Ours(String),
}

/// What is refused at start, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the database URL cannot be read; it looks like postgres://USER:PASSWORD@HOST/NAME?sslmode=verify-full")]
    BadUrl,
    #[error("synchronous_commit is off: a crash would lose what people were told had happened; set it to on")]
    AsynchronousCommit,
    #[error("the database has schema {found}, newer than the {known} this program knows; run the newer program")]
    NewerSchema { found: i64, known: i64 },
    #[error("another `serve` already runs on this state directory")]
    AlreadyServed,
    #[error("the database file {0}")]
    File(String),
}

impl StoreError {
    /// Whether waiting may help: the caller answers 503 and signed-in people go on from the cache.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy)
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::Database(error) => from_database(error.as_ref()),
            E::PoolTimedOut => Self::Busy,
            E::Io(error) => Self::Unavailable(format!("I/O: {}", error.kind())),
            // The text of a TLS error names certificates and hosts, no secret.
            E::Tls(error) => Self::Unavailable(format!("TLS: {error}")),
            E::PoolClosed => Self::Unavailable("it was closed".to_owned()),
            E::WorkerCrashed => Self::Unavailable("its worker ended".to_owned()),
            E::Protocol(_) => Self::Unavailable("the database answered out of protocol".to_owned()),
            E::Configuration(_) => Self::Refused(Refusal::BadUrl),
            E::ColumnDecode { .. } | E::Decode(_) | E::RowNotFound => Self::Corrupt("a column"),
            // The rest are mistakes of ours. Some of their texts quote values: none is kept.
            _ => Self::Ours("unexpected".to_owned()),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Unavailable("the disk is full".to_owned()),
            kind => Self::Unavailable(format!("I/O: {kind}")),
        }
    }
}

fn from_database(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    match code.parse::<i64>() {
        Ok(number) if code.len() < 5 => from_sqlite(number),
        _ => from_postgres(&code, error.message()),
    }
}

/// <https://sqlite.org/rescode.html>: the low byte is the primary code.
fn from_sqlite(extended: i64) -> StoreError {
    match extended & 0xff {
        5 | 6 => StoreError::Busy,
        13 => StoreError::Unavailable("the disk is full".to_owned()),
        10 => StoreError::Unavailable(format!("the disk failed (SQLite code {extended})")),
        8 => StoreError::Unavailable("the database file is read-only".to_owned()),
        14 => StoreError::Unavailable("the database file cannot be opened".to_owned()),
        11 | 26 => StoreError::Corrupt(
            "the database file is damaged. Stop the gate, keep a copy of the file, and put back a backup with the key \
             ring that belongs to it; without a backup `sqlite3 stepgate.db .recover` may save what is in it \
             (OPERATIONS, \"Back up and restore\")",
        ),
        19 => StoreError::Conflict,
        _ => StoreError::Ours(format!("SQLite {extended}")),
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn from_postgres(code: &str, message: &str) -> StoreError {
    match code {
        // Serialization, deadlock, lock_timeout, statement_timeout.
        "40001" | "40P01" | "55P03" | "57014" => return StoreError::Busy,
        "53100" => return StoreError::Unavailable("the disk is full".to_owned()),
        "XX001" | "XX002" => return StoreError::Corrupt("the database"),
        // A standby, or a disk that PostgreSQL took away for writing.
        "25006" => return StoreError::Unavailable("the database is read-only".to_owned()),
        _ => {}
    }
    match code.get(..2) {
        Some("23") => StoreError::Conflict,
        // These classes speak of roles, databases, connections and resources, never of our values.
        Some("08" | "28" | "3D" | "53" | "57" | "58") => StoreError::Unavailable(format!("{message} ({code})")),
        _ if code == "42501" => StoreError::Unavailable(format!("{message} ({code})")),
        _ => StoreError::Ours(code.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whose_fault_it_is() {
        assert_eq!(from_sqlite(5), StoreError::Busy);
        assert_eq!(from_sqlite(517), StoreError::Busy, "SQLITE_BUSY_SNAPSHOT");
        assert!(from_sqlite(13).is_outage(), "SQLITE_FULL");
        assert!(from_sqlite(778).is_outage(), "SQLITE_IOERR_WRITE");
        assert_eq!(from_sqlite(2067), StoreError::Conflict, "SQLITE_CONSTRAINT_UNIQUE");
        assert_eq!(from_sqlite(1), StoreError::Ours("SQLite 1".to_owned()));
        assert_eq!(from_postgres("55P03", ""), StoreError::Busy);
        assert_eq!(from_postgres("23505", "key (name)=(ann) exists"), StoreError::Conflict);
        assert!(from_postgres("53100", "").is_outage());
        assert_eq!(from_postgres("22P02", "invalid input: \"hunter2\""), StoreError::Ours("22P02".to_owned()));
    }

    #[test]
    fn s_log_1_a_bad_url_is_not_repeated() {
        let error = sqlx::Error::Configuration("postgres://u:hunter2@h".into());
        assert!(!format!("{0} {0:?}", StoreError::from(error)).contains("hunter2"));
    }
}
