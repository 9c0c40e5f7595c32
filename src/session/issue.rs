//! How does a browser get an identifier? A new one at sign-in and at every step-up, one for each
//! host, with evidence that never changes afterwards (S-SESS-2).
//!
//! All of it happens in the caller's transaction, so that a session exists if and only if its row
//! in the audit trail does. After the commit the caller says [`Sessions::forget`] for what changed.
//!
//! [`Sessions::forget`]: super::Sessions::forget

use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::base::rng::Rng;
use crate::config::snapshot::SessionLimits;
use crate::domain::factor::FactorUse;
use crate::domain::host::HostName;
use crate::store::{SessionRow, StoreError, TokenRow, Tx};

use super::cookie::SessionToken;

/// A sign-in that succeeded.
#[derive(Clone, Debug)]
pub struct NewSession<'a> {
    pub user: UserId,
    /// [`User::epoch`](crate::domain::user::User::epoch) when the person showed what they showed.
    pub epoch: i64,
    pub address: &'a str,
    /// Made printable by the caller (S-LOG-3).
    pub user_agent: &'a str,
    pub evidence: &'a [FactorUse],
    /// Where the sign-in took place; other hosts get tokens of their own.
    pub host: &'a HostName,
}

/// What [`open`] made.
#[derive(Debug)]
pub struct Opened {
    pub session: SessionId,
    pub token: SessionToken,
    /// The person's oldest sessions, ended because this is one too many; each wants an event in
    /// the trail, and `forget` after the commit.
    pub displaced: Vec<SessionId>,
}

/// Starts a session. [`StoreError::Conflict`] when the account is no longer active, or its password,
/// factors or sessions were changed since the epoch.
pub async fn open(
    tx: &mut Tx,
    new: &NewSession<'_>,
    limits: &SessionLimits,
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<Opened, StoreError> {
    let session = SessionId::new(now, rng);
    let held = tx.hold(new.user, new.epoch).await?;
    let row = SessionRow {
        id: session,
        user: new.user,
        created_at: now,
        last_seen_at: now,
        expires_at: now.plus(limits.max),
        address: new.address.to_owned(),
        user_agent: new.user_agent.to_owned(),
        ended_at: None,
        end_reason: None,
    };
    tx.insert_session(held, &row).await?;
    let token = insert_token(tx, session, new.host, new.evidence, now, rng).await?;
    let mut displaced = Vec::new();
    for oldest in tx.oldest_sessions_beyond(new.user, limits.per_user, now).await? {
        // Two sessions of one moment are ordered by id; the one made here is not the one to end.
        if oldest != session && tx.end_session(oldest, "one session too many", now).await? {
            displaced.push(oldest);
        }
    }
    Ok(Opened { session, token, displaced })
}

/// A step-up: a new token with all of `evidence` takes the place of `old`, which lives its last
/// seconds at the evidence it had. [`StoreError::Conflict`] when `old` was replaced already or the
/// session has ended.
pub async fn add_evidence(
    tx: &mut Tx,
    session: SessionId,
    old: &SessionToken,
    host: &HostName,
    evidence: &[FactorUse],
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<SessionToken, StoreError> {
    if !tx.supersede_token(&old.hash(), now).await? {
        return Err(StoreError::Conflict);
    }
    insert_token(tx, session, host, evidence, now, rng).await
}

/// A token for a further host of a session, at a hand-over. `old` is the one that this browser
/// showed there, if any: it lives its last seconds.
pub async fn token_for_host(
    tx: &mut Tx,
    session: SessionId,
    old: Option<&SessionToken>,
    host: &HostName,
    evidence: &[FactorUse],
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<SessionToken, StoreError> {
    if let Some(old) = old {
        // Already replaced by another tab's hand-over: no matter.
        tx.supersede_token(&old.hash(), now).await?;
    }
    insert_token(tx, session, host, evidence, now, rng).await
}

/// Ends a session on every host and replica; `false` when it had ended. `reason` is a phrase of
/// ours, never text of a client.
pub async fn end(tx: &mut Tx, session: SessionId, reason: &str, now: Timestamp) -> Result<bool, StoreError> {
    tx.end_session(session, reason, now).await
}

async fn insert_token(
    tx: &mut Tx,
    session: SessionId,
    host: &HostName,
    evidence: &[FactorUse],
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<SessionToken, StoreError> {
    let token = SessionToken::generate(rng);
    tx.insert_token(&TokenRow {
        hash: token.hash(),
        session,
        host: host.as_str().to_owned(),
        evidence: evidence.to_vec(),
        created_at: now,
        superseded_at: None,
    })
    .await?;
    Ok(token)
}
