//! Would a policy lock everybody out? Asked before one is put in force in place of another.
//!
//! Three things are refused, and each only if some account could do now what none could any more, whatever
//! of its own it shows, from whichever network a rule names, and at any hour of the week:
//!
//! 1. *Place*: a request that a rule of either policy is about.
//! 2. *App*: all such requests of one app, where somebody gets through with one of them now. All apps
//!    at once, where none of those in force would be served any more.
//! 3. *Admins*: somebody whom `admin.allow` names meets the level `strong` now.
//!
//! What the new policy turns away with a sentence of its own (`deny:`) is meant, and no lock-out.

use std::collections::HashSet;
use std::time::Duration;

use http::Method;

use super::Snapshot;
use super::expect::{HALF_AN_HOUR, Question, ask, having_shown, nowhere};
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::domain::authn::Authn;
use crate::domain::factor::FactorKind;
use crate::domain::level::Requirement;
use crate::domain::policy::sample::Sample;
use crate::domain::policy::{Allow, Content, Decision, DenyReason, Media, Outcome, Who};
use crate::domain::route::Route;
use crate::domain::user::{GroupName, UserName};

/// Somebody who can sign in, with the second factors that they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: UserName,
    pub groups: Vec<GroupName>,
    pub kinds: Vec<FactorKind>,
}

/// What nobody could do any more under `new`; one sentence each.
#[must_use]
pub fn lockouts(old: &Snapshot, new: &Snapshot, accounts: &[Account], now: Timestamp) -> Vec<String> {
    let people = People::of(old, new, accounts);
    if people.all.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let gone = old.routes.iter().filter(|route| new.routes.app(route.app.as_str()).is_none()).count();
    if gone > 0 && gone == old.routes.iter().count() {
        found.push("none of the apps that are served now would be served any more".to_owned());
    }
    for before in old.routes.iter() {
        if let Some(after) = new.routes.app(before.app.as_str()) {
            app(before, after, &people, now, &mut found);
        }
    }
    found.extend(admins(old, new, accounts, now));
    found
}

/// Everybody, as few as can be told apart by either policy.
struct People {
    all: Vec<(UserName, Vec<GroupName>, Vec<FactorKind>)>,
}

impl People {
    fn of(old: &Snapshot, new: &Snapshot, accounts: &[Account]) -> Self {
        let mut named: HashSet<&UserName> = HashSet::new();
        let mut groups: HashSet<&GroupName> = HashSet::new();
        for who in [old, new].into_iter().flat_map(|s| s.routes.iter()).flat_map(|route| mentioned(route)) {
            match who {
                Who::Anyone => {}
                Who::User(name) => drop(named.insert(name)),
                Who::Group(name) => drop(groups.insert(name)),
            }
        }
        // The person's own name only where a rule has it: a hundred thousand accounts are a handful of kinds.
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for account in accounts {
            let mut of: Vec<&GroupName> = account.groups.iter().filter(|g| groups.contains(g)).collect();
            of.sort();
            let name = Some(&account.name).filter(|name| named.contains(name));
            if seen.insert((name, of.clone(), &account.kinds)) {
                all.push((account.name.clone(), of.into_iter().cloned().collect(), with_password(&account.kinds)));
            }
        }
        Self { all }
    }

    /// As each of them is at a moment, all that they have shown just before.
    fn at(&self, now: Timestamp) -> Vec<Authn> {
        let at = now.minus(Duration::from_secs(1));
        self.all.iter().map(|(name, groups, kinds)| having_shown(name, groups, kinds, at)).collect()
    }
}

fn with_password(kinds: &[FactorKind]) -> Vec<FactorKind> {
    let second = kinds.iter().copied().filter(|kind| kind.is_available() && *kind != FactorKind::Password);
    std::iter::once(FactorKind::Password).chain(second).collect()
}

/// Every name that decides something.
fn mentioned(route: &Route) -> impl Iterator<Item = &Who> {
    let policy = &route.policy;
    let outcomes = policy.rules.iter().map(|rule| &rule.outcome).chain([&policy.default]);
    let allowed = outcomes.flat_map(|outcome| match outcome {
        Outcome::Deny { .. } => &[][..],
        Outcome::Public { allow: Allow(who) } | Outcome::Require { allow: Allow(who), .. } => who.as_slice(),
    });
    let matched = policy.rules.iter().flat_map(|rule| &rule.matcher.who);
    allowed.chain(matched).chain(policy.exceptions().iter().flat_map(|exception| &exception.who))
}

/// A request that some rule is about.
#[derive(PartialEq, Eq, Hash, Clone)]
struct Spot {
    method: Method,
    target: String,
    body: Option<(Media, String)>,
}

fn app(before: &Route, after: &Route, people: &People, now: Timestamp, found: &mut Vec<String>) {
    let known = people.at(now);
    let mut spots: Vec<Spot> = Vec::new();
    let mut clients = vec![nowhere()];
    let mut seen = HashSet::new();
    for route in [before, after] {
        let root = Sample {
            method: Method::GET,
            path: "/".to_owned(),
            query: None,
            body: None,
            client: None,
            by_regex: false,
        };
        let samples = route.policy.rules.iter().flat_map(|rule| rule.matcher.samples(route.policy.forms));
        for Sample { method, path, query, body, client, .. } in samples.chain([root]) {
            let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
            let spot = Spot { method, target, body };
            if seen.insert(spot.clone()) {
                spots.push(spot);
            }
            if let Some(client) = client.filter(|client| !clients.contains(client)) {
                clients.push(client);
            }
        }
    }
    let passes = |route: &Route, spot: &Spot, who: &Authn, now: Timestamp| {
        clients.iter().any(|client| matches!(judge(route, spot, who, *client, now), Some(Decision::Allow(_))))
    };
    let somebody = |route: &Route, spot: &Spot, known: &[Authn], now: Timestamp| {
        known.iter().chain([&Authn::Anonymous]).any(|who| passes(route, spot, who, now))
    };
    let meant = |spot: &Spot| {
        known.iter().all(|who| {
            let decision = judge(after, spot, who, nowhere(), now);
            matches!(decision, Some(Decision::Deny(deny)) if matches!(deny.reason, DenyReason::Rule { .. }))
        })
    };
    let mut lost: Vec<&Spot> = spots.iter().filter(|spot| !somebody(after, spot, &known, now)).collect();
    let all = lost.len() == spots.len();
    lost.retain(|spot| !meant(spot));
    // Rarely is anything left here; the week is gone through for that alone.
    if !lost.is_empty() && after.policy.rules.iter().any(|rule| rule.matcher.hours.is_some()) {
        for at in (1..=7 * 48).map(|n| now.plus(HALF_AN_HOUR * n)) {
            let known = people.at(at);
            lost.retain(|spot| !somebody(after, spot, &known, at));
        }
    }
    let Some(first) = lost.first() else { return };
    let name = &before.app;
    if all && spots.iter().any(|spot| somebody(before, spot, &known, now)) {
        let why = reason(after, first, &known, now);
        found.push(format!(
            "{name}: no account could reach any page of it any more ({} {}: {why})",
            first.method, first.target
        ));
        return;
    }
    let lost = lost.into_iter().filter_map(|spot| {
        let who = known.iter().find(|who| passes(before, spot, who, now))?;
        Some((spot, who.known().map_or("somebody", |known| known.name.as_str())))
    });
    let mut lost = lost.map(|(spot, who)| {
        let why = reason(after, spot, &known, now);
        format!("{name}: no account could reach {} {} any more, and {who} can now ({why})", spot.method, spot.target)
    });
    found.extend(lost.by_ref().take(MOST_TOLD));
    let more = lost.count();
    if more > 0 {
        found.push(format!("{name}: the same of {more} further requests"));
    }
}

/// Of one app.
const MOST_TOLD: usize = 5;

fn judge(route: &Route, spot: &Spot, authn: &Authn, client: ClientIp, now: Timestamp) -> Option<Decision> {
    // Evidence of a moment ago, whenever it is asked for.
    let content = &spot.body.as_ref().map_or(Content::Nothing, |(media, text)| Content::read(*media, text.as_bytes()));
    let question = Question { method: &spot.method, target: &spot.target, content, client, authn, now };
    ask(route, &question, &mut ()).ok()
}

/// Which rule keeps them out, and by what.
fn reason(route: &Route, spot: &Spot, known: &[Authn], now: Timestamp) -> String {
    let mut refused = None;
    for who in known {
        match judge(route, spot, who, nowhere(), now) {
            Some(Decision::Challenge(challenge)) => {
                let (rule, level) = (&challenge.rule, &challenge.level.name);
                return format!("rule {rule} asks for `{level}`, which nobody who may come has a factor for");
            }
            Some(Decision::Deny(deny)) => refused = Some(deny.rule),
            Some(Decision::Allow(_)) | None => {}
        }
    }
    match refused {
        Some(rule) => format!("the `allow` of rule {rule} names nobody who has an account"),
        None => "its path is refused".to_owned(),
    }
}

/// Somebody must stay who may do what admins do, at the level that is asked of them.
fn admins(old: &Snapshot, new: &Snapshot, accounts: &[Account], now: Timestamp) -> Option<String> {
    let named = |snapshot: &Snapshot, account: &Account| {
        snapshot.admin.iter().any(|who| who.names(&account.name, &account.groups))
    };
    let able = |snapshot: &Snapshot, account: &Account| {
        let evidence =
            having_shown(&account.name, &[], &with_password(&account.kinds), now.minus(Duration::from_secs(1)));
        let meets = |requirement: &Requirement| {
            evidence.known().is_some_and(|context| requirement.missing(&context.evidence, now).is_none())
        };
        named(snapshot, account) && snapshot.level("strong").is_some_and(|level| meets(&level.requirement))
    };
    let some = |of: &dyn Fn(&Account) -> bool| accounts.iter().any(of);
    if some(&|a| named(old, a)) && !some(&|a| named(new, a)) {
        return Some("no account would be an admin any more: `admin.allow` names none that can sign in".to_owned());
    }
    (some(&|a| able(old, a)) && !some(&|a| able(new, a)))
        .then(|| "no admin could meet the level `strong` any more, which the console asks for".to_owned())
}
