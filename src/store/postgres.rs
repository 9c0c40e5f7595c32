//! How is PostgreSQL opened, and which of its set-ups are refused?

use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use super::error::{Refusal, StoreError};
use super::query::bounded;

/// How long a task waits for a connection (S-STORE-2).
const WAIT: Duration = Duration::from_secs(5);
const CONNECTIONS: u32 = 10;

/// Starts every transaction. The limits are set inside it, not on the connection, so that a
/// transaction pooler in between neither loses nor spreads them.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '5s'; \
     SET LOCAL statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// TLS is what the URL's `sslmode` says (`verify-full` with `sslrootcert` for a private CA).
pub(super) async fn open(url: &str) -> Result<PgPool, StoreError> {
    // The parser's error may quote the URL, which holds a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Refused(Refusal::BadUrl))?;
    let options = options.application_name("stepgate").disable_statement_logging();
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(WAIT).connect_with(options).await?;
    let (setting,) = bounded(sqlx::query_as::<_, (String,)>("SHOW synchronous_commit").fetch_one(&pool)).await?;
    if setting == "off" {
        return Err(StoreError::Refused(Refusal::AsynchronousCommit));
    }
    Ok(pool)
}
