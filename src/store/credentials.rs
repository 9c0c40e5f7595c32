//! Enrolled authenticators and backup codes. That a code works once is decided here.

use super::error::StoreError;
use super::query::{execute, fetch_all, fetch_optional};
use super::revocations::Revocation;
use super::row;
use super::{Store, Tx};
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, UserId};
use crate::domain::factor::FactorKind;

/// One authenticator of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub id: CredentialId,
    pub user: UserId,
    pub kind: FactorKind,
    pub label: String,
    /// Sealed to the place ("credentials", id, "secret"): moved to another row it does not open (S-KEY-1).
    pub secret: Vec<u8>,
    /// The last TOTP step that was accepted; the enrollment code counts (S-TOTP-1).
    pub last_step: i64,
    /// Failures in a row.
    pub failures: i64,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
}

/// What is known of a set of backup codes without the codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSet {
    pub salt: [u8; 16],
    pub left: u32,
    pub made: u32,
    pub created_at: Timestamp,
}

/// Whether an authenticator was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    Yes,
    /// It is the last one that works, and stays.
    IsLast,
    NotThere,
}

type Columns = (String, String, String, String, Vec<u8>, i64, i64, i64, Option<i64>, Option<i64>);

impl Store {
    /// An account's authenticators, oldest first, disabled ones among them.
    pub async fn credentials(&self, user: UserId) -> Result<Vec<Credential>, StoreError> {
        let sql = "SELECT id, user_id, kind, label, secret, last_step, failures, created_at, last_used_at, disabled_at \
                   FROM credentials WHERE user_id = $1 ORDER BY created_at, id";
        fetch_all!(self.read(), Columns, sql, user.to_string())?.into_iter().map(credential).collect()
    }

    pub async fn credential(&self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        let sql = "SELECT id, user_id, kind, label, secret, last_step, failures, created_at, last_used_at, disabled_at \
                   FROM credentials WHERE id = $1";
        fetch_optional!(self.read(), Columns, sql, id.to_string())?.map(credential).transpose()
    }

    /// `None` when the account never made codes, or they were reset.
    pub async fn backup_codes(&self, user: UserId) -> Result<Option<BackupSet>, StoreError> {
        let sql = "SELECT s.salt, s.made, s.created_at, \
                   (SELECT COUNT(*) FROM backup_codes c WHERE c.user_id = s.user_id) \
                   FROM backup_sets s WHERE s.user_id = $1";
        let Some((salt, made, created_at, left)) =
            fetch_optional!(self.read(), (Vec<u8>, i64, i64, i64), sql, user.to_string())?
        else {
            return Ok(None);
        };
        Ok(Some(BackupSet {
            salt: salt.try_into().map_err(|_| StoreError::Corrupt("a salt"))?,
            left: u32::try_from(left).unwrap_or(0),
            made: u32::try_from(made).unwrap_or(0),
            created_at: row::time(created_at),
        }))
    }
}

impl Tx {
    /// [`StoreError::Conflict`] when the account is not active.
    pub async fn insert_credential(&mut self, new: &Credential) -> Result<(), StoreError> {
        self.lock_active(new.user).await?;
        let sql = "INSERT INTO credentials \
                   (id, user_id, kind, label, secret, last_step, failures, created_at, last_used_at, disabled_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.user.to_string(),
            new.kind.as_str(),
            new.label.as_str(),
            new.secret.as_slice(),
            new.last_step,
            new.failures,
            new.created_at.as_millis(),
            row::millis(new.last_used_at),
            row::millis(new.disabled_at),
        )
        .map(|_| ())
    }

    /// Accepts a TOTP step: `true` for exactly one caller per step, and never for a step at or
    /// before one that was accepted (RFC 6238 section 5.2). This answer is the verdict on the code.
    pub async fn advance_step(&mut self, id: CredentialId, step: i64, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE credentials SET last_step = $2, failures = 0, last_used_at = $3 \
                   WHERE id = $1 AND last_step < $2 AND disabled_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), step, now.as_millis())? == 1)
    }

    /// Notes that a way whose codes are kept elsewhere was used; `false` when it is gone or disabled.
    pub async fn use_credential(&mut self, id: CredentialId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE credentials SET failures = 0, last_used_at = $2 WHERE id = $1 AND disabled_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), now.as_millis())? == 1)
    }

    /// Removes the other authenticators of a kind of which a person has one; the labels of those that were there.
    pub async fn remove_others_of_kind(
        &mut self,
        user: UserId,
        kind: FactorKind,
        keep: CredentialId,
    ) -> Result<Vec<String>, StoreError> {
        let sql = "DELETE FROM credentials WHERE user_id = $1 AND kind = $2 AND id <> $3 RETURNING label";
        let gone = fetch_all!(self.db(), (String,), sql, user.to_string(), kind.as_str(), keep.to_string())?;
        Ok(gone.into_iter().map(|(label,)| label).collect())
    }

    /// Counts a failure and answers how many there are in a row; 0 when the authenticator is gone.
    pub async fn count_failure(&mut self, id: CredentialId) -> Result<i64, StoreError> {
        let sql = "UPDATE credentials SET failures = failures + 1 WHERE id = $1 RETURNING failures";
        Ok(fetch_optional!(self.db(), (i64,), sql, id.to_string())?.map_or(0, |(failures,)| failures))
    }

    /// `false` when it was disabled before.
    pub async fn disable_credential(&mut self, id: CredentialId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE credentials SET disabled_at = $2 WHERE id = $1 AND disabled_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), now.as_millis())? == 1)
    }

    /// Removes one authenticator of this account; `false` when it has none of that id.
    pub async fn remove_credential(&mut self, user: UserId, id: CredentialId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM credentials WHERE id = $2 AND user_id = $1";
        Ok(execute!(self.db(), sql, user.to_string(), id.to_string())? == 1)
    }

    /// The same, but never the last authenticator that works: two sessions of one person that remove
    /// one each at the same moment must not leave the password alone. Waits for the other.
    pub async fn remove_credential_but_last(&mut self, user: UserId, id: CredentialId) -> Result<Removed, StoreError> {
        self.lock_active(user).await?;
        let sql = "DELETE FROM credentials WHERE id = $2 AND user_id = $1 AND EXISTS (\
                   SELECT 1 FROM credentials o WHERE o.user_id = $1 AND o.id <> $2 AND o.disabled_at IS NULL)";
        if execute!(self.db(), sql, user.to_string(), id.to_string())? == 1 {
            return Ok(Removed::Yes);
        }
        let sql = "SELECT id FROM credentials WHERE id = $2 AND user_id = $1";
        let there = fetch_optional!(self.db(), (String,), sql, user.to_string(), id.to_string())?;
        Ok(there.map_or(Removed::NotThere, |_| Removed::IsLast))
    }

    /// Removes all second factors, backup codes included; how many there were (the set of codes
    /// counts as one). Every cache reads the account again.
    pub async fn remove_credentials(&mut self, user: UserId) -> Result<u64, StoreError> {
        let codes = execute!(self.db(), "DELETE FROM backup_sets WHERE user_id = $1", user.to_string())?;
        let removed = execute!(self.db(), "DELETE FROM credentials WHERE user_id = $1", user.to_string())?;
        self.revoke(Revocation::User(user)).await?;
        Ok(codes + removed)
    }

    /// Makes a set of backup codes the only one; the old codes are void from the commit on.
    pub async fn replace_backup_codes(
        &mut self,
        user: UserId,
        salt: [u8; 16],
        hashes: &[[u8; 32]],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Also keeps two replacements at once from mixing their codes into one set.
        self.lock_active(user).await?;
        execute!(self.db(), "DELETE FROM backup_sets WHERE user_id = $1", user.to_string())?;
        let sql = "INSERT INTO backup_sets (user_id, salt, made, created_at) VALUES ($1, $2, $3, $4)";
        let made = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
        execute!(self.db(), sql, user.to_string(), salt.as_slice(), made, now.as_millis())?;
        for hash in hashes {
            let sql = "INSERT INTO backup_codes (user_id, hash) VALUES ($1, $2)";
            execute!(self.db(), sql, user.to_string(), hash.as_slice())?;
        }
        Ok(())
    }

    /// Spends a backup code: `true` for exactly one caller per code. This answer is the verdict.
    pub async fn spend_backup_code(&mut self, user: UserId, hash: &[u8; 32]) -> Result<bool, StoreError> {
        let sql = "DELETE FROM backup_codes WHERE user_id = $1 AND hash = $2";
        Ok(execute!(self.db(), sql, user.to_string(), hash.as_slice())? == 1)
    }

    /// Holds the account's row until the end of the transaction, so that it is not disabled or
    /// removed in between; [`StoreError::Conflict`] when it is already.
    pub(super) async fn lock_active(&mut self, user: UserId) -> Result<(), StoreError> {
        let sql = self.on.db().pick(
            "SELECT 1 FROM users WHERE id = $1 AND status = 'active'",
            "SELECT 1::bigint FROM users WHERE id = $1 AND status = 'active' FOR NO KEY UPDATE",
        );
        fetch_optional!(self.db(), (i64,), sql, user.to_string())?.map(|_| ()).ok_or(StoreError::Conflict)
    }
}

fn credential(columns: Columns) -> Result<Credential, StoreError> {
    let (id, user, kind, label, secret, last_step, failures, created_at, last_used_at, disabled_at) = columns;
    Ok(Credential {
        id: row::id(&id)?,
        user: row::id(&user)?,
        kind: FactorKind::parse(&kind).ok_or(StoreError::Corrupt("a kind of factor"))?,
        label,
        secret,
        last_step,
        failures,
        created_at: row::time(created_at),
        last_used_at: row::maybe_time(last_used_at),
        disabled_at: row::maybe_time(disabled_at),
    })
}
