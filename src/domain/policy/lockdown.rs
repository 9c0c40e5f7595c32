//! What do the postures make of a policy? An elevated one asks for more where the file says so, a lockdown closes
//! all that is not marked.

use std::sync::Arc;

use super::rule::{Outcome, Policy, RuleName, Who};
use crate::domain::authn::Authn;
use crate::domain::level::Level;
use crate::domain::posture::Posture;

/// How a refusal by a lockdown is named where rules are named.
pub const LOCKDOWN: &str = "lockdown";
/// What people read where the file has no words of its own.
const CLOSED: &str = "This is closed for everybody at the moment.";

/// What the file makes of the postures.
#[derive(Clone, Debug, Default)]
pub struct Postures {
    /// These stand in the place of the levels of the same names.
    pub elevated: Vec<Arc<Level>>,
    pub lockdown: Vec<Arc<Level>>,
    pub closed: Arc<Closed>,
}

/// What a lockdown leaves open, and what it says to everybody else.
#[derive(Clone, Debug)]
pub struct Closed {
    /// For these people the rules hold as ever.
    pub allow: Vec<Who>,
    pub(super) name: RuleName,
    pub(super) outcome: Outcome,
}

impl Closed {
    #[must_use]
    pub fn new(allow: Vec<Who>, say: Option<&str>) -> Self {
        Self { allow, name: RuleName::new(LOCKDOWN), outcome: Outcome::Deny { sentence: say.unwrap_or(CLOSED).into() } }
    }

    /// Whether a lockdown is nothing to this person. Somebody who has not signed in may be one of those whom it
    /// is not for, and is asked who they are as ever; what asks nobody opens to nobody.
    pub(super) fn passes(&self, authn: &Authn, asks_who: bool) -> bool {
        match authn {
            Authn::Anonymous => asks_who && !self.allow.is_empty(),
            Authn::Known(context) => self.allow.iter().any(|who| who.is(context)),
        }
    }
}

impl Default for Closed {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

impl Postures {
    /// The levels that a posture puts in the place of others.
    #[must_use]
    pub fn levels(&self, posture: Posture) -> &[Arc<Level>] {
        match posture {
            Posture::Normal => &[],
            Posture::Elevated => &self.elevated,
            Posture::Lockdown => &self.lockdown,
        }
    }

    /// The level that holds in a posture under the name of this one.
    #[must_use]
    pub fn level(&self, posture: Posture, level: &Arc<Level>) -> Arc<Level> {
        let other = self.levels(posture).iter().find(|other| other.name == level.name);
        Arc::clone(other.unwrap_or(level))
    }
}

impl Policy {
    /// This policy, made of the file for `normal`, as it is in a posture.
    #[must_use]
    pub fn under(&self, posture: Posture, postures: &Postures) -> Self {
        let mut policy = self.clone();
        policy.posture = posture;
        policy.closed = Arc::clone(&postures.closed);
        let outcomes = policy.rules.iter_mut().map(|rule| &mut rule.outcome);
        for outcome in outcomes.chain(std::iter::once(&mut policy.default)) {
            if let Outcome::Require { level, .. } = outcome {
                *level = postures.level(posture, level);
            }
        }
        for exception in &mut policy.exceptions {
            let level = postures.level(posture, &exception.level);
            Arc::make_mut(exception).level = level;
        }
        policy.with_shadows = policy.with_shadows.map(|all| Arc::new(all.under(posture, postures)));
        policy
    }
}
