//! Who is let off a rule's level, until when, and on whose word?
//!
//! The least that helps: another level stands in the place of the rule's own, for the people named, until
//! the moment given. `allow`, `deny` and everything else of the rule hold as before, and a sign-in is
//! always asked.

use std::sync::Arc;

use super::rule::{Place, Policy, RuleName, Who};
use crate::base::clock::Timestamp;
use crate::domain::authn::AuthnContext;
use crate::domain::level::Level;
use crate::domain::user::{GroupName, UserName};

/// One entry of `exceptions:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub place: Place,
    /// Any of these; never `anyone`.
    pub who: Vec<Who>,
    /// The rules whose level it stands in for; `default` is the app's own `require`.
    pub rules: Vec<RuleName>,
    /// What is enough in its place.
    pub level: Arc<Level>,
    /// From this moment on it lets nobody off any more.
    pub until: Timestamp,
    pub approved_by: Arc<str>,
    pub ticket: Arc<str>,
    pub reason: Option<Arc<str>>,
}

impl Exception {
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.until
    }

    /// Whether it is about this rule and this person, whenever.
    #[must_use]
    pub fn is_for(&self, rule: &RuleName, name: &UserName, groups: &[GroupName]) -> bool {
        self.rules.contains(rule) && self.who.iter().any(|who| who.names(name, groups))
    }
}

impl Policy {
    /// The same policy with these exceptions.
    #[must_use]
    pub fn with_exceptions(mut self, exceptions: Vec<Arc<Exception>>) -> Self {
        if let Some(all) = &mut self.with_shadows {
            Arc::make_mut(all).exceptions.clone_from(&exceptions);
        }
        self.exceptions = exceptions;
        self
    }

    /// Every exception as the files have it, ended ones too.
    #[must_use]
    pub fn exceptions(&self) -> &[Arc<Exception>] {
        &self.exceptions
    }

    /// What lets this person off the level of a rule now, in the order of the file.
    pub fn lets_off<'a, 'p>(
        &'a self,
        rule: &'p RuleName,
        name: &'p UserName,
        groups: &'p [GroupName],
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Arc<Exception>> + use<'a, 'p> {
        self.exceptions.iter().filter(move |e| !e.has_ended(now) && e.is_for(rule, name, groups))
    }

    /// The exception to hold this person to where the rule's own level is not met: one that is, or the
    /// first.
    pub(super) fn exception_for(
        &self,
        rule: &RuleName,
        context: &AuthnContext,
        now: Timestamp,
    ) -> Option<&Arc<Exception>> {
        let mut all = self.lets_off(rule, &context.name, &context.groups, now);
        let first = all.next()?;
        let met = |e: &Exception| e.level.requirement.missing(&context.evidence, now).is_none();
        Some(std::iter::once(first).chain(all).find(|e| met(e)).unwrap_or(first))
    }
}
