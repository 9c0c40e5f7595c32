//! Which mail is still to be sent? Written with what it tells of, leased by who sends it, and gone once
//! the relay has it (S-LOGIN-13).
//!
//! A lease is what keeps two processes from sending one mail: it is taken by a conditional write, and it
//! outlives the longest try. A process that dies between the relay's word and ours leaves a mail that is
//! sent again after its lease, under the same Message-ID: to lose it would be worse.

use std::time::Duration;

use super::error::StoreError;
use super::query::{execute, fetch_all, fetch_optional};
use super::{Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::{MailId, UserId};

/// Longer than the longest try (80 s).
const LEASE: Duration = Duration::from_secs(150);

/// By what a message leaves the house. The names stand in the store: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Mail,
    Sms,
}

impl Channel {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Sms => "sms",
        }
    }
}

/// A mail or text message to be kept until it is sent.
#[derive(Clone, Debug)]
pub struct NewMail {
    pub id: MailId,
    pub user: UserId,
    pub channel: Channel,
    /// What it is about, for the trail and the metrics.
    pub kind: &'static str,
    /// Address, subject and text.
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    /// Of no more use then.
    pub give_up_at: Timestamp,
}

/// A mail that this process may send until its lease ends.
#[derive(Clone, Debug)]
pub struct MailRow {
    pub id: MailId,
    pub user: UserId,
    pub kind: String,
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
    /// This one counted.
    pub tries: i64,
    lease: String,
}

/// A mail that was given up: for the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    pub id: MailId,
    pub user: UserId,
    /// The name of the account, where it is still there.
    pub name: String,
    pub channel: Channel,
    pub kind: String,
}

/// How much may wait at a time.
#[derive(Clone, Copy, Debug)]
pub struct OutboxShare {
    pub of_user: i64,
    pub of_all: i64,
}

/// What waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub mails: i64,
    /// When the oldest of them was written.
    pub oldest: Option<Timestamp>,
    /// Some may be sent now.
    pub due: bool,
}

type Columns = (String, String, String, Vec<u8>, i64, i64);
type Gone = (String, String, Option<String>, String, String);

impl Tx {
    /// `false` when there is no room. Of mails written at the same moment on PostgreSQL, each sees room
    /// for one: the bound holds up to the number of connections.
    pub async fn insert_mail(&mut self, new: &NewMail, share: OutboxShare) -> Result<bool, StoreError> {
        let sql = "INSERT INTO outbox \
                   (id, user_id, kind, sealed, created_at, next_at, give_up_at, tries, leased_until, channel) \
                   SELECT $1, $2, $3, $4, $5, $5, $6, 0, 0, $9 \
                   WHERE (SELECT COUNT(*) FROM outbox WHERE user_id = $2) < $7 AND (SELECT COUNT(*) FROM outbox) < $8";
        let done = execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.user.to_string(),
            new.kind,
            new.sealed.as_slice(),
            new.created_at.as_millis(),
            new.give_up_at.as_millis(),
            share.of_user,
            share.of_all,
            new.channel.as_str(),
        )?;
        Ok(done == 1)
    }

    /// Gives up a mail of ours; `false` when its lease ended and somebody else has it.
    pub async fn give_up_mail(&mut self, mail: &MailRow) -> Result<Option<GivenUp>, StoreError> {
        let sql = "DELETE FROM outbox WHERE id = $1 AND lease = $2 RETURNING id, user_id, \
                   (SELECT name FROM users WHERE users.id = outbox.user_id), kind, channel";
        fetch_optional!(self.db(), Gone, sql, mail.id.to_string(), mail.lease.as_str())?.map(given_up).transpose()
    }

    /// Gives up those that are of no more use, at most 100; who gets one here is the only one.
    pub async fn give_up_old_mails(&mut self, now: Timestamp) -> Result<Vec<GivenUp>, StoreError> {
        let sql = "DELETE FROM outbox WHERE id IN \
                   (SELECT id FROM outbox WHERE give_up_at <= $1 AND leased_until <= $1 LIMIT 100) \
                   AND leased_until <= $1 \
                   RETURNING id, user_id, (SELECT name FROM users WHERE users.id = outbox.user_id), kind, channel";
        fetch_all!(self.db(), Gone, sql, now.as_millis())?.into_iter().map(given_up).collect()
    }

    /// Takes away what an account's mail would still say.
    pub(super) async fn drop_mails_of(&mut self, user: UserId) -> Result<(), StoreError> {
        execute!(self.db(), "DELETE FROM outbox WHERE user_id = $1", user.to_string())?;
        execute!(self.db(), "DELETE FROM notices WHERE user_id = $1", user.to_string()).map(|_| ())
    }
}

impl Store {
    /// The next message of this channel that is due, for `lease` alone; of any number of processes at once, one gets it.
    pub async fn claim_mail(
        &self,
        channel: Channel,
        lease: &str,
        now: Timestamp,
    ) -> Result<Option<MailRow>, StoreError> {
        let sql = self.write().pick(
            "UPDATE outbox SET lease = $1, leased_until = $2, tries = tries + 1 WHERE id = \
             (SELECT id FROM outbox WHERE next_at <= $3 AND leased_until <= $3 AND give_up_at > $3 AND channel = $4 \
              ORDER BY next_at, id LIMIT 1) \
             RETURNING id, user_id, kind, sealed, created_at, tries",
            "UPDATE outbox SET lease = $1, leased_until = $2, tries = tries + 1 WHERE id = \
             (SELECT id FROM outbox WHERE next_at <= $3 AND leased_until <= $3 AND give_up_at > $3 AND channel = $4 \
              ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) \
             RETURNING id, user_id, kind, sealed, created_at, tries",
        );
        let until = now.plus(LEASE).as_millis();
        let claimed = fetch_optional!(self.write(), Columns, sql, lease, until, now.as_millis(), channel.as_str())?;
        claimed.map(|columns| mail(columns, lease)).transpose()
    }

    /// The relay has it.
    pub async fn mail_sent(&self, mail: &MailRow) -> Result<bool, StoreError> {
        let sql = "DELETE FROM outbox WHERE id = $1 AND lease = $2";
        Ok(execute!(self.write(), sql, mail.id.to_string(), mail.lease.as_str())? == 1)
    }

    /// It did not go; another try is due at `next`.
    pub async fn mail_failed(&self, mail: &MailRow, next: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE outbox SET next_at = $3, leased_until = 0, lease = NULL WHERE id = $1 AND lease = $2";
        Ok(execute!(self.write(), sql, mail.id.to_string(), mail.lease.as_str(), next.as_millis())? == 1)
    }

    /// What waits of one channel.
    pub async fn waiting_mails(&self, channel: Channel, now: Timestamp) -> Result<Waiting, StoreError> {
        let sql = "SELECT COUNT(*), MIN(created_at), \
                   COUNT(CASE WHEN next_at <= $1 AND leased_until <= $1 THEN 1 END) FROM outbox WHERE channel = $2";
        let found = fetch_optional!(self.read(), (i64, Option<i64>, i64), sql, now.as_millis(), channel.as_str())?;
        let (mails, oldest, due) = found.unwrap_or_default();
        Ok(Waiting { mails, oldest: row::maybe_time(oldest), due: due > 0 })
    }
}

fn mail((id, user, kind, sealed, created_at, tries): Columns, lease: &str) -> Result<MailRow, StoreError> {
    let (id, user) = (row::id(&id)?, row::id(&user)?);
    Ok(MailRow { id, user, kind, sealed, created_at: row::time(created_at), tries, lease: lease.to_owned() })
}

fn given_up((id, user, name, kind, channel): Gone) -> Result<GivenUp, StoreError> {
    let channel = if channel == Channel::Sms.as_str() { Channel::Sms } else { Channel::Mail };
    Ok(GivenUp { id: row::id(&id)?, user: row::id(&user)?, name: name.unwrap_or_default(), channel, kind })
}
