//! Which browsers are asked for no second factor for a while? Each use of one makes a new secret by one conditional
//! write; a secret that was used before shows that somebody has a copy.

use std::time::Duration;

use super::error::StoreError;
use super::query::{execute, fetch_all, fetch_optional};
use super::{Held, Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::{RememberedId, UserId};
use crate::domain::factor::FactorUse;
use crate::domain::user::UserName;

/// For so long the secret before serves too: two tabs that sign in at once came with the same one. As for the ids
/// of sessions (SECURITY.md section 3).
pub const BEFORE_GRACE: Duration = Duration::from_secs(10);

/// A browser that was remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedRow {
    pub id: RememberedId,
    pub user: UserId,
    /// What was shown when it was remembered, and when.
    pub evidence: FactorUse,
    pub created_at: Timestamp,
    pub used_at: Timestamp,
    pub expires_at: Timestamp,
    pub address: String,
    pub user_agent: String,
}

/// What a browser came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedSecret {
    pub id: RememberedId,
    pub counter: i64,
    pub hash: [u8; 32],
}

/// What its use came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RememberedUse {
    /// It was the newest; the next one is stored in its place.
    Rotated,
    /// Another tab was a moment faster: it counts, and the browser has the next one from there.
    Parallel,
    /// It was used before: somebody has a copy. The series is gone. Told to one caller.
    Copied,
    /// Ended, void, of another person, or unknown.
    Gone,
}

type Columns = (String, String, String, i64, i64, i64, String, String);

impl Store {
    /// A browser that is remembered for this person still, and what was shown then.
    pub async fn remembered(
        &self,
        user: UserId,
        id: RememberedId,
        now: Timestamp,
    ) -> Result<Option<RememberedRow>, StoreError> {
        let all = self.remembered_of(user, now).await?;
        Ok(all.into_iter().find(|row| row.id == id))
    }

    /// Those of a person that still count, last used first.
    pub async fn remembered_of(&self, user: UserId, now: Timestamp) -> Result<Vec<RememberedRow>, StoreError> {
        let sql = "SELECT r.id, r.user_id, r.evidence, r.created_at, r.used_at, r.expires_at, r.address, r.user_agent \
                   FROM remembered_devices r JOIN users u ON u.id = r.user_id \
                   WHERE r.user_id = $1 AND r.expires_at > $2 AND r.epoch = u.epoch AND u.status = 'active' \
                   ORDER BY r.used_at DESC, r.id DESC";
        fetch_all!(self.read(), Columns, sql, user.to_string(), now.as_millis())?.into_iter().map(remembered).collect()
    }

    /// Everyone's, with their names.
    pub async fn all_remembered(&self, now: Timestamp) -> Result<Vec<(RememberedRow, UserName)>, StoreError> {
        type Named = (String, String, String, i64, i64, i64, String, String, String);
        let sql = "SELECT r.id, r.user_id, r.evidence, r.created_at, r.used_at, r.expires_at, r.address, r.user_agent, \
                   u.name FROM remembered_devices r JOIN users u ON u.id = r.user_id \
                   WHERE r.expires_at > $1 AND r.epoch = u.epoch AND u.status = 'active' \
                   ORDER BY r.used_at DESC, r.id DESC";
        fetch_all!(self.read(), Named, sql, now.as_millis())?
            .into_iter()
            .map(|(id, user, evidence, created, used, expires, address, agent, name)| {
                let name = UserName::parse(&name).map_err(|_| StoreError::Corrupt("a user name"))?;
                Ok((remembered((id, user, evidence, created, used, expires, address, agent))?, name))
            })
            .collect()
    }
}

impl Tx {
    /// Remembers a browser, for an account that is held as it was when its person showed what they showed.
    pub async fn remember_device(
        &mut self,
        held: Held,
        row: &RememberedRow,
        hash: &[u8; 32],
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO remembered_devices (id, user_id, epoch, counter, hash, evidence, created_at, used_at, \
                   expires_at, address, user_agent) VALUES ($1, $2, $3, 1, $4, $5, $6, $6, $7, $8, $9)";
        execute!(
            self.db(),
            sql,
            row.id.to_string(),
            held.user.to_string(),
            held.epoch,
            hash.as_slice(),
            row::to_json(&row.evidence)?,
            row.created_at.as_millis(),
            row.expires_at.as_millis(),
            row.address.as_str(),
            row.user_agent.as_str(),
        )
        .map(|_| ())
    }

    /// Uses a secret and puts the next one in its place. Of any number at once that come with the newest, one gets
    /// [`RememberedUse::Rotated`]; one that was used longer than [`BEFORE_GRACE`] ago ends the series.
    pub async fn use_remembered(
        &mut self,
        user: UserId,
        shown: &RememberedSecret,
        next: &[u8; 32],
        now: Timestamp,
    ) -> Result<RememberedUse, StoreError> {
        let (id, owner, at) = (shown.id.to_string(), user.to_string(), now.as_millis());
        let sql = "UPDATE remembered_devices SET counter = counter + 1, hash_before = hash, hash = $5, used_at = $6 \
                   WHERE id = $1 AND user_id = $2 AND counter = $3 AND hash = $4 AND expires_at > $6 \
                   AND epoch = (SELECT epoch FROM users WHERE id = $2)";
        let (hash, next) = (shown.hash.as_slice(), next.as_slice());
        if execute!(self.db(), sql, id.as_str(), owner.as_str(), shown.counter, hash, next, at)? == 1 {
            return Ok(RememberedUse::Rotated);
        }
        let sql = "SELECT counter FROM remembered_devices \
                   WHERE id = $1 AND user_id = $2 AND counter = $3 + 1 AND hash_before = $4 AND expires_at > $5 \
                   AND used_at > $6 AND epoch = (SELECT epoch FROM users WHERE id = $2)";
        let since = now.minus(BEFORE_GRACE).as_millis();
        let before =
            fetch_optional!(self.db(), (i64,), sql, id.as_str(), owner.as_str(), shown.counter, hash, at, since)?;
        if before.is_some() {
            return Ok(RememberedUse::Parallel);
        }
        let sql = "DELETE FROM remembered_devices WHERE id = $1 AND user_id = $2 AND counter > $3";
        let copied = execute!(self.db(), sql, id.as_str(), owner.as_str(), shown.counter)? == 1;
        Ok(if copied { RememberedUse::Copied } else { RememberedUse::Gone })
    }

    /// Forgets one of a person's; `false` when there is none.
    pub async fn forget_remembered(&mut self, user: UserId, id: RememberedId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM remembered_devices WHERE id = $1 AND user_id = $2";
        Ok(execute!(self.db(), sql, id.to_string(), user.to_string())? == 1)
    }

    /// Forgets all of a person's; how many.
    pub async fn forget_all_remembered(&mut self, user: UserId) -> Result<u64, StoreError> {
        execute!(self.db(), "DELETE FROM remembered_devices WHERE user_id = $1", user.to_string())
    }
}

fn remembered(
    (id, user, evidence, created, used, expires, address, user_agent): Columns,
) -> Result<RememberedRow, StoreError> {
    Ok(RememberedRow {
        id: row::id(&id)?,
        user: row::id(&user)?,
        evidence: row::from_json(&evidence, "evidence")?,
        created_at: row::time(created),
        used_at: row::time(used),
        expires_at: row::time(expires),
        address,
        user_agent,
    })
}
