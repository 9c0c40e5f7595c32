//! A browser that its person had remembered: for a while their password alone meets the levels that allow it.
//!
//! What the browser holds is good for one use. Each use puts another in its place, so of two browsers with copies
//! of one cookie the slower one comes with something that was used before; then the series ends, and the person is
//! told. It is looked at behind a right password alone (S-LOGIN-1), for the person who had it remembered, and ends
//! with whatever ends a sign-in under way: a changed password or factor, the end of all sessions.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::error::AuthError;
use super::plan::{Enrolled, Plan, plan, with_evidence};
use super::proof::FactorVerified;
use super::sign_in::Seat;
use super::{Auth, Visit};
use crate::base::ids::{RememberedId, UserId};
use crate::base::rng::{self, Rng};
use crate::crypto::{KeyRing, Purpose, sha256};
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::host::HostName;
use crate::domain::level::Requirement;
use crate::domain::user::User;
use crate::store::{Held, RememberedRow, RememberedSecret, RememberedUse, Tx};

/// Of the host where people sign in, and of no other; never passed on to an app.
pub const REMEMBERED_COOKIE: &str = "__Host-Http-stepgate-remembered";

/// What the cookie says, once its seal was opened. One that does not open is none: it opens no door by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    u: UserId,
    i: RememberedId,
    c: i64,
    s: String,
}

/// What a browser is to hold from now on, and for how long.
#[derive(Clone, Debug)]
pub struct RememberedCookie {
    pub value: String,
    pub life: Duration,
}

impl Remembered {
    fn new(user: UserId, id: RememberedId, counter: i64, rng: &dyn Rng) -> Self {
        Self { u: user, i: id, c: counter, s: BASE64URL_NOPAD.encode(&rng::bytes::<32>(rng)) }
    }

    /// Reads the cookie's value. It is sealed for its host (S-COOK-4), so that only what we gave to a browser there
    /// can show a copy: nobody ends a series by guessing at its counter.
    #[must_use]
    pub fn open(value: &str, host: &HostName, keys: &KeyRing) -> Option<Self> {
        let plain = keys.open_token_for(Purpose::Remembered, host.as_str().as_bytes(), value.as_bytes()).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    fn seal(&self, host: &HostName, keys: &KeyRing) -> String {
        // Texts and numbers always serialise.
        let plain = serde_json::to_vec(self).unwrap_or_default();
        keys.seal_token_for(Purpose::Remembered, host.as_str().as_bytes(), &plain)
    }

    fn hash(&self) -> [u8; 32] {
        sha256(self.s.as_bytes())
    }

    fn secret(&self) -> RememberedSecret {
        RememberedSecret { id: self.i, counter: self.c, hash: self.hash() }
    }
}

/// A sign-in that a remembered browser completes: the transaction that has used its secret.
pub(super) struct Recalled {
    pub(super) tx: Tx,
    pub(super) evidence: Vec<FactorUse>,
    /// `None` where another tab got it a moment ago.
    pub(super) cookie: Option<RememberedCookie>,
}

impl Auth {
    /// Whether what this browser holds completes the sign-in of a person whose password was right. Where it does not,
    /// nothing is used up.
    pub(super) async fn recall(
        &self,
        visit: &Visit<'_>,
        user: &User,
        asked: &Requirement,
        evidence: &[FactorUse],
        enrolled: &Enrolled,
        seat: Seat<'_>,
    ) -> Result<Option<Recalled>, AuthError> {
        let Some(shown) = seat.remembered.filter(|shown| shown.u == user.id && asked.remember.is_some()) else {
            return Ok(None);
        };
        let Some(row) = self.store.remembered(user.id, shown.i, visit.now).await? else { return Ok(None) };
        let works = |use_of: &FactorUse| {
            let credential = use_of.credential.and_then(|id| enrolled.find(id));
            credential.is_some_and(|credential| credential.disabled_at.is_none())
        };
        let evidence = with_evidence(evidence.to_vec(), remembered_use(&row.evidence));
        if !works(&row.evidence) || plan(asked, &evidence, enrolled, visit.now) != Plan::Enough {
            return Ok(None);
        }
        let next = Remembered::new(user.id, shown.i, shown.c.saturating_add(1), &*self.rng);
        let mut tx = self.store.begin().await?;
        tx.hold(user.id, user.epoch).await?;
        match tx.use_remembered(user.id, &shown.secret(), &next.hash(), visit.now).await? {
            RememberedUse::Rotated => {
                let life = row.expires_at.until(visit.now);
                let value = next.seal(seat.host, &self.keys);
                Ok(Some(Recalled { tx, evidence, cookie: Some(RememberedCookie { value, life }) }))
            }
            RememberedUse::Parallel => Ok(Some(Recalled { tx, evidence, cookie: None })),
            RememberedUse::Copied => {
                let reason = "What a remembered browser holds was used a second time; it is forgotten.";
                tx.commit(&[visit.event(user, Action::DeviceCopied, Outcome::Refused, reason)]).await?;
                tracing::warn!(user.name = %user.name, "a copy of what a remembered browser holds was used");
                Ok(None)
            }
            RememberedUse::Gone => {
                tx.rollback().await;
                Ok(None)
            }
        }
    }

    /// Remembers this browser, by the factor that was shown this moment; `None` where that may not be.
    pub(super) async fn remember(
        &self,
        (tx, held): (&mut Tx, Held),
        visit: &Visit<'_>,
        user: &User,
        asked: &Requirement,
        proof: &FactorVerified,
        seat: Seat<'_>,
    ) -> Result<Option<(RememberedCookie, FactorUse, AuditEvent)>, AuthError> {
        let evidence = proof.evidence();
        let Some(life) = asked.remember.filter(|_| seat.remember && can_stand(evidence.kind)) else {
            return Ok(None);
        };
        // Whoever this browser was remembered for before: their cookie is replaced.
        if let Some(old) = seat.remembered {
            tx.forget_remembered(old.u, old.i).await?;
        }
        let id = RememberedId::new(visit.now, &*self.rng);
        let first = Remembered::new(user.id, id, 1, &*self.rng);
        let row = RememberedRow {
            id,
            user: user.id,
            evidence: evidence.clone(),
            created_at: visit.now,
            used_at: visit.now,
            expires_at: visit.now.plus(life),
            address: visit.client.to_string(),
            user_agent: visit.user_agent.clone().unwrap_or_default(),
        };
        tx.remember_device(held, &row, &first.hash()).await?;
        let reason = "The browser is remembered: its person is asked for no second factor for a while.";
        let event =
            visit.event(user, Action::DeviceRemember, Outcome::Success, reason).with_factor(evidence.kind.as_str());
        let cookie = RememberedCookie { value: first.seal(seat.host, &self.keys), life };
        Ok(Some((cookie, remembered_use(&evidence), event)))
    }

    /// The browsers that are remembered for a person, last used first.
    pub async fn remembered_of(&self, visit: &Visit<'_>, user: &User) -> Result<Vec<RememberedRow>, AuthError> {
        Ok(self.store.remembered_of(user.id, visit.now).await?)
    }

    /// The person has one browser forgotten, or all of theirs; how many.
    pub async fn forget_remembered(
        &self,
        visit: &Visit<'_>,
        user: &User,
        which: Option<RememberedId>,
    ) -> Result<u64, AuthError> {
        let mut tx = self.store.begin().await?;
        let (gone, reason) = match which {
            Some(id) => (u64::from(tx.forget_remembered(user.id, id).await?), "The person had a browser forgotten."),
            None => (tx.forget_all_remembered(user.id).await?, "The person had all remembered browsers forgotten."),
        };
        if gone == 0 {
            tx.rollback().await;
            return Ok(0);
        }
        tx.commit(&[visit.event(user, Action::DeviceForget, Outcome::Success, reason)]).await?;
        Ok(gone)
    }
}

/// For how long a way would be remembered, where the page is to offer it. Backup codes are for bad days, and what is
/// sent by mail is no thing that somebody has.
#[must_use]
pub fn offered(asked: &Requirement, kind: FactorKind) -> Option<Duration> {
    asked.remember.filter(|_| can_stand(kind))
}

fn can_stand(kind: FactorKind) -> bool {
    matches!(kind, FactorKind::Totp | FactorKind::Hotp | FactorKind::Webauthn)
}

/// It stands for what was shown, and for none of its properties.
fn remembered_use(shown: &FactorUse) -> FactorUse {
    FactorUse { remembered: true, phishing_resistant: false, user_verified: false, ..shown.clone() }
}
