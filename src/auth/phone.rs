//! How does somebody say to which telephone their codes go? They name the number, and a first code proves that it is
//! theirs; nothing counts before that. One number a person: a new one takes the place of the old, which is told (S-OOB-3).

use super::account::requirement_to_add;
use super::enroll::{Enrolling, New};
use super::error::AuthError;
use super::factor::{Explain, Looked, Spend};
use super::flow::{Flow, FlowKind, FlowState, PendingKey, Step};
use super::send::{CODE_LIFE, Sending, Wish};
use super::step_up::Current;
use super::throttle::{Charges, Verdict};
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::domain::audit::{Action, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::phone::{NoNumber, PhoneNumber};
use crate::domain::user::User;
use crate::notify::Destination;
use crate::pages::{CodeFor, Language};
use crate::store::{NewMail, Unaudited};

/// First byte of a number that waits in a flow, so that it is never read as an app's key.
const LAYOUT: u8 = 4;

/// Why no code went to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    NoNumber(NoNumber),
    /// Messages go to other countries only.
    Country,
    Pause {
        until: Timestamp,
    },
}

/// A number that waits for its code.
#[derive(Clone, Debug)]
pub struct PendingNumber {
    pub number: PhoneNumber,
    /// Until when the code works that was sent there.
    pub until: Option<Timestamp>,
}

impl Auth {
    /// Whether a person may name a number here at all, with what the session has shown.
    pub fn may_name_number(&self, visit: &Visit<'_>, flow: &Flow) -> Result<(), AuthError> {
        let on = visit.snapshot.codes_by_sms() && visit.snapshot.factors.sms_enroll;
        if !on || !matches!(flow.state.kind, FlowKind::Account { .. }) {
            return Err(AuthError::FlowGone);
        }
        match requirement_to_add(FactorKind::Sms, &visit.snapshot.factors).missing(&flow.state.evidence, visit.now) {
            None => Ok(()),
            Some(_) => Err(AuthError::TooLittleShown),
        }
    }

    /// The number that was named before, if any.
    pub async fn pending_number(&self, visit: &Visit<'_>, flow: &Flow) -> Result<Option<PendingNumber>, AuthError> {
        let Step::EnrollTotp { key: Some(pending) } = &flow.state.step else { return Ok(None) };
        let Some(number) = self.number_in(flow, pending)?.filter(|_| visit.now < pending.until) else {
            return Ok(None);
        };
        let until = self.store.sent_code(flow.user.id, FactorKind::Sms, &scope(flow), visit.now).await?;
        Ok(Some(PendingNumber { number, until }))
    }

    /// Sends a first code to a number.
    pub async fn try_number(
        &self,
        visit: &Visit<'_>,
        flow: &mut Flow,
        typed: &str,
        language: Language,
    ) -> Result<Result<(), NotSent>, AuthError> {
        self.may_name_number(visit, flow)?;
        let Step::EnrollTotp { .. } = &flow.state.step else { return Err(AuthError::FlowGone) };
        let number = match PhoneNumber::parse(typed) {
            Ok(number) => number,
            Err(why) => return Ok(Err(NotSent::NoNumber(why))),
        };
        if !visit.snapshot.sms.as_ref().is_some_and(|sms| number.begins_with_any(&sms.allow_prefixes)) {
            return Ok(Err(NotSent::Country));
        }
        let mut plain = vec![LAYOUT];
        plain.extend_from_slice(number.as_str().as_bytes());
        let sealed = flow.seal(&plain, &self.keys, &*self.rng);
        let step = Step::EnrollTotp { key: Some(PendingKey { sealed, until: visit.now.plus(CODE_LIFE) }) };
        let mut tx = self.store.begin().await?;
        flow.advance(&mut tx, FlowState { step, ..flow.state.clone() }).await?;
        tx.commit_unaudited(Unaudited::FlowProgress).await?;
        let scope = scope(flow);
        let wish = Wish { kind: FactorKind::Sms, scope: &scope, what_for: CodeFor::Number, language };
        match self.send_to(visit, &flow.user, Destination::Phone(&number), wish).await? {
            Sending::Sent { .. } => Ok(Ok(())),
            Sending::Pause { until } => Ok(Err(NotSent::Pause { until })),
            Sending::NoWay => Err(AuthError::FlowGone),
        }
    }

    /// Looks at the first code and enrolls the number, in one transaction as for an app.
    pub async fn enroll_number(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        typed: &str,
        language: Language,
        current: Option<Current<'_>>,
    ) -> Result<Enrolling, AuthError> {
        self.may_name_number(visit, &flow)?;
        let Some(pending) = self.pending_number(visit, &flow).await? else { return Ok(Enrolling::KeyTooOld { flow }) };
        let charges = Charges::code(flow.user.id);
        let left = match charges.take(&self.store, visit.now).await? {
            Verdict::Go { left } => left,
            Verdict::Pause { until, .. } => return Ok(Enrolling::Not { flow, looked: Looked::Pause { until } }),
        };
        let looked = self.look_at_sent_code(visit, flow.user.id, (FactorKind::Sms, None), &scope(&flow), typed).await?;
        let code = match looked {
            Ok(Spend::Sent { id, .. }) => id,
            Ok(_) => return Err(AuthError::FlowGone),
            Err(explain) => return self.number_not_proven(visit, flow, explain, left).await,
        };
        let left_behind = self.letters_to_old_numbers(visit, &flow.user, &pending.number, language).await?;
        let user = flow.user.id;
        let new = New::Phone { number: &pending.number, code, left_behind: &left_behind };
        let done = self.store_enrollment(visit, flow, new, "", current).await?;
        match done {
            Enrolling::Not { flow, .. } => self.number_not_proven(visit, flow, Explain::Sent { left: 0 }, left).await,
            done => {
                self.code_succeeded(user).await;
                Ok(done)
            }
        }
    }

    async fn number_not_proven(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        explain: Explain,
        left: u32,
    ) -> Result<Enrolling, AuthError> {
        let event = visit
            .event(&flow.user, Action::FactorEnroll, Outcome::Failure, "The first code was wrong.")
            .with_factor(FactorKind::Sms.as_str());
        self.store.audit_only(&[event]).await?;
        Ok(Enrolling::Not { flow, looked: Looked::No { explain, left } })
    }

    /// What the numbers are told that codes no longer go to.
    async fn letters_to_old_numbers(
        &self,
        visit: &Visit<'_>,
        user: &User,
        new: &PhoneNumber,
        language: Language,
    ) -> Result<Vec<NewMail>, AuthError> {
        let Some(letters) = self.letters() else { return Ok(Vec::new()) };
        let credentials = self.store.credentials(user.id).await?;
        let mut told = Vec::new();
        for credential in credentials.iter().filter(|c| c.kind == FactorKind::Sms) {
            let old = self.number_of(credential)?;
            let allowed = visit.snapshot.sms.as_ref().is_some_and(|sms| old.begins_with_any(&sms.allow_prefixes));
            if old != *new && allowed {
                told.extend(letters.number_left((visit.snapshot, language), user, &old, visit.now));
            }
        }
        Ok(told)
    }

    fn number_in(&self, flow: &Flow, pending: &PendingKey) -> Result<Option<PhoneNumber>, AuthError> {
        let plain = flow.unseal(&pending.sealed, &self.keys)?;
        let [LAYOUT, number @ ..] = plain.expose().as_slice() else { return Ok(None) };
        Ok(std::str::from_utf8(number).ok().and_then(|text| PhoneNumber::parse(text).ok()))
    }
}

/// No scope of a sign-in or session begins so.
fn scope(flow: &Flow) -> String {
    format!("number:{}", flow.id)
}
