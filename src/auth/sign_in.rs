//! From a right password to a session: what comes next, and the one transaction at the end.

use super::device::Device;
use super::error::AuthError;
use super::factor::{Looked, Shown};
use super::factors::webauthn::{Bound, Question, Rp};
use super::flow::{Browser, Flow, FlowKind, FlowState, Goal, Step};
use super::handover;
use super::plan::{Enrolled, Plan, Way, plan, with_evidence};
use super::proof::PasswordVerified;
use super::return_to::ReturnTo;
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::SessionId;
use crate::base::net::ClientIp;
use crate::config::snapshot::Snapshot;
use crate::domain::audit::{Action, AuditEvent, Outcome, Unfamiliar};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::host::HostName;
use crate::domain::level::Requirement;
use crate::domain::user::{GroupName, User, UserName};
use crate::session::SessionToken;
use crate::session::issue::{self, NewSession, Opened};
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

/// A session that has just begun.
#[derive(Debug)]
pub struct SignedIn {
    pub user: User,
    pub session: SessionId,
    pub token: SessionToken,
    pub goal: Goal,
    /// Set where the person goes on to an app: the code for its host.
    pub handover: Option<handover::Offer>,
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
}

/// Whom a requirement is for: exceptions name people and groups.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    pub name: &'a UserName,
    pub groups: &'a [GroupName],
    pub enrolled: &'a Enrolled,
}

impl<'a> Person<'a> {
    #[must_use]
    pub fn new(user: &'a User, enrolled: &'a Enrolled) -> Self {
        Self { name: &user.name, groups: &user.groups, enrolled }
    }
}

/// What a goal asks of a person: the level of the app's rule, or what an exception puts in its place.
/// Without an app: two factors from those who have them, else what they have.
#[must_use]
pub fn requirement(snapshot: &Snapshot, back: Option<&ReturnTo>, person: Person<'_>, now: Timestamp) -> Requirement {
    let Person { name, groups, enrolled } = person;
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
    // A level that a reload took away asks for two factors: the safe reading of "more".
    level.map_or(two_factors(), |level| level.requirement.clone())
}

fn two_factors() -> Requirement {
    Requirement { factors: 2, max_age: None, phishing_resistant: false, user_verified: false, kinds: None }
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
        let enough = planned == Plan::Enough && (back.is_some() || !may_enroll);
        if enough {
            let tx = self.store.begin().await?;
            return self.sign_in(tx, visit, user, evidence, goal, seat, vec![verified]).await.map(signed_in);
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
        tx.hold(flow.user.id, flow.user.epoch).await?;
        let Some(proof) = candidate.redeem(&mut tx, visit.now).await? else {
            tx.rollback().await;
            let looked = self.code_not_spent(visit, &flow.user, &candidate).await?;
            return Ok(Confirmed::Not { flow, looked });
        };
        let events = vec![
            visit
                .event(&flow.user, Action::FactorVerify, Outcome::Success, shown.was_right())
                .with_factor(kind.as_str()),
        ];
        let evidence = with_evidence(flow.state.evidence.clone(), proof.evidence());
        let next = match self.plan_of(visit, &flow, &evidence, &enrolled) {
            Plan::Enough => {
                flow.consume(&mut tx).await?;
                let (user, goal) = (flow.user.clone(), flow.state.goal.clone());
                signed_in(self.sign_in(tx, visit, user, evidence, goal, seat, events).await?)
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
            Some(back) if back.host != *seat.host => {
                Some(self.offer_handover(&mut tx, visit, session, &evidence, back, goal.fragment.as_deref()).await?)
            }
            Some(_) | None => None,
        };
        tx.commit(&events).await?;
        for ended in seat.replaces.into_iter().chain(displaced) {
            self.forget(ended);
        }
        Ok(SignedIn { user, session, token, goal, handover })
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

fn signed_in(done: SignedIn) -> Next {
    Next::SignedIn(Box::new(done))
}

/// A sentence for the trail from what was shown.
pub(super) fn reason_of(evidence: &[FactorUse]) -> String {
    let kinds: Vec<&str> = evidence.iter().map(|seen| seen.kind.as_str()).collect();
    format!("Signed in with {}.", kinds.join(" and "))
}
