//! From a right password to a session: what comes next, and the one transaction at the end.

use std::time::Duration;

use super::device::Device;
use super::error::AuthError;
use super::factor::{Looked, Shown};
use super::factors::webauthn::{Bound, Question, Rp};
use super::flow::{Browser, Flow, FlowKind, FlowState, Goal, Step};
use super::handover;
use super::plan::{Enrolled, Plan, Way, plan, with_evidence};
use super::proof::PasswordVerified;
use super::remembered::{self, Recalled, Remembered, RememberedCookie};
use super::return_to::ReturnTo;
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::SessionId;
use crate::base::net::ClientIp;
use crate::config::snapshot::Snapshot;
use crate::domain::audit::{Action, AuditEvent, Outcome, Unfamiliar};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::host::HostName;
use crate::domain::level::{Grace, Requirement};
use crate::domain::user::{GroupName, User, UserName};
use crate::session::issue::{self, NewSession, Opened};
use crate::session::{LiveSession, SessionToken};
use crate::store::{Tx, Unaudited};

/// What comes after a step that went well.
#[derive(Debug)]
pub enum Next {
    SignedIn(Box<SignedIn>),
    /// Show one of these.
    Confirm {
        flow: Flow,
        ways: Vec<Way>,
    },
    /// The first factor is to be enrolled.
    Enroll {
        flow: Flow,
    },
    /// The person has nothing that would be enough for where they want to go.
    NothingFits {
        user: User,
        any_of: Vec<FactorKind>,
        ways: Vec<Way>,
    },
}

/// The answer to a code within a sign-in.
#[derive(Debug)]
pub enum Confirmed {
    Next(Next),
    /// `Looked::No` or `Looked::Pause`; the flow goes on.
    Not {
        flow: Flow,
        looked: Looked,
    },
}

/// The answer to a wish to go on within a grace.
#[derive(Debug)]
pub enum PutOff {
    /// It does not let them, or no longer.
    No,
    /// The app is on this very host.
    Here,
    Over(handover::Offer),
}

/// A session that has just begun.
#[derive(Debug)]
pub struct SignedIn {
    pub user: User,
    pub session: SessionId,
    pub token: SessionToken,
    pub goal: Goal,
    /// Set where the person goes on to an app: the code for its host.
    pub handover: Option<handover::Offer>,
    /// They get there within a grace alone: told before they go on.
    pub in_grace: bool,
    /// What a remembered browser is to hold from now on.
    pub remembered: Option<RememberedCookie>,
}

/// Where the session is to live, and which one of this browser it takes the place of.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    pub host: &'a HostName,
    /// The session that the browser presented here. A new sign-in ends it: nothing of the old id,
    /// whoever fixed it, lives on (S-SESS-2).
    pub replaces: Option<SessionId>,
    /// What another person has begun in this browser ends here: the history of the one must not
    /// lead the other to keys and backup codes.
    pub browser: Option<Browser>,
    /// What this browser has signed in to before; `None` where a notice would tell what its person was told
    /// a moment ago.
    pub device: Option<&'a Device>,
    /// The person was told of the grace that lets them pass, and goes on.
    pub put_off: bool,
    /// What this browser holds that was remembered.
    pub remembered: Option<&'a Remembered>,
    /// The person wants this browser remembered.
    pub remember: bool,
}

/// Whom a requirement is for: exceptions name people and groups.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    pub name: &'a UserName,
    pub groups: &'a [GroupName],
    pub ever_enrolled: bool,
    pub enrolled: &'a Enrolled,
}

impl<'a> Person<'a> {
    #[must_use]
    pub fn new(user: &'a User, enrolled: &'a Enrolled) -> Self {
        Self { name: &user.name, groups: &user.groups, ever_enrolled: user.ever_enrolled, enrolled }
    }
}

/// What a goal asks of a person: the level of the app's rule, or what an exception or a grace puts in its place.
/// Without an app: two factors from those who have them, else what they have.
#[must_use]
pub fn requirement(snapshot: &Snapshot, back: Option<&ReturnTo>, person: Person<'_>, now: Timestamp) -> Requirement {
    let Person { name, groups, ever_enrolled, enrolled } = person;
    // Else whoever is let off for the key that they lost would be asked for it at the sign-in.
    let excepted = back.and_then(|back| {
        let policy = &snapshot.routes.find(&back.host)?.policy;
        policy.lets_off(&back.rule, name, groups, now).next()
    });
    if let Some(exception) = excepted {
        return exception.level.requirement.clone();
    }
    let level = match back {
        Some(back) => snapshot.level(back.level.as_str()).or_else(|| snapshot.level("mfa")),
        None if enrolled.has_second() => snapshot.level("mfa"),
        None => snapshot.level("password"),
    };
    // Whatever the account's own mark says: nobody skips a factor that they have.
    let grace = level.and_then(|level| level.grace_for(ever_enrolled || enrolled.has_second(), now));
    if let Some(grace) = grace {
        return grace.requirement.clone();
    }
    // A level that a reload took away asks for two factors: the safe reading of "more".
    level.map_or(two_factors(), |level| level.requirement.clone())
}

/// The grace that alone lets somebody on to an app, who has shown this and never had a second factor.
#[must_use]
pub fn in_grace<'s>(
    snapshot: &'s Snapshot,
    back: Option<&ReturnTo>,
    (name, groups, ever_enrolled): (&UserName, &[GroupName], bool),
    evidence: &[FactorUse],
    now: Timestamp,
) -> Option<&'s Grace> {
    let back = back?;
    let level = snapshot.level(back.level.as_str())?;
    let policy = &snapshot.routes.find(&back.host)?.policy;
    if policy.lets_off(&back.rule, name, groups, now).next().is_some() {
        return None;
    }
    let grace = level.grace_for(ever_enrolled, now)?;
    (level.requirement.missing(evidence, now).is_some() && grace.requirement.missing(evidence, now).is_none())
        .then_some(grace)
}

fn two_factors() -> Requirement {
    Requirement {
        factors: 2,
        max_age: None,
        phishing_resistant: false,
        user_verified: false,
        kinds: None,
        remember: None,
    }
}

impl Auth {
    /// Goes on from a right password.
    pub async fn after_password(
        &self,
        visit: &Visit<'_>,
        browser: Browser,
        proof: PasswordVerified,
        goal: Goal,
        seat: Seat<'_>,
    ) -> Result<Next, AuthError> {
        let user = proof.user().clone();
        let enrolled = self.with_destinations(visit, user.email.as_deref(), self.enrolled(user.id).await?)?;
        let back = self.open_goal(visit, &goal);
        let evidence = vec![proof.evidence()];
        let verified = visit
            .event(&user, Action::PasswordVerify, Outcome::Success, "The password was right.")
            .with_factor(FactorKind::Password.as_str());
        let may_enroll = may_enroll_by_password(&user, visit.now) && !enrolled.has_second();
        let asked = requirement(visit.snapshot, back.as_ref(), Person::new(&user, &enrolled), visit.now);
        let planned = plan(&asked, &evidence, &enrolled, visit.now);
        let who = (&user.name, user.groups.as_slice(), user.ever_enrolled || enrolled.has_second());
        let in_grace = in_grace(visit.snapshot, back.as_ref(), who, &evidence, visit.now).is_some();
        // Who may enroll here and now is led there, and may put it off on that page.
        let enough = planned == Plan::Enough && !(may_enroll && (back.is_none() || in_grace));
        if enough {
            let tx = self.store.begin().await?;
            return Box::pin(self.sign_in(tx, visit, user, evidence, goal, seat, vec![verified])).await.map(signed_in);
        }
        if let Plan::Ask { password: false, .. } = &planned
            && !may_enroll
            && let Some(recalled) = Box::pin(self.recall(visit, &user, &asked, &evidence, &enrolled, seat)).await?
        {
            let Recalled { tx, evidence, cookie } = recalled;
            let mut done = Box::pin(self.sign_in(tx, visit, user, evidence, goal, seat, vec![verified])).await?;
            done.remembered = cookie;
            return Ok(signed_in(done));
        }
        let (kind, step) = match &planned {
            _ if may_enroll => (FlowKind::FirstLogin, Step::EnrollTotp { key: None }),
            Plan::Ask { .. } | Plan::Enough => (FlowKind::SignIn, Step::Confirm),
            Plan::Impossible { .. } => {
                self.store.audit_only(&[verified]).await?;
                let Plan::Impossible { any_of, ways, .. } = planned else { return Err(AuthError::FlowGone) };
                return Ok(Next::NothingFits { user, any_of, ways });
            }
        };
        let state = FlowState { kind, step, evidence, goal, backup_spent: false };
        let mut tx = self.store.begin().await?;
        let flow = self.open_flow(&mut tx, visit, browser, user, state).await?;
        tx.commit(&[verified]).await?;
        Ok(match planned {
            Plan::Ask { ways, .. } if kind == FlowKind::SignIn => Next::Confirm { flow, ways },
            Plan::Ask { .. } | Plan::Enough | Plan::Impossible { .. } => Next::Enroll { flow },
        })
    }

    /// The ways that a sign-in in progress may go on.
    pub async fn ways_of(&self, visit: &Visit<'_>, flow: &Flow) -> Result<Vec<Way>, AuthError> {
        let enrolled = self.with_destinations(visit, flow.user.email.as_deref(), self.enrolled(flow.user.id).await?)?;
        Ok(match self.plan_of(visit, flow, &flow.state.evidence, &enrolled) {
            Plan::Ask { ways, .. } | Plan::Impossible { ways, .. } => ways,
            Plan::Enough => Vec::new(),
        })
    }

    /// For how long this browser would be remembered, where a sign-in in progress may offer it.
    pub async fn remember_offer(
        &self,
        visit: &Visit<'_>,
        flow: &Flow,
        kind: FactorKind,
    ) -> Result<Option<Duration>, AuthError> {
        let enrolled = self.enrolled(flow.user.id).await?;
        Ok(remembered::offered(&self.asked_of(visit, flow, &enrolled), kind))
    }

    /// The question to a key that a sign-in in progress goes on with; `None` where there is none.
    pub async fn key_question(
        &self,
        visit: &Visit<'_>,
        flow: &Flow,
        host: &HostName,
    ) -> Result<Option<Question>, AuthError> {
        let Some(rp) = Rp::at(visit.snapshot, host) else { return Ok(None) };
        let enrolled = self.enrolled(flow.user.id).await?;
        let verified = self.asked_of(visit, flow, &enrolled).user_verified;
        Ok(Some(self.ask_key(visit, &rp, Bound::SignIn(flow.id), &enrolled, verified)?))
    }

    /// Checks a code within a sign-in. The flow, the spent code, the session and the trail's rows
    /// are one transaction.
    pub async fn confirm_sign_in(
        &self,
        visit: &Visit<'_>,
        mut flow: Flow,
        shown: Shown<'_>,
        seat: Seat<'_>,
    ) -> Result<Confirmed, AuthError> {
        if flow.state.kind != FlowKind::SignIn || flow.state.step != Step::Confirm {
            return Err(AuthError::FlowGone);
        }
        let (kind, bound) = (shown.kind(), Bound::SignIn(flow.id));
        let enrolled = self.with_destinations(visit, flow.user.email.as_deref(), self.enrolled(flow.user.id).await?)?;
        if kind == FactorKind::BackupCodes && flow.state.backup_spent {
            return Err(AuthError::FlowGone);
        }
        let candidate = match self.look(visit, &flow.user, &enrolled, shown, seat.host, bound).await? {
            Looked::Candidate(candidate) => candidate,
            looked @ (Looked::No { .. } | Looked::Pause { .. }) => return Ok(Confirmed::Not { flow, looked }),
        };
        let mut tx = self.store.begin().await?;
        // First of all: whoever changes the account locks its row first too, so nobody waits in a ring.
        let held = tx.hold(flow.user.id, flow.user.epoch).await?;
        let Some(proof) = candidate.redeem(&mut tx, visit.now).await? else {
            tx.rollback().await;
            let looked = self.code_not_spent(visit, &flow.user, &candidate).await?;
            return Ok(Confirmed::Not { flow, looked });
        };
        let mut events = vec![
            visit
                .event(&flow.user, Action::FactorVerify, Outcome::Success, shown.was_right())
                .with_factor(kind.as_str()),
        ];
        let mut evidence = with_evidence(flow.state.evidence.clone(), proof.evidence());
        let next = match self.plan_of(visit, &flow, &evidence, &enrolled) {
            Plan::Enough => {
                flow.consume(&mut tx).await?;
                let (user, goal) = (flow.user.clone(), flow.state.goal.clone());
                let asked = self.asked_of(visit, &flow, &enrolled);
                let mut cookie = None;
                if let Some(kept) = Box::pin(self.remember((&mut tx, held), visit, &user, &asked, &proof, seat)).await?
                {
                    let (value, shown, event) = kept;
                    evidence = with_evidence(evidence, shown);
                    events.push(event);
                    cookie = Some(value);
                }
                let mut done = Box::pin(self.sign_in(tx, visit, user, evidence, goal, seat, events)).await?;
                done.remembered = cookie;
                signed_in(done)
            }
            Plan::Ask { ways, .. } => {
                let backup_spent = flow.state.backup_spent || kind == FactorKind::BackupCodes;
                let state = FlowState { evidence, backup_spent, ..flow.state.clone() };
                flow.advance(&mut tx, state).await?;
                tx.commit(&events).await?;
                Next::Confirm { flow, ways }
            }
            Plan::Impossible { any_of, ways, .. } => {
                flow.consume(&mut tx).await?;
                tx.commit(&events).await?;
                Next::NothingFits { user: flow.user.clone(), any_of, ways }
            }
        };
        self.succeeded(&candidate).await;
        Ok(Confirmed::Next(next))
    }

    /// Ends a ceremony in a session: the session, its id for this host, the hand-over to the app
    /// and the trail commit together or not at all. `tx` may already hold what led here.
    #[expect(clippy::too_many_arguments, reason = "the one place where all of a sign-in comes together")]
    pub(super) async fn sign_in(
        &self,
        mut tx: Tx,
        visit: &Visit<'_>,
        user: User,
        evidence: Vec<FactorUse>,
        goal: Goal,
        seat: Seat<'_>,
        mut events: Vec<AuditEvent>,
    ) -> Result<SignedIn, AuthError> {
        let address = visit.client.to_string();
        let new = NewSession {
            user: user.id,
            epoch: user.epoch,
            address: &address,
            user_agent: visit.user_agent.as_deref().unwrap_or_default(),
            evidence: &evidence,
            host: seat.host,
        };
        let unfamiliar = self.unfamiliar(&mut tx, visit, &user, seat.device).await?;
        let limits = &visit.snapshot.sessions;
        let Opened { session, token, displaced } = issue::open(&mut tx, &new, limits, visit.now, &*self.rng).await?;
        if let Some(browser) = seat.browser {
            tx.end_flows_of_others(browser.hash(), user.id).await?;
        }
        if let Some(old) = seat.replaces {
            issue::end(&mut tx, old, "replaced by a new sign-in", visit.now).await?;
        }
        let back = self.open_goal(visit, &goal);
        let who = (&user.name, user.groups.as_slice(), user.ever_enrolled);
        let in_grace = in_grace(visit.snapshot, back.as_ref(), who, &evidence, visit.now).is_some();
        let same_host = back.as_ref().is_some_and(|back| back.host == *seat.host);
        // Elsewhere it is written when they go on from the page that tells of it, and nobody gets there but by that.
        if in_grace && (seat.put_off || same_host) {
            events.push(put_off(visit, &user, session, back.as_ref()));
        }
        let mut event =
            visit.event(&user, Action::SignIn, Outcome::Success, &reason_of(&evidence)).with_session(session);
        event.unfamiliar = unfamiliar;
        if let Some(back) = &back {
            event = event.with_rule(back.app.as_str(), back.rule.as_str());
        }
        events.push(event);
        for oldest in &displaced {
            let reason = "The oldest session ended: there were too many.";
            events.push(visit.event(&user, Action::SessionEnd, Outcome::Success, reason).with_session(*oldest));
        }
        let handover = match &back {
            Some(back) if back.host != *seat.host && (!in_grace || seat.put_off) => {
                Some(self.offer_handover(&mut tx, visit, session, &evidence, back, goal.fragment.as_deref()).await?)
            }
            Some(_) | None => None,
        };
        tx.commit(&events).await?;
        for ended in seat.replaces.into_iter().chain(displaced) {
            self.forget(ended);
        }
        Ok(SignedIn { user, session, token, goal, handover, in_grace: in_grace && !seat.put_off, remembered: None })
    }

    /// Somebody who may enroll at this sign-in goes on without, while a grace lets them.
    pub async fn put_off_at_sign_in(&self, visit: &Visit<'_>, flow: Flow, seat: Seat<'_>) -> Result<Next, AuthError> {
        if flow.state.kind != FlowKind::FirstLogin || !matches!(flow.state.step, Step::EnrollTotp { .. }) {
            return Err(AuthError::FlowGone);
        }
        if self.flow_grace(visit, &flow).await?.is_none() {
            return Ok(Next::Enroll { flow });
        }
        let mut tx = self.store.begin().await?;
        // As it was when the factors were read: whoever has enrolled since is asked for what they have.
        tx.hold(flow.user.id, flow.user.epoch).await?;
        flow.consume(&mut tx).await?;
        let (user, state) = (flow.user.clone(), flow.state);
        let seat = Seat { put_off: true, ..seat };
        Box::pin(self.sign_in(tx, visit, user, state.evidence, state.goal, seat, Vec::new())).await.map(signed_in)
    }

    /// The grace within which the person of an enrollment could put it off.
    pub async fn flow_grace<'s>(&self, visit: &Visit<'s>, flow: &Flow) -> Result<Option<&'s Grace>, AuthError> {
        if flow.state.kind != FlowKind::FirstLogin {
            return Ok(None);
        }
        let has_second = self.enrolled(flow.user.id).await?.has_second();
        let back = self.open_goal(visit, &flow.state.goal);
        let who = (&flow.user.name, flow.user.groups.as_slice(), flow.user.ever_enrolled || has_second);
        Ok(in_grace(visit.snapshot, back.as_ref(), who, &flow.state.evidence, visit.now))
    }

    /// A signed-in person goes on to an app within a grace.
    pub async fn put_off(
        &self,
        visit: &Visit<'_>,
        live: &LiveSession,
        back: &ReturnTo,
        fragment: Option<&str>,
        host: &HostName,
    ) -> Result<PutOff, AuthError> {
        // Read afresh: a factor of a moment ago counts.
        let user = self.person_of(live).await?;
        let has_second = self.enrolled(user.id).await?.has_second();
        let (session, evidence) = (live.authn.session, &live.authn.evidence);
        let who = (&user.name, user.groups.as_slice(), user.ever_enrolled || has_second);
        if in_grace(visit.snapshot, Some(back), who, evidence, visit.now).is_none() {
            return Ok(PutOff::No);
        }
        if back.host == *host {
            return Ok(PutOff::Here);
        }
        let mut tx = self.store.begin().await?;
        let offer = self.offer_handover(&mut tx, visit, session, evidence, back, fragment).await?;
        tx.commit(&[put_off(visit, &user, session, Some(back))]).await?;
        Ok(PutOff::Over(offer))
    }

    /// What is new about a sign-in: the browser, or the network (/24 or /48) that nobody signed in from in the
    /// last 30 days (S-LOGIN-13).
    async fn unfamiliar(
        &self,
        tx: &mut Tx,
        visit: &Visit<'_>,
        user: &User,
        device: Option<&Device>,
    ) -> Result<Option<Unfamiliar>, AuthError> {
        let Some(device) = device else { return Ok(None) };
        if device.name_for(user.id).is_none() {
            return Ok(Some(Unfamiliar::Device));
        }
        let here = visit.client.network_key();
        let network = |address: &String| Some(ClientIp::new(address.parse().ok()?).network_key());
        let known = tx.addresses_of(user.id).await?.iter().filter_map(network).any(|network| network == here);
        Ok((!known).then_some(Unfamiliar::Place))
    }

    /// The app page behind a goal; `None` where there is none, or none that still makes sense.
    #[must_use]
    pub fn open_goal(&self, visit: &Visit<'_>, goal: &Goal) -> Option<ReturnTo> {
        ReturnTo::open(&self.keys, goal.rd.as_deref()?, visit.now, &visit.snapshot.routes).ok()
    }

    /// Hands a signed-in person over to an app without a question: their evidence is enough.
    pub async fn hand_over(
        &self,
        visit: &Visit<'_>,
        session: SessionId,
        evidence: &[FactorUse],
        back: &ReturnTo,
        fragment: Option<&str>,
    ) -> Result<handover::Offer, AuthError> {
        let mut tx = self.store.begin().await?;
        let offer = self.offer_handover(&mut tx, visit, session, evidence, back, fragment).await?;
        tx.commit_unaudited(Unaudited::HostToken).await?;
        Ok(offer)
    }

    fn plan_of(&self, visit: &Visit<'_>, flow: &Flow, evidence: &[FactorUse], enrolled: &Enrolled) -> Plan {
        let asked = self.asked_of(visit, flow, enrolled);
        // The password of this flow is minutes old: if a level finds it too old, so is the flow.
        match plan(&asked, evidence, enrolled, visit.now) {
            Plan::Ask { password: true, why, .. } => Plan::Impossible { why, any_of: Vec::new(), ways: Vec::new() },
            other => other,
        }
    }

    fn asked_of(&self, visit: &Visit<'_>, flow: &Flow, enrolled: &Enrolled) -> Requirement {
        let back = self.open_goal(visit, &flow.state.goal);
        requirement(visit.snapshot, back.as_ref(), Person::new(&flow.user, enrolled), visit.now)
    }
}

/// S-ENR-1: a right password alone opens enrollment only within the admin's dated window, and never
/// for an account that ever had a factor.
#[must_use]
pub fn may_enroll_by_password(user: &User, now: Timestamp) -> bool {
    !user.ever_enrolled && user.first_login_until.is_some_and(|until| now < until)
}

fn put_off(visit: &Visit<'_>, user: &User, session: SessionId, back: Option<&ReturnTo>) -> AuditEvent {
    let reason = "Let in without a second factor, within the grace of the level.";
    let event = visit.event(user, Action::EnrollPutOff, Outcome::Success, reason).with_session(session);
    match back {
        Some(back) => event.with_rule(back.app.as_str(), back.rule.as_str()),
        None => event,
    }
}

fn signed_in(done: SignedIn) -> Next {
    Next::SignedIn(Box::new(done))
}

/// A sentence for the trail from what was shown.
pub(super) fn reason_of(evidence: &[FactorUse]) -> String {
    let said = |seen: &FactorUse| if seen.remembered { "a remembered browser" } else { seen.kind.as_str() };
    let kinds: Vec<&str> = evidence.iter().map(said).collect();
    format!("Signed in with {}.", kinds.join(" and "))
}
