//! Ceremonies under way: after a right password or a claimed link, so a stranger cannot fill them.

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::row;
use super::{Held, Store, Tx};
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
    /// `None` once it has expired, was finished, or what it stands on is void.
    pub async fn flow(&self, id: FlowId, now: Timestamp) -> Result<Option<FlowRow>, StoreError> {
        let sql = "SELECT f.id, f.secret_hash, f.browser_hash, f.user_id, f.version, f.state, f.created_at, \
                   f.expires_at FROM flows f JOIN users u ON u.id = f.user_id AND u.epoch = f.epoch \
                   WHERE f.id = $1 AND f.expires_at > $2";
        fetch_optional!(self.read(), Columns, sql, id.to_string(), now.as_millis())?.map(flow).transpose()
    }
}

impl Tx {
    pub async fn insert_flow(&mut self, held: Held, new: &FlowRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO flows \
                   (id, secret_hash, browser_hash, user_id, version, state, created_at, expires_at, epoch) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.secret_hash.as_slice(),
            new.browser_hash.as_slice(),
            held.user.to_string(),
            new.version,
            new.state.as_str(),
            new.created_at.as_millis(),
            new.expires_at.as_millis(),
            held.epoch,
        )
        .map(|_| ())
    }

    /// Takes one step, to version `from_version + 1`; `false` when another step came first, or the
    /// ceremony is over or void.
    pub async fn update_flow(&mut self, id: FlowId, from_version: i64, state: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE flows SET state = $3, version = version + 1 WHERE id = $1 AND version = $2 \
                   AND epoch = (SELECT epoch FROM users WHERE users.id = flows.user_id)";
        Ok(execute!(self.db(), sql, id.to_string(), from_version, state)? == 1)
    }

    /// Ends a ceremony; `true` for exactly one caller.
    pub async fn consume_flow(&mut self, id: FlowId, from_version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM flows WHERE id = $1 AND version = $2 \
                   AND epoch = (SELECT epoch FROM users WHERE users.id = flows.user_id)";
        Ok(execute!(self.db(), sql, id.to_string(), from_version)? == 1)
    }

    /// Lets the one ceremony go on that itself voided the others.
    pub async fn keep_flow(&mut self, id: FlowId) -> Result<(), StoreError> {
        let sql = "UPDATE flows SET epoch = (SELECT epoch FROM users WHERE users.id = flows.user_id) WHERE id = $1";
        execute!(self.db(), sql, id.to_string()).map(|_| ())
    }

    /// Ends what others have begun in this browser: whoever signs in at it now must not find their
    /// keys and codes in its history.
    pub async fn end_flows_of_others(&mut self, browser_hash: &[u8; 32], but: UserId) -> Result<u64, StoreError> {
        let sql = "DELETE FROM flows WHERE browser_hash = $1 AND user_id <> $2";
        execute!(self.db(), sql, browser_hash.as_slice(), but.to_string())
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
