//! `decide()`: the only maker of a [`Permit`](super::Permit).

use std::ops::ControlFlow;
use std::sync::Arc;

use http::Method;

use super::content::Content;
use super::decision::{Challenge, Decision, Deny, DenyReason};
use super::exception::Exception;
use super::matcher::{Miss, Query, View, override_methods};
use super::permit::Permit;
use super::rule::{KEEP_BODY, Outcome, Policy, Rule, RuleName};
use super::trace::TraceSink;
use super::unnamed::Named;
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::domain::authn::Authn;
use crate::domain::level::{Grace, Missing, Requirement, Why};
use crate::domain::method::in_capitals;
use crate::domain::path::{CanonicalPath, Reading, Weight};
use crate::domain::posture::Posture;

/// All that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// As sent; one with small letters is judged in capitals as well (S-PATH-6).
    pub method: &'a Method,
    /// Methods that an override in a form (`_method`) may turn this request into; judged as well,
    /// the strictest verdict wins (S-PATH-6). One in the query is found here.
    pub also_methods: &'a [Method],
    pub path: &'a CanonicalPath,
    /// The raw query without `?`, for `match: { query: }` alone; path rules never see it (S-PATH-7).
    pub query: Option<&'a str>,
    /// What it carries, for `match: { form: }` and `match: { json: }`.
    pub content: &'a Content,
    pub client: ClientIp,
    pub authn: &'a Authn,
    pub now: Timestamp,
}

/// What became of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It decided.
    Matched,
    Missed(Miss),
    /// A rule above it decided.
    NotReached,
    /// A shadow rule whose `match` holds: were it enforced, no rule below it would be tried.
    Shadow,
}

/// Judges one request. Pure: the same facts give the same verdict for enforcement, `explain`,
/// `test` and everything else that asks.
///
/// Every reading of the path, every method that the request may turn into and every way to read
/// the query are judged; the strictest verdict wins.
pub fn decide<T: TraceSink>(policy: &Policy, facts: &Facts<'_>, trace: &mut T) -> Decision {
    let mut others = override_methods(facts.query);
    others.extend(in_capitals(facts.method));
    let (one, several);
    // Nearly every request is what it says it is: nothing is allocated for it.
    let methods: &[&Method] = if others.is_empty() && facts.also_methods.is_empty() {
        one = [facts.method];
        &one
    } else {
        several = policy.told_apart(std::iter::once(facts.method).chain(facts.also_methods).chain(&others));
        &several
    };
    let (unread, read);
    let queries: &[Query<'_>] = if policy.reads_fields && Query::may_differ(facts.query, facts.content) {
        read = Query::each_way(facts.query.unwrap_or_default(), facts.content);
        &read
    } else {
        unread = [Query::default()];
        &unread
    };

    let named = policy.unnamed.of(facts.path, policy.folds);
    let mut worst: Option<Candidate<'_>> = None;
    let _: ControlFlow<()> = each_reading(policy, facts.path, &named, |reading| {
        for (method, query) in methods.iter().flat_map(|m| queries.iter().map(move |q| (*m, q))) {
            let Facts { content, client, authn, now, .. } = *facts;
            let view = View { reading, method, query, content, client, authn, now, posture: policy.posture };
            each_found(policy, &view, |found| {
                // The same rules lead to the same verdict, whichever reading met them.
                if worst.as_ref().is_some_and(|w| w.found == found) {
                    return;
                }
                let verdict = judge(policy, found, &view);
                if reading.weight == Weight::Extra && (verdict.rule.is_none() || verdict.only_redirects()) {
                    return;
                }
                let candidate = Candidate { verdict, found, view };
                if worst.as_ref().is_none_or(|w| candidate.verdict.stricter_than(&w.verdict)) {
                    worst = Some(candidate);
                }
            });
        }
        ControlFlow::Continue(())
    });

    // There is always a full reading; without one nothing may pass.
    let Some(Candidate { verdict, found, view }) = worst else {
        return Decision::Deny(Deny { rule: policy.default_name.clone(), reason: DenyReason::NotAllowed });
    };
    if T::ENABLED {
        let plain = view.reading.text == facts.path.decoded() && !view.reading.slash && view.method == facts.method;
        trace.reading(&view.reading.to_text(), view.method, !plain);
        tell(policy, found, &view, trace);
    }
    verdict.into_decision(policy, facts)
}

/// Every reading of the path itself, the files in it that may take the rest for an argument, and then
/// those with the name of a file that may be run for it.
fn each_reading<'a, B>(
    policy: &Policy,
    path: &'a CanonicalPath,
    named: &'a [Named],
    mut judge: impl FnMut(Reading<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    path.each_reading(policy.folds, |reading| {
        judge(reading)?;
        policy.files.each(reading, &mut judge)
    })?;
    named.iter().map(Named::reading).try_for_each(judge)
}

struct Candidate<'a> {
    verdict: Verdict<'a>,
    found: Found,
    view: View<'a>,
}

/// What one reading leads to, before it is put into words. `rule` is `None` for the app's default.
struct Verdict<'a> {
    rule: Option<&'a Rule>,
    outcome: &'a Outcome,
    kind: Kind,
    /// What stands in the place of the outcome's level.
    exception: Option<&'a Arc<Exception>>,
    /// Not the rule refused it, but the lockdown.
    closed: bool,
    /// The same for somebody who never had a second factor, until a date; only where it lets them pass.
    grace: Option<&'a Grace>,
}

enum Kind {
    Allow,
    Challenge(Missing),
    Deny,
}

/// What the rules say about one reading: with who asks and when, all that a verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    /// The first that matches, by its place in the file; `None` for the app's default.
    deciding: Option<usize>,
    /// The first of those that let people in that only an unknown person missed.
    who_skipped: Option<usize>,
}

/// What may decide, as the app reads the request here: one rule, or more where that depends on which
/// value of a doubled parameter it takes.
fn each_found(policy: &Policy, view: &View<'_>, mut hand: impl FnMut(Found)) {
    let mut who_skipped = None;
    for position in policy.index.candidates(&view.reading) {
        let Some(rule) = policy.rules.get(position) else { continue };
        match rule.matcher.check(view) {
            Ok(()) => {
                hand(Found { deciding: Some(position), who_skipped });
                if !rule.matcher.is_one_choice(view) {
                    return;
                }
            }
            // One that denies some people lets nobody in, whoever they turn out to be.
            Err(Miss::WhoUnknown) if who_skipped.is_none() && matches!(rule.outcome, Outcome::Require { .. }) => {
                who_skipped = Some(position);
            }
            Err(_) => {}
        }
    }
    hand(Found { deciding: None, who_skipped });
}

/// A lockdown closes all that is not marked, whatever the rules say of it.
fn judge<'a>(policy: &'a Policy, found: Found, view: &View<'_>) -> Verdict<'a> {
    let verdict = judge_by_rules(policy, found, view);
    match policy.posture {
        Posture::Normal | Posture::Elevated => return verdict,
        Posture::Lockdown => {}
    }
    let stays_open = verdict.rule.map_or(policy.default_stays_open, |rule| rule.stays_open);
    if stays_open || policy.closed.passes(view.authn, matches!(verdict.kind, Kind::Challenge(_))) {
        return verdict;
    }
    Verdict { outcome: &policy.closed.outcome, kind: Kind::Deny, exception: None, closed: true, ..verdict }
}

fn judge_by_rules<'a>(policy: &'a Policy, found: Found, view: &View<'_>) -> Verdict<'a> {
    let rule = |position: usize| policy.rules.get(position);
    let (deciding, who_skipped) = (found.deciding.and_then(rule), found.who_skipped.and_then(rule));
    let outcome = deciding.map_or(&policy.default, |rule| &rule.outcome);
    let mut kind = apply(outcome, view.authn, view.now);
    let mut exception = None;
    // Only where the rule's own level is not met; nobody is let off a refusal, or off signing in.
    if let (Kind::Challenge(_), Authn::Known(context)) = (&kind, view.authn)
        && !policy.exceptions().is_empty()
    {
        exception = policy.exception_for(deciding.map_or(&policy.default_name, |r| &r.name), context, view.now);
        if let Some(exception) = exception {
            let missing = exception.level.requirement.missing(&context.evidence, view.now);
            kind = missing.map_or(Kind::Allow, Kind::Challenge);
        }
    }
    // Where no exception speaks for this person: time to set up a second factor, for whoever never had one.
    let mut grace = None;
    if let (Kind::Challenge(_), None, Authn::Known(context)) = (&kind, exception, view.authn)
        && let Outcome::Require { level, .. } = outcome
        && let Some(found) = level.grace_for(context.ever_enrolled, view.now)
    {
        match found.requirement.missing(&context.evidence, view.now) {
            None => (kind, grace) = (Kind::Allow, Some(found)),
            Some(missing) => kind = Kind::Challenge(missing),
        }
    }
    // A stranger who would be turned away here might be somebody the skipped rule lets in.
    if let (Kind::Deny, Some(rule)) = (&kind, who_skipped)
        && let Outcome::Require { level, .. } = &rule.outcome
        && let Some(missing) = level.requirement.missing(&[], view.now)
    {
        return Verdict {
            rule: Some(rule),
            outcome: &rule.outcome,
            kind: Kind::Challenge(missing),
            exception: None,
            closed: false,
            grace: None,
        };
    }
    Verdict { rule: deciding, outcome, kind, exception, closed: false, grace }
}

fn apply(outcome: &Outcome, authn: &Authn, now: Timestamp) -> Kind {
    match (outcome, authn) {
        (Outcome::Deny { .. }, _) => Kind::Deny,
        (Outcome::Public { allow }, authn) => {
            if allow.admits(authn) {
                Kind::Allow
            } else {
                Kind::Deny
            }
        }
        // Whether `allow` names them shows after the sign-in.
        (Outcome::Require { level, .. }, Authn::Anonymous) => {
            Kind::Challenge(level.requirement.missing(&[], now).unwrap_or_else(sign_in))
        }
        (Outcome::Require { allow, level }, Authn::Known(context)) => {
            // Nobody is asked for a key only to be turned away with it.
            if !allow.admits(authn) {
                return Kind::Deny;
            }
            level.requirement.missing(&context.evidence, now).map_or(Kind::Allow, Kind::Challenge)
        }
    }
}

/// For a stranger a level can never be met by nothing; if one could, a sign-in is asked all the same.
fn sign_in() -> Missing {
    Missing { why: Why::Login, password: true, any_of: Vec::new() }
}

impl Verdict<'_> {
    /// Deny over challenge over allow; of two alike the one whose level asks for more, so that
    /// the `acr` told to the app is the one that really held.
    fn stricter_than(&self, other: &Self) -> bool {
        self.rank() > other.rank()
    }

    /// It would send a person who may pass to another place. That is a help and no wall: by an extra
    /// reading it would lead from `/app/` to `/app/`, for an app could read it as the `/app` of the rule.
    fn only_redirects(&self) -> bool {
        let redirects = self.rule.and_then(|r| r.answer.as_ref()).is_some_and(|a| !a.turns_away());
        redirects && matches!(self.kind, Kind::Allow)
    }

    fn rank(&self) -> (u8, Demand) {
        let turned_away = self.rule.and_then(|r| r.answer.as_ref()).is_some_and(|a| a.turns_away());
        let kind = match self.kind {
            Kind::Allow if !turned_away => 0,
            // An app that reads the path otherwise must not be reached by the other spelling.
            Kind::Allow => 1,
            Kind::Challenge(_) => 2,
            Kind::Deny => 3,
        };
        let instead = self.exception.map(|e| &e.level.requirement).or(self.grace.map(|grace| &grace.requirement));
        (kind, instead.map_or_else(|| demand(self.outcome), demand_of))
    }

    fn into_decision(self, policy: &Policy, facts: &Facts<'_>) -> Decision {
        let rule = || match self.rule {
            _ if self.closed => policy.closed.name.clone(),
            Some(rule) => rule.name.clone(),
            None => policy.default_name.clone(),
        };
        let answer = || self.rule.and_then(|rule| rule.answer.clone());
        match (self.kind, self.outcome) {
            (Kind::Allow, Outcome::Public { .. }) => {
                Decision::Allow(Permit::new(facts.authn.clone(), rule(), None, answer()))
            }
            (Kind::Allow, Outcome::Require { level, .. }) => {
                let permit = Permit::new(facts.authn.clone(), rule(), Some(level.name.clone()), answer());
                Decision::Allow(permit.by(self.exception).in_grace(self.grace))
            }
            (Kind::Challenge(missing), Outcome::Require { level, .. }) => {
                let level = self.exception.map_or(level, |exception| &exception.level).clone();
                let exception = self.exception.cloned();
                let keep_body = self.rule.map_or(KEEP_BODY, |rule| rule.keep_body);
                Decision::Challenge(Challenge { rule: rule(), level, missing, exception, keep_body })
            }
            (Kind::Deny, Outcome::Deny { sentence }) => {
                Decision::Deny(Deny { rule: rule(), reason: DenyReason::Rule { sentence: sentence.clone() } })
            }
            // The last arm refuses: whatever else comes together here was not meant to pass.
            (Kind::Deny | Kind::Allow | Kind::Challenge(_), _) => {
                Decision::Deny(Deny { rule: rule(), reason: DenyReason::NotAllowed })
            }
        }
    }
}

/// How much a level asks for, to tell two verdicts of one kind apart. Not an order of levels: each
/// verdict that is left over here is met again when the request comes back.
type Demand = (u8, bool, bool, bool, bool, u64);

fn demand(outcome: &Outcome) -> Demand {
    match outcome {
        Outcome::Deny { .. } | Outcome::Public { .. } => (0, false, false, false, false, 0),
        Outcome::Require { level, .. } => demand_of(&level.requirement),
    }
}

fn demand_of(requirement: &Requirement) -> Demand {
    let Requirement { factors, max_age, phishing_resistant, user_verified, kinds, remember } = requirement;
    let freshness = max_age.map_or(0, |age| u64::MAX - age.as_secs());
    (*factors, *phishing_resistant, *user_verified, kinds.is_some(), remember.is_none(), freshness)
}

/// Goes through the rules once more for whoever wants to know why.
fn tell(policy: &Policy, found: Found, view: &View<'_>, trace: &mut impl TraceSink) {
    let deciding = found.deciding.and_then(|at| policy.rules.get(at)).map(|rule| &rule.name);
    let mut decided = false;
    for rule in policy.in_the_file() {
        let seen = if decided {
            Seen::NotReached
        } else {
            match rule.matcher.check(view) {
                Ok(()) if rule.shadow => Seen::Shadow,
                Ok(()) if deciding == Some(&rule.name) => {
                    decided = true;
                    Seen::Matched
                }
                // It fits a value that the app is not taken to use here.
                Ok(()) => Seen::Missed(Miss::Query),
                Err(miss) => Seen::Missed(miss),
            }
        };
        trace.rule(rule, seen);
    }
}

impl Policy {
    /// Each of these methods once, and of those that no rule names the first alone: no rule can tell
    /// them apart, and a form could name thousands.
    fn told_apart<'m>(&self, methods: impl Iterator<Item = &'m Method>) -> Vec<&'m Method> {
        // GET rules cover HEAD, so HEAD is never one of the others.
        let named = |method: &Method| *method == Method::HEAD || self.methods.contains(method);
        let mut kept: Vec<&Method> = Vec::new();
        let mut has_other = false;
        for method in methods {
            let is_new = if named(method) { !kept.contains(&method) } else { !std::mem::replace(&mut has_other, true) };
            if is_new {
                kept.push(method);
            }
        }
        kept
    }

    /// The methods that rules for this path tell apart. Where there are any, a form's `_method` must be
    /// read before the request can be judged.
    #[must_use]
    pub fn methods_told_apart(&self, path: &CanonicalPath) -> Vec<Method> {
        let named = self.unnamed.of(path, self.folds);
        let mut methods: Vec<Method> = Vec::new();
        let _ = each_reading(self, path, &named, |reading: Reading<'_>| {
            let rules = self.index.candidates(&reading).filter_map(|at| self.rules.get(at));
            for rule in rules.filter(|rule| !rule.matcher.methods.is_empty() && rule.matcher.has_path(&reading)) {
                let new = rule.matcher.methods.iter().filter(|m| !methods.contains(m)).cloned().collect::<Vec<_>>();
                methods.extend(new);
            }
            ControlFlow::<()>::Continue(())
        });
        methods
    }

    /// Whether some rule that may decide this request depends on what it carries; asked of the head alone, with
    /// every method that its body may turn it into. A shadow rule that is tried asks like the others.
    #[must_use]
    pub fn asks_for_content(&self, facts: &Facts<'_>) -> bool {
        [Some(self), self.with_shadows()].into_iter().flatten().any(|policy| policy.asks(facts))
    }

    fn asks(&self, facts: &Facts<'_>) -> bool {
        if !self.reads_content {
            return false;
        }
        let mut others = override_methods(facts.query);
        others.extend(in_capitals(facts.method));
        let methods = self.told_apart(std::iter::once(facts.method).chain(facts.also_methods).chain(&others));
        let queries = Query::each_way(facts.query.unwrap_or_default(), &Content::Unread);
        let named = self.unnamed.of(facts.path, self.folds);
        let asked = each_reading(self, facts.path, &named, |reading| {
            for (method, query) in methods.iter().flat_map(|m| queries.iter().map(move |q| (*m, q))) {
                let Facts { client, authn, now, .. } = *facts;
                let content = &Content::Unread;
                let view = View { reading, method, query, content, client, authn, now, posture: self.posture };
                for rule in self.index.candidates(&reading).filter_map(|at| self.rules.get(at)) {
                    match rule.matcher.check(&view) {
                        Ok(()) | Err(Miss::WhoUnknown) if rule.matcher.reads_content() => {
                            return ControlFlow::Break(());
                        }
                        Ok(()) if !rule.matcher.is_one_choice(&view) => break,
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            ControlFlow::Continue(())
        });
        asked.is_break()
    }

    #[must_use]
    pub fn rule(&self, name: &RuleName) -> Option<&Rule> {
        self.rules.iter().find(|r| r.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::{Allow, Place, Who};
    use super::*;
    use crate::domain::path::PathForms;
    use crate::domain::policy::matcher::Matcher;

    #[test]
    fn s_path_6_thousands_of_overrides_cost_no_more_than_the_rules_can_tell_apart() {
        let place = || Place { file: "stepgate.yaml".into(), line: 1, column: 1 };
        let rule = |name: &str, method| Rule {
            name: RuleName::new(name),
            place: place(),
            matcher: Matcher { methods: vec![method], ..Matcher::default() },
            outcome: Outcome::Deny { sentence: "no".into() },
            answer: None,
            shadow: false,
            keep_body: KEEP_BODY,
            stays_open: false,
        };
        let rules = vec![rule("remove", Method::DELETE), rule("read", Method::GET)];
        let policy =
            Policy::new(rules, Outcome::Public { allow: Allow(vec![Who::Anyone]) }, place(), PathForms::default());
        let made_up: Vec<Method> = (0..5000).map(|n| Method::from_bytes(format!("M{n}").as_bytes()).unwrap()).collect();
        let named = [Method::POST, Method::DELETE, Method::HEAD, Method::GET, Method::DELETE];
        let asked: Vec<&Method> = std::iter::once(&Method::GET).chain(&made_up).chain(&named).collect();
        let judged = policy.told_apart(asked.into_iter());
        assert_eq!(judged, [&Method::GET, &made_up[0], &Method::DELETE, &Method::HEAD]);
    }
}
