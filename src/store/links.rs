//! One-time links: a sign-up for a new account, an access pass for one whose factor is gone.

use super::error::StoreError;
use super::query::{execute, fetch_all, fetch_optional};
use super::row;
use super::{Store, Tx};
use crate::base::clock::Timestamp;
use crate::base::ids::UserId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    SignUp,
    AccessPass,
}

impl LinkKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::AccessPass => "access_pass",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "sign_up" => Ok(Self::SignUp),
            "access_pass" => Ok(Self::AccessPass),
            _ => Err(StoreError::Corrupt("a kind of link")),
        }
    }
}

/// A link by the hash of its secret; the secret itself is nowhere.
#[derive(Clone, Debug)]
pub struct LinkRow {
    pub hash: [u8; 32],
    pub user: UserId,
    pub kind: LinkKind,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Store {
    /// Whom a link is for, without using it: a GET by a mail scanner must not (S-OOB-2).
    pub async fn peek_link(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<(UserId, LinkKind)>, StoreError> {
        let sql = "SELECT user_id, kind FROM links WHERE hash = $1 AND expires_at > $2 \
                   AND user_id IN (SELECT id FROM users WHERE status = 'active')";
        fetch_optional!(self.read(), (String, String), sql, hash.as_slice(), now.as_millis())?.map(target).transpose()
    }
}

impl Store {
    /// The links that still open something, of whom and until when.
    pub async fn links(&self, now: Timestamp) -> Result<Vec<(UserId, LinkKind, Timestamp)>, StoreError> {
        let sql = "SELECT user_id, kind, expires_at FROM links WHERE expires_at > $1";
        let rows = fetch_all!(self.read(), (String, String, i64), sql, now.as_millis())?;
        let link = |(user, kind, until): (String, String, i64)| {
            let (user, kind) = target((user, kind))?;
            Ok((user, kind, row::time(until)))
        };
        rows.into_iter().map(link).collect()
    }
}

impl Tx {
    /// Stores a link; older unused links of the account end (newest only).
    pub async fn insert_link(&mut self, link: &LinkRow) -> Result<(), StoreError> {
        execute!(self.db(), "DELETE FROM links WHERE user_id = $1", link.user.to_string())?;
        let sql = "INSERT INTO links (hash, user_id, kind, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
        execute!(
            self.db(),
            sql,
            link.hash.as_slice(),
            link.user.to_string(),
            link.kind.as_str(),
            link.created_at.as_millis(),
            link.expires_at.as_millis(),
        )
        .map(|_| ())
    }

    /// Uses a link. Of any number of claims at once, one gets it; `None` is "used, expired, unknown
    /// or the account is disabled", which the person is told alike.
    pub async fn claim_link(
        &mut self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<(UserId, LinkKind)>, StoreError> {
        let sql = "DELETE FROM links WHERE hash = $1 AND expires_at > $2 \
                   AND user_id IN (SELECT id FROM users WHERE status = 'active') RETURNING user_id, kind";
        fetch_optional!(self.db(), (String, String), sql, hash.as_slice(), now.as_millis())?.map(target).transpose()
    }
}

fn target((user, kind): (String, String)) -> Result<(UserId, LinkKind), StoreError> {
    Ok((row::id(&user)?, LinkKind::parse(&kind)?))
}
