//! A sign-in without a name: a passkey says whose it is, and checks who holds it, so it stands for
//! both types of factor (S-FAC-1).

use super::error::AuthError;
use super::factors::webauthn::{KeyAnswer, KeyTrouble, Question, Rp};
use super::flow::{Browser, Goal};
use super::plan::{Plan, plan};
use super::sign_in::{Person, Seat, SignedIn, requirement};
use super::{Auth, Visit};
use crate::domain::audit::{Action, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::host::HostName;
use crate::domain::user::UserStatus;

/// The answer to a passkey.
#[derive(Debug)]
pub enum ByPasskey {
    SignedIn(Box<SignedIn>),
    /// Signed in, and the page that was asked for wants something else besides: the step-up asks for it.
    MoreFor {
        done: Box<SignedIn>,
        goal: Goal,
    },
    Not(KeyTrouble),
}

impl Auth {
    /// The question on the sign-in page; `None` where passkeys are not taken.
    pub fn passkey_question(
        &self,
        visit: &Visit<'_>,
        host: &HostName,
        browser: Browser,
    ) -> Result<Option<Question>, AuthError> {
        if !visit.snapshot.factors.passkeys {
            return Ok(None);
        }
        Rp::at(visit.snapshot, host).map(|rp| self.ask_any_key(visit, &rp, browser)).transpose()
    }

    /// Signs in whoever the passkey says and is.
    pub async fn sign_in_by_passkey(
        &self,
        visit: &Visit<'_>,
        browser: Browser,
        answer: KeyAnswer<'_>,
        goal: Goal,
        seat: Seat<'_>,
    ) -> Result<ByPasskey, AuthError> {
        let rp = Rp::at(visit.snapshot, seat.host).filter(|_| visit.snapshot.factors.passkeys);
        let rp = rp.ok_or(AuthError::FlowGone)?;
        let looked = self.look_at_any_key(visit, &rp, browser, answer).await?;
        let owner = match &looked {
            Ok((owner, _)) => Some(*owner),
            Err((owner, _)) => *owner,
        };
        let user = match owner {
            Some(owner) => self.store.user_by_id(owner).await?.filter(|user| user.status == UserStatus::Active),
            None => None,
        };
        let (user, used) = match (user, looked) {
            (Some(user), Ok((_, used))) => (user, used),
            (Some(user), Err((_, trouble))) => {
                self.key_failed(visit, &user, trouble, Outcome::Refused).await?;
                return Ok(ByPasskey::Not(trouble));
            }
            (None, Err((None, trouble))) => return Ok(ByPasskey::Not(trouble)),
            // An account that may not be used answers like a key that nobody has (S-LOGIN-1).
            (None, _) => return Ok(ByPasskey::Not(KeyTrouble::NotTheirs)),
        };
        let enrolled = self.enrolled(user.id).await?;
        let mut tx = self.store.begin().await?;
        tx.hold(user.id, user.epoch).await?;
        let Some(proof) = used.redeem(&mut tx, visit.now).await? else {
            tx.rollback().await;
            self.key_failed(visit, &user, KeyTrouble::Used, Outcome::Refused).await?;
            return Ok(ByPasskey::Not(KeyTrouble::Used));
        };
        let verified = visit
            .event(&user, Action::FactorVerify, Outcome::Success, "The answer of the key was right.")
            .with_factor(FactorKind::Webauthn.as_str());
        let evidence = vec![proof.evidence()];
        let back = self.open_goal(visit, &goal);
        let asked = requirement(visit.snapshot, back.as_ref(), Person::new(&user, &enrolled), visit.now);
        let enough = plan(&asked, &evidence, &enrolled, visit.now) == Plan::Enough;
        let (here, later) = if enough { (goal, None) } else { (Goal::default(), Some(goal)) };
        let done = Box::new(self.sign_in(tx, visit, user, evidence, here, seat, vec![verified]).await?);
        Ok(match later {
            None => ByPasskey::SignedIn(done),
            Some(goal) => ByPasskey::MoreFor { done, goal },
        })
    }
}
