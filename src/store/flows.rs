//! Ceremonies under way: after a right password or a claimed link, so a stranger cannot fill them.

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::row;
use super::{Store, Tx};
use crate::base::clock::Timestamp;
use crate::base::ids::{FlowId, UserId};

/// A ceremony, bound to one browser and one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    pub id: FlowId,
    pub secret_hash: [u8; 32],
    pub browser_hash: [u8; 32],
    pub user: UserId,
    /// Counts steps: a step names the version that it was shown, and of two at once one goes on.
    pub version: i64,
    /// JSON; secrets inside it are sealed.
    pub state: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

type Columns = (String, Vec<u8>, Vec<u8>, String, i64, String, i64, i64);

impl Store {
    /// `None` once it has expired or was finished.
    pub async fn flow(&self, id: FlowId, now: Timestamp) -> Result<Option<FlowRow>, StoreError> {
        let sql = "SELECT id, secret_hash, browser_hash, user_id, version, state, created_at, expires_at \
                   FROM flows WHERE id = $1 AND expires_at > $2";
        fetch_optional!(self.read(), Columns, sql, id.to_string(), now.as_millis())?.map(flow).transpose()
    }
}

impl Tx {
    /// [`StoreError::Conflict`] when the account is not active.
    pub async fn insert_flow(&mut self, new: &FlowRow) -> Result<(), StoreError> {
        self.lock_active(new.user).await?;
        let sql = "INSERT INTO flows \
                   (id, secret_hash, browser_hash, user_id, version, state, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.secret_hash.as_slice(),
            new.browser_hash.as_slice(),
            new.user.to_string(),
            new.version,
            new.state.as_str(),
            new.created_at.as_millis(),
            new.expires_at.as_millis(),
        )
        .map(|_| ())
    }

    /// Takes one step, to version `from_version + 1`; `false` when another step came first or the
    /// ceremony is over.
    pub async fn update_flow(&mut self, id: FlowId, from_version: i64, state: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE flows SET state = $3, version = version + 1 WHERE id = $1 AND version = $2";
        Ok(execute!(self.db(), sql, id.to_string(), from_version, state)? == 1)
    }

    /// Ends a ceremony; `true` for exactly one caller.
    pub async fn consume_flow(&mut self, id: FlowId, from_version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM flows WHERE id = $1 AND version = $2";
        Ok(execute!(self.db(), sql, id.to_string(), from_version)? == 1)
    }

    /// Ends every ceremony of an account: what began with a password or a link that no longer holds
    /// must not go on.
    pub async fn end_flows_of(&mut self, user: UserId) -> Result<u64, StoreError> {
        execute!(self.db(), "DELETE FROM flows WHERE user_id = $1", user.to_string())
    }
}

fn flow(columns: Columns) -> Result<FlowRow, StoreError> {
    let (id, secret_hash, browser_hash, user, version, state, created_at, expires_at) = columns;
    Ok(FlowRow {
        id: row::id(&id)?,
        secret_hash: row::hash(&secret_hash)?,
        browser_hash: row::hash(&browser_hash)?,
        user: row::id(&user)?,
        version,
        state,
        created_at: row::time(created_at),
        expires_at: row::time(expires_at),
    })
}
