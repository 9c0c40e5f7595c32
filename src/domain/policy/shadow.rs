//! What would a rule say that is tried and not enforced yet (`shadow: true`)?

use super::decision::Decision;
use super::destination::Destination;
use super::evaluate::{Facts, decide};
use super::rule::{Policy, RuleName};
use crate::domain::level::LevelName;

/// A shadow rule would have decided a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    pub rule: RuleName,
    pub verdict: ShadowVerdict,
}

/// What it would have said. Never a [`Permit`](super::Permit): nothing is forwarded for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShadowVerdict {
    Allow,
    Challenge(LevelName),
    Deny,
}

impl Shadow {
    /// Judges a request as if every shadow rule were enforced. `None` where the policy has no such rule
    /// or another one decides; also where the request names a `destination` that the app would not be
    /// asked for then. Methods in a form are judged where an enforced rule had them read.
    #[must_use]
    pub fn of(policy: &Policy, facts: &Facts<'_>, destination: Option<&Destination>) -> Option<Self> {
        let all = policy.with_shadows()?;
        let decision = match destination {
            Some(second) => second.judge(all, facts, &mut ()).ok()?.decision,
            None => decide(all, facts, &mut ()),
        };
        let (rule, verdict) = match decision {
            Decision::Allow(permit) => (permit.rule().clone(), ShadowVerdict::Allow),
            Decision::Challenge(c) => (c.rule, ShadowVerdict::Challenge(c.level.name.clone())),
            Decision::Deny(deny) => (deny.rule, ShadowVerdict::Deny),
        };
        all.rule(&rule).filter(|rule| rule.shadow)?;
        Some(Self { rule, verdict })
    }
}
