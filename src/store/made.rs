//! Is there a database already? Asked before anything is opened for writing, so that looking at a
//! state that is not there does not make one.

use std::path::Path;

use super::error::StoreError;
use super::query::{Db, fetch_optional};
use super::{Store, postgres};
use crate::config::snapshot::StoreSettings;

impl Store {
    /// Whether the store that [`Store::open`] would open holds our tables.
    pub async fn is_made(settings: &StoreSettings, state: &Path) -> Result<bool, StoreError> {
        let url = match settings {
            // SQLite's file is empty until the first commit.
            StoreSettings::Sqlite => {
                return Ok(std::fs::metadata(state.join("stepgate.db")).is_ok_and(|m| m.len() > 0));
            }
            StoreSettings::Postgres { url } => url,
        };
        let pool = postgres::open(url.expose()).await?;
        let on: Db<&sqlx::SqlitePool, &sqlx::PgPool> = Db::Postgres(&pool);
        let sql = "SELECT COALESCE((to_regclass('schema_version') IS NOT NULL)::int, 0)::bigint";
        let found = fetch_optional!(on, (i64,), sql);
        pool.close().await;
        Ok(found?.is_some_and(|(made,)| made == 1))
    }
}
