//! Does any other spelling of a protected request go round its rule? Asked of `decide()` itself.
//!
//! For each rule that keeps somebody out, requests are made up from its `match` and taken from the tests of
//! the files. Each is written in every way that is known ([`spellings`]), and each of these must be refused,
//! or stop everybody whom the rule stops at the request itself.

use std::collections::HashSet;
use std::sync::Arc;

use http::Method;

use super::Snapshot;
use super::expect::{HALF_AN_HOUR, nowhere, somebody};
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::domain::authn::Authn;
use crate::domain::level::Level;
use crate::domain::method;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::sample::Sample;
use crate::domain::policy::spelling::{Spelling, spellings};
use crate::domain::policy::{Allow, Answer, Decision, Facts, Media, Outcome, Policy, Rule, RuleName, Who, decide};
use crate::domain::route::Route;
use crate::domain::user::{GroupName, UserName};

/// Somebody as whom requests are judged.
#[derive(Clone, Debug)]
pub struct Observer {
    /// "somebody of staff, having shown just what `mfa` asks for".
    pub name: String,
    /// `None` for a stranger.
    who: Option<(UserName, Vec<GroupName>)>,
    level: Option<Arc<Level>>,
}

impl Observer {
    /// With evidence as old as the level lets it be at that moment.
    fn at(&self, now: Timestamp) -> Authn {
        match &self.who {
            Some((name, groups)) => somebody(name, groups, self.level.as_ref(), now),
            None => Authn::Anonymous,
        }
    }
}

/// A request that a rule decides, and whom it stops.
#[derive(Clone, Debug)]
pub struct Base {
    pub rule: RuleName,
    pub sample: Sample,
    pub target: String,
    at: Timestamp,
    client: ClientIp,
    /// The observers, at that moment.
    people: Arc<Vec<Authn>>,
    /// Of the observers, those who do not get through.
    stopped: Vec<usize>,
}

/// What became of one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered 400 before a rule is asked, or 405.
    Refused,
    /// Nobody gets through whom the rule stops.
    Stopped,
    /// This rule lets this observer through.
    Passed { rule: RuleName, observer: usize },
}

/// A request by its method, its target, and its body with the kind of it.
type Asked = (Method, String, Option<(Media, String)>);

/// All that is asked about one app.
pub struct Prover<'a> {
    route: &'a Route,
    pub observers: Vec<Observer>,
    pub bases: Vec<Base>,
    /// Protecting rules for which no request could be made up.
    pub untried: Vec<&'a Rule>,
    /// Directories that somebody may come to by a weaker rule.
    open: Vec<String>,
}

impl<'a> Prover<'a> {
    /// `pages`: further requests that are protected, by path and query.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, route: &'a Route, pages: &[String], now: Timestamp) -> Self {
        let policy = &route.policy;
        let observers = observers(policy, &snapshot.levels);
        let mut prover = Self { route, observers, bases: Vec::new(), untried: Vec::new(), open: open(policy) };
        let mut seen = HashSet::new();
        for rule in policy.rules.iter().filter(|rule| protects(rule)) {
            let before = prover.bases.len();
            for sample in rule.matcher.samples(policy.forms) {
                let client = sample.client.unwrap_or_else(nowhere);
                let at = prover.moment(rule, now);
                prover.take(sample, client, at, Some(&rule.name), &mut seen);
            }
            if prover.bases.len() == before && !policy.rules.is_empty() {
                prover.untried.push(rule);
            }
        }
        let sample = |method: &Method, target: &str| {
            let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q.to_owned())));
            Sample { method: method.clone(), path: path.to_owned(), query, body: None, client: None, by_regex: false }
        };
        for page in ["/", "/x"] {
            prover.take(sample(&Method::GET, page), nowhere(), now, Some(&policy.default_name), &mut seen);
        }
        for page in pages {
            prover.take(sample(&Method::GET, page), nowhere(), now, None, &mut seen);
        }
        let tests = snapshot.tests.iter().filter(|test| test.app == route.app && test.destination.is_none());
        for test in tests {
            let (client, at) = (test.from.unwrap_or_else(nowhere), test.time.unwrap_or(now));
            prover.take(sample(&test.method, &test.target), client, at, None, &mut seen);
        }
        let tried: HashSet<RuleName> = prover.bases.iter().map(|base| base.rule.clone()).collect();
        prover.untried.retain(|rule| !tried.contains(&rule.name));
        prover
    }

    /// The ways to write a request.
    #[must_use]
    pub fn spellings(&self, base: &Base) -> Vec<Spelling> {
        spellings(&base.sample, self.route.policy.forms, &self.open)
    }

    /// What the gate does with one of them.
    #[must_use]
    pub fn fate(&self, base: &Base, spelling: &Spelling) -> Fate {
        let Spelling { method, form_method, target, .. } = spelling;
        if method::check(method).is_err() {
            return Fate::Refused;
        }
        let also = form_method.as_slice();
        for &observer in &base.stopped {
            let Some(authn) = base.people.get(observer) else { continue };
            match self.judge(method, also, target, &base.sample, (base.client, authn, base.at)) {
                None => return Fate::Refused,
                Some(decision) => {
                    if let Some(rule) = reached(&decision) {
                        return Fate::Passed { rule, observer };
                    }
                }
            }
        }
        Fate::Stopped
    }

    /// Takes a request up where the rule decides it for somebody, and somebody is stopped. A rule of whichever
    /// name, where none is given.
    fn take(
        &mut self,
        sample: Sample,
        client: ClientIp,
        at: Timestamp,
        wanted: Option<&RuleName>,
        seen: &mut HashSet<Asked>,
    ) {
        let query = sample.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{}{query}", sample.path);
        let key = (sample.method.clone(), target.clone(), sample.body.clone());
        if method::check(&sample.method).is_err() || seen.contains(&key) {
            return;
        }
        let people = self.people_at(at);
        let judged = people.iter().map(|who| self.judge(&sample.method, &[], &target, &sample, (client, who, at)));
        let Some(decisions) = judged.collect::<Option<Vec<Decision>>>() else { return };
        let stopped: Vec<usize> =
            (0..decisions.len()).filter(|at| decisions.get(*at).is_some_and(|d| reached(d).is_none())).collect();
        let by = stopped.iter().filter_map(|at| decisions.get(*at)).map(rule_of);
        let rule = match wanted {
            Some(wanted) => by.into_iter().find(|rule| *rule == wanted).cloned(),
            None => by.into_iter().next().cloned(),
        };
        let Some(rule) = rule else { return };
        // A redirect is a help and no wall.
        let found = self.route.policy.rules.iter().find(|r| r.name == rule);
        if found.is_some_and(|r| !protects(r)) {
            return;
        }
        seen.insert(key);
        self.bases.push(Base { rule, sample, target, at, client, people, stopped });
    }

    fn people_at(&self, at: Timestamp) -> Arc<Vec<Authn>> {
        match self.bases.first() {
            Some(base) if base.at == at => Arc::clone(&base.people),
            _ => Arc::new(self.observers.iter().map(|observer| observer.at(at)).collect()),
        }
    }

    fn judge(
        &self,
        method: &Method,
        also_methods: &[Method],
        target: &str,
        sample: &Sample,
        (client, authn, now): (ClientIp, &Authn, Timestamp),
    ) -> Option<Decision> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = CanonicalPath::parse(path, self.route.policy.forms).ok()?;
        let content = &sample.content();
        let facts = Facts { method, also_methods, path: &path, query, content, client, authn, now };
        Some(decide(&self.route.policy, &facts, &mut ()))
    }

    /// Some moment at which the rule holds.
    fn moment(&self, rule: &Rule, now: Timestamp) -> Timestamp {
        let Some(hours) = &rule.matcher.hours else { return now };
        (0..7 * 48).map(|n| now.plus(HALF_AN_HOUR * n)).find(|at| hours.holds(*at)).unwrap_or(now)
    }
}

/// The rule by which a request reaches the app.
fn reached(decision: &Decision) -> Option<RuleName> {
    match decision {
        Decision::Allow(permit) if permit.answer().is_none() => Some(permit.rule().clone()),
        Decision::Allow(_) | Decision::Challenge(_) | Decision::Deny(_) => None,
    }
}

fn rule_of(decision: &Decision) -> &RuleName {
    match decision {
        Decision::Allow(permit) => permit.rule(),
        Decision::Challenge(challenge) => &challenge.rule,
        Decision::Deny(deny) => &deny.rule,
    }
}

/// Whether it keeps anybody from the app.
fn protects(rule: &Rule) -> bool {
    match rule.answer.as_deref() {
        Some(Answer::Redirect(_)) => false,
        Some(Answer::Respond(_)) => true,
        None => !matches!(&rule.outcome, Outcome::Public { allow: Allow(who) } if who.contains(&Who::Anyone)),
    }
}

/// Whoever the policy can tell apart: a stranger, somebody whom no rule names, and one for each name and
/// group, with each level that is asked for.
fn observers(policy: &Policy, levels: &[Arc<Level>]) -> Vec<Observer> {
    let outcomes = policy.rules.iter().map(|rule| &rule.outcome).chain([&policy.default]);
    let mut people: Vec<(String, Option<UserName>, Vec<GroupName>)> =
        vec![("somebody whom no rule names".to_owned(), UserName::parse("x-nobody").ok(), Vec::new())];
    let mut asked: Vec<&Arc<Level>> = Vec::new();
    let mut named: Vec<&Who> = policy.rules.iter().flat_map(|rule| &rule.matcher.who).collect();
    for outcome in outcomes {
        match outcome {
            Outcome::Deny { .. } => {}
            Outcome::Public { allow } => named.extend(&allow.0),
            Outcome::Require { allow, level } => {
                named.extend(&allow.0);
                if !asked.iter().any(|known| known.name == level.name) {
                    asked.push(level);
                }
            }
        }
    }
    named.extend(policy.exceptions().iter().flat_map(|exception| &exception.who));
    let mut known: Vec<&Who> = Vec::new();
    for who in named {
        if known.contains(&who) {
            continue;
        }
        known.push(who);
        match who {
            Who::Anyone => {}
            Who::User(name) => people.push((name.to_string(), Some(name.clone()), Vec::new())),
            Who::Group(group) => {
                people.push((format!("somebody of {group}"), UserName::parse("x-nobody").ok(), vec![group.clone()]));
            }
        }
    }
    let mut all = vec![Observer { name: "a stranger".to_owned(), who: None, level: None }];
    for (name, user, groups) in people {
        let Some(who) = user.map(|user| (user, groups)) else { continue };
        let password = format!("{name}, with the password alone");
        all.push(Observer { name: password, who: Some(who.clone()), level: None });
        let asked = levels.iter().filter(|level| asked.iter().any(|known| known.name == level.name));
        all.extend(asked.map(|level| Observer {
            name: format!("{name}, at `{}`", level.name),
            who: Some(who.clone()),
            level: Some(Arc::clone(level)),
        }));
    }
    all
}

/// The directories of rules that let everybody in: what is written below them must stay there.
fn open(policy: &Policy) -> Vec<String> {
    let public = policy.rules.iter().filter(|rule| !protects(rule) && rule.answer.is_none());
    let mut found: Vec<String> = public
        .flat_map(|rule| rule.matcher.samples(policy.forms))
        .filter_map(|sample| {
            let at = sample.path.rfind('/').filter(|at| *at > 0)?;
            sample.path.get(..at).map(str::to_owned)
        })
        .collect();
    found.sort();
    found.dedup();
    found.truncate(MOST_OPEN);
    found
}

/// Each is tried with every protected request.
const MOST_OPEN: usize = 8;
