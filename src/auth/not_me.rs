//! The link of a notice: its person says that it was not them. All that it can do is close the account's
//! sessions and call somebody (S-LOGIN-13), so that whoever else gets the mail gains nothing by it.

use super::error::AuthError;
use super::{Auth, Visit};
use crate::base::ids::IncidentId;
use crate::crypto::sha256;
use crate::domain::audit::{Action, Outcome};
use crate::domain::notice::NoticeKind;
use crate::domain::user::User;
use crate::store::NoticeRow;

/// Whether the link also ends what was set up in that moment.
#[must_use]
pub fn blocks(kind: NoticeKind) -> bool {
    match kind {
        NoticeKind::FactorAdded | NoticeKind::CodesMade => true,
        NoticeKind::NewDevice
        | NoticeKind::NewPlace
        | NoticeKind::WrongCodes
        | NoticeKind::KeyCopied
        | NoticeKind::BackupCodeUsed
        | NoticeKind::FactorRemoved
        | NoticeKind::FactorEnded
        | NoticeKind::FactorsReset
        | NoticeKind::PasswordChanged
        | NoticeKind::LinkMade
        | NoticeKind::LinkUsed
        | NoticeKind::EnrollReminder
        | NoticeKind::DeviceRemembered
        | NoticeKind::DeviceCopied
        | NoticeKind::EmailChanged => false,
    }
}

impl Auth {
    /// What a link is about, if it still works; looking does not use it.
    pub async fn peek_notice(&self, visit: &Visit<'_>, code: &str) -> Result<Option<(User, NoticeRow)>, AuthError> {
        let Some(notice) = self.store.peek_notice(&sha256(code.as_bytes()), visit.now).await? else {
            return Ok(None);
        };
        Ok(self.store.user_by_id(notice.user).await?.map(|user| (user, notice)))
    }

    /// Uses the link: every session, ceremony and one-time link of the account ends, what was set up in
    /// that moment ends with it, and an incident is open until an operator closes it. The first POST wins.
    pub async fn deny_notice(&self, visit: &Visit<'_>, code: &str) -> Result<Option<NoticeKind>, AuthError> {
        let Some((user, _)) = self.peek_notice(visit, code).await? else { return Ok(None) };
        let mut tx = self.store.begin().await?;
        let Some(notice) = tx.deny_notice(&sha256(code.as_bytes()), visit.now).await? else {
            tx.rollback().await;
            return Ok(None);
        };
        tx.end_all_of(user.id, "the person said that it was not them", visit.now).await?;
        let blocked = match blocks(notice.kind) {
            true => tx.block_factors_made_at(user.id, notice.event.at, visit.now).await?,
            false => 0,
        };
        tx.open_incident(IncidentId::new(visit.now, &*self.rng), &notice, visit.now).await?;
        let reason = match blocked {
            0 => "By the link of a notice the person said that it was not them; all sessions ended.",
            _ => {
                "By the link of a notice the person said that it was not them; all sessions ended, and what was set up \
                 then is blocked."
            }
        };
        let mut event =
            visit.event(&user, Action::IncidentOpen, Outcome::Success, reason).with_factor(notice.kind.as_str());
        event.session = notice.event.session;
        tx.commit(&[event]).await?;
        self.forget_user(user.id);
        tracing::warn!(user.name = %user.name, about = notice.kind.as_str(), "a person said that it was not them: an incident is open");
        Ok(Some(notice.kind))
    }
}
