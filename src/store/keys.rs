//! Security keys: whose a credential id is, and that an answer counts once.

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::{Credential, Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;

impl Store {
    /// The authenticator with this credential id of its own, whoever's it is.
    pub async fn credential_by_external(&self, hash: &[u8; 32]) -> Result<Option<Credential>, StoreError> {
        let sql = "SELECT id FROM credentials WHERE external_hash = $1";
        match fetch_optional!(self.read(), (String,), sql, hash.as_slice())? {
            Some((id,)) => self.credential(row::id(&id)?).await,
            None => Ok(None),
        }
    }

    /// Whether a question was answered already. Only a look: [`Tx::spend_question`] is the verdict.
    pub async fn is_spent(&self, question: &[u8; 32]) -> Result<bool, StoreError> {
        let sql = "SELECT expires_at FROM spent_questions WHERE hash = $1";
        Ok(fetch_optional!(self.read(), (i64,), sql, question.as_slice())?.is_some())
    }
}

impl Tx {
    /// Writes down the authenticator's own id beside its row; [`StoreError::Conflict`] when any
    /// account has it already (S-WA-2).
    pub async fn name_external(&mut self, id: CredentialId, hash: &[u8; 32]) -> Result<(), StoreError> {
        let sql = "UPDATE credentials SET external_hash = $2 WHERE id = $1";
        execute!(self.db(), sql, id.to_string(), hash.as_slice()).map(|_| ())
    }

    /// Accepts a use of a key: `true` only while it is not disabled, and only if its counter went
    /// forward. Keys without a counter say 0 for ever (WebAuthn section 6.1.1).
    pub async fn use_key(&mut self, id: CredentialId, counter: i64, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE credentials SET last_step = $2, failures = 0, last_used_at = $3 \
                   WHERE id = $1 AND (last_step < $2 OR (last_step = 0 AND $2 = 0)) AND disabled_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), counter, now.as_millis())? == 1)
    }

    /// Replaces what is sealed of an authenticator.
    pub async fn reseal_credential(&mut self, id: CredentialId, secret: &[u8]) -> Result<(), StoreError> {
        let sql = "UPDATE credentials SET secret = $2 WHERE id = $1";
        execute!(self.db(), sql, id.to_string(), secret).map(|_| ())
    }

    /// Spends a question: `true` for exactly one caller. This answer is the verdict on replays.
    pub async fn spend_question(&mut self, question: &[u8; 32], until: Timestamp) -> Result<bool, StoreError> {
        let sql = "INSERT INTO spent_questions (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING";
        Ok(execute!(self.db(), sql, question.as_slice(), until.as_millis())? == 1)
    }
}
