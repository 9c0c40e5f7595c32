//! One-time links: an operator lets a person in to set up their account, or to enroll a new factor.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

use super::error::AuthError;
use super::flow::{Browser, Flow, FlowKind, FlowState, Goal, Step};
use super::users::Operator;
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::rng;
use crate::crypto::sha256;
use crate::domain::audit::{Action, Outcome};
use crate::domain::portal::PortalRoute;
use crate::domain::user::{User, UserStatus};
use crate::store::{LinkKind, LinkRow, Tx};

pub const SIGN_UP_LIFE: Duration = Duration::from_secs(72 * 3600);
pub const ACCESS_PASS_LIFE: Duration = Duration::from_secs(8 * 3600);

/// A new link. The code is in the query, so that it works without a script; it is single use,
/// short-lived, claimed by a POST alone (mail scanners open every link), and never logged.
pub struct Link {
    pub kind: LinkKind,
    pub path: Zeroizing<String>,
    pub expires_at: Timestamp,
}

impl Auth {
    /// Makes a link for `user` within `tx`; an older one ends, and what was begun with it. Whoever had a factor before
    /// gets an access pass: it opens enrollment and nothing else (S-REC-3).
    pub(super) async fn new_link(&self, tx: &mut Tx, user: &User, now: Timestamp) -> Result<Link, AuthError> {
        let (kind, life) = match user.ever_enrolled {
            true => (LinkKind::AccessPass, ACCESS_PASS_LIFE),
            false => (LinkKind::SignUp, SIGN_UP_LIFE),
        };
        let code = Zeroizing::new(BASE64URL_NOPAD.encode(&rng::bytes::<24>(&*self.rng)));
        let expires_at = now.plus(life);
        let row = LinkRow { hash: sha256(code.as_bytes()), user: user.id, kind, expires_at, created_at: now };
        tx.insert_link(&row).await?;
        tx.end_flows_of(user.id).await?;
        let path = Zeroizing::new(format!("{}?code={}", PortalRoute::EnrollLink.path(), *code));
        Ok(Link { kind, path, expires_at })
    }

    /// A new link for an account, by the command line.
    pub async fn link(&self, operator: &Operator, user: &User) -> Result<Link, AuthError> {
        let mut tx = self.store.begin().await?;
        let link = self.new_link(&mut tx, user, operator.now).await?;
        let reason = match link.kind {
            LinkKind::SignUp => "A sign-up link was made.",
            LinkKind::AccessPass => "An access pass was made.",
        };
        tx.commit(&[operator.event(user, Action::LinkCreate, reason)]).await?;
        Ok(link)
    }

    /// Whether a link still works; looking does not use it.
    pub async fn peek_link(&self, visit: &Visit<'_>, code: &str) -> Result<Option<(User, LinkKind)>, AuthError> {
        let Some((user, kind)) = self.store.peek_link(&sha256(code.as_bytes()), visit.now).await? else {
            return Ok(None);
        };
        let user = self.store.user_by_id(user).await?;
        Ok(user.filter(|user| fits(user, kind)).map(|user| (user, kind)))
    }

    /// Uses a link: the first POST wins, whatever the replica.
    pub async fn claim_link(&self, visit: &Visit<'_>, browser: Browser, code: &str) -> Result<Option<Flow>, AuthError> {
        let Some((user, _)) = self.peek_link(visit, code).await? else { return Ok(None) };
        let mut tx = self.store.begin().await?;
        let Some((owner, kind)) = tx.claim_link(&sha256(code.as_bytes()), visit.now).await? else {
            tx.rollback().await;
            return Ok(None);
        };
        if owner != user.id || !fits(&user, kind) {
            tx.rollback().await;
            return Ok(None);
        }
        let (kind, step, reason) = match kind {
            LinkKind::SignUp => (FlowKind::SignUp, Step::SetPassword, "A sign-up link was used."),
            LinkKind::AccessPass => (FlowKind::AccessPass, Step::EnrollTotp { key: None }, "An access pass was used."),
        };
        let state = FlowState { kind, step, evidence: Vec::new(), goal: Goal::default(), backup_spent: false };
        let event = visit.event(&user, Action::LinkUse, Outcome::Success, reason);
        let flow = self.open_flow(&mut tx, visit, browser, user, state).await?;
        tx.commit(&[event]).await?;
        Ok(Some(flow))
    }
}

/// A sign-up link is for someone who has no factor yet: were it good for more, an old one in a
/// mailbox would replace password and phone of an account in use.
fn fits(user: &User, kind: LinkKind) -> bool {
    user.status == UserStatus::Active && (kind == LinkKind::AccessPass || !user.ever_enrolled)
}
