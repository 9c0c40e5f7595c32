//! Which forms wait for their person? Each sealed, counted against a share, and for one claim (S-KEEP-2, S-KEEP-3).

use super::error::StoreError;
use super::query::{Db, execute, fetch_optional};
use super::{Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::{KeptFormId, SessionId, UserId};

/// What was posted when more had to be shown first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFormRow {
    pub id: KeptFormId,
    /// Of the cookie that its browser got with it: nobody else's browser sends it.
    pub browser_hash: [u8; 32],
    pub host: String,
    /// The session that it was posted in, where one was live.
    pub session: Option<SessionId>,
    /// The person whose session it was, live or not.
    pub user: Option<UserId>,
    /// Whose share it counts against.
    pub owner: String,
    /// Empty once it was sent.
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// How often the person asked for more time.
    pub renewals: i64,
    pub sent_at: Option<Timestamp>,
}

/// How much may wait at a time.
#[derive(Clone, Copy, Debug)]
pub struct KeptFormShare {
    /// Forms of one owner.
    pub of_owner: i64,
    /// Bytes of everybody together.
    pub of_all: i64,
    /// Bytes of those of them whose person is not known: what strangers may take of it.
    pub of_strangers: i64,
}

type Columns = (String, Vec<u8>, String, Option<String>, Option<String>, String, Vec<u8>, i64, i64, i64, Option<i64>);

impl Store {
    /// Also one that was sent or has lapsed, until it is swept: the person is told which.
    pub async fn kept_form(&self, id: KeptFormId) -> Result<Option<KeptFormRow>, StoreError> {
        let sql = "SELECT id, browser_hash, host, session_id, user_id, owner, sealed, created_at, expires_at, \
                   renewals, sent_at FROM kept_forms WHERE id = $1";
        fetch_optional!(self.read(), Columns, sql, id.to_string())?.map(kept_form).transpose()
    }
}

impl Tx {
    /// `false` when there is no room for it, or its session has ended.
    pub async fn insert_kept_form(&mut self, new: &KeptFormRow, share: KeptFormShare) -> Result<bool, StoreError> {
        if matches!(self.on.db(), Db::Postgres(_)) {
            // Two at once would each see room for one.
            self.on.raw("LOCK TABLE kept_forms IN SHARE ROW EXCLUSIVE MODE").await?;
        }
        let sql = "INSERT INTO kept_forms \
                   (id, browser_hash, host, session_id, user_id, owner, size, sealed, created_at, expires_at, renewals) \
                   SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 WHERE \
                   (SELECT COUNT(*) FROM kept_forms WHERE owner = $6 AND sent_at IS NULL AND expires_at > $9) < $12 \
                   AND (SELECT COALESCE(SUM(size), 0) FROM kept_forms WHERE expires_at > $9) + $7 <= $13 \
                   AND ($5 IS NOT NULL OR (SELECT COALESCE(SUM(size), 0) FROM kept_forms \
                        WHERE user_id IS NULL AND expires_at > $9) + $7 <= $14) \
                   AND ($4 IS NULL OR EXISTS (SELECT 1 FROM sessions s WHERE s.id = $4 AND s.ended_at IS NULL))";
        let size = i64::try_from(new.sealed.len()).unwrap_or(i64::MAX);
        let done = execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.browser_hash.as_slice(),
            new.host.as_str(),
            new.session.map(|id| id.to_string()),
            new.user.map(|id| id.to_string()),
            new.owner.as_str(),
            size,
            new.sealed.as_slice(),
            new.created_at.as_millis(),
            new.expires_at.as_millis(),
            new.renewals,
            share.of_owner,
            share.of_all,
            share.of_strangers,
        )?;
        Ok(done == 1)
    }

    /// Takes a form to send it: exactly one caller gets it, at its host, with its browser's cookie, in time.
    /// `user`: who is signed in there; nobody but its own person gets it, and where nobody is signed in the
    /// policy will ask. A form whose session was ended on purpose is nobody's any more; mere expiry ends
    /// no form (S-KEEP-3).
    pub async fn claim_kept_form(
        &mut self,
        id: KeptFormId,
        browser_hash: &[u8; 32],
        host: &str,
        user: Option<UserId>,
        now: Timestamp,
    ) -> Result<Option<KeptFormRow>, StoreError> {
        let sql = "UPDATE kept_forms SET sent_at = $5 WHERE id = $1 AND browser_hash = $2 AND host = $3 \
                   AND sent_at IS NULL AND expires_at > $5 AND (user_id IS NULL OR $4 IS NULL OR user_id = $4) \
                   AND (session_id IS NULL OR EXISTS \
                        (SELECT 1 FROM sessions s WHERE s.id = kept_forms.session_id AND s.ended_at IS NULL)) \
                   RETURNING id, browser_hash, host, session_id, user_id, owner, sealed, created_at, expires_at, \
                   renewals, sent_at";
        let user = user.map(|id| id.to_string());
        let claimed = fetch_optional!(
            self.db(),
            Columns,
            sql,
            id.to_string(),
            browser_hash.as_slice(),
            host,
            user,
            now.as_millis()
        )?;
        let Some(claimed) = claimed.map(kept_form).transpose()? else { return Ok(None) };
        let empty: &[u8] = &[];
        execute!(self.db(), "UPDATE kept_forms SET sealed = $2, size = 0 WHERE id = $1", id.to_string(), empty)?;
        Ok(Some(claimed))
    }

    /// Makes a form the person's who came for it, where nobody was known or the session was over.
    pub async fn bind_kept_form(&mut self, id: KeptFormId, user: UserId, session: SessionId) -> Result<(), StoreError> {
        let sql = "UPDATE kept_forms SET user_id = COALESCE(user_id, $2), session_id = COALESCE(session_id, $3) \
                   WHERE id = $1 AND sent_at IS NULL";
        execute!(self.db(), sql, id.to_string(), user.to_string(), session.to_string()).map(|_| ())
    }

    /// Puts back what was claimed and, as is known for sure, reached no app.
    pub async fn put_back_kept_form(&mut self, claimed: &KeptFormRow) -> Result<bool, StoreError> {
        let sql = "UPDATE kept_forms SET sealed = $2, size = $3, sent_at = NULL WHERE id = $1 AND sent_at = $4";
        let size = i64::try_from(claimed.sealed.len()).unwrap_or(i64::MAX);
        let sent_at = row::millis(claimed.sent_at);
        Ok(execute!(self.db(), sql, claimed.id.to_string(), claimed.sealed.as_slice(), size, sent_at)? == 1)
    }

    /// Gives a form more time; `false` when it was sent, has lapsed, or had all the time that there is.
    pub async fn renew_kept_form(
        &mut self,
        id: KeptFormId,
        until: Timestamp,
        most: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE kept_forms SET expires_at = $2, renewals = renewals + 1 \
                   WHERE id = $1 AND sent_at IS NULL AND expires_at > $4 AND renewals < $3";
        Ok(execute!(self.db(), sql, id.to_string(), until.as_millis(), most, now.as_millis())? == 1)
    }

    /// Gives a form up: by its person's wish, or because another one came.
    pub async fn drop_kept_form(&mut self, id: KeptFormId) -> Result<bool, StoreError> {
        Ok(execute!(self.db(), "DELETE FROM kept_forms WHERE id = $1", id.to_string())? == 1)
    }

    pub(super) async fn drop_kept_forms_of_session(&mut self, session: SessionId) -> Result<(), StoreError> {
        execute!(self.db(), "DELETE FROM kept_forms WHERE session_id = $1", session.to_string()).map(|_| ())
    }

    /// Those of a person, but for one session's.
    pub(super) async fn drop_kept_forms_of(&mut self, user: UserId, but: Option<SessionId>) -> Result<(), StoreError> {
        // No identifier is empty.
        let but = but.map(|id| id.to_string()).unwrap_or_default();
        let sql = "DELETE FROM kept_forms WHERE user_id = $1 AND (session_id IS NULL OR session_id <> $2)";
        execute!(self.db(), sql, user.to_string(), but).map(|_| ())
    }
}

fn kept_form(columns: Columns) -> Result<KeptFormRow, StoreError> {
    let (id, browser_hash, host, session, user, owner, sealed, created_at, expires_at, renewals, sent_at) = columns;
    Ok(KeptFormRow {
        id: row::id(&id)?,
        browser_hash: row::hash(&browser_hash)?,
        host,
        session: session.as_deref().map(row::id).transpose()?,
        user: user.as_deref().map(row::id).transpose()?,
        owner,
        sealed,
        created_at: row::time(created_at),
        expires_at: row::time(expires_at),
        renewals,
        sent_at: row::maybe_time(sent_at),
    })
}
