//! Who is to be told of what a transaction does? Read off its events in [`Tx::commit`], so that the mail,
//! the change and the trail's row are one, and nobody can forget to write it (S-LOGIN-13).

use std::fmt::Debug;
use std::time::Duration;

use super::error::StoreError;
use super::outbox::{NewMail, OutboxShare};
use super::query::{execute, fetch_all, fetch_optional};
use super::{Store, Tx, row};
use crate::base::clock::Timestamp;
use crate::base::ids::{IncidentId, NoticeId, UserId};
use crate::domain::audit::{Actor, AuditEvent};
use crate::domain::notice::NoticeKind;

/// The third failure in this time is told (SECURITY.md section 3), and then not again for an hour: more
/// mails would tell no more.
const FAILURES: (i64, Duration) = (3, Duration::from_secs(15 * 60));
const TOLD_AGAIN: Duration = Duration::from_secs(3600);

/// What a notice says, before it has words.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    pub kind: NoticeKind,
    pub event: &'a AuditEvent,
    pub user: UserId,
    pub name: &'a str,
    /// Where it goes.
    pub email: &'a str,
    /// Backup codes that are left.
    pub codes_left: u32,
}

/// The mail of a notice, and the link in it by which its reader says that it was not them.
#[derive(Debug)]
pub struct Letter {
    pub mail: NewMail,
    pub notice: NoticeId,
    /// Of the link's secret, which is nowhere but in the mail.
    pub hash: [u8; 32],
    pub link_until: Timestamp,
}

/// Writes the mails. What it needs of the configuration it knows itself.
pub trait Teller: Debug + Send + Sync {
    /// Whether anybody is written to at all.
    fn is_on(&self) -> bool;
    fn share(&self) -> OutboxShare;
    /// `None` where the address is none, or there is no host for the link.
    fn letter(&self, notice: &Notice<'_>) -> Option<Letter>;
    /// There was no room for it: what happened goes on without a mail.
    fn no_room(&self);
}

/// A notice as its link finds it.
#[derive(Clone, Debug)]
pub struct NoticeRow {
    pub id: NoticeId,
    pub user: UserId,
    pub kind: NoticeKind,
    /// What it told of.
    pub event: AuditEvent,
    pub expires_at: Timestamp,
}

/// What a person said was not them.
#[derive(Clone, Debug)]
pub struct IncidentRow {
    pub id: IncidentId,
    pub user: UserId,
    pub name: Option<String>,
    pub kind: NoticeKind,
    pub event: AuditEvent,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub closed_by: Option<String>,
    pub note: Option<String>,
}

type Columns = (String, String, String, String, i64);
type IncidentColumns =
    (String, String, Option<String>, String, String, i64, Option<i64>, Option<String>, Option<String>);

/// Writes the mails that these events call for.
pub(super) async fn tell(tx: &mut Tx, teller: &dyn Teller, events: &[AuditEvent]) -> Result<(), StoreError> {
    if !teller.is_on() {
        return Ok(());
    }
    for event in events {
        let Some(kind) = NoticeKind::of(event) else { continue };
        let Some(user) = whose(event) else { continue };
        let sql = "SELECT name, email FROM users WHERE id = $1 AND removed_at IS NULL";
        let found = fetch_optional!(tx.db(), (String, Option<String>), sql, user.to_string())?;
        let Some((name, now)) = found else { continue };
        let email = match kind {
            NoticeKind::EmailChanged => tx.email_before(user),
            _ => now,
        };
        let Some(email) = email else { continue };
        // Whoever causes these can cause them again and again.
        if kind == NoticeKind::WrongCodes && !are_many(tx, &name, event.at).await? {
            continue;
        }
        if matches!(kind, NoticeKind::WrongCodes | NoticeKind::KeyCopied) && was_told(tx, user, kind, event.at).await? {
            continue;
        }
        let codes_left = match kind {
            NoticeKind::BackupCodeUsed => {
                let sql = "SELECT COUNT(*) FROM backup_codes WHERE user_id = $1";
                let left = fetch_optional!(tx.db(), (i64,), sql, user.to_string())?.unwrap_or_default().0;
                u32::try_from(left).unwrap_or_default()
            }
            _ => 0,
        };
        let notice = Notice { kind, event, user, name: &name, email: &email, codes_left };
        let Some(letter) = teller.letter(&notice) else { continue };
        if !tx.insert_mail(&letter.mail, teller.share()).await? {
            teller.no_room();
            continue;
        }
        let sql = "INSERT INTO notices (id, hash, user_id, kind, event, created_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        execute!(
            tx.db(),
            sql,
            letter.notice.to_string(),
            letter.hash.as_slice(),
            user.to_string(),
            kind.as_str(),
            row::to_json(event)?,
            event.at.as_millis(),
            letter.link_until.as_millis(),
        )?;
    }
    Ok(())
}

/// Whose account an event is about.
fn whose(event: &AuditEvent) -> Option<UserId> {
    event.subject.or(match &event.actor {
        Actor::User { id, .. } => Some(*id),
        Actor::UnknownUser { .. } | Actor::Operator { .. } | Actor::System => None,
    })
}

/// Whether this failure, which is not in the trail yet, is worth a mail.
async fn are_many(tx: &mut Tx, name: &str, now: Timestamp) -> Result<bool, StoreError> {
    // Of the rows of that time alone, for an old account has very many; but of all of these: whoever has the password
    // could push the failures out of any fixed number of rows by signing in to the code page again and again.
    let sql = "SELECT COUNT(*) FROM audit_log WHERE actor = $1 AND at > $2 AND action = $3 AND payload LIKE $4 \
               AND seq > COALESCE((SELECT seq FROM audit_log WHERE at <= $2 ORDER BY at DESC LIMIT 1), 0)";
    let since = now.minus(FAILURES.1).as_millis();
    let (action, failed) = ("factor_verify", "%\"outcome\":\"failure\"%");
    let before = fetch_optional!(tx.db(), (i64,), sql, name, since, action, failed)?.unwrap_or_default().0;
    Ok(before + 1 >= FAILURES.0)
}

/// Whether a mail of this kind went to them within the hour.
async fn was_told(tx: &mut Tx, user: UserId, kind: NoticeKind, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT COUNT(*) FROM notices WHERE user_id = $1 AND kind = $2 AND created_at > $3";
    let since = now.minus(TOLD_AGAIN).as_millis();
    let told = fetch_optional!(tx.db(), (i64,), sql, user.to_string(), kind.as_str(), since)?;
    Ok(told.unwrap_or_default().0 > 0)
}

impl Store {
    /// The notice of a link that still works; looking does not use it: mail scanners look too (S-OOB-2).
    pub async fn peek_notice(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<NoticeRow>, StoreError> {
        let sql = "SELECT id, user_id, kind, event, expires_at FROM notices \
                   WHERE hash = $1 AND denied_at IS NULL AND expires_at > $2";
        fetch_optional!(self.read(), Columns, sql, hash.as_slice(), now.as_millis())?.map(notice).transpose()
    }

    /// Those that are open, or all; newest first.
    pub async fn incidents(&self, also_closed: bool) -> Result<Vec<IncidentRow>, StoreError> {
        let sql = "SELECT i.id, i.user_id, u.name, i.kind, i.event, i.opened_at, i.closed_at, i.closed_by, i.note \
                   FROM incidents i JOIN users u ON u.id = i.user_id WHERE i.closed_at IS NULL OR $1 = 1 \
                   ORDER BY i.opened_at DESC, i.id DESC LIMIT 1000";
        fetch_all!(self.read(), IncidentColumns, sql, i64::from(also_closed))?.into_iter().map(incident).collect()
    }

    pub async fn open_incidents(&self) -> Result<i64, StoreError> {
        let sql = "SELECT COUNT(*) FROM incidents WHERE closed_at IS NULL";
        Ok(fetch_optional!(self.read(), (i64,), sql)?.unwrap_or_default().0)
    }
}

impl Tx {
    /// Uses the link of a notice: of any number at once, one gets it.
    pub async fn deny_notice(&mut self, hash: &[u8; 32], now: Timestamp) -> Result<Option<NoticeRow>, StoreError> {
        let sql = "UPDATE notices SET denied_at = $2 WHERE hash = $1 AND denied_at IS NULL AND expires_at > $2 \
                   RETURNING id, user_id, kind, event, expires_at";
        fetch_optional!(self.db(), Columns, sql, hash.as_slice(), now.as_millis())?.map(notice).transpose()
    }

    /// Writes down what a person said was not them, until somebody has looked into it.
    pub async fn open_incident(
        &mut self,
        id: IncidentId,
        denied: &NoticeRow,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO incidents (id, user_id, kind, event, opened_at) VALUES ($1, $2, $3, $4, $5)";
        execute!(
            self.db(),
            sql,
            id.to_string(),
            denied.user.to_string(),
            denied.kind.as_str(),
            row::to_json(&denied.event)?,
            now.as_millis(),
        )
        .map(|_| ())
    }

    /// Ends what was made in that very moment: the way to sign in, or the backup codes, of a change that
    /// its person did not make. How many.
    pub async fn block_factors_made_at(
        &mut self,
        user: UserId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let sql =
            "UPDATE credentials SET disabled_at = $3 WHERE user_id = $1 AND created_at = $2 AND disabled_at IS NULL";
        let ways = execute!(self.db(), sql, user.to_string(), at.as_millis(), now.as_millis())?;
        let sql = "DELETE FROM backup_sets WHERE user_id = $1 AND created_at = $2";
        Ok(ways + execute!(self.db(), sql, user.to_string(), at.as_millis())?)
    }

    /// `None` when there is no such one, or it is closed.
    pub async fn close_incident(
        &mut self,
        id: IncidentId,
        by: &str,
        note: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<UserId>, StoreError> {
        let sql = "UPDATE incidents SET closed_at = $2, closed_by = $3, note = $4 \
                   WHERE id = $1 AND closed_at IS NULL RETURNING user_id";
        let closed = fetch_optional!(self.db(), (String,), sql, id.to_string(), now.as_millis(), by, note)?;
        closed.map(|(user,)| row::id(&user)).transpose()
    }
}

fn kind(text: &str) -> Result<NoticeKind, StoreError> {
    NoticeKind::parse(text).ok_or(StoreError::Corrupt("a kind of notice"))
}

fn notice((id, user, of, event, expires_at): Columns) -> Result<NoticeRow, StoreError> {
    Ok(NoticeRow {
        id: row::id(&id)?,
        user: row::id(&user)?,
        kind: kind(&of)?,
        event: row::from_json(&event, "the event of a notice")?,
        expires_at: row::time(expires_at),
    })
}

fn incident(columns: IncidentColumns) -> Result<IncidentRow, StoreError> {
    let (id, user, name, of, event, opened_at, closed_at, closed_by, note) = columns;
    Ok(IncidentRow {
        id: row::id(&id)?,
        user: row::id(&user)?,
        name,
        kind: kind(&of)?,
        event: row::from_json(&event, "the event of an incident")?,
        opened_at: row::time(opened_at),
        closed_at: row::maybe_time(closed_at),
        closed_by,
        note,
    })
}
