//! Proof that a request was judged and allowed.

use std::sync::Arc;

use super::answer::Answer;
use super::exception::Exception;
use super::rule::RuleName;
use crate::base::clock::Timestamp;
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::level::{Grace, LevelName};

/// May be forwarded. Only `evaluate` makes one; forwarding takes one as an argument, so a request
/// that was not judged does not compile its way to an app.
#[derive(Clone, Debug)]
pub struct Permit {
    who: Authn,
    rule: RuleName,
    level: Option<LevelName>,
    answer: Option<Arc<Answer>>,
    exception: Option<Arc<Exception>>,
    grace: Option<Timestamp>,
}

impl Permit {
    pub(super) fn new(who: Authn, rule: RuleName, level: Option<LevelName>, answer: Option<Arc<Answer>>) -> Self {
        Self { who, rule, level, answer, exception: None, grace: None }
    }

    /// What was shown is not what the rule asks for: this is why it was enough.
    pub(super) fn by(mut self, exception: Option<&Arc<Exception>>) -> Self {
        if let Some(exception) = exception {
            self.level = Some(exception.level.name.clone());
            self.exception = Some(Arc::clone(exception));
        }
        self
    }

    /// Less than the rule's level was enough, for the person has time to set up a second factor.
    pub(super) fn in_grace(mut self, grace: Option<&Grace>) -> Self {
        if let Some(grace) = grace {
            self.level = Some(grace.level.clone());
            self.grace = Some(grace.until);
        }
        self
    }

    /// Who the app is told about; `None` on a public path without a session.
    #[must_use]
    pub fn subject(&self) -> Option<&Arc<AuthnContext>> {
        self.who.known()
    }

    #[must_use]
    pub fn rule(&self) -> &RuleName {
        &self.rule
    }

    /// What the deciding rule says in place of the app: then nothing is forwarded.
    #[must_use]
    pub fn answer(&self) -> Option<&Arc<Answer>> {
        self.answer.as_ref()
    }

    /// Why less than the rule asks for was enough.
    #[must_use]
    pub fn exception(&self) -> Option<&Arc<Exception>> {
        self.exception.as_ref()
    }

    /// Until when this person may pass without a second factor, where that is why they pass.
    #[must_use]
    pub fn grace(&self) -> Option<Timestamp> {
        self.grace
    }

    /// The level that held (`acr` of the assertion): the deciding rule's, or the one that an exception or a grace
    /// puts in its place. `None` for `require: none`.
    #[must_use]
    pub fn level(&self) -> Option<&LevelName> {
        self.level.as_ref()
    }
}
