//! Sign-ins, and the identifiers that name them on each host.

use super::error::StoreError;
use super::query::{Db, execute, fetch_all, fetch_optional};
use super::revocations::Revocation;
use super::row;
use super::{Held, Store, Tx};
use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::domain::factor::FactorUse;
use crate::domain::user::{User, UserName};

/// How many tokens that a session was given for a host before stay beside the newest: tabs that were handed over
/// at once, and what is kept to know a token that was replaced.
const OLDER_TOKENS_PER_HOST: i64 = 7;

/// One sign-in, over all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub id: SessionId,
    pub user: UserId,
    pub created_at: Timestamp,
    /// As of the last flush of a cache.
    pub last_seen_at: Timestamp,
    /// The maximum; the idle limit is the reader's to apply.
    pub expires_at: Timestamp,
    pub address: String,
    pub user_agent: String,
    pub ended_at: Option<Timestamp>,
    pub end_reason: Option<String>,
}

/// What one cookie stands for: a session at one host, with the evidence it was made with. The
/// evidence behind an identifier never grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub hash: [u8; 32],
    pub session: SessionId,
    pub host: String,
    pub evidence: Vec<FactorUse>,
    pub created_at: Timestamp,
    pub superseded_at: Option<Timestamp>,
}

type SessionColumns = (String, String, i64, i64, i64, String, String, Option<i64>, Option<String>);
type TokenColumns = (Vec<u8>, String, String, String, i64, Option<i64>);

impl Store {
    /// What a token stands for, whether or not it is still good: the reader judges `ended_at`,
    /// `expires_at`, `superseded_at`, the idle limit and the account's status. `None` for an
    /// unknown token or a removed account.
    pub async fn load_token(&self, hash: &[u8; 32]) -> Result<Option<(TokenRow, SessionRow, User)>, StoreError> {
        let sql = "SELECT hash, session_id, host, evidence, created_at, superseded_at FROM tokens WHERE hash = $1";
        let Some(found) = fetch_optional!(self.read(), TokenColumns, sql, hash.as_slice())? else {
            return Ok(None);
        };
        let token = token(found)?;
        let sql = "SELECT id, user_id, created_at, last_seen_at, expires_at, address, user_agent, ended_at, end_reason \
                   FROM sessions WHERE id = $1";
        let Some(found) = fetch_optional!(self.read(), SessionColumns, sql, token.session.to_string())? else {
            return Ok(None);
        };
        let session = session(found)?;
        let Some(user) = self.user_by_id(session.user).await? else {
            return Ok(None);
        };
        Ok(Some((token, session, user)))
    }

    /// An account's sessions that have neither ended nor reached their maximum, newest first.
    pub async fn sessions_of(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionRow>, StoreError> {
        let sql = "SELECT id, user_id, created_at, last_seen_at, expires_at, address, user_agent, ended_at, end_reason \
                   FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 \
                   ORDER BY created_at DESC, id DESC";
        let rows = fetch_all!(self.read(), SessionColumns, sql, user.to_string(), now.as_millis())?;
        rows.into_iter().map(session).collect()
    }

    /// Everyone's sessions that have neither ended nor reached their maximum, newest first.
    pub async fn sessions(&self, now: Timestamp) -> Result<Vec<(SessionRow, UserName)>, StoreError> {
        type Named = (String, String, i64, i64, i64, String, String, Option<i64>, Option<String>, String);
        let sql = "SELECT s.id, s.user_id, s.created_at, s.last_seen_at, s.expires_at, s.address, s.user_agent, \
                   s.ended_at, s.end_reason, u.name \
                   FROM sessions s JOIN users u ON u.id = s.user_id \
                   WHERE s.ended_at IS NULL AND s.expires_at > $1 AND u.removed_at IS NULL \
                   ORDER BY s.created_at DESC, s.id DESC";
        fetch_all!(self.read(), Named, sql, now.as_millis())?
            .into_iter()
            .map(|(id, user, created, seen, expires, address, agent, ended, reason, name)| {
                let name = UserName::parse(&name).map_err(|_| StoreError::Corrupt("a user name"))?;
                Ok((session((id, user, created, seen, expires, address, agent, ended, reason))?, name))
            })
            .collect()
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let sql = "SELECT id, user_id, created_at, last_seen_at, expires_at, address, user_agent, ended_at, end_reason \
                   FROM sessions WHERE id = $1";
        fetch_optional!(self.read(), SessionColumns, sql, id.to_string())?.map(session).transpose()
    }

    pub async fn tokens_of(&self, session: SessionId) -> Result<Vec<TokenRow>, StoreError> {
        let sql = "SELECT hash, session_id, host, evidence, created_at, superseded_at \
                   FROM tokens WHERE session_id = $1 ORDER BY created_at, host";
        fetch_all!(self.read(), TokenColumns, sql, session.to_string())?.into_iter().map(token).collect()
    }

    /// Writes last-seen times, all in one statement; they only go forward.
    pub async fn touch_sessions(&self, seen: &[(SessionId, Timestamp)]) -> Result<(), StoreError> {
        for some in seen.chunks(500) {
            let json = row::to_json(some)?;
            let sql = self.write().pick(
                "UPDATE sessions SET last_seen_at = v.at FROM \
                 (SELECT value ->> 0 AS id, value ->> 1 AS at FROM json_each($1)) v \
                 WHERE sessions.id = v.id AND sessions.last_seen_at < v.at",
                "UPDATE sessions SET last_seen_at = v.at FROM \
                 (SELECT value ->> 0 AS id, CAST(value ->> 1 AS BIGINT) AS at \
                  FROM json_array_elements(CAST($1 AS JSON))) v \
                 WHERE sessions.id = v.id AND sessions.last_seen_at < v.at",
            );
            execute!(self.write(), sql, json.as_str())?;
        }
        Ok(())
    }
}

impl Tx {
    /// For a held account: a sign-in that was under way when an admin disabled it, or when its
    /// password changed, must not leave a session behind.
    pub async fn insert_session(&mut self, held: Held, new: &SessionRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions \
                   (id, user_id, created_at, last_seen_at, expires_at, address, user_agent, ended_at, end_reason) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        execute!(
            self.db(),
            sql,
            new.id.to_string(),
            held.user.to_string(),
            new.created_at.as_millis(),
            new.last_seen_at.as_millis(),
            new.expires_at.as_millis(),
            new.address.as_str(),
            new.user_agent.as_str(),
            row::millis(new.ended_at),
            new.end_reason.as_deref(),
        )
        .map(|_| ())
    }

    /// [`StoreError::Conflict`] when the session has ended. Of its tokens for this host the newest stay: a
    /// browser has one, and who forgets it to be handed over again is not to fill the store and the memory.
    pub async fn insert_token(&mut self, new: &TokenRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO tokens (hash, session_id, host, evidence, created_at, superseded_at) \
                   SELECT $1, $2, $3, $4, $5, $6 FROM sessions WHERE id = $2 AND ended_at IS NULL";
        let done = execute!(
            self.db(),
            sql,
            new.hash.as_slice(),
            new.session.to_string(),
            new.host.as_str(),
            row::to_json(&new.evidence)?,
            new.created_at.as_millis(),
            row::millis(new.superseded_at),
        )?;
        if done != 1 {
            return Err(StoreError::Conflict);
        }
        let sql = "DELETE FROM tokens WHERE session_id = $1 AND host = $2 AND hash <> $3 AND hash NOT IN (\
                   SELECT hash FROM tokens WHERE session_id = $1 AND host = $2 AND hash <> $3 \
                   ORDER BY created_at DESC, hash LIMIT $4)";
        let (session, hash) = (new.session.to_string(), new.hash.as_slice());
        if execute!(self.db(), sql, session, new.host.as_str(), hash, OLDER_TOKENS_PER_HOST)? > 0 {
            self.revoke(Revocation::Session(new.session)).await?;
        }
        Ok(())
    }

    /// Starts the last seconds of a token; `false` when they already run. Of two step-ups at once
    /// that came with the same token, one gets `true`. Other replicas are told to read the session
    /// again: the token they hold in memory must not outlive those seconds there (S-SESS-2).
    pub async fn supersede_token(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE tokens SET superseded_at = $2 WHERE hash = $1 AND superseded_at IS NULL RETURNING session_id";
        let Some((session,)) = fetch_optional!(self.db(), (String,), sql, hash.as_slice(), now.as_millis())? else {
            return Ok(false);
        };
        self.revoke(Revocation::Session(row::id(&session)?)).await?;
        Ok(true)
    }

    /// Ends a session on every host and replica; `false` when it had ended.
    pub async fn end_session(&mut self, id: SessionId, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE sessions SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL";
        let done = execute!(self.db(), sql, id.to_string(), now.as_millis(), reason)? == 1;
        if done {
            self.drop_kept_forms_of_session(id).await?;
            self.revoke(Revocation::Session(id)).await?;
        }
        Ok(done)
    }

    /// Where an account was signed in from within the last 30 days (as long as sessions are kept), newest first.
    pub async fn addresses_of(&mut self, user: UserId) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT address FROM sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT 500";
        let found = fetch_all!(self.db(), (String,), sql, user.to_string())?;
        Ok(found.into_iter().map(|(address,)| address).collect())
    }

    /// Ends an account's sessions, all or all but one; how many. Ceremonies that would lead to new
    /// ones are void with them.
    pub async fn end_sessions_of(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
        reason: &str,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        // A sign-in holds the account's row until it commits; waiting here lets us see its session.
        self.advance_epoch(user).await?;
        let sql = "UPDATE sessions SET ended_at = $2, end_reason = $3 \
                   WHERE user_id = $1 AND ended_at IS NULL AND id <> $4 RETURNING id";
        // No identifier is empty.
        let except_session = except;
        let except = except.map(|id| id.to_string()).unwrap_or_default();
        let ended = fetch_all!(self.db(), (String,), sql, user.to_string(), now.as_millis(), reason, except)?;
        self.drop_kept_forms_of(user, except_session).await?;
        for (id,) in &ended {
            self.revoke(Revocation::Session(row::id(id)?)).await?;
        }
        Ok(u64::try_from(ended.len()).unwrap_or(u64::MAX))
    }

    /// Ends everyone's sessions, and what would lead to new ones; how many.
    pub async fn end_all_sessions(&mut self, reason: &str, now: Timestamp) -> Result<u64, StoreError> {
        // Before the table is locked: a sign-in holds its account first and writes its session then.
        execute!(self.db(), "UPDATE users SET epoch = epoch + 1")?;
        if matches!(self.on.db(), Db::Postgres(_)) {
            // Sign-ins under way commit first, so that none slips through.
            self.on.raw("LOCK TABLE sessions IN SHARE ROW EXCLUSIVE MODE").await?;
        }
        let sql = "UPDATE sessions SET ended_at = $1, end_reason = $2 WHERE ended_at IS NULL";
        let ended = execute!(self.db(), sql, now.as_millis(), reason)?;
        execute!(self.db(), "DELETE FROM kept_forms")?;
        self.revoke(Revocation::All).await?;
        Ok(ended)
    }

    /// An account's live sessions beyond the `keep` newest: those to end at one sign-in too many.
    pub async fn oldest_sessions_beyond(
        &mut self,
        user: UserId,
        keep: u32,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, StoreError> {
        let sql = "SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL AND expires_at > $2 \
                   ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET $3";
        let rows = fetch_all!(self.db(), (String,), sql, user.to_string(), now.as_millis(), i64::from(keep))?;
        rows.iter().map(|(id,)| row::id(id)).collect()
    }
}

fn session(columns: SessionColumns) -> Result<SessionRow, StoreError> {
    let (id, user, created_at, last_seen_at, expires_at, address, user_agent, ended_at, end_reason) = columns;
    Ok(SessionRow {
        id: row::id(&id)?,
        user: row::id(&user)?,
        created_at: row::time(created_at),
        last_seen_at: row::time(last_seen_at),
        expires_at: row::time(expires_at),
        address,
        user_agent,
        ended_at: row::maybe_time(ended_at),
        end_reason,
    })
}

fn token(columns: TokenColumns) -> Result<TokenRow, StoreError> {
    let (hash, session, host, evidence, created_at, superseded_at) = columns;
    Ok(TokenRow {
        hash: row::hash(&hash)?,
        session: row::id(&session)?,
        host,
        evidence: row::from_json(&evidence, "evidence")?,
        created_at: row::time(created_at),
        superseded_at: row::maybe_time(superseded_at),
    })
}
