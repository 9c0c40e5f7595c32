//! How does a sign-in at the portal reach an app's host? By a code that works once, there, and in
//! the browser that was sent away from it (S-LOGIN-8).

use super::Tx;
use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::row;
use crate::base::clock::Timestamp;
use crate::base::ids::SessionId;
use crate::crypto::ct_eq;
use crate::domain::factor::FactorUse;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoverRow {
    pub code_hash: [u8; 32],
    pub session: SessionId,
    pub host: String,
    /// Of the nonce cookie that this host set when it sent the browser to the portal.
    pub nonce_hash: [u8; 32],
    pub evidence: Vec<FactorUse>,
    pub target: String,
    pub expires_at: Timestamp,
}

type Columns = (Vec<u8>, String, String, Vec<u8>, String, String, i64);

impl Tx {
    /// [`StoreError::Conflict`] when the session has ended.
    pub async fn insert_handover(&mut self, new: &HandoverRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO handovers (code_hash, session_id, host, nonce_hash, evidence, target, expires_at) \
                   SELECT $1, $2, $3, $4, $5, $6, $7 FROM sessions WHERE id = $2 AND ended_at IS NULL";
        let done = execute!(
            self.db(),
            sql,
            new.code_hash.as_slice(),
            new.session.to_string(),
            new.host.as_str(),
            new.nonce_hash.as_slice(),
            row::to_json(&new.evidence)?,
            new.target.as_str(),
            new.expires_at.as_millis(),
        )?;
        if done == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Redeems a code: exactly one caller gets it, at its host, with its nonce among those shown, in time, while the
    /// session lives. Any claim uses it up, also one without it: then the browser that was
    /// sent here is not the one that asked, and whoever began may be about to come for it. Only who
    /// has the code can use it up so. The caller commits that too.
    pub async fn claim_handover(
        &mut self,
        code: &[u8; 32],
        host: &str,
        nonces: &[[u8; 32]],
        now: Timestamp,
    ) -> Result<Option<HandoverRow>, StoreError> {
        let sql = "DELETE FROM handovers WHERE code_hash = $1 \
                   RETURNING code_hash, session_id, host, nonce_hash, evidence, target, expires_at";
        let Some(row) = fetch_optional!(self.db(), Columns, sql, code.as_slice())?.map(handover).transpose()? else {
            return Ok(None);
        };
        if row.host != host || !nonces.iter().any(|nonce| ct_eq(&row.nonce_hash, nonce)) || row.expires_at <= now {
            return Ok(None);
        }
        let sql = "SELECT id FROM sessions WHERE id = $1 AND ended_at IS NULL AND expires_at > $2";
        let live = fetch_optional!(self.db(), (String,), sql, row.session.to_string(), now.as_millis())?;
        Ok(live.map(|_| row))
    }
}

fn handover(columns: Columns) -> Result<HandoverRow, StoreError> {
    let (code_hash, session, host, nonce_hash, evidence, target, expires_at) = columns;
    Ok(HandoverRow {
        code_hash: row::hash(&code_hash)?,
        session: row::id(&session)?,
        host,
        nonce_hash: row::hash(&nonce_hash)?,
        evidence: row::from_json(&evidence, "evidence")?,
        target,
        expires_at: row::time(expires_at),
    })
}
