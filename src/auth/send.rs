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
use crate::notify::Destination;
use crate::pages::{CodeFor, Language};
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

/// A wish for a code.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    pub kind: FactorKind,
    /// The ceremony or session that it is for.
    pub scope: &'a str,
    pub what_for: CodeFor,
    pub language: Language,
}

impl Auth {
    /// With the address and the number that codes go to, where the file lets people confirm by them.
    pub fn with_destinations(
        &self,
        visit: &Visit<'_>,
        email: Option<&str>,
        enrolled: Enrolled,
    ) -> Result<Enrolled, AuthError> {
        let email = email.filter(|_| visit.snapshot.codes_by_email()).map(str::to_owned);
        let phone = self.phone_of(visit, &enrolled.credentials)?;
        Ok(Enrolled { email, phone, ..enrolled })
    }

    /// Sends a code to the mailbox or the telephone of the account.
    pub async fn send_code(&self, visit: &Visit<'_>, user: &User, wish: Wish<'_>) -> Result<Sending, AuthError> {
        if wish.kind == FactorKind::Sms {
            let credentials = self.store.credentials(user.id).await?;
            let Some(phone) = self.phone_of(visit, &credentials)? else { return Ok(Sending::NoWay) };
            let scope = phone.scope(wish.scope);
            return self.send_to(visit, user, Destination::Phone(&phone.number), Wish { scope: &scope, ..wish }).await;
        }
        match user.email.as_deref().filter(|_| visit.snapshot.codes_by_email()) {
            Some(email) => self.send_to(visit, user, Destination::Mailbox(email), wish).await,
            None => Ok(Sending::NoWay),
        }
    }

    /// The code, its message and the row in the trail are one transaction; an older code works no more.
    pub(super) async fn send_to(
        &self,
        visit: &Visit<'_>,
        user: &User,
        to: Destination<'_>,
        Wish { kind, scope, what_for, language }: Wish<'_>,
    ) -> Result<Sending, AuthError> {
        let Some(letters) = self.letters() else { return Ok(Sending::NoWay) };
        // Two accounts of one address or number share its budget: it is one mailbox that is filled.
        let address = match to {
            Destination::Mailbox(email) => email.to_lowercase(),
            Destination::Phone(number) => number.as_str().to_owned(),
        };
        let hash = HEXLOWER.encode(self.keys.mac(Purpose::NameHash, address.as_bytes()).get(..16).unwrap_or(&[]));
        // A message costs money: all of them together are bounded too (S-OOB-3).
        let of_all = visit.snapshot.sms.as_ref().filter(|_| kind == FactorKind::Sms).map(|sms| sms.per_hour);
        let charges = Charges::send(user.id, kind, &hash, visit.client, of_all);
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
        let about = (visit.snapshot, language);
        let Some(mail) = letters.code(about, user, to, (&code, what_for), (visit.now, until)) else {
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
        let reason = match to {
            Destination::Mailbox(_) => "A one-time code was sent by e-mail.".to_owned(),
            Destination::Phone(number) => format!("A one-time code was sent by text message to {}.", number.masked()),
        };
        let event = visit.event(user, Action::CodeSend, Outcome::Success, &reason).with_factor(kind.as_str());
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
