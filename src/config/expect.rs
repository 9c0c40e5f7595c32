//! Policy tests: what the file says its rules do, held against what they do.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::Snapshot;
use super::fault::Fault;
use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::base::net::ClientIp;
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::host::HostName;
use crate::domain::level::{Level, LevelName, Requirement};
use crate::domain::path::{CanonicalPath, PathError};
use crate::domain::policy::destination::{BadDestination, Destination, Ruling, has_destination};
use crate::domain::policy::{Content, Decision, Facts, Media, Place, RuleName, Shadow, TraceSink, decide};
use crate::domain::posture::Posture;
use crate::domain::route::{AppName, Route};
use crate::domain::user::{GroupName, UserName};

/// One entry of `tests:`.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    pub place: Place,
    pub app: AppName,
    pub method: Method,
    /// Path and query, as a client would send them.
    pub target: String,
    /// Where a COPY or MOVE writes to.
    pub destination: Option<String>,
    /// What it sends.
    pub content: Content,
    pub user: Option<UserName>,
    pub groups: Vec<GroupName>,
    /// What `user` has shown; the password alone when absent.
    pub at: Option<LevelName>,
    /// Whether `user` ever had a second factor.
    pub enrolled: bool,
    pub from: Option<ClientIp>,
    /// When; the moment of the run when absent.
    pub time: Option<Timestamp>,
    /// In force then.
    pub posture: Posture,
    pub expect: Expect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Allow,
    /// To this level, or to any.
    Challenge(Option<LevelName>),
    Deny,
    /// 400: the path is refused.
    Reject,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Challenge(None) => f.write_str("challenge"),
            Self::Challenge(Some(level)) => write!(f, "challenge {level}"),
            Self::Deny => f.write_str("deny"),
            Self::Reject => f.write_str("reject"),
        }
    }
}

/// A test that says something else than the policy.
#[derive(Clone, Debug)]
pub struct TestFailure {
    pub test: PolicyTest,
    pub got: Expect,
    /// The rule that decided, or why the path was refused.
    pub because: String,
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = &self.test;
        write!(
            f,
            "{}: {} {} {}: expected {}, got {} ({})",
            test.place,
            test.method,
            test.target,
            test.user.as_ref().map_or_else(|| "by nobody".to_owned(), |u| format!("as {u}")),
            test.expect,
            self.got,
            self.because
        )
    }
}

/// A request as it would come over the wire, judged without one.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a str,
    pub content: &'a Content,
    pub client: ClientIp,
    pub authn: &'a Authn,
    pub now: Timestamp,
}

/// Answers as the gate would: the same parse, the same `decide()`.
pub fn ask(route: &Route, question: &Question<'_>, trace: &mut impl TraceSink) -> Result<Decision, PathError> {
    with_facts(route, question, |facts| decide(&route.policy, facts, trace))
}

/// As [`ask`], for a COPY or MOVE to `destination` at this host, which may replace what stands there. For
/// other methods no server reads it.
pub fn ask_at_both(
    route: &Route,
    host: &HostName,
    question: &Question<'_>,
    destination: &str,
    trace: &mut impl TraceSink,
) -> Result<Ruling, AskError> {
    with_facts(route, question, |facts| {
        if !has_destination(facts) {
            return Ok(Ruling { decision: decide(&route.policy, facts, trace), by_destination: false });
        }
        let second = Destination::read(destination.as_bytes(), false, facts, host, route.policy.forms)?;
        Ok(second.judge(&route.policy, facts, trace)?)
    })?
}

/// What a shadow rule would have said, asked as [`ask`] and [`ask_at_both`] do.
#[must_use]
pub fn shadow_of(route: &Route, question: &Question<'_>, destination: Option<(&HostName, &str)>) -> Option<Shadow> {
    let asked = with_facts(route, question, |facts| {
        let second = match destination.filter(|_| has_destination(facts)) {
            Some((host, to)) => {
                Some(Destination::read(to.as_bytes(), false, facts, host, route.policy.forms).map_err(|_| ())?)
            }
            None => None,
        };
        Ok::<_, ()>(Shadow::of(&route.policy, facts, second.as_ref()))
    });
    asked.ok()?.ok()?
}

/// Why a request is refused before a rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("its Destination cannot be used: {0}")]
    Destination(#[from] BadDestination),
}

fn with_facts<T>(route: &Route, question: &Question<'_>, then: impl FnOnce(&Facts<'_>) -> T) -> Result<T, PathError> {
    let (path, query) = match question.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (question.target, None),
    };
    let path = CanonicalPath::parse(path, route.policy.forms)?;
    let also_methods = match *question.method {
        Method::POST => question.content.methods(route.policy.methods_told_apart(&path)),
        _ => Vec::new(),
    };
    let facts = Facts {
        method: question.method,
        also_methods: &also_methods,
        path: &path,
        query,
        content: question.content,
        client: question.client,
        authn: question.authn,
        now: question.now,
    };
    Ok(then(&facts))
}

/// A form with these fields, as a browser sends it.
#[must_use]
pub fn form_of<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Content {
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    Content::read(Media::Form, text.as_bytes())
}

/// Runs every test of the files; `now` stands where a test names no time.
#[must_use]
pub fn run_tests(snapshot: &Snapshot, now: Timestamp) -> Vec<TestFailure> {
    snapshot.tests.iter().filter_map(|test| run(snapshot, test, now)).collect()
}

/// Whether the result of a test that names no time depends on when it is run: over a week, and around the end of
/// each exception, it comes out one way and the other.
#[must_use]
pub(super) fn changes_with_the_clock(snapshot: &Snapshot, test: &PolicyTest, now: Timestamp) -> bool {
    if test.time.is_some() {
        return false;
    }
    let Some(route) = snapshot.routes.app(test.app.as_str()) else { return false };
    let passes = |at: Timestamp| run(snapshot, test, at).is_none();
    let here = passes(now);
    let ends = route.policy.exceptions().iter().flat_map(|e| [e.until, e.until.minus(Duration::from_secs(1))]);
    let has_hours = route.policy.in_the_file().iter().any(|rule| rule.matcher.hours.is_some());
    let week = (1..=if has_hours { 7 * 48 } else { 0 }).map(|half_hours| now.plus(HALF_AN_HOUR * half_hours));
    ends.chain(week).any(|at| passes(at) != here)
}

/// No `hours` is finer in practice; one that is shows at another moment.
pub(super) const HALF_AN_HOUR: Duration = Duration::from_secs(30 * 60);

/// Those that fail at this moment and pass at another: their files are as they were when they were good.
#[must_use]
pub fn fail_by_the_clock(
    snapshot: &Snapshot,
    failed: Vec<TestFailure>,
    now: Timestamp,
) -> (Vec<TestFailure>, Vec<TestFailure>) {
    failed.into_iter().partition(|failure| changes_with_the_clock(snapshot, &failure.test, now))
}

/// An address in no network, for requests whose origin nobody named (RFC 5737 has no use for it).
#[must_use]
pub fn nowhere() -> ClientIp {
    ClientIp::new(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// Rules that no test of the files is decided by, as notes: what nobody tries may do anything. A shadow
/// rule counts as tried where it would have decided.
#[must_use]
pub fn untried(snapshot: &Snapshot, now: Timestamp) -> Vec<Fault> {
    let mut notes = Vec::new();
    for route in snapshot.routes.iter() {
        let mut tried: HashSet<RuleName> = HashSet::new();
        for test in snapshot.tests.iter().filter(|test| test.app == route.app) {
            tried.extend(decided_by(snapshot, test, now).unwrap_or_default());
        }
        let rules = route.policy.in_the_file();
        let note = |place: &Place, message: String| Fault {
            file: Arc::clone(&place.file),
            line: place.line,
            column: place.column,
            message,
            hint: None,
        };
        let missed: Vec<_> = rules.iter().filter(|rule| !tried.contains(&rule.name)).collect();
        // One line for a file without tests: ten would not say more.
        if missed.len() == rules.len() && rules.len() > 1 {
            let message = format!("none of the {} rules of {} is tried by any test", rules.len(), route.app);
            notes.push(note(&route.policy.default_place, message));
            continue;
        }
        notes.extend(
            missed.iter().map(|r| note(&r.place, format!("rule {:?} is not tried by any test", r.name.as_str()))),
        );
    }
    notes
}

/// The rules that a test is about: the one that decides, and one that would.
fn decided_by(snapshot: &Snapshot, test: &PolicyTest, now: Timestamp) -> Option<Vec<RuleName>> {
    with_question(snapshot, test, now, |route, question| {
        let shadow = shadow_of(route, question, route.hosts.first().zip(test.destination.as_deref()));
        let decided = answer(route, question, test).ok().map(|decision| match decision {
            Decision::Allow(permit) => permit.rule().clone(),
            Decision::Challenge(challenge) => challenge.rule,
            Decision::Deny(deny) => deny.rule,
        });
        decided.into_iter().chain(shadow.map(|shadow| shadow.rule)).collect()
    })
}

fn with_question<T>(
    snapshot: &Snapshot,
    test: &PolicyTest,
    now: Timestamp,
    then: impl FnOnce(&Route, &Question<'_>) -> T,
) -> Option<T> {
    let normal = snapshot.routes.app(test.app.as_str())?;
    let under;
    let route = if test.posture == snapshot.posture {
        normal
    } else {
        under = snapshot.route_under(normal, test.posture);
        &under
    };
    let now = test.time.unwrap_or(now);
    // What was shown for a level was shown before the posture changed.
    let level = test.at.as_ref().and_then(|name| snapshot.level(name.as_str()));
    let authn = test.user.as_ref().map_or(Authn::Anonymous, |user| somebody(user, &test.groups, level, now));
    let authn = if test.enrolled { authn } else { never_enrolled(authn) };
    let client = test.from.unwrap_or_else(nowhere);
    let question =
        Question { method: &test.method, target: &test.target, content: &test.content, client, authn: &authn, now };
    Some(then(route, &question))
}

fn answer(route: &Route, question: &Question<'_>, test: &PolicyTest) -> Result<Decision, AskError> {
    match (&test.destination, route.hosts.first()) {
        (Some(to), Some(host)) => ask_at_both(route, host, question, to, &mut ()).map(|ruling| ruling.decision),
        (Some(_), None) | (None, _) => ask(route, question, &mut ()).map_err(AskError::from),
    }
}

fn run(snapshot: &Snapshot, test: &PolicyTest, now: Timestamp) -> Option<TestFailure> {
    let asked = with_question(snapshot, test, now, |route, question| answer(route, question, test))?;
    let (got, because) = match asked {
        Ok(Decision::Allow(permit)) => (Expect::Allow, format!("rule {}", permit.rule())),
        Ok(Decision::Challenge(c)) => (Expect::Challenge(Some(c.level.name.clone())), format!("rule {}", c.rule)),
        Ok(Decision::Deny(deny)) => (Expect::Deny, format!("rule {}", deny.rule)),
        Err(error) => (Expect::Reject, error.to_string()),
    };
    let fits = got == test.expect || matches!((&got, &test.expect), (Expect::Challenge(_), Expect::Challenge(None)));
    (!fits).then(|| TestFailure { test: test.clone(), got, because })
}

/// A signed-in person whose evidence just satisfies `level`: the plainest kinds, as long ago as the
/// level lets it be. So `at: mfa` does not meet `fresh`, as hours after a sign-in. Without a level
/// they have shown their password, now.
#[must_use]
pub fn somebody(user: &UserName, groups: &[GroupName], level: Option<&Arc<Level>>, now: Timestamp) -> Authn {
    Authn::Known(Arc::new(AuthnContext {
        user: UserId::nil(),
        name: user.clone(),
        display: user.as_str().to_owned(),
        email: None,
        groups: groups.to_vec(),
        session: SessionId::nil(),
        ever_enrolled: true,
        evidence: evidence_for(level.map(|l| &l.requirement), now),
    }))
}

/// A signed-in person who has shown these factors, at this moment.
#[must_use]
pub fn having_shown(name: &UserName, groups: &[GroupName], kinds: &[FactorKind], at: Timestamp) -> Authn {
    let evidence = kinds.iter().map(|kind| FactorUse {
        kind: *kind,
        at,
        phishing_resistant: matches!(kind, FactorKind::Webauthn | FactorKind::ClientCertificate),
        user_verified: *kind == FactorKind::Webauthn,
        credential: None,
        remembered: false,
    });
    Authn::Known(Arc::new(AuthnContext {
        user: UserId::nil(),
        name: name.clone(),
        display: String::new(),
        email: None,
        groups: groups.to_vec(),
        session: SessionId::nil(),
        ever_enrolled: true,
        evidence: evidence.collect(),
    }))
}

/// The same person, who never had a second factor: whom a grace is for.
#[must_use]
pub fn never_enrolled(authn: Authn) -> Authn {
    match authn {
        Authn::Known(context) => {
            let context = Arc::unwrap_or_clone(context);
            Authn::Known(Arc::new(AuthnContext { ever_enrolled: false, ..context }))
        }
        Authn::Anonymous => Authn::Anonymous,
    }
}

/// A session rarely gets older; evidence of a level without `max_age` is taken to be of its start.
const LONG_AGO: Duration = Duration::from_secs(10 * 3600);

fn evidence_for(requirement: Option<&Requirement>, now: Timestamp) -> Vec<FactorUse> {
    let oldest = requirement.map_or(Some(Duration::ZERO), |r| r.max_age).unwrap_or(LONG_AGO);
    let at = now.minus(oldest.saturating_sub(Duration::from_secs(1)));
    let shown = |kind: FactorKind, user_verified: bool| FactorUse {
        kind,
        at,
        phishing_resistant: matches!(kind, FactorKind::Webauthn | FactorKind::ClientCertificate),
        user_verified,
        credential: None,
        remembered: false,
    };
    let mut evidence = vec![shown(FactorKind::Password, false)];
    if let Some(requirement) = requirement
        && let Some(missing) = requirement.missing(&evidence, now)
        && let Some(kind) = missing.any_of.first()
    {
        evidence.push(shown(*kind, requirement.user_verified));
    }
    evidence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_for_a_level_meets_it_and_no_fresher_one() {
        let (now, minutes) = (Timestamp::from_secs(1_800_000_000), |m: u64| Some(Duration::from_secs(m * 60)));
        let level = |max_age, phishing_resistant, user_verified| Requirement {
            factors: 2,
            max_age,
            phishing_resistant,
            user_verified,
            kinds: None,
            remember: None,
        };
        let mfa = level(minutes(600), false, false);
        let others = [level(minutes(10), false, false), level(minutes(10), true, false), level(None, true, true)];
        for own in [&mfa].into_iter().chain(&others) {
            assert_eq!(own.missing(&evidence_for(Some(own), now), now), None, "{own:?}");
        }
        for other in &others {
            assert!(other.missing(&evidence_for(Some(&mfa), now), now).is_some(), "{other:?}");
        }
        assert!(mfa.missing(&evidence_for(None, now), now).is_some());
    }
}
