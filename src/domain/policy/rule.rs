//! Rules and the policy of one app.

use std::fmt;
use std::sync::Arc;

use super::matcher::{Matcher, RuleIndex};
use crate::domain::level::Level;
use crate::domain::path::PathForms;
use crate::domain::user::{GroupName, UserName};

/// A rule's name as the file gives it (`rule-3` where it gives none).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName(Arc<str>);

impl RuleName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of `allow:` or `who:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `anyone`: with `require: none` also people who are not signed in.
    Anyone,
    User(UserName),
    Group(GroupName),
}

/// `allow:`: any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(pub Vec<Who>);

/// What a rule says once it has matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `deny: "sentence"`.
    Deny { sentence: Arc<str> },
    /// `require: none`: no sign-in is asked. `allow` still holds for who is signed in.
    Public { allow: Allow },
    /// `require: LEVEL`.
    Require { allow: Allow, level: Arc<Level> },
}

/// Where a rule stands in a file, for `explain` and for faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: RuleName,
    pub place: Place,
    pub matcher: Matcher,
    pub outcome: Outcome,
}

/// The policy of one app, compiled once.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Top to bottom as in the file.
    pub rules: Vec<Rule>,
    /// What holds where no rule matches: the app's own `allow` and `require`.
    pub default: Outcome,
    pub default_place: Place,
    pub forms: PathForms,
    pub index: RuleIndex,
}
