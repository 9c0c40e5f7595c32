//! Which schema does the database have, and how does it get to ours? In one transaction under a
//! lock, so that any number of processes may start at once (S-STORE-4).

use sqlx::{PgPool, SqlitePool};

use super::error::{Refusal, StoreError};
use super::query::{Db, execute, fetch_optional};
use super::tx::Connection;
use crate::crypto::chain::ChainKey;

/// One step, never edited once released.
struct Migration {
    version: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: [Migration; 10] = [
    Migration {
        version: 1,
        sqlite: include_str!("migrations/sqlite/0001_first.sql"),
        postgres: include_str!("migrations/postgres/0001_first.sql"),
    },
    Migration {
        version: 2,
        sqlite: include_str!("migrations/sqlite/0002_epoch.sql"),
        postgres: include_str!("migrations/postgres/0002_epoch.sql"),
    },
    Migration {
        version: 3,
        sqlite: include_str!("migrations/sqlite/0003_kept_forms.sql"),
        postgres: include_str!("migrations/postgres/0003_kept_forms.sql"),
    },
    Migration {
        version: 4,
        sqlite: include_str!("migrations/sqlite/0004_notices.sql"),
        postgres: include_str!("migrations/postgres/0004_notices.sql"),
    },
    Migration {
        version: 5,
        sqlite: include_str!("migrations/sqlite/0005_imported.sql"),
        postgres: include_str!("migrations/postgres/0005_imported.sql"),
    },
    Migration {
        version: 6,
        sqlite: include_str!("migrations/sqlite/0006_webauthn.sql"),
        postgres: include_str!("migrations/postgres/0006_webauthn.sql"),
    },
    Migration {
        version: 7,
        sqlite: include_str!("migrations/sqlite/0007_sent_codes.sql"),
        postgres: include_str!("migrations/postgres/0007_sent_codes.sql"),
    },
    Migration {
        version: 8,
        sqlite: include_str!("migrations/sqlite/0008_posture.sql"),
        postgres: include_str!("migrations/postgres/0008_posture.sql"),
    },
    Migration {
        version: 9,
        sqlite: include_str!("migrations/sqlite/0009_channels.sql"),
        postgres: include_str!("migrations/postgres/0009_channels.sql"),
    },
    Migration {
        version: 10,
        sqlite: include_str!("migrations/sqlite/0010_remembered_devices.sql"),
        postgres: include_str!("migrations/postgres/0010_remembered_devices.sql"),
    },
];

/// "stepgate" as a number: the advisory lock that migrating processes queue at.
const LOCK: i64 = 0x7374_6570_6761_7465;

pub(super) async fn run(pools: Db<&SqlitePool, &PgPool>, chain: &ChainKey) -> Result<(), StoreError> {
    let known = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    // A command beside a busy `serve`, or on a full disk, must not need the lock for nothing. An
    // error here is a database without tables, or one that will say so again below.
    let seen = fetch_optional!(pools, (Option<i64>,), "SELECT MAX(version) FROM schema_version");
    if matches!(seen, Ok(Some((Some(version),))) if version == known) {
        return Ok(());
    }
    let mut on = match pools {
        Db::Sqlite(pool) => Connection::begin_sqlite(pool).await?,
        Db::Postgres(pool) => {
            let mut on = Connection::begin_postgres(pool).await?;
            // Another process may be migrating a large database: wait for it longer than for a row.
            on.raw("SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = 0").await?;
            fetch_optional!(on.db(), (i64,), "SELECT 1::bigint FROM (SELECT pg_advisory_xact_lock($1)) AS l", LOCK)?;
            on
        }
    };
    on.raw("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)").await?;
    let found = fetch_optional!(on.db(), (Option<i64>,), "SELECT MAX(version) FROM schema_version")?
        .and_then(|(version,)| version)
        .unwrap_or(0);
    if found > known {
        on.rollback().await;
        return Err(StoreError::Refused(Refusal::NewerSchema { found, known }));
    }
    for step in MIGRATIONS.iter().filter(|m| m.version > found) {
        let sql = on.db().pick(step.sqlite, step.postgres);
        on.raw(sql).await?;
        execute!(on.db(), "INSERT INTO schema_version (version) VALUES ($1)", step.version)?;
    }
    if found == 0 {
        // The head is made here and nowhere else: one that is missing later was taken away.
        let genesis = chain.genesis();
        let mac = chain.head(0, &genesis);
        execute!(
            on.db(),
            "INSERT INTO audit_head (id, seq, hash, mac) VALUES (1, 0, $1, $2)",
            genesis.as_slice(),
            mac.as_slice(),
        )?;
    }
    on.commit().await
}
