//! How does one SQL text run on both databases? By these macros: sqlx's own `Any` driver cannot
//! read a boolean on SQLite and panics on some binds, so both typed drivers stand in each call.

use std::future::Future;
use std::time::Duration;

use super::error::StoreError;

/// A thing of one database or of the other: a pool, a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Db<S, P> {
    Sqlite(S),
    Postgres(P),
}

impl<S, P> Db<S, P> {
    /// The text for this database, where the two do not agree.
    pub(super) fn pick(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// The longest that one statement over a network may take: a database that swallows packets must
/// give 503, not a hang (S-STORE-2). SQLite is bounded by its `busy_timeout`.
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn bounded<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STATEMENT_LIMIT, work).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_) => Err(StoreError::Busy),
    }
}

/// Runs a statement; how many rows it touched is the verdict of a conditional write.
macro_rules! execute {
    ($db:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $db {
            $crate::store::query::Db::Sqlite(on) => sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*
                .execute(on).await.map(|done| done.rows_affected()).map_err($crate::store::error::StoreError::from),
            $crate::store::query::Db::Postgres(on) => $crate::store::query::bounded(
                sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.execute(on),
            ).await.map(|done| done.rows_affected()),
        }
    };
}

/// All rows of a query, as tuples or `FromRow` types.
macro_rules! fetch_all {
    ($db:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $db {
            $crate::store::query::Db::Sqlite(on) => sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*
                .fetch_all(on).await.map_err($crate::store::error::StoreError::from),
            $crate::store::query::Db::Postgres(on) => $crate::store::query::bounded(
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_all(on),
            ).await,
        }
    };
}

/// The first row. All rows are fetched for it: sqlx's own `fetch_optional` stops at the first one,
/// and whether the statement's commit then fails (a full disk) is never heard. An attempt would
/// pass for counted that was not.
macro_rules! fetch_optional {
    ($db:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        $crate::store::query::fetch_all!($db, $row, $sql $(, $bind)*).map(|rows| rows.into_iter().next())
    };
}

pub(super) use {execute, fetch_all, fetch_optional};
