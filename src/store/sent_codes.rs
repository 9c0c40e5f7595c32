//! Which code is on its way to a person? The newest only, for one ceremony, with a few tries (S-OOB-2).

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::{Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::{SentCodeId, UserId};
use crate::domain::factor::FactorKind;

/// Wrong ones that a code outlives, less one (SECURITY.md section 3).
pub const TRIES: u32 = 3;

/// A code to be kept until it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentCode {
    pub id: SentCodeId,
    pub user: UserId,
    pub kind: FactorKind,
    /// The ceremony or the session that asked for it: nowhere else it is worth anything.
    pub scope: String,
    /// Keyed: six digits are searched in no time.
    pub hash: [u8; 32],
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A try at a code, counted already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeTry {
    pub id: SentCodeId,
    pub hash: [u8; 32],
    /// Further ones.
    pub left: u32,
}

impl Store {
    /// Until when a code of this ceremony works; `None` when there is none.
    pub async fn sent_code(
        &self,
        user: UserId,
        kind: FactorKind,
        scope: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT expires_at FROM sent_codes \
                   WHERE user_id = $1 AND kind = $2 AND scope = $3 AND tries < $5 AND expires_at > $4";
        let found = fetch_optional!(
            self.read(),
            (i64,),
            sql,
            user.to_string(),
            kind.as_str(),
            scope,
            now.as_millis(),
            i64::from(TRIES)
        )?;
        Ok(found.map(|(until,)| row::time(until)))
    }

    /// Takes one try, before anything is compared: of any number at once, [`TRIES`] get one.
    pub async fn try_sent_code(
        &self,
        user: UserId,
        kind: FactorKind,
        scope: &str,
        now: Timestamp,
    ) -> Result<Option<CodeTry>, StoreError> {
        let sql = "UPDATE sent_codes SET tries = tries + 1 \
                   WHERE user_id = $1 AND kind = $2 AND scope = $3 AND tries < $5 AND expires_at > $4 \
                   RETURNING id, hash, tries";
        let taken = fetch_optional!(
            self.write(),
            (String, Vec<u8>, i64),
            sql,
            user.to_string(),
            kind.as_str(),
            scope,
            now.as_millis(),
            i64::from(TRIES)
        )?;
        let Some((id, hash, tries)) = taken else { return Ok(None) };
        let left = TRIES.saturating_sub(u32::try_from(tries).unwrap_or(TRIES));
        Ok(Some(CodeTry { id: row::id(&id)?, hash: row::hash(&hash)?, left }))
    }
}

impl Tx {
    /// Stores a code; an older one of the person, whatever it was for, works no more.
    pub async fn put_sent_code(&mut self, new: &SentCode) -> Result<(), StoreError> {
        let sql = "INSERT INTO sent_codes (id, user_id, kind, scope, hash, tries, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, 0, $6, $7) \
                   ON CONFLICT (user_id, kind) DO UPDATE SET id = excluded.id, scope = excluded.scope, \
                   hash = excluded.hash, tries = 0, created_at = excluded.created_at, expires_at = excluded.expires_at";
        execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.user.to_string(),
            new.kind.as_str(),
            new.scope.as_str(),
            new.hash.as_slice(),
            new.created_at.as_millis(),
            new.expires_at.as_millis(),
        )
        .map(|_| ())
    }

    /// Spends a code: `true` for exactly one caller.
    pub async fn spend_sent_code(&mut self, id: SentCodeId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "DELETE FROM sent_codes WHERE id = $1 AND expires_at > $2";
        Ok(execute!(self.db(), sql, id.to_string(), now.as_millis())? == 1)
    }

    /// Mail of an account that has not gone yet and is of no more use, for a newer one takes its place.
    pub async fn drop_waiting_mails(&mut self, user: UserId, kind: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM outbox WHERE user_id = $1 AND kind = $2 AND leased_until = 0";
        execute!(self.db(), sql, user.to_string(), kind).map(|_| ())
    }
}
