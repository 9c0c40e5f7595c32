//! Proof that a request was judged and allowed.

use std::sync::Arc;

use super::answer::Answer;
use super::rule::RuleName;
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::level::LevelName;

/// May be forwarded. Only `evaluate` makes one; forwarding takes one as an argument, so a request
/// that was not judged does not compile its way to an app.
#[derive(Clone, Debug)]
pub struct Permit {
    who: Authn,
    rule: RuleName,
    level: Option<LevelName>,
    answer: Option<Arc<Answer>>,
}

impl Permit {
    pub(super) fn new(who: Authn, rule: RuleName, level: Option<LevelName>, answer: Option<Arc<Answer>>) -> Self {
        Self { who, rule, level, answer }
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

    /// The level that the deciding rule asked for (`acr` of the assertion); `None` for `require: none`.
    #[must_use]
    pub fn level(&self) -> Option<&LevelName> {
        self.level.as_ref()
    }
}
