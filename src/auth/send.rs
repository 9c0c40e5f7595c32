//! Sends a code: after a right password, for one ceremony, not too often (S-OOB-2, S-OOB-3).

use std::time::Duration;

use data_encoding::HEXLOWER;

use super::error::AuthError;
use super::factors::email::{bound, new_code};
use super::plan::Enrolled;
use super::throttle::{Charges, REFUSED, Verdict};
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::SentCodeId;
use crate::crypto::Purpose;
use crate::domain::audit::{Action, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::user::User;
use crate::pages::Language;
use crate::store::SentCode;

/// How long a code works (SECURITY.md section 3).
pub const CODE_LIFE: Duration = Duration::from_secs(300);

/// The answer to a wish for a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// On its way, and good until then.
    Sent {
        until: Timestamp,
    },
    Pause {
        until: Timestamp,
    },
    /// The person has no such way here.
    NoWay,
}

impl Auth {
    /// With the address that codes go to, where the file lets people confirm by them.
    #[must_use]
    pub fn with_email(&self, visit: &Visit<'_>, email: Option<&str>, enrolled: Enrolled) -> Enrolled {
        let email = email.filter(|_| visit.snapshot.codes_by_email()).map(str::to_owned);
        Enrolled { email, ..enrolled }
    }

    /// Sends a code to the mailbox of the account, for the ceremony or session `scope`. The code, its mail
    /// and the row in the trail are one transaction; an older code works no more.
    pub async fn send_code(
        &self,
        visit: &Visit<'_>,
        user: &User,
        scope: &str,
        language: Language,
    ) -> Result<Sending, AuthError> {
        let kind = FactorKind::Email;
        let (Some(email), Some(letters)) =
            (user.email.as_deref().filter(|_| visit.snapshot.codes_by_email()), self.letters())
        else {
            return Ok(Sending::NoWay);
        };
        // Two accounts of one address share its budget: it is one mailbox that is filled.
        let to =
            HEXLOWER.encode(self.keys.mac(Purpose::NameHash, email.to_lowercase().as_bytes()).get(..16).unwrap_or(&[]));
        let charges = Charges::send(user.id, kind, &to, visit.client);
        if let Verdict::Pause { until, counter } = charges.take(&self.store, visit.now).await? {
            if self.pauses.is_first(&counter, until, visit.now) {
                let event = visit.event(user, Action::CodeSend, Outcome::Refused, REFUSED).with_factor(kind.as_str());
                self.store.audit_only(&[event]).await?;
            }
            return Ok(Sending::Pause { until });
        }
        let code = new_code(&*self.rng);
        let id = SentCodeId::new(visit.now, &*self.rng);
        let until = visit.now.plus(CODE_LIFE);
        let Some(mail) = letters.code((visit.snapshot, language), user, email, &code, visit.now, until) else {
            return Ok(Sending::NoWay);
        };
        let hash = self.keys.mac(Purpose::SentCode, &bound(id, user.id, kind, scope, &code));
        let sent = SentCode {
            id,
            user: user.id,
            kind,
            scope: scope.to_owned(),
            hash,
            created_at: visit.now,
            expires_at: until,
        };
        let event = visit
            .event(user, Action::CodeSend, Outcome::Success, "A one-time code was sent by e-mail.")
            .with_factor(kind.as_str());
        let mut tx = self.store.begin().await?;
        tx.hold(user.id, user.epoch).await?;
        tx.put_sent_code(&sent).await?;
        tx.drop_waiting_mails(user.id, mail.kind).await?;
        if !tx.insert_mail(&mail, letters.share_of_mails()).await? {
            tx.rollback().await;
            letters.count_dropped();
            return Ok(Sending::Pause { until: visit.now.plus(Duration::from_secs(60)) });
        }
        tx.commit(&[event]).await?;
        Ok(Sending::Sent { until })
    }
}
