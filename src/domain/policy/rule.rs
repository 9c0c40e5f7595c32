//! Rules and the policy of one app.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;

use super::answer::Answer;
use super::argument::Files;
use super::exception::Exception;
use super::index::RuleIndex;
use super::lockdown::Closed;
use super::matcher::Matcher;
use super::unnamed::Unnamed;
use crate::domain::authn::Authn;
use crate::domain::level::Level;
use crate::domain::path::{CanonicalPath, PathForms, Weight};
use crate::domain::posture::Posture;
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// `anyone`: with `require: none` also people who are not signed in.
    Anyone,
    User(UserName),
    Group(GroupName),
}

impl Policy {
    /// Everybody whom a rule names, the shadow rules and the exceptions included.
    pub fn whom(&self) -> impl Iterator<Item = &Who> {
        let all = self.with_shadows.as_deref().unwrap_or(self);
        let outcomes = all.rules.iter().map(|rule| &rule.outcome).chain([&all.default]);
        let allowed = outcomes.flat_map(|outcome| match outcome {
            Outcome::Public { allow } | Outcome::Require { allow, .. } => allow.0.as_slice(),
            Outcome::Deny { .. } => &[],
        });
        let matched = all.rules.iter().flat_map(|rule| &rule.matcher.who);
        allowed.chain(matched).chain(self.exceptions.iter().flat_map(|exception| &exception.who))
    }
}

impl Who {
    /// The group that is meant.
    #[must_use]
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            Self::Group(group) => Some(group),
            Self::Anyone | Self::User(_) => None,
        }
    }
}

/// `allow:`: any of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(pub Vec<Who>);

impl Allow {
    /// Any of the entries names them. A stranger is admitted by `anyone` alone.
    #[must_use]
    pub fn admits(&self, authn: &Authn) -> bool {
        match authn {
            Authn::Anonymous => self.0.contains(&Who::Anyone),
            Authn::Known(context) => self.0.iter().any(|who| who.is(context)),
        }
    }
}

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
    /// What the gate itself says to a request that passes, in place of the app.
    pub answer: Option<Arc<Answer>>,
    /// `shadow: true`: told and counted, never enforced.
    pub shadow: bool,
    /// The largest form that is kept over a challenge of this rule, in bytes.
    pub keep_body: u64,
    /// A lockdown is nothing to it.
    pub stays_open: bool,
}

/// What is kept where no rule says otherwise (SECURITY.md section 3).
pub const KEEP_BODY: u64 = 256 * 1024;

/// The policy of one app, compiled once: made by [`Policy::new`], so that what is computed from
/// the rules cannot stand beside other rules.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Policy {
    /// Top to bottom as in the file, without the shadow rules: what is enforced cannot depend on them.
    pub rules: Vec<Rule>,
    /// What holds where no rule matches: the app's own `allow` and `require`.
    pub default: Outcome,
    pub default_place: Place,
    /// How decisions of the default are named: `default`.
    pub default_name: RuleName,
    pub forms: PathForms,
    pub(super) index: RuleIndex,
    pub(super) unnamed: Unnamed,
    pub(super) files: Files,
    /// Letter case makes a difference to some rule.
    pub(super) folds: bool,
    /// Some rule depends on a query, or on fields of a body.
    pub(super) reads_fields: bool,
    /// Some rule depends on what a request carries.
    pub(super) reads_content: bool,
    /// Every method that some rule names.
    pub(super) methods: Box<[Method]>,
    /// The same policy as if its shadow rules were rules like the others; absent where it has none.
    pub(super) with_shadows: Option<Arc<Policy>>,
    pub(super) exceptions: Vec<Arc<Exception>>,
    /// `normal` as it is made; see [`Policy::under`].
    pub(super) posture: Posture,
    pub(super) closed: Arc<Closed>,
    pub(super) default_stays_open: bool,
}

impl Policy {
    /// Rules as the file has them, shadow rules among the others.
    #[must_use]
    pub fn new(rules: Vec<Rule>, default: Outcome, default_place: Place, forms: PathForms) -> Self {
        if !rules.iter().any(|rule| rule.shadow) {
            return Self::of(rules, default, default_place, forms);
        }
        let enforced = rules.iter().filter(|rule| !rule.shadow).cloned().collect();
        let with_shadows = Self::of(rules, default.clone(), default_place.clone(), forms);
        let mut policy = Self::of(enforced, default, default_place, forms);
        policy.with_shadows = Some(Arc::new(with_shadows));
        policy
    }

    /// The app's own `allow` and `require` hold in a lockdown too.
    #[must_use]
    pub fn with_default_open(mut self, stays_open: bool) -> Self {
        if let Some(all) = &mut self.with_shadows {
            Arc::make_mut(all).default_stays_open = stays_open;
        }
        self.default_stays_open = stays_open;
        self
    }

    #[must_use]
    pub fn default_stays_open(&self) -> bool {
        self.default_stays_open
    }

    #[must_use]
    pub fn posture(&self) -> Posture {
        self.posture
    }

    /// The policy that would be in force if each shadow rule were a rule like the others.
    #[must_use]
    pub fn with_shadows(&self) -> Option<&Self> {
        self.with_shadows.as_deref()
    }

    /// Every rule as the file has it, shadow rules too.
    #[must_use]
    pub fn in_the_file(&self) -> &[Rule] {
        self.with_shadows().map_or(&self.rules, |all| &all.rules)
    }

    fn of(rules: Vec<Rule>, default: Outcome, default_place: Place, forms: PathForms) -> Self {
        let index = RuleIndex::new(&rules);
        let unnamed = Unnamed::new(&rules, forms);
        let files = Files::new(&rules, forms);
        let folds = rules.iter().any(|r| r.matcher.folds());
        let reads_fields = rules.iter().any(|r| r.matcher.reads_fields());
        let reads_content = rules.iter().any(|r| r.matcher.reads_content());
        let mut methods: Vec<Method> = Vec::new();
        for method in rules.iter().flat_map(|r| &r.matcher.methods) {
            if !methods.contains(method) {
                methods.push(method.clone());
            }
        }
        let default_name = RuleName::new("default");
        let methods = methods.into_boxed_slice();
        Self {
            rules,
            default,
            default_place,
            default_name,
            forms,
            index,
            unnamed,
            files,
            folds,
            reads_fields,
            reads_content,
            methods,
            with_shadows: None,
            exceptions: Vec::new(),
            posture: Posture::Normal,
            closed: Arc::default(),
            default_stays_open: false,
        }
    }

    /// The position of the rule that decides each request with this method and path, whoever makes it,
    /// whenever and from where; `None` where that depends, and where no rule does.
    #[must_use]
    pub fn rule_for_all(&self, method: &Method, path: &CanonicalPath) -> Option<usize> {
        let mut found: Option<usize> = None;
        let ended = path.each_reading(true, |reading| {
            if reading.weight == Weight::Extra {
                return ControlFlow::Break(found);
            }
            let first = self.index.candidates(&reading).find(|at| {
                self.rules.get(*at).is_some_and(|r| r.matcher.takes(method) && r.matcher.has_path(&reading))
            });
            let sure = first.filter(|at| self.rules.get(*at).is_some_and(|r| !r.matcher.has_further_conditions()));
            if sure.is_none() || found.is_some_and(|other| sure != Some(other)) {
                return ControlFlow::Break(None);
            }
            found = sure;
            ControlFlow::Continue(())
        });
        match ended {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) => found,
        }
    }
}
