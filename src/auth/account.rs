//! What signed-in people change about their own account, and what they must have shown for it.

use std::time::Duration;

use super::device::Device;
use super::enroll::codes_event;
use super::error::AuthError;
use super::flow::{Browser, Flow, FlowKind, FlowState, Goal, OwnPage, Step};
use super::password::Answer;
use super::plan::with_evidence;
use super::step_up::Current;
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, SessionId};
use crate::base::secret::Secret;
use crate::config::snapshot::FactorSettings;
use crate::crypto::PasswordRule;
use crate::domain::audit::{Action, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::level::Requirement;
use crate::domain::user::User;
use crate::session::{SessionToken, issue};
use crate::store::{Removed, SessionRow, Tx, Unaudited};

/// How old the evidence may be that changes a factor (S-ENR-2).
pub(super) const FRESH: Duration = Duration::from_secs(600);
/// How old it may be when an enrollment begins: the rest is time to install an app and scan.
const FRESH_TO_ENROLL: Duration = Duration::from_secs(300);

/// What must have been shown to add, renew or remove a factor of `kind`: two factors, the second
/// one no older than ten minutes, and as strong as what is changed (S-ENR-2).
#[must_use]
pub fn requirement_to_change(kind: FactorKind) -> Requirement {
    Requirement {
        factors: 2,
        max_age: Some(FRESH),
        phishing_resistant: kind == FactorKind::Webauthn,
        user_verified: false,
        kinds: None,
        remember: None,
    }
}

/// What must have been shown to add a factor of `kind`. For a security key that is one that is there
/// already: who phishes a password and a code must not get to what withstands phishing. The first
/// one comes with the sign-up or an access pass, unless the file takes that risk.
#[must_use]
pub fn requirement_to_add(kind: FactorKind, settings: &FactorSettings) -> Requirement {
    let asked = requirement_to_change(kind);
    Requirement { phishing_resistant: asked.phishing_resistant && !settings.key_after_code, ..asked }
}

/// What a page of ours asks of the session that opens it.
#[must_use]
pub fn requirement_of(page: OwnPage, settings: &FactorSettings) -> Option<Requirement> {
    let in_time = |asked| Requirement { max_age: Some(FRESH_TO_ENROLL), ..asked };
    match page {
        // Looking at one's own account and giving the old password need a session, no more.
        OwnPage::Account | OwnPage::AccountPassword => None,
        OwnPage::EnrollTotp => Some(in_time(requirement_to_add(FactorKind::Totp, settings))),
        OwnPage::EnrollHotp => Some(in_time(requirement_to_add(FactorKind::Hotp, settings))),
        OwnPage::EnrollSms => Some(in_time(requirement_to_add(FactorKind::Sms, settings))),
        OwnPage::EnrollKey => Some(in_time(requirement_to_add(FactorKind::Webauthn, settings))),
        OwnPage::Factors => Some(requirement_to_change(FactorKind::Totp)),
        OwnPage::Keys => Some(requirement_to_change(FactorKind::Webauthn)),
        OwnPage::BackupCodes => Some(requirement_to_change(FactorKind::BackupCodes)),
    }
}

/// The answer to a wish to remove a way to sign in.
#[derive(Debug)]
pub enum Removal {
    Removed {
        token: SessionToken,
    },
    /// It is the last second factor: without it, only a link of an admin leads back in.
    Last,
    NotThere,
}

/// The answer to a new password.
#[derive(Debug)]
pub enum Changed {
    Done { token: SessionToken },
    OldWrong,
    Rule(PasswordRule),
    Pause { until: Timestamp },
}

impl Auth {
    /// Opens the ceremony that adds a factor of `kind` to the account of the session.
    pub async fn begin_adding(
        &self,
        visit: &Visit<'_>,
        browser: Browser,
        current: Current<'_>,
        kind: FactorKind,
    ) -> Result<Flow, AuthError> {
        let asked = requirement_to_add(kind, &visit.snapshot.factors);
        let user = self.fresh_enough(visit, current, &asked).await?;
        let state = account_flow(current, Step::EnrollTotp { key: None });
        let mut tx = self.store.begin().await?;
        let flow = self.open_flow(&mut tx, visit, browser, user, state).await?;
        tx.commit_unaudited(Unaudited::FlowProgress).await?;
        Ok(flow)
    }

    /// Makes new backup codes; the old ones end with the same commit.
    pub async fn renew_backup_codes(
        &self,
        visit: &Visit<'_>,
        browser: Browser,
        current: Current<'_>,
    ) -> Result<(Flow, SessionToken), AuthError> {
        let user = self.fresh_enough(visit, current, &requirement_to_change(FactorKind::BackupCodes)).await?;
        let codes = self.new_backup_codes(user.id, visit.snapshot.factors.backup_codes).await?;
        let empty = Step::BackupCodes { codes: String::new(), enrolled: false };
        let event = codes_event(visit, &user).with_session(current.live.authn.session);
        let mut tx = self.store.begin().await?;
        codes.store(&mut tx, user.id, visit.now).await?;
        let token = self.rotate(&mut tx, visit, current).await?;
        let mut flow = self.open_flow(&mut tx, visit, browser, user.clone(), account_flow(current, empty)).await?;
        let sealed = flow.seal(codes.shown.join("\n").as_bytes(), &self.keys, &*self.rng);
        let step = Step::BackupCodes { codes: sealed, enrolled: false };
        flow.advance(&mut tx, FlowState { step, ..flow.state.clone() }).await?;
        tx.end_sessions_of(user.id, Some(current.live.authn.session), "backup codes were renewed", visit.now).await?;
        tx.keep_flow(flow.id).await?;
        tx.commit(&[event]).await?;
        self.forget_user(user.id);
        Ok((flow, token))
    }

    /// Removes a way to sign in. The last one stays: a password alone would be left.
    pub async fn remove_factor(
        &self,
        visit: &Visit<'_>,
        current: Current<'_>,
        id: CredentialId,
    ) -> Result<Removal, AuthError> {
        let enrolled = self.enrolled(current.live.authn.user).await?;
        let Some(credential) = enrolled.find(id) else { return Ok(Removal::NotThere) };
        let user = self.fresh_enough(visit, current, &requirement_to_change(credential.kind)).await?;
        let event = visit
            .event(&user, Action::FactorRemove, Outcome::Success, "A way to sign in was removed.")
            .with_factor(&credential.label)
            .with_session(current.live.authn.session);
        let mut tx = self.store.begin().await?;
        let refused = match tx.remove_credential_but_last(user.id, id).await? {
            Removed::Yes => None,
            Removed::IsLast => Some(Removal::Last),
            Removed::NotThere => Some(Removal::NotThere),
        };
        if let Some(refused) = refused {
            tx.rollback().await;
            return Ok(refused);
        }
        let token = self.rotate(&mut tx, visit, current).await?;
        tx.end_sessions_of(user.id, Some(current.live.authn.session), "a way to sign in was removed", visit.now)
            .await?;
        tx.commit(&[event]).await?;
        self.forget_user(user.id);
        Ok(Removal::Removed { token })
    }

    /// Changes the password. The old one is checked like at a sign-in, with the same counters.
    pub async fn change_password(
        &self,
        visit: &Visit<'_>,
        current: Current<'_>,
        device: &Device,
        old: &Secret<String>,
        new: &str,
        end_others: bool,
    ) -> Result<Changed, AuthError> {
        let user = self.person_of(current.live).await?;
        let proof = match self.verify_password(visit, user.name.as_str(), old, device).await? {
            Answer::Right(proof) if proof.user().id == user.id => proof,
            Answer::Right(_) | Answer::Wrong => return Ok(Changed::OldWrong),
            Answer::Pause { until } => return Ok(Changed::Pause { until }),
        };
        let password = match self.check_new_password(visit, &user, new) {
            Ok(password) => password,
            Err(rule) => return Ok(Changed::Rule(rule)),
        };
        let hash = self.passwords.hash(password).await?;
        let session = current.live.authn.session;
        let event = visit
            .event(&user, Action::PasswordChange, Outcome::Success, "The password was changed.")
            .with_session(session);
        let mut tx = self.store.begin().await?;
        // The old password was right when it was checked; it must be the old one still.
        tx.hold(proof.user().id, proof.user().epoch).await?;
        tx.set_password(user.id, &hash, visit.now).await?;
        let evidence = with_evidence(current.live.authn.evidence.clone(), proof.evidence());
        let token =
            issue::add_evidence(&mut tx, session, current.token, current.host, &evidence, visit.now, &*self.rng)
                .await?;
        // Whoever knew the old password may be half-way in.
        tx.end_flows_of(user.id).await?;
        if end_others {
            tx.end_sessions_of(user.id, Some(session), "the password was changed", visit.now).await?;
        }
        tx.commit(&[event]).await?;
        self.forget_user(user.id);
        Ok(Changed::Done { token })
    }

    /// The person's live sessions, newest activity first.
    pub async fn sessions_of(&self, visit: &Visit<'_>, user: &User) -> Result<Vec<SessionRow>, AuthError> {
        let mut rows = self.store.sessions_of(user.id, visit.now).await?;
        rows.sort_by_key(|row| std::cmp::Reverse(row.last_seen_at));
        Ok(rows)
    }

    /// Ends one session of the person, or says that it is none of theirs.
    pub async fn end_session(&self, visit: &Visit<'_>, user: &User, session: SessionId) -> Result<bool, AuthError> {
        if !self.store.sessions_of(user.id, visit.now).await?.iter().any(|row| row.id == session) {
            return Ok(false);
        }
        let event = visit
            .event(user, Action::SessionEnd, Outcome::Success, "The person ended a session of theirs.")
            .with_session(session);
        let mut tx = self.store.begin().await?;
        issue::end(&mut tx, session, "signed out from the account page", visit.now).await?;
        tx.commit(&[event]).await?;
        self.forget(session);
        Ok(true)
    }

    /// Ends all sessions of the person but `keep`; says how many there were.
    pub async fn end_other_sessions(
        &self,
        visit: &Visit<'_>,
        user: &User,
        keep: Option<SessionId>,
    ) -> Result<u64, AuthError> {
        let event =
            visit.event(user, Action::SessionEnd, Outcome::Success, "The person ended all their other sessions.");
        let mut tx = self.store.begin().await?;
        let ended = tx.end_sessions_of(user.id, keep, "signed out everywhere", visit.now).await?;
        tx.commit(&[event]).await?;
        self.forget_user(user.id);
        Ok(ended)
    }

    /// Signs out: the session ends on every host, in every process.
    pub async fn sign_out(&self, visit: &Visit<'_>, user: &User, session: SessionId) -> Result<(), AuthError> {
        let event = visit.event(user, Action::SignOut, Outcome::Success, "Signed out.").with_session(session);
        let mut tx = self.store.begin().await?;
        issue::end(&mut tx, session, "signed out", visit.now).await?;
        tx.commit(&[event]).await?;
        self.forget(session);
        Ok(())
    }

    /// The person, if what this session has shown is enough for a change. The pages
    /// ask for more before they come here; this is what holds.
    pub(super) async fn fresh_enough(
        &self,
        visit: &Visit<'_>,
        current: Current<'_>,
        asked: &Requirement,
    ) -> Result<User, AuthError> {
        let user = self.person_of(current.live).await?;
        match asked.missing(&current.live.authn.evidence, visit.now) {
            None => Ok(user),
            Some(_) => Err(AuthError::TooLittleShown),
        }
    }

    /// A new id with the evidence that the session has (S-SESS-2).
    async fn rotate(&self, tx: &mut Tx, visit: &Visit<'_>, current: Current<'_>) -> Result<SessionToken, AuthError> {
        let evidence = current.live.authn.evidence.clone();
        let session = current.live.authn.session;
        Ok(issue::add_evidence(tx, session, current.token, current.host, &evidence, visit.now, &*self.rng).await?)
    }
}

fn account_flow(current: Current<'_>, step: Step) -> FlowState {
    FlowState {
        kind: FlowKind::Account { session: current.live.authn.session },
        step,
        evidence: current.live.authn.evidence.clone(),
        goal: Goal::default(),
        backup_spent: false,
    }
}
