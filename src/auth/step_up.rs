//! A signed-in person shows the one thing that is missing. There is no half-done state: each thing
//! shown makes a new id with the evidence so far, and the next page asks for the rest.

use super::device::Device;
use super::error::AuthError;
use super::factor::{Looked, Shown};
use super::factors::webauthn::{Bound, Question, Rp};
use super::password::Answer;
use super::plan::{Plan, plan, with_evidence};
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::host::HostName;
use crate::domain::level::Requirement;
use crate::domain::user::{User, UserStatus};
use crate::session::{LiveSession, SessionToken, issue};
use crate::store::Tx;

/// The session that steps up: what the cookie named, and where.
#[derive(Clone, Copy)]
pub struct Current<'a> {
    pub live: &'a LiveSession,
    pub token: &'a SessionToken,
    pub host: &'a HostName,
}

/// The answer to something shown.
#[derive(Debug)]
pub enum Stepped {
    /// The id to set in place of the old one, and everything behind it.
    Done {
        token: SessionToken,
        evidence: Vec<FactorUse>,
    },
    Not(Looked),
    PasswordWrong,
    PasswordPause {
        until: Timestamp,
    },
}

impl Auth {
    /// What is missing for `requirement`, and what could show it.
    pub async fn step_up_plan(
        &self,
        visit: &Visit<'_>,
        live: &LiveSession,
        requirement: &Requirement,
    ) -> Result<Plan, AuthError> {
        let enrolled =
            self.with_destinations(visit, live.authn.email.as_deref(), self.enrolled(live.authn.user).await?)?;
        Ok(plan(requirement, &live.authn.evidence, &enrolled, visit.now))
    }

    /// The question to a key of the person of the session. With `verified` the key alone stands for
    /// the password too, so it must check who holds it.
    pub async fn step_up_question(
        &self,
        visit: &Visit<'_>,
        live: &LiveSession,
        host: &HostName,
        verified: bool,
    ) -> Result<Option<Question>, AuthError> {
        let Some(rp) = Rp::at(visit.snapshot, host) else { return Ok(None) };
        let enrolled = self.enrolled(live.authn.user).await?;
        Ok(Some(self.ask_key(visit, &rp, Bound::StepUp(live.authn.session), &enrolled, verified)?))
    }

    /// Shows a code or a key. It is checked against the person of the session, whoever holds the browser: a
    /// code of somebody else is just a wrong one (S-STEP-2).
    pub async fn step_up_factor(
        &self,
        visit: &Visit<'_>,
        current: Current<'_>,
        shown: Shown<'_>,
        about: Option<(&str, &str)>,
    ) -> Result<Stepped, AuthError> {
        let user = self.person_of(current.live).await?;
        let bound = Bound::StepUp(current.live.authn.session);
        let enrolled = self.with_destinations(visit, user.email.as_deref(), self.enrolled(user.id).await?)?;
        let candidate = match self.look(visit, &user, &enrolled, shown, current.host, bound).await? {
            Looked::Candidate(candidate) => candidate,
            looked @ (Looked::No { .. } | Looked::Pause { .. }) => return Ok(Stepped::Not(looked)),
        };
        let mut tx = self.store.begin().await?;
        tx.hold(user.id, user.epoch).await?;
        let Some(proof) = candidate.redeem(&mut tx, visit.now).await? else {
            tx.rollback().await;
            return Ok(Stepped::Not(self.code_not_spent(visit, &user, &candidate).await?));
        };
        let stepped = self.stepped(tx, visit, current, &user, proof.evidence(), shown.was_right(), about).await?;
        self.succeeded(&candidate).await;
        Ok(stepped)
    }

    /// Shows the password again.
    pub async fn step_up_password(
        &self,
        visit: &Visit<'_>,
        current: Current<'_>,
        typed: &Secret<String>,
        device: &Device,
        about: Option<(&str, &str)>,
    ) -> Result<Stepped, AuthError> {
        let user = self.person_of(current.live).await?;
        match self.verify_password(visit, user.name.as_str(), typed, device).await? {
            Answer::Right(proof) if proof.user().id == user.id => {
                let mut tx = self.store.begin().await?;
                tx.hold(proof.user().id, proof.user().epoch).await?;
                self.stepped(tx, visit, current, &user, proof.evidence(), "The password was right.", about).await
            }
            Answer::Right(_) | Answer::Wrong => Ok(Stepped::PasswordWrong),
            Answer::Pause { until } => Ok(Stepped::PasswordPause { until }),
        }
    }

    /// The account behind a live session, read afresh: a change must not be built on a cached one.
    pub async fn person_of(&self, live: &LiveSession) -> Result<User, AuthError> {
        let user = self.store.user_by_id(live.authn.user).await?.ok_or(AuthError::FlowGone)?;
        if user.status == UserStatus::Active { Ok(user) } else { Err(AuthError::FlowGone) }
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where all of a step-up comes together")]
    async fn stepped(
        &self,
        mut tx: Tx,
        visit: &Visit<'_>,
        current: Current<'_>,
        user: &User,
        new: FactorUse,
        right: &str,
        about: Option<(&str, &str)>,
    ) -> Result<Stepped, AuthError> {
        let kind = new.kind.as_str();
        let session = current.live.authn.session;
        let evidence = with_evidence(current.live.authn.evidence.clone(), new);
        let token =
            issue::add_evidence(&mut tx, session, current.token, current.host, &evidence, visit.now, &*self.rng)
                .await?;
        let event = |action, reason| {
            let event: AuditEvent = visit.event(user, action, Outcome::Success, reason);
            let event = event.with_factor(kind).with_session(session);
            match about {
                Some((app, rule)) => event.with_rule(app, rule),
                None => event,
            }
        };
        let shown = if new_is_password(kind) { Action::PasswordVerify } else { Action::FactorVerify };
        let events = [event(shown, right), event(Action::StepUp, "The session stepped up.")];
        tx.commit(&events).await?;
        self.forget(session);
        Ok(Stepped::Done { token, evidence })
    }
}

fn new_is_password(kind: &str) -> bool {
    kind == FactorKind::Password.as_str()
}
